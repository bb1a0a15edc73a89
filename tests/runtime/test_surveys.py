"""A node asks its workers on behalf of others: all of them, not for ever, and not too much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zactor.runtime.insight.surveys import Surveys
from zactor.wire.messages import Address, Survey

ASKER = Address(b"asker", b"", b"", "ipc://asker", "")


class FakeWorker:
    def __init__(self, number: int) -> None:
        self.process = bytes([number]) * 12
        self.pid = number

    def progress(self) -> list[Any]:
        return [[b"caller", 0, 7, 6], [b"caller", 1, 3, 3]]


class World:
    """Loop, post and lanes."""

    def __init__(self, count: int) -> None:
        self.workers = {FakeWorker(n): f"label {n}" for n in range(1, count + 1)}
        self.asked: list[tuple[Any, list[Any]]] = []
        self.answers: list[Any] = []
        self.refusals: list[Any] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.surveys: Any = Surveys(
            self, self, lambda: dict(self.workers), lambda *ask: self.asked.append(ask)
        )

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.timers.append((seconds, callback))

    def answer(self, to: Address, request: int, value: Any) -> None:
        assert (to, request) == (ASKER, 1)
        self.answers.append(value)

    def send(self, to: Address, message: Any) -> None:
        self.refusals.append(message.value)

    def survey(self, **args: Any) -> None:
        self.surveys.asked(b"asker", ASKER, Survey(1, "tasks", args))

    def say(self, rows: list[Any], *, running: Any = (), is_cut: bool = False) -> None:
        worker, [_, number, _, _] = self.asked.pop(0)
        said = {"rows": rows, "running": list(running), "is_cut": is_cut}
        self.surveys.answered(worker, [number, said])


def test_all_are_asked_and_the_answer_is_of_all() -> None:
    world = World(2)
    world.survey(limit=10, filters=[["state", "=", "RUNNING"]])
    assert [ask[1][3]["filters"] for ask in world.asked] == [[["state", "=", "RUNNING"]]] * 2
    world.say([1, 2], running=[["t", 5]])
    assert world.answers == []
    world.say([3])
    running = [["t", 5, bytes([1]) * 12, 1]]
    assert world.answers == [
        {"rows": [1, 2, 3], "running": running, "is_cut": False, "silent": []}
    ]
    world.timers[0][1]()  # its patience is over, and nobody cares
    assert len(world.answers) == 1  # S1


def test_without_workers_it_is_answered_at_once() -> None:
    world = World(0)
    world.survey(limit=10)
    assert world.answers[0]["rows"] == []
    assert world.timers == []


def test_rows_are_bounded_however_many_workers_there_are() -> None:  # S2
    world = World(3)
    world.survey(limit=4)
    for _ in range(3):
        world.say([1, 2, 3])
    assert world.answers[0]["rows"] == [1, 2, 3, 1]
    assert world.answers[0]["is_cut"]


def test_whoever_is_silent_is_named_with_what_its_page_says() -> None:  # S1
    world = World(2)
    world.survey(limit=4, patience=1.5)
    world.say([1])
    [(seconds, overdue)] = world.timers
    assert seconds == 1.5
    overdue()
    [answer] = world.answers
    assert answer["rows"] == [1]
    assert answer["silent"] == [[bytes([2]) * 12, 2, "label 2", [[b"caller", 0, 7, 6]]]]
    world.say([2])  # too late
    assert len(world.answers) == 1


def test_whoever_dies_is_not_waited_for() -> None:
    world = World(2)
    world.survey(limit=4)
    world.say([1])
    world.surveys.worker_died(bytes([2]) * 12)
    assert world.answers[0]["rows"] == [1]


def test_what_a_worker_objects_to_is_passed_on() -> None:
    world = World(2)
    world.survey(limit=4)
    worker, ask = world.asked[0]
    world.surveys.answered(worker, [ask[1], {"error": "there is no 'x' to filter by"}])
    world.say([])
    assert world.refusals == [["BadRequest", "there is no 'x' to filter by", {}]]
    assert world.answers == []


def test_no_word_of_a_worker_ends_its_node() -> None:
    for words in (
        [],
        ["x"],
        [1],
        [1, None],
        [1, {"rows": 5}],
        [1, {"rows": [], "running": [1]}],
    ):
        world = World(1)
        world.survey(limit=4)
        worker, _ = world.asked[0]
        world.surveys.answered(worker, words)
        assert len(world.refusals) == (bool(words) and words[0] == 1)


def test_a_senseless_survey_is_refused() -> None:
    world = World(1)
    for args in ({"limit": "many"}, {"patience": []}):
        world.survey(**args)
    world.surveys.asked(b"asker", ASKER, Survey(1, "weather", {}))
    assert len(world.refusals) == 3
    assert world.asked == []
