"""When tasks leave for a leased worker."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from zactor.core.calls import Stream
from zactor.runtime.calls.tasks import QUEUE_SECONDS, Lease, TaskQueue
from zactor.wire.messages import Address

WORKER = Address(b"w" * 8, b"", b"", "", "")


@pytest.fixture
def queue() -> TaskQueue:
    nobody: Any = None
    return TaskQueue(nobody, b"key", {}, nobody)


def lease_of(queue: TaskQueue, *, pending: int, mean: float) -> Lease:
    stream: Any = Stream(b"caller", WORKER.process, 1, count(1))
    stream.outgoing = SimpleNamespace(gathered=[])
    stream.pending = dict.fromkeys(range(pending))
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
