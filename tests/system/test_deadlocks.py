"""Waits that can never end raise, and name each other."""

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
