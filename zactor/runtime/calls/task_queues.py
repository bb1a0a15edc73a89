"""What waits for leased workers, and what runs on them: one queue for the tasks of one shape.

What is queued at a leased worker stays under 5 ms of work by measured run time (one task while that is
unknown). Of tasks that are to be spread, a lease runs one, or a small share where many wait: which node
is next is the broker's choice, and one worker that is quick would else run them all.

Does not send anything and asks for nothing: `Tasks` does.

Owned by: the caller's lock guards queues and leases.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from zactor.core.calls import Result, Stream

if TYPE_CHECKING:
    from zactor.runtime.calls.caller import Identity
    from zactor.runtime.calls.outgoing import Outgoing
    from zactor.runtime.calls.tasks import Tasks
    from zactor.wire.messages import Address

QUEUE_SECONDS = 0.005  # work that may be queued at a leased worker
MAX_QUEUED = 512
# Of many tasks to be spread a lease takes this part. One each is 1,000 tasks a second (3,000 of them:
# 3.0 s of CPU); in parts it is about SPREAD_PARTS leases and some for the rest, whatever their number.
SPREAD_PARTS = 64
NO_QUOTA = 1 << 60


class TaskResult(Result):
    """The outcome of a task.

    Attributes:
        function: (definition key, name).
        has_run: Unset until it has perhaps run, on a worker that was lost, and waits to run again.
        queue: Where it waits.
    """

    __slots__ = ("function", "has_run", "max_calls", "queue")

    function: tuple[bytes, str]
    has_run: bool
    max_calls: int
    queue: TaskQueue


def is_task(result: Any) -> bool:
    """Whether a result is a task's, however many values that has."""
    return getattr(result, "queue", None) is not None


class Lease:
    """A worker that runs our tasks."""

    __slots__ = (
        "address",
        "calls_left",
        "functions",
        "id",
        "is_closing",
        "is_recalled",
        "mean",
        "outgoing",
        "queue",
        "quota",
        "stream",
    )

    def __init__(self, queue: TaskQueue, number: int, address: Address, stream: Stream) -> None:
        self.queue = queue
        self.id = number
        self.address = address
        self.stream = stream
        self.outgoing: Outgoing = stream.outgoing
        self.functions: dict[bytes, int] = {}  # definition key -> method number on this link
        self.mean = 0.0  # seconds a task runs here, lately; 0: unknown
        self.is_recalled = False
        self.is_closing = False  # it is to end: a function was called there as often as may be
        self.quota = queue.quota()  # tasks that it may still be given
        self.calls_left: dict[bytes, int] = {}

    @property
    def is_leaving(self) -> bool:
        """Whether it is returned once nothing runs there."""
        return self.is_recalled or self.is_closing or self.quota <= 0

    def room(self) -> int:
        """Return how many more tasks are to be sent.

        None while more than half of what may be queued is: by then one reply would make room for
        one task, and each would travel alone.
        """
        if self.is_leaving:
            return 0
        mean = self.mean
        depth = 1 if not mean else max(1, min(MAX_QUEUED, int(QUEUE_SECONDS / mean)))
        room = depth - len(self.stream.pending) - len(self.outgoing.gathered)
        return min(room, self.quota) if 2 * room >= depth else 0

    def ran(self, group: Any) -> None:
        """The worker says how long the tasks of a batch took, in microseconds each."""
        seconds = group[2] / 1e6
        self.mean = seconds if not self.mean else 0.5 * self.mean + 0.5 * seconds

    def replied(self) -> None:
        """Something was settled here: send more. On the leader."""
        self.queue.tasks.fill(self.queue)


class TaskQueue:
    """The tasks of one shape."""

    __slots__ = (
        "asked",
        "digest",
        "goes_near",
        "identity",
        "is_unfilled",
        "key",
        "leases",
        "shape",
        "spreads",
        "tasks",
        "waiting",
    )

    def __init__(
        self, tasks: Tasks, key: bytes, shape: dict[str, Any], identity: Identity
    ) -> None:
        self.tasks = tasks
        self.key = key  # the name of its demand
        self.digest = key  # ... without the number of the queue
        self.shape = shape
        strategy = shape.get("strategy")
        self.spreads = strategy == "SPREAD"
        # Whether its tasks go where their arguments are, to a queue of their own.
        is_free = (strategy is None or strategy == "DEFAULT") and not shape.get("group")
        self.goes_near = is_free and not shape.get("near")
        self.identity = identity
        self.waiting: deque[TaskResult] = deque()
        self.leases: dict[int, Lease] = {}
        self.asked = 0  # workers the broker was told we could use
        self.is_unfilled = False  # in `Tasks.unfilled`

    def quota(self) -> int:
        """Return how many tasks a lease that was granted now may be given."""
        if not self.spreads:
            return NO_QUOTA
        return max(1, len(self.waiting) // SPREAD_PARTS)

    def is_worker_free(self) -> bool:
        """Whether a task would start at once, or there is no worker to ask yet.

        Otherwise it waits for company: alone, a task costs 18 us to send, 64 at once 1 us each.
        """
        leases = list(self.leases.values())
        return not leases or any(not lease.stream.pending for lease in leases)
