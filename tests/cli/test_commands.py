"""The commands that read and act, against a cluster that is a table of rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner

from zactor.cli import daemons, session
from zactor.cli.main import main

NODE = {
    "node_id": "0a" * 12,
    "state": "ALIVE",
    "status": "ALIVE",
    "hostname": "here",
    "resources_total": {"CPU": 4.0},
    "resources_available": {"CPU": 3.0},
    "actors": 2,
    "labels": {"zone": "a"},
}


def actor(number: int, name: str = "", state: str = "ALIVE", **more: Any) -> dict[str, Any]:
    return {
        "actor_id": f"{number:02x}" * 12,
        "class_name": "Counter",
        "name": name,
        "ray_namespace": "ns",
        "state": state,
        "node_id": "0a" * 12,
        "worker_id": f"{number + 100:02x}" * 12,
        "pid": 1000 + number,
        "num_restarts": 0,
        **more,
    }


STACK = """Current thread 0x1 (most recent call first):
  File "app.py", line 6 in nap
  File "/site/zactor/runtime/hosting/hosts.py", line 166 in _run_ready
"""


class FakeCluster:
    """Answers as the broker does, and remembers what it was told."""

    def __init__(self) -> None:
        self.tables: dict[str, list[dict[str, Any]]] = {
            "actors": [actor(1, "one"), actor(2), actor(3, state="DEAD"), actor(0x21)],
            "nodes": [NODE],
            "workers": [{"worker_id": "65" * 12, "node_id": "0a" * 12, "pid": 1001}],
            "jobs": [],
            "groups": [],
            "events": [],
        }
        self.told: list[Any] = []
        self.missing: list[str] = []
        self.links: dict[str, int] = {"strangers": 0, "refused": 0, "duplicates": 7}
        self.log_of: dict[str, str] = {}

    def query(self, what: str, **args: Any) -> Any:
        if what == "status":
            return {
                "cluster": {"id": b"\x01" * 12},
                "nodes": [NODE],
                "actors": {"ALIVE": 3, "DEAD": 1, "PENDING": 0},
                "workers": 3,
                "jobs": 1,
                "links": self.links,
                "resources": {
                    "total": {"CPU": 4.0},
                    "available": {"CPU": 3.0},
                    "waiting": [{"resources": {"camera": 1.0}, "count": 2}],
                },
            }
        rows = self.tables[what]
        for key, op, value in args.get("filters", []):
            rows = [row for row in rows if (str(row.get(key)) == value) == (op == "=")]
        return rows[: args.get("limit", 1000)]

    def kill(self, actor_id: bytes, *, no_restart: bool) -> None:
        self.told.append((actor_id.hex()[:2], no_restart))

    def stop_node(self, row: Any, *, graceful: bool) -> None:
        self.told.append((row["node_id"], graceful))

    def rows(self, what: str, filters: Any, limit: int) -> tuple[list[Any], list[str], bool]:
        rows = self.query(what, filters=filters, limit=limit + 1)
        return rows[:limit], self.missing, len(rows) > limit

    def log(self, row: Any, *, stream: int, tail: int, follow: Any) -> Iterator[str]:
        self.told.append((row["pid"], stream, tail))
        yield self.log_of.get(row["worker_id"], "first\nsecond\n")
        while follow is not None and follow():
            pass

    def stacks(self, row: Any) -> list[dict[str, Any]]:
        return [{"label": "Counter", "pid": 1001, "stack": STACK}]

    def why_actor(self, actor: bytes) -> list[dict[str, Any]]:
        return [
            {"kind": "running", "text": f"{actor.hex()} runs"},
            {"kind": "waits", "text": "it waits"},
        ]

    def why_result(self, object_id: bytes) -> list[dict[str, Any]]:
        return [{"kind": "held", "text": f"{object_id.hex()} is held"}]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    fake = FakeCluster()

    @contextmanager
    def attached(address: str | None) -> Iterator[FakeCluster]:
        yield fake

    monkeypatch.setattr(session, "attached", attached)
    return fake


def run(*argv: str) -> Any:
    return CliRunner().invoke(main, list(argv), prog_name="zactor")


def test_status_shows_nodes_and_what_is_waited_for(cluster: FakeCluster) -> None:
    result = run("status")
    assert result.exit_code == 0, result.output
    assert "3 alive, 1 dead" in result.output
    assert "2 for camera: 1" in result.output
    assert "here" in result.output
    assert json.loads(run("status", "--json").output)["cluster"]["id"] == "01" * 12


def test_status_says_who_has_turned_strangers_away_if_there_were_any(
    cluster: FakeCluster,
) -> None:
    assert "refused" not in run("status").output
    cluster.links = {"strangers": 3, "refused": 0}
    told = run("status").output
    assert "by the broker: 3 connections without the keys, 0 messages" in told
    assert told.count("refused") == 1
    assert json.loads(run("status", "--json").output)["links"]["strangers"] == 3


@pytest.mark.parametrize("kind", ["actors", "nodes", "workers", "jobs", "groups", "events"])
def test_each_kind_is_listed_as_a_table_and_as_json(cluster: FakeCluster, kind: str) -> None:
    assert run("list", kind).output.startswith("WHEN" if kind == "events" else "ID ")
    assert json.loads(run("list", kind, "--json").output) == cluster.tables[kind]


def test_filters_and_limits_reach_the_broker(cluster: FakeCluster) -> None:
    rows = json.loads(run("list", "actors", "--json", "--filter", "state!=DEAD").output)
    assert len(rows) == 3
    result = run("list", "actors", "--limit", "2")
    assert "more than 2" in result.output
    assert run("list", "actors", "--filter", "state").exit_code == 2
    assert run("list", "actors", "--limit", "0").exit_code == 2


@pytest.mark.parametrize(("which", "who"), [("one", "01"), ("0101", "01"), ("1002", "02")])
def test_kill_takes_a_name_an_id_or_a_pid(cluster: FakeCluster, which: str, who: str) -> None:
    result = run("kill", which)
    assert result.exit_code == 0, result.output
    assert cluster.told == [(who, True)]
    assert result.output.startswith(f"killed Counter {who * 12}")


def test_kill_can_leave_the_restart_to_the_policy(cluster: FakeCluster) -> None:
    run("kill", "one", "--restart")
    assert cluster.told == [("01", False)]


def test_kill_does_not_guess(cluster: FakeCluster) -> None:
    cluster.tables["actors"].append(actor(1, actor_id="0101ff" + "01" * 9))
    assert "could be 2 actors" in run("kill", "0101").output
    assert run("kill", "nobody").exit_code == 4
    assert run("kill", "03").exit_code == 4  # it is dead
    assert run("kill", "one", "--namespace", "other").exit_code == 4
    assert run("kill", "").exit_code == 4
    assert not cluster.told


def test_stop_drains_a_node_or_ends_it(cluster: FakeCluster) -> None:
    run("stop", "--node", "0a")
    run("stop", "--node", "0a", "--force")
    assert cluster.told == [("0a" * 12, True), ("0a" * 12, False)]


def test_logs_are_found_by_actor_and_by_worker(cluster: FakeCluster) -> None:
    assert run("logs", "one").output == "first\nsecond\n"
    run("logs", "65", "--err")
    run("logs", "one", "--tail", "3")
    assert cluster.told == [(1001, 1, -1), (1001, 2, -1), (1001, 1, 3)]
    assert run("logs", "03").exit_code == 0  # the dead have logs too
    cluster.tables["actors"] += [
        actor(n, "late", "DEAD", actor_id=f"{n:02x}" * 12) for n in (0x41, 0x42)
    ]
    run("logs", "late")
    assert cluster.told[-1][0] == 1000 + 0x42  # the last of that name
    assert run("logs", "nobody").exit_code == 4


def test_a_log_that_is_followed_goes_on_in_the_next_life_until_there_is_none(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = actor(1, "one"), actor(1, "one", worker_id="77" * 12, pid=9)
    cluster.log_of["77" * 12] = "reborn\n"
    lives = [[first], [first], [second], [second], [actor(1, "one", state="DEAD")]]
    query = cluster.query

    def moving(what: str, **args: Any) -> Any:
        if what == "actors" and "id" in args:
            return lives.pop(0) if len(lives) > 1 else lives[0]
        return query(what, **args)

    monkeypatch.setattr(cluster, "query", moving)
    assert run("logs", "one", "-f", "--tail", "5").output == "first\nsecond\nreborn\n"
    assert cluster.told == [(1001, 1, 5), (9, 1, -1)]


def test_who_did_not_answer_is_said_beside_what_is_there(cluster: FakeCluster) -> None:
    cluster.missing = ["Counter (pid 7)"]
    result = run("list", "actors", "--json")
    assert len(json.loads(result.stdout)) == 4
    assert "Counter (pid 7)" in result.stderr


def test_a_summary_counts_by_name_and_state(cluster: FakeCluster) -> None:
    counted = json.loads(run("summary", "actors", "--json").output)
    assert counted["summary"]["Counter"]["state_counts"] == {"ALIVE": 3, "DEAD": 1}
    assert "3 alive, 1 dead" in run("summary", "actors").output
    assert run("summary", "weather").exit_code == 2


def test_stacks_have_a_title_each(cluster: FakeCluster) -> None:
    head = "Counter pid=1001\nCurrent thread 0x1 (most recent call first):\n"
    assert run("stack").output == head + '  File "app.py", line 6 in nap\n\n'
    assert "hosts.py" in run("stack", "--all").output
    assert json.loads(run("stack", "one", "--json").output)[0]["pid"] == 1001


def test_why_says_what_an_actor_waits_for_or_does(cluster: FakeCluster) -> None:
    head, first, second = run("why", "one").output.splitlines()
    assert head.startswith("Counter 'one' is alive, pid 1001")
    assert first.startswith("  ")
    assert first.endswith(" runs")
    assert second == "    it waits"
    assert [row["kind"] for row in json.loads(run("why", "one", "--json").output)][1:] == [
        "running",
        "waits",
    ]
    assert run("why", "ab" * 28).output == f"{'ab' * 28} is held\n"
    assert run("why", "ab" * 24).output == f"{'ab' * 24}00000000 is held\n"
    assert run("why", "nobody").exit_code == 4
    assert "is dead" in run("stack", "03").output


@pytest.mark.parametrize(
    ("text", "pairs"),
    [("a=1,b=2.5", {"a": 1, "b": 2.5}), ('{"a": 1}', {"a": 1}), ("", {})],
)
def test_resources_are_pairs_or_json(text: str, pairs: dict[str, float]) -> None:
    assert daemons.Pairs(numbers=True).convert(text, None, None) == pairs


@pytest.mark.parametrize(
    "argv",
    [
        ("node", "--join", "f", "--resources", "camera"),
        ("node", "--join", "f", "--resources", "camera=one"),
        ("node", "--join", "f", "--labels", '{"zone": 1}'),
        ("node", "--join", "f", "--num-cpus", "-1"),
        ("node",),
        ("broker", "--listen", "host:port"),
        ("broker", "--listen", "host:70000"),
    ],
)
def test_wrong_options_of_daemons_are_usage_errors(argv: tuple[str, ...]) -> None:
    assert run(*argv).exit_code == 2
