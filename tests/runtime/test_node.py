"""The node's shell with real worker processes; the test is its broker."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.test_forkserver import HERE, is_gone
from zactor.config import Config
from zactor.runtime.links.loop import Loop
from zactor.runtime.links.post import Post
from zactor.runtime.nodes.node import Node, NodeSetup
from zactor.runtime.session import open_session
from zactor.wire.messages import (
    ActorExited,
    ActorFailed,
    ActorReady,
    ActorUp,
    Answer,
    EndLease,
    LeaseFailed,
    NodeUp,
    Output,
    ProcessDied,
    Query,
    ReadLog,
    Renew,
    StackDump,
    StartActor,
    StartLease,
    StopActor,
    WorkerDied,
    WorkerLeased,
)

pytestmark = pytest.mark.system
JOB = b"job1"
REPORTS = (
    ActorUp, ActorReady, ActorFailed, ActorExited, WorkerLeased, LeaseFailed, WorkerDied, ProcessDied,
    Output,
)  # fmt: skip


class Rig:
    """A node and a broker that only listens, in one process and on one post, as when embedded."""

    def __init__(self, tmp_path: Path, **settings: Any) -> None:
        (tmp_path / "shm").mkdir()
        self.config = Config(
            tmpdir=str(tmp_path / "z"), shm_dir=str(tmp_path / "shm"), spare_workers=1, debug=True,
            **settings,
        )  # fmt: skip
        self.session = open_session(self.config, b"\x0a" * 12)
        self.loop = Loop()
        self.post = Post(b"process-node", self.session.path, node=b"n" * 12, machine=b"m")
        self.loop.drive(self.post)
        self.heard: list[Any] = []
        self.warnings: list[str] = []
        self.ended: list[str] = []
        for kind in REPORTS:
            self.post.on(kind, lambda peer, address, message: self.heard.append(message))
        self.attached: list[Any] = []
        self.post.on(NodeUp, self._node_up)
        self.post.on(Renew, self._renew)
        self.renewals = 0
        self.rows: list[dict[str, Any]] = [
            {"job_id": JOB.hex(), "address": list(self.post.address)}
        ]
        self.post.on(Query, lambda p, a, m: self.post.answer(a, m.request, self.rows))
        self.node = Node(
            self.loop, self.post, self.config, self.session,
            NodeSetup(
                entry={"resources": {"CPU": 1.0}}, broker=self.post.address, boot={"test": 1},
                sys_path=[HERE], entry_point="fake_worker:main",
            ),
            ended=self.ended.append, warn=self.warnings.append,
        )  # fmt: skip
        self.node.open()
        self.until(lambda: self.attached)

    def _node_up(self, peer: bytes, address: Any, message: NodeUp) -> None:
        self.attached.append(message)
        self.post.answer(
            address, message.request, {"lease": 10.0, "renew": 0.05, "cluster": {}}
        )

    def _renew(self, peer: bytes, address: Any, message: Renew) -> None:
        self.renewals += 1
        if self.renewals == 2:
            wire = ["ZactorSystemError", "NodeUnknown", {}]
            self.post.send(address, Answer(message.request, False, wire))
        else:
            self.post.answer(address, message.request, 1)

    def until(self, condition: Any, seconds: float = 10.0) -> None:
        deadline = self.loop.now() + seconds
        self.loop.call_later(seconds, lambda: None)
        while not condition():
            assert self.loop.now() < deadline, (self.heard, self.warnings)
            self.loop.turn()

    def hear(self, kind: type) -> Any:
        self.until(lambda: any(isinstance(message, kind) for message in self.heard))
        message = next(message for message in self.heard if isinstance(message, kind))
        self.heard.remove(message)
        return message

    def send(self, message: Any) -> None:
        self.post.send(self.post.address, message)

    def actor(self, name: bytes = b"a", **spec: Any) -> int:
        self.send(StartActor(name, 1, {"job": JOB, "class_name": "Counter", **spec}))
        return self.hear(ActorUp).pid

    def say(self, pid: int, *message: Any) -> None:
        worker = next(w for w in self.node._workers.values() if w.pid == pid)
        worker.send(list(message))

    def ask(self, message: Any) -> Any:
        future = self.post.request(self.post.address, message)
        self.until(future.done)
        return future.result()

    def close(self) -> None:
        pids = [w.pid for w in self.node._workers.values() if w.pid] + self.node.spawner.pids()
        self.node.stop("the test is over")
        self.until(lambda: self.ended)
        self.node.close()
        self.post.close(0)
        self.loop.close()
        self.session.close()
        assert all(is_gone(pid) for pid in pids)
        assert not os.path.exists(self.session.path)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    found = Rig(tmp_path)
    yield found
    found.close()


def test_an_actor_starts_stops_and_its_worker_ends(rig: Rig) -> None:
    rig.actor()
    assert rig.hear(ActorReady).repr_name == "Thing"
    rig.send(StopActor(b"a", 1, True))
    assert rig.hear(ActorExited).cause["text"] == "stopped"
    assert rig.hear(WorkerDied).cause["code"] == 0


def test_a_node_says_what_it_has_and_again_when_it_is_not_known(rig: Rig) -> None:
    rig.actor()
    rig.until(lambda: len(rig.attached) == 2)
    first, again = rig.attached
    assert first.entry["id"] == again.entry["id"] == b"n" * 12
    assert first.entry["resources"] == {"CPU": 1.0}
    assert first.workers == []
    assert [row["actors"][0][:2] for row in again.workers] == [[b"a", 1]]
    rig.until(lambda: rig.renewals > 3)
    assert len(rig.attached) == 2


def test_a_killed_worker_is_reported_at_once_with_what_it_ran(rig: Rig) -> None:
    pid = rig.actor()
    rig.hear(ActorReady)
    rig.say(pid, "progress", [[b"c" * 16, 7, 5, 4]])
    rig.say(pid, "print", "shown")
    rig.hear(Output)
    before = rig.loop.now()
    os.kill(pid, signal.SIGKILL)
    died = rig.hear(WorkerDied)
    assert rig.loop.now() - before < 0.1
    assert died.cause["kind"] == "signal"
    whole = [b"", 0, 0, 0]  # no stream is missing
    assert died.progress == [[b"c" * 16, 7, 5, 4], whole]
    assert died.actors == [[b"a", 1]]


def test_what_a_worker_said_before_it_died_comes_first(rig: Rig) -> None:
    pid = rig.actor()
    rig.hear(ActorReady)
    rig.say(pid, "say-and-die", ["exited", b"a", 1, {"kind": "exited", "text": ""}])
    rig.hear(WorkerDied)
    assert ActorExited in [type(message) for message in rig.heard]


def test_a_killed_actor_s_death_says_so(rig: Rig) -> None:
    pid = rig.actor()
    rig.send(StopActor(b"a", 1, False))
    assert rig.hear(WorkerDied).cause["text"] == "killed by zactor.kill"
    assert is_gone(pid)


def test_a_crash_in_a_constructor_and_an_error_in_one(rig: Rig) -> None:
    rig.actor(b"a", crash=True)
    died = rig.hear(WorkerDied)
    assert died.cause["text"] == "was ended by SIGABRT"
    assert died.cause["during"] == "constructor"
    rig.actor(b"b", fails=True)
    assert rig.hear(ActorFailed).error == ["constructor", "boom", {}]


def test_a_lease_comes_goes_and_comes_back_to_the_same_worker(rig: Rig) -> None:
    rig.send(StartLease(1, JOB, {"name": "square"}))
    leased = rig.hear(WorkerLeased)
    rig.send(EndLease(1, True))
    rig.send(StartLease(2, JOB, {}))
    assert rig.hear(WorkerLeased).pid == leased.pid
    os.kill(leased.pid, signal.SIGKILL)
    assert rig.hear(WorkerDied).lease == 2


def test_output_reaches_the_driver_under_the_actor_s_name(rig: Rig) -> None:
    pid = rig.actor()
    rig.say(pid, "print", "hello")
    rig.say(pid, "print-err", "oh")
    lines = rig.hear(Output).lines
    while len(lines) < 2:
        lines += rig.hear(Output).lines
    assert sorted(line[1:6] for line in lines) == [
        ["Thing", pid, b"n" * 12, 1, "hello"], ["Thing", pid, b"n" * 12, 2, "oh"],
    ]  # fmt: skip
    log = rig.ask(ReadLog(0, lines[0][0], 1, 0, 100))
    assert log["text"] in ("hello\n", "oh\n", "")
    with pytest.raises(Exception, match="no log"):
        rig.ask(ReadLog(0, b"nobody", 1, 0, 100))


def test_stacks_of_all_or_one_even_of_one_that_never_lets_go(rig: Rig) -> None:
    pids = {rig.actor(b"a"), rig.actor(b"b")}
    for pid in pids:
        rig.say(pid, "spin")
    rig.until(
        lambda: sum("in obey" in row["stack"] for row in rig.ask(StackDump(0, None))) == 2
    )
    rows = [row for row in rig.ask(StackDump(0, None)) if row["pid"] in pids]
    (one,) = rig.ask(StackDump(0, rows[0]["process"]))
    assert one["pid"] == rows[0]["pid"]
    assert one["stack"].count("in obey") == 1
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_a_large_spec_passes_the_lane_whole(rig: Rig) -> None:
    rig.actor(args={"payload": b"x" * 3_000_000})
    rig.hear(ActorReady)


def test_a_killed_fork_server_stops_nothing(rig: Rig) -> None:
    pid = rig.actor()
    for server in rig.node.spawner.pids():
        os.kill(server, signal.SIGKILL)
    other = rig.actor(b"b")
    assert other != pid
    rig.send(StopActor(b"a", 1, False))
    assert rig.hear(WorkerDied).actors == [[b"a", 1]]


def test_an_environment_that_cannot_be_made_fails_the_actor(rig: Rig) -> None:
    spec = {"job": JOB, "env": {"preload": ["no_such_module"]}}
    rig.send(StartActor(b"a", 1, spec))
    assert rig.hear(ActorFailed).error[0] == "environment"


def test_the_death_of_a_driver_on_this_machine_is_reported(rig: Rig) -> None:
    pid = os.fork()
    if not pid:
        signal.pause()
    rig.node.watch_driver(b"driver", pid)
    rig.node.watch_driver(b"other-driver", 2**22 + 1)  # there is none
    assert rig.hear(ProcessDied).process == b"other-driver"
    os.kill(pid, signal.SIGKILL)
    assert rig.hear(ProcessDied).process == b"driver"
    os.waitpid(pid, 0)
