"""What a process knows of placement groups while the broker's answers are under way."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from zactor.core.calls import ERROR, PENDING, PICKLED, Result
from zactor.exceptions import ActorAlreadyExistsError, TaskPlacementGroupRemoved
from zactor.runtime.calls import groups
from zactor.runtime.calls.groups import GroupViews
from zactor.wire.messages import CreateGroup, RemoveGroup, WatchGroup


class FakeProcess:
    """Takes requests, and answers them when the test says so."""

    def __init__(self) -> None:
        self.post = self
        self.broker = "broker"
        self.is_over: Exception | None = None
        self.asked: list[tuple[Any, Future[Any]]] = []
        self.waited: list[Future[Any]] = []

    def on(self, kind: Any, handler: Any) -> None:
        self.handler = handler

    def request(self, to: Any, message: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.asked.append((message, future))
        return future

    def wait_answer(self, future: Future[Any]) -> Any:
        self.waited.append(future)
        if not future.done():
            future.set_result(row("CREATED", 1))
        return future.result(0)

    def answer(self, value: Any) -> None:
        self.asked[-1][1].set_result(value)


def row(state: str, revision: int, group: bytes = b"g") -> dict[str, Any]:
    return {"id": group, "state": state, "revision": revision, "cause": None}


def pending() -> Result:
    return Result(None, 1, 0, None, None, 0)


@pytest.fixture
def process() -> FakeProcess:
    return FakeProcess()


@pytest.fixture
def views(process: FakeProcess) -> GroupViews:
    fake: Any = process
    return GroupViews(fake)


def messages(process: FakeProcess) -> list[type]:
    return [type(message) for message, _ in process.asked]


def test_nobody_waits_for_a_group_to_be_entered_nor_asks_about_it_again(
    process: FakeProcess, views: GroupViews
) -> None:
    views.create({"id": b"g"})
    result = pending()
    views.when_created(b"g", result, PICKLED, b"value")
    assert (result.state, messages(process), process.waited) == (PENDING, [CreateGroup], [])

    process.answer(row("CREATED", 1))
    assert (result.state, result.value) == (PICKLED, b"value")


def test_who_waits_for_a_group_that_is_refused_learns_why(
    process: FakeProcess, views: GroupViews
) -> None:
    views.create({"id": b"g"})
    result = pending()
    views.when_created(b"g", result, PICKLED, b"value")
    process.asked[-1][1].set_exception(ActorAlreadyExistsError("taken"))
    assert result.state == ERROR
    assert "taken" in str(result.value)


def test_a_group_that_was_removed_stays_so_whatever_arrives_late(
    process: FakeProcess, views: GroupViews
) -> None:
    views.create({"id": b"g"})
    views.remove(b"g")
    process.asked[0][1].set_result(row("CREATED", 1))
    result = pending()
    views.when_created(b"g", result, PICKLED, b"value")
    assert result.state == ERROR
    assert isinstance(result.value, TaskPlacementGroupRemoved)
    assert result.value.executed == "no"
    assert messages(process) == [CreateGroup, RemoveGroup]


def test_a_group_that_others_made_is_asked_for_after_it_was_removed_here(
    process: FakeProcess, views: GroupViews
) -> None:
    views.remove(b"g")
    result = pending()
    views.when_created(b"g", result, PICKLED, b"value")
    assert messages(process) == [RemoveGroup, WatchGroup]
    process.answer(row("REMOVED", 2))
    assert result.state == ERROR


def test_a_group_is_confirmed_once_the_broker_has_answered(
    process: FakeProcess, views: GroupViews
) -> None:
    views.create({"id": b"g"})
    views.confirm(b"g")
    views.confirm(b"g")
    views.confirm(b"another")
    assert len(process.waited) == 1


def test_unanswered_creations_and_removals_are_bounded(
    process: FakeProcess, views: GroupViews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "MOST_UNANSWERED", 3)
    for number in range(10):
        views.create({"id": bytes([number])})
    assert len(process.waited) == 7
    for number in range(10):
        views.remove(bytes([number]))
    assert len(process.waited) == 14


def test_removed_groups_are_forgotten_the_oldest_first(
    process: FakeProcess, views: GroupViews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "REMOVED_KEPT", 3)
    for number in range(10):
        views.learn(row("CREATED", 1, bytes([number])))
        views.learn(row("REMOVED", 2, bytes([number])))
        views.learn(row("REMOVED", 3, bytes([number])))
    known = [number for number in range(10) if views.entry(bytes([number]))]
    assert known == [7, 8, 9]


def test_a_session_that_is_over_takes_no_groups(
    process: FakeProcess, views: GroupViews
) -> None:
    process.is_over = RuntimeError("over")
    with pytest.raises(RuntimeError, match="over"):
        views.create({"id": b"g"})
    with pytest.raises(RuntimeError, match="over"):
        views.remove(b"g")
