"""The commands on real clusters: an embedded one, and daemons of their own."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.system]


def zactor(*argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zactor", *argv],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def rows(kind: str, *argv: str) -> Any:
    done = zactor("list", kind, "--json", *argv)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# -- an embedded cluster ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counter(cluster: Any) -> Iterator[Any]:
    import zactor as z

    class Counter:
        def __init__(self) -> None:
            self.value = 0

        def increment(self) -> int:
            self.value += 1
            print("value", self.value)
            return self.value

    handle = z.remote(Counter).options(name="visits").remote()
    assert z.get([handle.increment.remote() for _ in range(2)]) == [1, 2]
    yield handle


def test_status_of_an_embedded_cluster(counter: Any) -> None:
    done = zactor("status")
    assert done.returncode == 0, done.stderr
    assert "1 alive" in done.stdout
    status = json.loads(zactor("status", "--json").stdout)
    assert status["resources"]["total"]["CPU"] == 4


def test_lists_name_what_runs(counter: Any) -> None:
    (actor,) = rows("actors", "--filter", "name=visits")
    assert actor["state"] == "ALIVE"
    (node,) = rows("nodes")
    assert actor["node_id"] == node["node_id"]
    workers = {row["worker_id"]: row for row in rows("workers")}
    assert workers[actor["worker_id"]]["pid"] == actor["pid"]
    (job,) = rows("jobs", "--filter", "status=RUNNING")
    assert job["pid"] == os.getpid()
    assert rows("groups") == []


def test_logs_stacks_and_why(counter: Any) -> None:
    assert zactor("logs", "visits").stdout == "value 1\nvalue 2\n"
    assert "idle" in zactor("stack", "visits").stdout
    assert "_serve_lane" in zactor("stack", "visits", "--all").stdout
    assert "is alive" in zactor("why", "visits").stdout


def test_killing_by_name_frees_the_name(counter: Any) -> None:
    import zactor as z

    done = zactor("kill", "visits")
    assert done.returncode == 0, done.stderr
    with pytest.raises(ValueError, match="visits"):
        z.get_actor("visits")
    with pytest.raises(z.exceptions.ActorDiedError):
        z.get(counter.increment.remote())
    assert zactor("kill", "visits").returncode == 4


def test_stop_does_not_end_the_cluster_of_a_program(counter: Any) -> None:
    assert zactor("stop").stdout == "nothing to stop\n"
    assert zactor("status").returncode == 0


# -- no cluster ---------------------------------------------------------------------------------


def test_without_a_cluster_reads_fail_in_one_line(tmp_path: Path) -> None:
    for argv in (("status",), ("list", "actors"), ("kill", "x"), ("stack",)):
        done = zactor(*argv, "--address", str(tmp_path / "none.zactor"))
        assert done.returncode == 3
        assert done.stdout == ""
        assert len(done.stderr.strip().splitlines()) == 1


# -- daemons ------------------------------------------------------------------------------------


class Daemons:
    """A broker and nodes, started as a user would."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = str(directory / "cluster.zactor")
        self.running: list[subprocess.Popen[str]] = []

    def start(self, *argv: str) -> str:
        process = subprocess.Popen(
            [sys.executable, "-m", "zactor", *argv],
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.running.append(process)
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 20)[0], (
            "it does not say that it is ready"
        )
        return process.stdout.readline()

    def end(self) -> None:
        for process in reversed(self.running):
            process.terminate()
            process.wait(20)
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Daemons]:
    made = Daemons(tmp_path)
    yield made
    made.end()


JOINING = """
import zactor
zactor.init({file!r})

@zactor.remote(resources={{"camera": 1}})
def shoot():
    return "photo"

print(zactor.get(shoot.remote()))
zactor.shutdown()
"""


def test_a_broker_and_nodes_serve_programs_until_they_are_stopped(
    daemons: Daemons, program: Any
) -> None:
    assert daemons.start("broker", "--file", daemons.file).startswith("broker of cluster ")
    assert os.stat(daemons.file).st_mode & 0o777 == 0o600
    daemons.start("node", "--join", daemons.file, "--num-cpus", "1")
    daemons.start("node", "--join", daemons.file, "--num-cpus", "1", "--resources", "camera=1")

    done = program.run(source=JOINING.format(file=daemons.file))
    assert done.stdout == "photo\n", done.stderr
    assert len(rows("nodes", "--address", daemons.file, "--filter", "state=ALIVE")) == 2

    second = zactor("broker", "--file", daemons.file)
    assert second.returncode == 1
    assert "a broker runs already" in second.stderr

    stopped = zactor("stop", "--address", daemons.file)
    assert stopped.returncode == 0, stopped.stderr
    assert [line.split()[1] for line in stopped.stdout.splitlines()] == [
        "node",
        "node",
        "broker",
    ]
    assert [process.wait(10) for process in daemons.running] == [0, 0, 0]


def restarted(daemons: Daemons) -> tuple[Any, Any]:
    """Kill a broker that keeps its state, and start it again; give both cluster files."""
    state = str(daemons.directory / "broker.db")
    daemons.start("broker", "--file", daemons.file, "--state", state)
    before = json.loads(Path(daemons.file).read_text())
    daemons.start("node", "--join", daemons.file, "--num-cpus", "1", "--resources", "camera=1")
    daemons.running[0].kill()
    daemons.running[0].wait()
    daemons.start("broker", "--file", daemons.file, "--state", state)
    return before, json.loads(Path(daemons.file).read_text())


def test_a_broker_whose_state_is_kept_goes_on_with_it(daemons: Daemons) -> None:
    before, after = restarted(daemons)
    assert (before["cluster"], before["keys"]) == (after["cluster"], after["keys"])
    deadline = time.monotonic() + 20
    while not (nodes := rows("nodes", "--address", daemons.file, "--filter", "state=ALIVE")):
        assert time.monotonic() < deadline, "the node does not attach to the new broker"
    assert nodes[0]["resources_total"]["camera"] == 1


def test_work_goes_on_after_a_restart_of_the_broker(daemons: Daemons, program: Any) -> None:
    restarted(daemons)
    source = JOINING.format(file=daemons.file).replace(
        "shoot.remote()", "shoot.remote(), timeout=8"
    )
    done = program.run(source=source)
    assert done.stdout == "photo\n", done.stderr


# -- the demonstration --------------------------------------------------------------------------


@pytest.mark.timeout(120)
def test_the_demonstration_runs_to_its_end_and_is_plain_text() -> None:
    done = zactor("demo", "--seconds", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    for title in ("Calls", "References", "Crashes", "Models", "Summary"):
        assert f"\n{title}\n" in done.stdout
    assert "0 calls hung" in done.stdout
    assert done.stderr == ""


@pytest.mark.timeout(120)
def test_the_demonstration_can_speak_json() -> None:
    done = zactor("demo", "--seconds", "2", "--json")
    figures = json.loads(done.stdout)
    assert all(stage["good"] for stage in figures.values()), figures
    assert figures["crashes"]["hung"] == 0
