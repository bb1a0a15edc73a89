"""Waits that can never end raise, and name each other."""

import os

import pytest

import zactor


@zactor.remote
class Peer:
    def meet(self, other: "Peer") -> None:
        self.other = other

    def ask(self) -> int:
        return zactor.get(self.other.answer.remote())

    def answer(self) -> int:
        return zactor.get(self.other.leaf.remote())

    def answer_twice(self) -> int:
        here = self.other.leaf.remote()
        return sum(zactor.get([here, self.other.leaf.remote()]))

    def leaf(self) -> int:
        return 1

    def patient(self) -> int:
        return zactor.get(self.other.leaf.remote(), timeout=20)


@pytest.mark.system
def test_two_actors_that_wait_for_each_other_are_told(cluster: None) -> None:
    first, second = Peer.remote(), Peer.remote()
    zactor.get([first.meet.remote(second), second.meet.remote(first)])

    with pytest.raises(zactor.exceptions.DeadlockError) as caught:
        zactor.get(first.ask.remote(), timeout=20)

    assert "Peer.ask()" in str(caught.value)
    assert "Peer.answer()" in str(caught.value)
    assert zactor.get([first.leaf.remote(), second.leaf.remote()], timeout=20) == [1, 1]


@pytest.mark.system
def test_an_actor_that_waits_for_itself_is_told(cluster: None) -> None:
    actor = Peer.remote()
    zactor.get(actor.meet.remote(actor))

    with pytest.raises(zactor.exceptions.DeadlockError):
        zactor.get(actor.answer.remote(), timeout=20)


@pytest.mark.system
def test_an_actor_that_waits_for_several_calls_to_itself_is_told(cluster: None) -> None:
    actor = Peer.remote()
    zactor.get(actor.meet.remote(actor))

    with pytest.raises(zactor.exceptions.DeadlockError):
        zactor.get(actor.answer_twice.remote(), timeout=20)


@pytest.mark.system
def test_a_long_wait_that_ends_is_no_deadlock(cluster: None) -> None:
    @zactor.remote
    class Slow:
        def leaf(self) -> int:
            import threading

            threading.Event().wait(0.1)
            return 7

    asker, slow = Peer.remote(), Slow.remote()
    zactor.get(asker.meet.remote(slow))

    assert zactor.get([asker.answer.remote(), asker.patient.remote()], timeout=20) == [7, 7]


SLOW = 20.0


@zactor.remote
class Several:
    """Calls others from several threads."""

    def ask(self, other: zactor.ActorHandle, method: str) -> int:
        return zactor.get(
            getattr(other, method).remote(zactor.get_runtime_context().current_actor)
        )

    def back(self, asker: zactor.ActorHandle) -> int:
        return zactor.get(asker.leaf.remote())

    def ask_both(self, other: zactor.ActorHandle) -> list[int]:
        me = zactor.get_runtime_context().current_actor
        return zactor.get([other.leaf.remote(), other.back.remote(me)])

    def get_of(self, refs: list[zactor.ObjectRef[int]]) -> int:
        return zactor.get(refs[0])

    def leaf(self, *ignored: object) -> int:
        return 1


def deadlock(ref: zactor.ObjectRef) -> str:
    with pytest.raises(zactor.exceptions.DeadlockError) as caught:
        zactor.get(ref, timeout=SLOW)
    return str(caught.value)


@pytest.mark.system
@pytest.mark.parametrize(
    "options", [{"isolation": "shared"}, {"isolation": "shared", "max_concurrency": 1}, {}]
)
def test_actors_that_share_a_process_or_not_are_told_of_their_circle(
    cluster: None, options: dict[str, object]
) -> None:
    first, second = (Several.options(**options).remote() for _ in range(2))
    text = deadlock(first.ask.remote(second, "back"))
    assert "Several.ask()" in text
    assert "Several.back()" in text
    assert zactor.get([first.leaf.remote(), second.leaf.remote()], timeout=SLOW) == [1, 1]


@pytest.mark.system
def test_a_circle_through_a_shared_actor_a_process_and_a_task_is_found(cluster: None) -> None:
    @zactor.remote
    def relay(asker: zactor.ActorHandle) -> int:
        return zactor.get(asker.leaf.remote())

    @zactor.remote
    class Asks:
        def start(self, shared: zactor.ActorHandle) -> int:
            me = zactor.get_runtime_context().current_actor
            return zactor.get(shared.run.remote(me))

        def leaf(self) -> int:
            return 1

    @zactor.remote(isolation="shared")
    class Shared:
        def run(self, asker: zactor.ActorHandle) -> int:
            return zactor.get(relay.remote(asker))

    text = deadlock(Asks.remote().start.remote(Shared.remote()))
    assert "Asks.start()" in text
    assert "Shared.run()" in text
    assert "task.relay()" in text


@pytest.mark.system
@pytest.mark.parametrize("isolation", ["process", "shared"])
def test_threaded_actors_deadlock_when_every_thread_is_in_the_circle(
    cluster: None, isolation: str
) -> None:
    options = {"max_concurrency": 2, "isolation": isolation}
    threaded, plain = Several.options(**options).remote(), Several.remote()
    # One thread waits, the other is free: no circle.
    assert zactor.get(threaded.ask.remote(plain, "back"), timeout=SLOW) == 1
    refs = [threaded.ask.remote(plain, "back") for _ in range(2)]
    outcomes = []
    for ref in refs:
        try:
            outcomes.append(zactor.get(ref, timeout=SLOW))
        except zactor.exceptions.DeadlockError:
            outcomes.append("deadlock")
    assert set(outcomes) <= {1, "deadlock"}
    assert zactor.get(threaded.leaf.remote(), timeout=SLOW) == 1


@pytest.mark.system
def test_a_thread_that_goes_on_keeps_a_threaded_actor_out_of_circles(cluster: None) -> None:
    @zactor.remote(max_concurrency=2)
    class Holds:
        def ask(self, other: zactor.ActorHandle) -> int:
            me = zactor.get_runtime_context().current_actor
            return zactor.get(other.back.remote(me))

        def hold(self) -> int:
            import threading

            threading.Event().wait(0.6)
            return 2

        def leaf(self) -> int:
            return 1

    holds, plain = Holds.remote(), Several.remote()
    held = holds.hold.remote()
    assert zactor.get([holds.ask.remote(plain), held], timeout=SLOW) == [1, 2]


@pytest.mark.system
def test_an_async_actor_that_awaits_is_in_no_circle(cluster: None) -> None:
    @zactor.remote
    class Async:
        async def ask(self, other: zactor.ActorHandle) -> int:
            return await other.back.remote(zactor.get_runtime_context().current_actor)

        async def leaf(self) -> int:
            return 1

    assert zactor.get(Async.remote().ask.remote(Several.remote()), timeout=SLOW) == 1


@pytest.mark.system
def test_a_reference_from_elsewhere_whose_call_leads_back_is_found(cluster: None) -> None:
    @zactor.remote
    class Waits:
        def get_of(self, refs: list[zactor.ObjectRef[int]]) -> int:
            return zactor.get(refs[0])

        def leaf(self, value: int) -> int:
            return value

    @zactor.remote
    def later(value: int) -> int:
        return value

    waits, other = Waits.remote(), Waits.remote()
    behind = other.leaf.remote(0)
    blocked = waits.get_of.remote([other.get_of.remote([waits.leaf.remote(behind)])])
    assert zactor.get(blocked, timeout=SLOW) == 0  # in order: no circle
    gate = later.remote(1)
    first = other.get_of.remote([waits.leaf.remote(gate)])
    # `waits` gets what `other` makes, who waits for a call of `waits` behind this one.
    circle = waits.get_of.remote([first])
    assert zactor.get(circle, timeout=SLOW) == 1


@pytest.mark.system
def test_a_circle_through_borrowed_references_is_found(cluster: None) -> None:
    first, second = Several.remote(), Several.remote()

    @zactor.remote
    class Holder:
        def __init__(self) -> None:
            self.refs: list[zactor.ObjectRef[int]] = []

        def make(self, target: zactor.ActorHandle, gets: object) -> list[zactor.ObjectRef[int]]:
            self.refs.append(target.get_of.remote(gets))
            return [self.refs[-1]]

    @zactor.remote
    class Gate:
        async def value(self) -> list[zactor.ObjectRef[int]]:
            import asyncio

            self.set = asyncio.get_running_loop().create_future()
            return await self.set

        async def open(self, refs: list[zactor.ObjectRef[int]]) -> None:
            self.set.set_result(refs)

    @zactor.remote
    class Two:
        def run(self, gate: zactor.ActorHandle) -> int:
            (ref,) = zactor.get(gate.value.remote(), timeout=SLOW)
            return zactor.get(ref)

        def leaf(self) -> int:
            return 1

    gate, two, holder = Gate.remote(), Two.remote(), Holder.remote()
    circle = two.run.remote(gate)
    # Another process calls `two` behind that, and `first` waits for that call: by a reference of
    # the driver's, which `two` then gets.
    leaf = two.leaf.remote()
    (through,) = zactor.get(holder.make.remote(first, [leaf]), timeout=SLOW)
    zactor.get(second.leaf.remote())
    zactor.get(gate.open.remote([through]), timeout=SLOW)
    text = deadlock(circle)
    assert "Two.run()" in text
    assert "Several.get_of()" in text


@pytest.mark.system
def test_who_waits_for_a_circle_is_not_in_it(cluster: None) -> None:
    first, second, outside = (Several.remote() for _ in range(3))

    @zactor.remote
    class Catches:
        def ask(self, other: zactor.ActorHandle, third: zactor.ActorHandle) -> str:
            try:
                return str(zactor.get(other.ask.remote(third, "back")))
            except zactor.exceptions.DeadlockError as error:
                return str(error)

    text = zactor.get(Catches.remote().ask.remote(first, second), timeout=SLOW)
    assert "Catches" not in text
    assert "Several.ask()" in text
    assert zactor.get(outside.leaf.remote(), timeout=SLOW) == 1


@pytest.mark.system
def test_a_constructor_that_waits_for_its_own_actor_is_told(cluster: None) -> None:
    @zactor.remote
    class Selfish:
        def __init__(self) -> None:
            me = zactor.get_runtime_context().current_actor
            self.value = zactor.get(me.leaf.remote())

        def leaf(self) -> int:
            return 1

    with pytest.raises(zactor.exceptions.ActorDiedError, match="never end"):
        zactor.get(Selfish.remote().leaf.remote(), timeout=SLOW)


@pytest.mark.system
def test_a_lost_argument_that_the_same_actor_would_have_to_make_is_told(cluster: None) -> None:
    numpy = pytest.importorskip("numpy")
    import pathlib

    @zactor.remote(max_task_retries=1)
    class Makes:
        def full(self) -> object:
            return numpy.ones(50_000)

        def total(self, array: object) -> float:
            return float(array.sum())

    actor = Makes.remote()
    ref = actor.full.remote()
    zactor.wait([ref], timeout=SLOW)
    pathlib.Path(os.environ["ZACTOR_SHM_DIR"], ref._result.value[0]).unlink()
    with pytest.raises(zactor.exceptions.DeadlockError):
        zactor.get(actor.total.remote(ref), timeout=SLOW)
