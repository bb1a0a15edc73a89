"""The node's machine: workers found, used, ended, and their ends reported."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zactor.core.node import ATTEMPTS, FAILED_SPARES, REFILL_PAUSE, NodeMachine
from zactor.core.node_effects import (
    DropJob,
    End,
    Kill,
    NodeLimits,
    Report,
    SetLabel,
    Spawn,
    ToBroker,
    ToWorker,
    env_key,
)
from zactor.wire.messages import (
    ActorExited,
    ActorFailed,
    ActorReady,
    ActorUp,
    BindNetwork,
    EndLease,
    JobEnded,
    LeaseFailed,
    Renew,
    StartActor,
    StartLease,
    StopActor,
    StopNode,
    WorkerDied,
    WorkerLeased,
)

JOB = b"job1"
BROKER = b"b" * 12
LIMITS = NodeLimits(spare_workers=0, idle_workers=2, idle_worker=60, exit_grace=3)


class Numbers:
    """Ids that count."""

    def __init__(self) -> None:
        self.last = 0

    def new_id(self) -> bytes:
        self.last += 1
        return self.last.to_bytes(12, "big")


def w(number: int) -> bytes:
    return number.to_bytes(12, "big")


def a(number: int) -> bytes:
    return b"actor" + number.to_bytes(7, "big")


def address(process: bytes) -> list[Any]:
    return [process, b"n", b"m", "ipc://" + process.hex(), ""]


class Node:
    """A machine with short ways of telling it things; asserts its invariants at each step."""

    def __init__(self, limits: NodeLimits = LIMITS) -> None:
        self.machine = NodeMachine(Numbers(), limits)
        self.now = 0.0

    def drain(self) -> list[Any]:
        self.machine.check()
        return self.machine.drain()

    def told(self) -> list[Any]:
        return [effect.message for effect in self.drain() if isinstance(effect, ToBroker)]

    def ask(self, message: Any) -> list[Any]:
        self.machine.receive(BROKER, message, self.now)
        return self.drain()

    def start(self, number: int, life: int = 1, **spec: Any) -> list[Any]:
        spec = {"job": JOB, "class_name": "Counter", **spec}
        return self.ask(StartActor(a(number), life, spec))

    def lease(self, number: int, job: bytes = JOB, **shape: Any) -> list[Any]:
        return self.ask(StartLease(number, job, shape))

    def say(self, number: int, *message: Any, progress: list[Any] | None = None) -> list[Any]:
        self.machine.worker_said(w(number), list(message), self.now, progress or [])
        return self.drain()

    def up(self, number: int, pid: int = 0) -> list[Any]:
        self.machine.worker_started(w(number), pid or 100 + number, self.now)
        return self.say(number, "up", address(w(number)))

    def died(self, number: int, kind: str = "signal", code: int = 11, **more: Any) -> list[Any]:
        more = {"oom": False, "progress": [], **more}
        self.machine.worker_died(w(number), kind, code, now=self.now, **more)
        return self.drain()

    def fail(self, number: int, kind: str = "spawn") -> list[Any]:
        self.machine.worker_failed(w(number), [kind, "no", {}], self.now)
        return self.drain()

    def after(self, seconds: float) -> list[Any]:
        self.now += seconds
        self.machine.tick(self.now)
        return self.drain()


@pytest.fixture
def node() -> Node:
    return Node()


def broker(effects: list[Any]) -> list[Any]:
    return [effect.message for effect in effects if isinstance(effect, ToBroker)]


def test_an_actor_gets_a_worker_is_up_and_is_ready(node: Node) -> None:  # N1
    spec = {"job": JOB, "class_name": "Counter"}
    assert node.start(1) == [
        Spawn(w(1), "", {}),
        SetLabel(w(1), "Counter", JOB),
        ToWorker(w(1), ["actor", a(1), 1, spec]),
    ]
    assert node.up(1, pid=7) == [ToBroker(ActorUp(a(1), 1, address(w(1)), 7))]
    assert node.say(1, "ready", a(1), 1, "") == [ToBroker(ActorReady(a(1), 1, ""))]
    assert node.machine.stats().hosting == 1


def test_an_actor_that_is_started_twice_is_started_once(node: Node) -> None:
    node.start(1)
    assert node.start(1) == []
    node.up(1)
    assert broker(node.start(1)) == [ActorUp(a(1), 1, address(w(1)), 101)]


def test_a_repr_of_its_own_becomes_the_label(node: Node) -> None:
    node.start(1)
    node.up(1)
    assert SetLabel(w(1), "Counter(3)", JOB) in node.say(1, "ready", a(1), 1, "Counter(3)")


def test_spare_workers_are_taken_first_and_replaced_when_it_is_quiet() -> None:
    node = Node(NodeLimits(spare_workers=2))
    node.machine.open(0.0)
    assert node.drain() == [Spawn(w(1), "", {}), Spawn(w(2), "", {})]
    node.up(1)
    effects = node.start(1)
    assert not any(isinstance(effect, Spawn) for effect in effects)
    assert broker(effects) == [ActorUp(a(1), 1, address(w(1)), 101)]
    assert node.after(REFILL_PAUSE / 2) == []
    node.start(2)
    assert node.after(REFILL_PAUSE / 2) == []
    assert node.after(REFILL_PAUSE) == [Spawn(w(3), "", {}), Spawn(w(4), "", {})]
    assert node.machine.next_deadline() is not None  # of the starts


def test_spare_workers_that_cannot_start_are_given_up() -> None:
    node = Node(NodeLimits(spare_workers=1))
    node.machine.open(0.0)
    for number in range(1, FAILED_SPARES + 1):
        assert node.drain()[:1] == [Spawn(w(number), "", {})]
        (report,) = node.died(number, "exit", 1)
        assert isinstance(report, Report)
        node.now += REFILL_PAUSE
        node.machine.tick(node.now)
    assert node.after(10) == []
    node.start(1)
    assert node.after(REFILL_PAUSE)[:1] == [Spawn(w(FAILED_SPARES + 2), "", {})]


def test_another_environment_gets_workers_of_its_own() -> None:
    node = Node(NodeLimits(spare_workers=1))
    node.machine.open(0.0)
    node.drain()
    env = {"env_vars": {"B": "1", "A": "2"}, "preload": ["numpy"]}
    spawn = node.start(1, env=env)[0]
    assert spawn == Spawn(w(2), env_key(env), env)
    assert env_key({"preload": ["numpy"], "env_vars": {"A": "2", "B": "1"}}) == spawn.env


def test_a_constructor_that_raises_is_told_from_one_that_crashes(node: Node) -> None:  # N1
    node.start(1)
    node.up(1)
    effects = node.say(1, "failed", a(1), 1, ["constructor", "boom", {}])
    assert effects == [
        ToBroker(ActorFailed(a(1), 1, ["constructor", "boom", {}])),
        ToWorker(w(1), ["exit", ""]),
    ]
    assert broker(node.died(1, "exit", 0))[0].actors == []

    node.start(2)
    node.up(2)
    (died,) = broker(node.died(2))
    assert died.actors == [[a(2), 1]]
    assert died.cause == {
        "kind": "signal", "code": 11, "text": "was ended by SIGSEGV", "during": "constructor",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "code", "oom", "expected"),
    [
        ("exit", 3, False, ("exit", "exited with code 3")),
        ("signal", 9, False, ("signal", "was ended by SIGKILL")),
        ("signal", 9, True, ("oom", "was killed, it seems for want of memory")),
        ("signal", 99, False, ("signal", "was ended by 99")),
        ("unknown", -1, False, ("exit", "ended; how is not known")),
    ],
)
def test_a_death_has_its_cause_and_progress(
    node: Node, kind: str, code: int, oom: bool, expected: tuple[str, str]
) -> None:  # N3
    node.start(1)
    node.up(1)
    node.say(1, "ready", a(1), 1, "")
    rows = [[b"c" * 16, 1, 5, 4]]
    (died,) = broker(node.died(1, kind, code, oom=oom, progress=rows))
    assert (died.cause["kind"], died.cause["text"]) == expected
    assert died.progress == rows
    assert "during" not in died.cause
    assert node.machine.stats().workers == 0


def test_a_page_that_is_whole_says_so(node: Node) -> None:
    node.start(1)
    node.up(1)
    rows = [[b"c" * 16, 0, 3, 2]]
    (died,) = broker(node.died(1, "exit", 1, progress=rows, is_whole=True))
    assert died.progress == [*rows, [b"", 0, 0, 0]]


def test_kill_is_a_signal_and_its_cause_is_named(node: Node) -> None:
    node.start(1)
    node.up(1)
    assert node.ask(StopActor(a(1), 1, False)) == [Kill(w(1), 9)]
    (died,) = broker(node.died(1, "signal", 9))
    assert (died.cause["kind"], died.cause["text"]) == ("killed", "killed by zactor.kill")


def test_kill_before_the_worker_is_up_is_a_death_and_not_another_try(node: Node) -> None:  # N1
    node.start(1)
    assert node.ask(StopActor(a(1), 1, False)) == [Kill(w(1), 9)]
    (died,) = broker(node.died(1, "signal", 9))
    assert died.actors == [[a(1), 1]]
    node.start(2)
    assert node.ask(StopActor(a(2), 1, True)) == [Kill(w(2), 9)]


def test_a_graceful_stop_ends_in_order(node: Node) -> None:
    node.start(1)
    node.up(1)
    assert node.ask(StopActor(a(1), 1, True)) == [ToWorker(w(1), ["stop", a(1), 1])]
    cause = {"kind": "exited", "text": "stopped"}
    assert node.say(1, "exited", a(1), 1, cause, progress=[[b"", 0, 1, 1]]) == [
        ToBroker(ActorExited(a(1), 1, cause, [[b"", 0, 1, 1]])),
        ToWorker(w(1), ["exit", ""]),
    ]
    (died,) = broker(node.died(1, "exit", 0))
    assert died == WorkerDied(w(1), [], 0, died.cause, [])


def test_a_long_queue_has_no_deadline_but_a_shutdown_hook_has(node: Node) -> None:  # N4
    node.start(1)
    node.up(1)
    node.ask(StopActor(a(1), 1, True))
    assert node.after(1000) == []
    node.say(1, "stopping", a(1), 1)
    assert node.after(29) == []
    assert node.after(2) == [Kill(w(1), 9)]
    (died,) = broker(node.died(1, "signal", 9))
    assert died.cause["text"] == "its shutdown hook ran for more than 30 s"


def test_a_worker_that_does_not_exit_when_asked_is_killed(node: Node) -> None:  # N4
    node.start(1)
    node.up(1)
    node.say(1, "exited", a(1), 1, {})
    assert node.after(2.9) == []
    assert node.after(0.2) == [Kill(w(1), 9)]


def test_a_worker_that_never_comes_up_is_killed_and_its_work_tried_again(node: Node) -> None:
    node.start(1)
    node.machine.worker_started(w(1), 5, node.now)
    assert Kill(w(1), 9) in node.after(61)
    effects = node.died(1, "signal", 9)
    assert effects[0] == Spawn(w(2), "", {})
    assert effects[-1].message[:2] == ["actor", a(1)]


def test_work_whose_workers_do_not_start_is_given_back(node: Node) -> None:  # N1 N2
    node.start(1)
    node.lease(7)
    for _ in range(ATTEMPTS - 1):
        node.died(1, "exit", 1)
        node.fail(2)
    (failed,) = broker(node.died(3, "exit", 1))
    assert failed[:2] == (a(1), 1)
    assert failed.error[:2] == ["spawn", "the worker exited with code 1 while starting"]
    assert broker(node.fail(4)) == [LeaseFailed(7, ["spawn", "no", {}])]


def test_an_environment_that_cannot_be_made_is_not_tried_again(node: Node) -> None:
    node.start(1, env={"preload": ["nope"]})
    assert broker(node.fail(1, "environment")) == [
        ActorFailed(a(1), 1, ["environment", "no", {}])
    ]


def test_a_lease_gets_a_worker_which_is_kept_for_the_same_job(node: Node) -> None:  # N2
    node.lease(1, name="square")
    assert broker(node.up(1)) == [WorkerLeased(1, address(w(1)), 101)]
    assert broker(node.lease(1)) == []
    assert node.ask(EndLease(1, True)) == [ToWorker(w(1), ["unlease", 1])]
    assert isinstance(node.lease(2, job=b"job2")[0], Spawn)
    effects = node.lease(3)
    assert broker(effects) == [WorkerLeased(3, address(w(1)), 101)]
    assert ToWorker(w(1), ["lease", 3, JOB, {}]) in effects


def test_a_tainted_leased_worker_is_ended(node: Node) -> None:
    node.lease(1)
    node.up(1)
    assert node.ask(EndLease(1, False)) == [ToWorker(w(1), ["exit", "used up"])]
    assert node.ask(EndLease(1, False)) == []


def test_the_death_of_a_leased_worker_names_its_lease(node: Node) -> None:
    node.lease(9)
    node.up(1)
    (died,) = broker(node.died(1))
    assert (died.lease, died.actors) == (9, [])


def test_idle_workers_are_trimmed_by_number_and_by_time(node: Node) -> None:
    for number in (1, 2, 3):
        node.lease(number)
        node.up(number)
    node.ask(EndLease(1, True))
    node.now = 30.0
    node.ask(EndLease(2, True))
    assert ToWorker(w(1), ["exit", ""]) in node.ask(EndLease(3, True))
    node.died(1, "exit", 0)
    assert node.after(59) == []
    assert node.after(2) == [ToWorker(w(2), ["exit", "idle"]), ToWorker(w(3), ["exit", "idle"])]


def test_an_idle_worker_whose_objects_are_needed_declines_to_exit(node: Node) -> None:
    node.lease(1)
    node.up(1)
    node.ask(EndLease(1, True))
    assert node.after(61) == [ToWorker(w(1), ["exit", "idle"])]
    node.say(1, "keep")
    assert node.after(10) == []
    assert broker(node.lease(2)) == [WorkerLeased(2, address(w(1)), 101)]
    assert node.after(100) == []


def test_shared_actors_of_one_job_environment_and_group_share_a_worker(node: Node) -> None:
    assert isinstance(node.start(1, isolation="shared")[0], Spawn)
    effects = node.start(2, isolation="shared", class_name="Other")
    assert [type(effect) for effect in effects] == [SetLabel, ToWorker]
    assert effects[0].label == "shared"
    others: list[dict[str, Any]] = [
        {"job": b"job2"}, {"env": {"env_vars": {}}}, {"group": {"id": b"g"}},
    ]  # fmt: skip
    for other in others:
        assert isinstance(node.start(3, life=id(other), isolation="shared", **other)[0], Spawn)
    assert [m[:2] for m in broker(node.up(1))] == [(a(1), 1), (a(2), 1)]


def test_a_shared_actor_ends_alone(node: Node) -> None:
    for number in (1, 2):
        node.start(number, isolation="shared")
    node.up(1)
    assert node.ask(StopActor(a(1), 1, False)) == [ToWorker(w(1), ["kill", a(1), 1])]
    assert [type(m) for m in broker(node.say(1, "exited", a(1), 1, {}))] == [ActorExited]
    node.say(1, "stopping", a(2), 1)
    assert node.after(100) == []  # a hook that hangs does not take its neighbours along
    (died,) = broker(node.died(1))
    assert died.actors == [[a(2), 1]]


def test_an_empty_shared_worker_is_kept_a_while(node: Node) -> None:
    node.start(1, isolation="shared")
    node.up(1)
    node.say(1, "failed", a(1), 1, ["constructor", "", {}])
    node.after(50)
    assert broker(node.start(2, isolation="shared"))
    node.say(1, "exited", a(2), 1, {})
    assert node.after(50) == []
    assert node.after(11) == [ToWorker(w(1), ["exit", "idle"])]


def test_a_crash_while_starting_moves_all_shared_actors_to_one_new_worker(node: Node) -> None:
    for number in (1, 2):
        node.start(number, isolation="shared")
    effects = node.died(1)
    assert [type(e) for e in effects] == [Spawn, SetLabel, ToWorker, ToWorker]
    assert {effect.process for effect in effects} == {w(2)}


def test_binding_the_network_repeats_up_with_the_new_address(node: Node) -> None:
    node.start(1)
    node.up(1)
    assert node.ask(BindNetwork(a(1), 1)) == [ToWorker(w(1), ["bind_tcp"])]
    assert node.ask(BindNetwork(a(2), 1)) == []
    moved = [*address(w(1))[:4], "tcp://1"]
    assert broker(node.say(1, "up", moved)) == [ActorUp(a(1), 1, moved, 101)]


def test_a_worker_that_is_used_up_and_needed_runs_no_task_and_is_asked_again(
    node: Node,
) -> None:
    node.lease(1)
    node.up(1)
    node.ask(EndLease(1, False))
    node.say(1, "keep")
    assert ToWorker(w(1), ["exit", "used up"]) in node.after(0.6)
    assert Spawn(w(2), "", {}) in node.lease(2)
    node.say(1, "keep")
    assert Kill(w(1), 9) not in node.after(0.4)
    assert ToWorker(w(1), ["exit", "used up"]) in node.after(0.2)
    assert Kill(w(1), 9) in node.after(3.1)  # it does not answer


def test_a_worker_that_is_used_up_does_not_keep_its_node_from_stopping(node: Node) -> None:
    node.lease(1)
    node.up(1)
    node.ask(EndLease(1, False))
    node.say(1, "keep")
    node.ask(StopNode("enough"))
    assert Kill(w(1), 9) in node.after(0.6)


def test_a_worker_sees_one_set_of_gpus(node: Node) -> None:
    node.lease(1)
    node.up(1)
    node.ask(EndLease(1, True))
    assert Spawn(w(2), "", {}) in node.lease(2, gpu_ids=[0])
    node.up(2)
    assert node.ask(EndLease(2, True)) == [ToWorker(w(2), ["exit", "used up"])]


def test_an_ended_job_leaves_no_idle_worker(node: Node) -> None:
    node.lease(1)
    node.up(1)
    node.start(2)
    node.ask(EndLease(1, True))
    assert node.ask(JobEnded(JOB)) == [ToWorker(w(1), ["exit", ""]), DropJob(JOB)]


def test_stopping_what_is_not_there_is_answered(node: Node) -> None:
    (exited,) = broker(node.ask(StopActor(a(1), 4, True)))
    assert exited[:2] == (a(1), 4)


def test_a_stopped_node_ends_after_its_last_worker(node: Node) -> None:  # N5
    node.start(1)
    node.up(1)
    node.lease(2)
    effects = node.ask(StopNode("enough"))
    assert effects == [ToWorker(w(1), ["exit", ""]), ToWorker(w(2), ["exit", ""])]
    assert [type(m) for m in broker(node.start(5))] == [ActorFailed]
    assert [type(m) for m in broker(node.lease(5))] == [LeaseFailed]
    node.died(1, "exit", 0)
    assert node.after(4) == [Kill(w(2), 9)]
    assert node.died(2, "signal", 9)[-1] == End("enough")
    assert node.ask(StopNode("again")) == []


def test_actors_of_a_cluster_that_is_ended_are_killed_and_others_exit(node: Node) -> None:
    node.start(1)
    node.up(1)
    node.lease(2)
    node.machine.kill_actors("its cluster was ended", 0.0)
    assert node.machine.drain() == [Kill(w(1), 9)]
    assert node.ask(StopNode("enough")) == [ToWorker(w(2), ["exit", ""])]
    (died,) = broker(node.died(1, "signal", 9))
    assert (died.cause["kind"], died.cause["text"]) == ("killed", "its cluster was ended")
    assert node.died(2, "exit", 0)[-1] == End("enough")


@pytest.mark.parametrize("killed", [False, True])
def test_what_a_stopping_node_ends_has_gone_with_it(node: Node, *, killed: bool) -> None:  # N6
    node.start(1)
    node.up(1)
    node.start(2)
    node.up(2)
    node.ask(StopNode("enough"))
    stopped = {"kind": "stopped", "code": 0, "text": "was stopped in order"}
    (exited,) = broker(node.say(1, "exited", a(1), 1, stopped))
    if killed:
        assert Kill(w(2), 9) in node.after(4)
    (died,) = broker(node.died(2, "signal", 9))
    gone = {"kind": "node", "code": 0, "text": "its node has stopped: enough"}
    assert exited.cause == died.cause == gone


def test_what_ended_of_itself_while_its_node_stops_has_ended_of_itself(node: Node) -> None:
    node.start(1)
    node.up(1)
    node.ask(StopNode("enough"))
    itself = {"kind": "exited", "code": 0, "text": "ended itself with exit_actor()"}
    (exited,) = broker(node.say(1, "exited", a(1), 1, itself))
    assert exited.cause == itself


def test_an_empty_node_ends_at_once(node: Node) -> None:  # N5
    assert node.ask(StopNode("enough")) == [End("enough")]


def test_what_makes_no_sense_is_reported_and_survived(node: Node) -> None:
    assert isinstance(node.ask(Renew(1, {}))[0], Report)
    node.start(1)
    node.up(1)
    for message in (["hm"], ["up"], ["ready", 1], ["up", 5], ["exited", [], 1, 2], ["label"]):
        assert isinstance(node.say(1, *message)[0], Report), message
    for message in (["ready", a(9), 1, ""], ["failed", a(9), 1, []], ["exited", a(9), 1, {}]):
        assert node.say(1, *message) == []
    assert node.say(77, "up", address(w(77))) == []
    assert node.say(1, "keep") == []
    node.machine.lost(BROKER, 1.0)
    assert node.drain() == []


def test_a_worker_can_rename_its_output(node: Node) -> None:
    node.lease(1)
    node.up(1)
    assert node.say(1, "label", "square") == [SetLabel(w(1), "square", JOB)]


def test_what_works_is_described_to_a_broker_that_came_back(node: Node) -> None:
    node.start(1)
    node.up(1)
    assert node.machine.describe_workers() == [{
        "process": w(1), "address": address(w(1)), "pid": 101, "job": JOB, "lease": 0, "shape": {},
        "actors": [[a(1), 1, False, ""]],
    }]  # fmt: skip
    node.say(1, "ready", a(1), 1, "Mine")
    node.lease(5, name="square")
    ready, starting = node.machine.describe_workers()
    assert ready["actors"] == [[a(1), 1, True, "Mine"]]
    assert starting["process"] == b""
    assert (starting["lease"], starting["shape"]) == (5, {"name": "square"})


class AnyNode(RuleBasedStateMachine):
    """Whatever happens in whatever order, the invariants hold and every start is answered."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = NodeLimits(1, 2, 5.0, 4.0, 2.0, 6.0)
        self.machine = NodeMachine(Numbers(), self.limits)
        self.now = 0.0
        self.living: list[bytes] = []
        self.open: dict[tuple[bytes, int], str] = {}  # N1, N2: asked for, and not over
        self.dead: set[bytes] = set()
        self.lives = 0
        self.ended = False
        self.machine.open(0.0)
        self.settle()

    def settle(self) -> None:
        self.machine.check()
        for effect in self.machine.drain():
            match effect:
                case Spawn():
                    self.living.append(effect.process)
                case ToBroker():
                    self.hear(effect.message)
                case End():
                    self.ended = True

    def hear(self, message: Any) -> None:
        match message:
            case ActorUp() | ActorReady():
                assert (message.actor, message.life) in self.open
            case ActorFailed() | ActorExited():
                self.open.pop((message.actor, message.life), None)
            case LeaseFailed():
                del self.open[b"lease", message.lease]
            case WorkerDied():
                self.dead.add(message.process)
                for actor, life in message.actors:
                    del self.open[actor, life]
                self.open.pop((b"lease", message.lease), None)

    @rule(actor=st.integers(0, 3), shared=st.booleans(), env=st.sampled_from([{}, {"x": 1}]))
    def start_actor(self, actor: int, shared: bool, env: dict[str, Any]) -> None:
        self.lives += 1
        self.open[a(actor), self.lives] = "actor"
        spec = {"job": JOB, "isolation": "shared" if shared else "process", "env": env}
        self.machine.receive(BROKER, StartActor(a(actor), self.lives, spec), self.now)
        self.settle()

    @rule(job=st.sampled_from([b"job1", b"job2"]))
    def start_lease(self, job: bytes) -> None:
        self.lives += 1
        self.open[b"lease", self.lives] = "lease"
        self.machine.receive(BROKER, StartLease(self.lives, job, {}), self.now)
        self.settle()

    @precondition(lambda self: self.open)
    @rule(data=st.data(), graceful=st.booleans())
    def stop(self, data: st.DataObject, graceful: bool) -> None:
        actor, life = key = data.draw(st.sampled_from(sorted(self.open)))
        if actor == b"lease":
            del self.open[key]
            self.machine.receive(BROKER, EndLease(life, graceful), self.now)
        else:
            self.machine.receive(BROKER, StopActor(actor, life, graceful), self.now)
        self.settle()

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def worker_up(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(self.living))
        self.machine.worker_started(process, 5, self.now)
        self.machine.worker_said(process, ["up", address(process)], self.now, [])
        self.settle()

    @precondition(lambda self: self.living)
    @rule(
        data=st.data(), word=st.sampled_from(["ready", "failed", "exited", "stopping", "keep"]),
        life=st.integers(0, 30), actor=st.integers(0, 3),
    )  # fmt: skip
    def worker_says(self, data: st.DataObject, word: str, life: int, actor: int) -> None:
        process = data.draw(st.sampled_from(self.living))
        rest = {"keep": [], "stopping": [a(actor), life]}.get(word, [a(actor), life, {}])
        self.machine.worker_said(process, [word, *rest], self.now, [])
        self.settle()

    @precondition(lambda self: self.living)
    @rule(data=st.data(), kind=st.sampled_from(["exit", "signal", "spawn", "environment"]))
    def worker_ends(self, data: st.DataObject, kind: str) -> None:
        process = data.draw(st.sampled_from(self.living))
        self.living.remove(process)
        if kind in ("spawn", "environment"):
            self.machine.worker_failed(process, [kind, "", {}], self.now)
            self.settle()
        else:
            self.machine.worker_died(process, kind, 1, oom=False, progress=[], now=self.now)
            self.settle()

    def where(self, key: tuple[bytes, int]) -> object:
        pool = self.machine._pool
        return pool.by_lease.get(key[1]) if key[0] == b"lease" else pool.by_actor.get(key)

    @rule(seconds=st.sampled_from([0.05, 1.0, 3.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.machine.tick(self.now)
        self.settle()

    @rule()
    def job_ends(self) -> None:
        self.machine.receive(BROKER, JobEnded(JOB), self.now)
        self.settle()

    @precondition(lambda self: self.lives > 6)
    @rule()
    def node_stops(self) -> None:
        self.machine.receive(BROKER, StopNode("x"), self.now)
        self.settle()

    @invariant()
    def what_was_asked_for_is_somewhere(self) -> None:
        for key in self.open:
            assert self.where(key) is not None, key
        assert self.ended <= (not self.living)
        assert not self.dead & set(self.machine._pool.workers)


AnyNode.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyNode = AnyNode.TestCase
