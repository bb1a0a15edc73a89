"""A stream at its callee: each call taken once, replies kept as long as the caller may want them."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from zactor.core import intake as intakes
from zactor.core.intake import Intake


def fresh(first: int = 1) -> Intake:
    return Intake(b"c" * 16, b"a" * 12, 0, first)


def reply(seq: int) -> list:
    return [seq, 0, f"value {seq}"]


def test_a_stream_that_is_not_known_starts_where_its_first_calls_do() -> None:
    intake = fresh(7)  # S2
    assert intake.take(7, 2) == 0
    assert intake.next_seq == 9
    assert intake.floor == 7


def test_calls_that_were_taken_are_not_taken_again() -> None:
    intake = fresh()
    assert intake.take(1, 3) == 0
    assert intake.take(1, 3) == 3  # S1: all of them known
    assert intake.take(2, 4) == 2  # two known, two new
    assert intake.next_seq == 6
    assert intake.unfinished == 5


def test_a_gap_is_told_and_nothing_is_taken() -> None:
    intake = fresh()
    assert intake.take(3, 1) == -1
    assert intake.next_seq == 1


def test_replies_are_kept_until_the_floor_passes_them() -> None:
    intake = fresh()
    intake.keep(reply(1) + reply(2))
    intake.keep(reply(3))

    assert intake.replies_from(2) == reply(2) + reply(3)
    intake.settled_below(2)
    assert intake.replies_from(1) == reply(2) + reply(3)
    intake.settled_below(3)
    assert intake.replies_from(1) == reply(3)  # S3
    assert intake.replies_from(4) == []
    assert intake.kept_replies == 1
    intake.check()


def test_replies_that_overtook_others_are_kept_as_long_as_they_may_be_wanted() -> None:
    intake = fresh()
    intake.keep(reply(2) + reply(5) + reply(1) + reply(3))
    intake.settled_below(4)
    assert intake.replies_from(4) == reply(5)  # S3
    intake.settled_below(6)
    assert not intake.kept_replies
    intake.keep(reply(7))
    assert intake.replies_from(1) == reply(7)


def test_single_replies_and_runs_of_them_are_kept_beside_each_other() -> None:
    intake = fresh()
    intake.keep(tuple(reply(1)))
    intake.keep(reply(2) + reply(3))
    intake.keep(tuple(reply(4)))
    assert intake.replies_from(1) == reply(1) + reply(2) + reply(3) + reply(4)
    intake.settled_below(4)
    assert intake.replies_from(1) == reply(4)
    intake.keep(tuple(reply(5)))
    intake.settled_below(6)
    assert not intake.kept_replies


def test_replies_are_forgotten_once_acknowledged_though_the_floor_stays() -> None:
    intake = fresh()
    message = 0
    for seq in range(2, 100_000):  # call 1 runs for ever
        intake.keep(reply(seq))
        if seq % 100 == 0:
            message += 1
            intake.carried(message, message - 3)  # the peer is three messages behind
    assert intake.kept_replies < 4 * intakes.LOOK_AT_KEPT
    assert not intake.is_full


def test_nothing_is_forgotten_while_nothing_is_acknowledged_and_new_calls_are_refused() -> None:
    intake = fresh()
    for seq in range(intakes.MAX_KEPT):
        assert not intake.is_full
        intake.keep(reply(seq))
        intake.carried(seq + 1, 0)
    assert intake.is_full  # S3
    assert intake.kept_replies == intakes.MAX_KEPT


def test_a_mailbox_with_too_many_calls_is_full() -> None:
    intake = fresh()
    intake.take(1, intakes.MAX_UNFINISHED)
    assert intake.is_full


def test_cancels_of_calls_to_come_are_remembered_up_to_a_bound() -> None:
    intake = fresh()
    for seq in range(intakes.MAX_CANCELS + 5):
        intake.cancel(seq)
    assert len(intake.cancelled) == intakes.MAX_CANCELS


class Stream(RuleBasedStateMachine):
    """A caller that repeats itself, as after a move of either side, and a link that acknowledges."""

    def __init__(self) -> None:
        super().__init__()
        self.intake = fresh()
        self.taken: list[int] = []
        self.replied = 1  # seqs below have been answered
        self.next = 1
        self.messages = 0
        self.acked = 0
        self.left_with: dict[int, int] = {}  # seq -> message

    @rule(back=st.integers(0, 5), calls=st.integers(1, 6))
    def call(self, back: int, calls: int) -> None:
        first = max(self.intake.floor, self.next - back)
        known = self.intake.take(first, calls)
        assert known >= 0
        self.taken += range(first + known, first + calls)
        self.next = max(self.next, first + calls)

    @rule(calls=st.integers(1, 600), is_mixed=st.booleans())
    def answer(self, calls: int, is_mixed: bool = False) -> None:
        last = min(self.next, self.replied + calls)
        if last > self.replied:
            seqs = list(range(self.replied, last))
            if is_mixed:
                seqs.reverse()
            self.intake.keep([part for seq in seqs for part in reply(seq)])
            self.intake.unfinished -= last - self.replied
            self.messages += 1
            self.left_with.update(dict.fromkeys(range(self.replied, last), self.messages))
            self.replied = last
            self.intake.carried(self.messages, self.acked)

    @rule(calls=st.integers(500, 2_000))
    def burst(self, calls: int) -> None:
        self.call(0, calls)
        self.answer(calls)

    @rule(behind=st.integers(0, 3))
    def acknowledge(self, behind: int) -> None:
        self.acked = max(self.acked, self.messages - behind)

    @rule(share=st.floats(0, 1))
    def settle(self, share: float) -> None:
        floor = self.intake.floor + int((self.replied - self.intake.floor) * share)
        self.intake.settled_below(floor)

    @invariant()
    def once_each_and_nothing_forgotten_too_early(self) -> None:
        self.intake.check()
        assert self.taken == list(range(1, self.next))  # S1
        kept = set(self.intake.replies_from(0)[::3])
        for seq in range(self.intake.floor, self.replied):
            assert seq in kept or self.left_with[seq] <= self.acked  # S3


TestStream = Stream.TestCase
TestStream.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_cancels_below_the_floor_are_forgotten() -> None:
    intake = fresh()
    for seq in (3, 5, 8):
        intake.cancel(seq)
    intake.settled_below(5)
    assert intake.cancelled == {5, 8}
