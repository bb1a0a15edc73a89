"""What workers print and log, as it is seen at a driver's terminal and afterwards."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from zactor.testing import Cluster

pytestmark = [pytest.mark.system, pytest.mark.slow]

HEAD = """
import asyncio, logging, sys
import zactor
"""


def program(text: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HEAD + text, *argv],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )


@pytest.mark.parametrize("isolation", ["process", "shared"])
def test_what_a_short_program_had_printed_is_all_shown(isolation: str) -> None:
    done = program(
        """
zactor.init(num_cpus=1)

@zactor.remote
class Talker:
    def talk(self):
        print("first")
        print("no end", end="", flush=True)
        sys.stderr.write("warned\\n")

zactor.get(Talker.options(isolation=sys.argv[1]).remote().talk.remote())
""",
        isolation,
    )
    assert done.returncode == 0, done.stderr
    origin = r"\(Talker pid=\d+\) "
    assert re.fullmatch(f"{origin}first\n{origin}no end\n", done.stdout)
    assert re.fullmatch(f"{origin}warned\n", done.stderr)


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Cluster]:
    with Cluster() as made:
        for number in range(2):
            made.add_node(num_cpus=1, resources={f"n{number}": 1})
        yield made


ON_TWO_NODES = """
zactor.init(sys.argv[1], log_to_driver=sys.argv[2] == "show")

@zactor.remote(num_cpus=0)
class Worker:
    def __init__(self, number): self.number = number
    def __repr__(self): return f"Worker#{self.number}"
    def talk(self):
        print("ready")
        print("I am", self.number)
        return zactor.get_runtime_context().get_actor_id()

workers = [Worker.options(resources={f"n{n % 2}": 0.1}).remote(n) for n in range(4)]
zactor.get([worker.__zactor_ready__.remote() for worker in workers])
ids = zactor.get([worker.talk.remote() for worker in workers])
if sys.argv[2] != "show":
    from zactor.util.state import get_log
    for actor in ids:
        print(next(get_log(actor_id=actor)).split("\\n"))
"""


def test_equal_lines_are_folded_over_all_nodes_of_the_cluster(two_nodes: Cluster) -> None:
    done = program(ON_TWO_NODES, two_nodes.address, "show")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len([line for line in lines if line.endswith(") ready")]) == 1
    assert lines[-1].endswith("ready [repeated 3x across cluster]")
    said = {line for line in lines if " I am " in line}
    assert len(said) == 4
    assert all(
        re.match(r"\(Worker#\d pid=\d+(, node=\w{12})?\) I am \d", line) for line in said
    )
    assert len([line for line in said if "node=" in line]) == 2  # on the other node


def test_output_that_is_not_wanted_is_not_shown_and_still_kept(two_nodes: Cluster) -> None:
    done = program(ON_TWO_NODES, two_nodes.address, "hide")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(["ready", f"I am {n}", ""]) for n in range(4)]


LOGGING = """
zactor.init(num_cpus=2, logging_config=zactor.LoggingConfig(
    encoding=sys.argv[1], log_level="INFO", additional_log_standard_attrs=["name"]))
log = logging.getLogger("mine")

@zactor.remote
class Plain:
    def __init__(self): log.info("made")
    def go(self):
        log.debug("not shown")
        log.info("plain", extra={"user": "me"})

@zactor.remote
class Async:
    async def go(self):
        await asyncio.sleep(0)
        log.info("async")

@zactor.remote
def task():
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("task")

plain = Plain.options(name="plato").remote()
shared = Plain.options(isolation="shared").remote()
zactor.get([plain.go.remote(), shared.go.remote(), Async.remote().go.remote(), task.remote()])
log.info("driver")
"""


def test_records_are_json_with_the_ids_of_what_has_written_them() -> None:
    done = program(LOGGING, "JSON")
    assert done.returncode == 0, done.stderr
    found: dict[str, list[dict[str, Any]]] = {}
    for line in done.stderr.splitlines():
        record = json.loads(re.sub(r"^\(.*?\) ", "", line))
        found.setdefault(record["message"], []).append(record)
    assert sorted((text, len(rows)) for text, rows in found.items()) == [
        ("async", 1), ("driver", 1), ("made", 2), ("plain", 2), ("task", 1),
    ]  # fmt: skip
    for row in (row for rows in found.values() for row in rows):
        assert (row["levelname"] in ("INFO", "ERROR"), row["name"]) == (True, "mine")
        assert len(row["job_id"]) == 8
        assert len(row["worker_id"]) == len(row["node_id"]) == 24
    for row in found["plain"]:
        assert (row["task_name"], row["user"]) == ("Plain.go", "me")
        assert row["actor_id"]
    assert {row.get("actor_name") for row in found["plain"]} == {"plato", None}
    assert found["async"][0]["task_func_name"] == "Async.go"
    assert "ZeroDivisionError" in found["task"][0]["exc_text"]
    assert "actor_id" not in found["task"][0]
    assert "task_id" not in found["driver"][0]


def test_records_are_text_with_the_ids_behind_it() -> None:
    done = program(LOGGING, "TEXT")
    lines = done.stderr.splitlines()
    [line] = [line for line in lines if " -- async " in line]
    assert re.search(r"INFO <string>:\d+ -- async name=mine job_id=\w+ worker_id=\w+ ", line)
    # What follows the first line of a record stays behind it.
    at = next(i for i, text in enumerate(lines) if " -- task name=mine" in text)
    assert "Traceback" in lines[at + 1]
