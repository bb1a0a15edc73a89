"""When tasks leave for a leased worker."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from zactor.core.calls import Stream
from zactor.runtime.calls.task_queues import QUEUE_SECONDS, Lease, TaskQueue
from zactor.wire.messages import Address

WORKER = Address(b"w" * 8, b"", b"", "", "")


@pytest.fixture
def queue() -> TaskQueue:
    nobody: Any = None
    return TaskQueue(nobody, b"key", {}, nobody)


def lease_of(queue: TaskQueue, *, pending: int, mean: float) -> Lease:
    stream: Any = Stream(b"caller", WORKER.process, 1, count(1))
    stream.outgoing = SimpleNamespace(gathered=[])
    stream.several = dict.fromkeys(range(pending))
    lease = Lease(queue, len(queue.leases), WORKER, stream)
    lease.mean = mean
    queue.leases[lease.id] = lease
    return lease


@pytest.mark.parametrize(
    ("pending", "room"), [(0, 50), (25, 25), (26, 0), (50, 0), (60, 0)], ids=str
)
def test_a_worker_is_sent_more_when_half_of_what_may_be_queued_has_run(
    queue: TaskQueue, pending: int, room: int
) -> None:
    assert lease_of(queue, pending=pending, mean=QUEUE_SECONDS / 50).room() == room


@pytest.mark.parametrize("mean", [0.0, QUEUE_SECONDS, 10.0])
def test_a_worker_whose_tasks_are_long_or_unknown_is_sent_one_at_a_time(
    queue: TaskQueue, mean: float
) -> None:
    assert lease_of(queue, pending=0, mean=mean).room() == 1
    assert lease_of(queue, pending=1, mean=mean).room() == 0


def test_a_task_waits_for_company_only_while_every_worker_has_something_to_run(
    queue: TaskQueue,
) -> None:
    assert queue.is_worker_free()  # there is none yet: one is asked for
    busy: Any = lease_of(queue, pending=1, mean=0.0001)
    assert not queue.is_worker_free()
    lease_of(queue, pending=0, mean=0.0001)
    assert queue.is_worker_free()
    assert busy.room() > 0


@pytest.mark.parametrize(("waiting", "quota"), [(0, 1), (1, 1), (64, 1), (640, 10)])
def test_of_tasks_that_are_to_be_spread_a_lease_runs_a_small_part(
    waiting: int, quota: int
) -> None:
    nobody: Any = None
    queue = TaskQueue(nobody, b"key", {"strategy": "SPREAD"}, nobody)
    queue.waiting.extend([nobody] * waiting)
    lease = lease_of(queue, pending=0, mean=QUEUE_SECONDS / 500)
    assert (lease.room(), lease.is_leaving) == (quota, False)
    lease.quota -= quota
    assert (lease.room(), lease.is_leaving) == (0, True)


@pytest.mark.parametrize(
    ("shape", "goes_near"),
    [
        ({}, True),
        ({"strategy": "DEFAULT"}, True),
        ({"strategy": "SPREAD"}, False),
        ({"strategy": {"kind": "node"}}, False),
        ({"group": {"id": b"g"}}, False),
        ({"near": b"n"}, False),
    ],
    ids=str,
)
def test_tasks_go_where_their_arguments_are_unless_their_place_was_chosen(
    shape: dict[str, Any], goes_near: bool
) -> None:
    nobody: Any = None
    assert TaskQueue(nobody, b"key", shape, nobody).goes_near == goes_near
