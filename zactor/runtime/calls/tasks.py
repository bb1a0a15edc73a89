"""Tasks on their way out: which worker runs which, on leases that the broker grants.

Tasks of one shape (resources, strategy, environment) wait in one queue. The broker is told how many
workers could be used; each it grants is a *lease*, to which tasks are pushed directly, like calls to
an actor. What is queued at a leased worker stays under 5 ms of work by measured run time (one
task while that is unknown); a worker that finds out otherwise hands its unstarted tasks back.
A lease without work is kept for a moment, then returned.

Owned by: the caller's lock guards queues and leases.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from zactor.core.calls import PENDING, Result, Stream, spend_retry
from zactor.exceptions import WorkerCrashedError, from_wire
from zactor.runtime.calls.actors import ADVICE, unseen
from zactor.runtime.links.interrupts import protected
from zactor.wire import batches
from zactor.wire.messages import (
    Address,
    Demand,
    DemandFailed,
    LeaseGranted,
    LeaseLost,
    LeaseRecalled,
    ReturnLease,
)

if TYPE_CHECKING:
    from zactor.runtime.calls.caller import Identity
    from zactor.runtime.calls.outgoing import Outgoing
    from zactor.runtime.links.peer import Peer
    from zactor.runtime.process import Process

QUEUE_SECONDS = 0.005  # work that may be queued at a leased worker
MAX_QUEUED = 512
LINGER = 0.5  # how long a lease without work is kept
FIRST_FUNCTION = 1_000  # method numbers from here are functions of this link
GATHERED = 64  # tasks that wait for company at most while every worker has something to run
MOST_WANTED = 4_096  # workers asked for at once


class TaskResult(Result):
    """The outcome of a task. `function` is `(definition key, name)`, `queue` where it waits."""

    __slots__ = ("function", "max_calls", "queue")

    function: tuple[bytes, str]
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
        self.is_closing = False
        self.calls_left: dict[bytes, int] = {}

    def room(self) -> int:
        """Return how many more tasks are to be sent.

        None while more than half of what may be queued is: by then one reply would make room for
        one task, and each would travel alone.
        """
        if self.is_recalled or self.is_closing:
            return 0
        mean = self.mean
        depth = 1 if not mean else max(1, min(MAX_QUEUED, int(QUEUE_SECONDS / mean)))
        room = depth - len(self.stream.pending) - len(self.outgoing.gathered)
        return room if 2 * room >= depth else 0

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
        "identity",
        "is_unfilled",
        "key",
        "leases",
        "shape",
        "tasks",
        "waiting",
    )

    def __init__(
        self, tasks: Tasks, key: bytes, shape: dict[str, Any], identity: Identity
    ) -> None:
        self.tasks = tasks
        self.key = key
        self.shape = shape
        self.identity = identity
        self.waiting: deque[TaskResult] = deque()
        self.leases: dict[int, Lease] = {}
        self.asked = 0  # workers the broker was told we could use
        self.is_unfilled = False  # in `Tasks.unfilled`

    def is_worker_free(self) -> bool:
        """Whether a task would start at once, or there is no worker to ask yet.

        Otherwise it waits for company: alone, a task costs 18 us to send, 64 at once 1 us each.
        """
        leases = list(self.leases.values())
        return not leases or any(not lease.stream.pending for lease in leases)


class Tasks:
    """All tasks this process has submitted."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._queues: dict[tuple[bytes, bytes], TaskQueue] = {}
        self._by_key: dict[bytes, TaskQueue] = {}
        self._leases: dict[int, Lease] = {}
        self.unfilled: list[TaskQueue] = []
        self._returned: deque[int] = deque(maxlen=4_096)  # leases that may be granted once more
        self.names: dict[bytes, str] = {}  # of functions that were sent, for listings
        self._is_lingering = False
        self._numbers = 0
        post = process.post
        post.on(LeaseGranted, self._granted)
        post.on(LeaseRecalled, self._recalled)
        post.on(LeaseLost, self._lost)
        post.on(DemandFailed, self._failed)
        special = process.caller.special
        special[batches.HANDED_BACK] = self._handed_back

    def has_work(self) -> bool:
        """Whether a task that was submitted here has not ended."""
        return any(queue.waiting for queue in list(self._queues.values())) or any(
            lease.stream.pending for lease in list(self._leases.values())
        )

    def queue(self, key: bytes, shape: dict[str, Any], identity: Identity) -> TaskQueue:
        """Return the queue of a shape, made on first use. `key` is the shape's hash."""
        found = self._queues.get((key, identity.caller))
        if found is None:
            with self._process.caller.lock:
                self._numbers += 1
                # Queues of different callers in one process are different demands.
                name = key + self._numbers.to_bytes(4, "big")
                found = self._queues[key, identity.caller] = TaskQueue(
                    self, name, shape, identity
                )
                self._by_key[name] = found
        return found

    def submit(self, result: TaskResult) -> None:
        """Queue a task whose arguments are ready, and send what can be sent."""
        queue = result.queue
        queue.waiting.append(result)
        waiting = len(queue.waiting)
        if waiting % GATHERED == 0 or (waiting == 1 and queue.is_worker_free()):
            self.fill(queue)
        elif not queue.is_unfilled:
            queue.is_unfilled = True
            self.unfilled.append(queue)
            self._process.reception.gathered()

    def fill_all(self) -> None:
        """Send what was submitted since the last look; the thread is about to block."""
        while self.unfilled:
            queue = self.unfilled.pop()
            queue.is_unfilled = False
            self.fill(queue)

    def fill(self, queue: TaskQueue) -> None:
        """Send waiting tasks to leased workers, as far as they have room; ask for more workers."""
        with self._process.caller.lock:
            waiting = queue.waiting
            if waiting:
                leases = [lease for lease in queue.leases.values() if lease.room() > 0]
                share = -(-len(waiting) // len(leases)) if leases else 0
                for lease in leases:
                    self._push(queue, lease, min(lease.room(), share))
            self._ask(queue)
            for lease in [
                each for each in queue.leases.values() if each.is_recalled or each.is_closing
            ]:
                self._return_if_idle(lease)
        if queue.leases and not waiting and not self._is_lingering:
            self._is_lingering = True
            self._process.post.call_later(LINGER, self._return_idle)

    def _push(self, queue: TaskQueue, lease: Lease, count: int) -> None:
        waiting = queue.waiting
        outgoing = lease.outgoing
        functions = lease.functions
        numbers = queue.identity.numbers
        while waiting and count > 0:
            result = waiting.popleft()
            if result.state != PENDING:
                continue  # cancelled while it waited: takes no other's place
            count -= 1
            key = result.function[0]
            result.stream = lease.stream
            if not result.number:
                result.number = next(numbers)
            method = functions.get(key)
            if method is None:
                method = functions[key] = FIRST_FUNCTION + len(functions)
                self._name_function(result, method)
            elif type(result.payload) is list:
                result.payload[1].pop(batches.X_FUNCTION, None)  # of a worker that is no more
            result.method = method
            outgoing.gathered.append(result)
            if result.max_calls and self._used_up(lease, key, result.max_calls):
                break
        outgoing.flush()

    def _name_function(self, result: TaskResult, method: int) -> None:
        self.names[result.function[0]] = result.function[1]
        payload = result.payload
        if type(payload) is not list:
            payload = result.payload = [payload, {}]
        payload[1][batches.X_FUNCTION] = [method, *result.function]

    @staticmethod
    def _used_up(lease: Lease, key: bytes, max_calls: int) -> bool:
        left = lease.calls_left[key] = lease.calls_left.get(key, max_calls) - 1
        if left <= 0:
            lease.is_closing = True
        return lease.is_closing

    def _ask(self, queue: TaskQueue) -> None:
        """Tell the broker how many workers could be used, if that has changed."""
        waiting = len(queue.waiting)
        busy = sum(1 for lease in queue.leases.values() if lease.stream.pending)
        if waiting:
            means = [lease.mean for lease in queue.leases.values() if lease.mean]
            if means:
                # Short tasks: another worker is worth it only for several milliseconds of work.
                per_worker = max(1, int(QUEUE_SECONDS / max(means)))
                waiting = -(-waiting // per_worker)
            wanted = min(MOST_WANTED, busy + waiting)
            wanted = max(wanted, len(queue.leases))
        else:
            wanted = len(queue.leases)
        # A queue that drains task by task is not worth a message for each.
        if (
            wanted > queue.asked
            or wanted < queue.asked // 2
            or (not waiting and wanted != queue.asked)
        ):
            queue.asked = wanted
            self._process.tell(Demand(queue.key, queue.shape, wanted))

    # -- leases --------------------------------------------------------------------------------

    def _granted(self, peer: bytes, address: Address, message: LeaseGranted) -> None:  # noqa: ARG002
        queue = self._by_key.get(message.key)
        place = Address._make(message.address)
        if message.lease in self._leases:
            return  # a broker that was started again tells of it once more
        if queue is None or message.lease in self._returned:
            self._process.tell(ReturnLease(message.lease, True))
            return
        caller = self._process.caller
        with caller.lock:
            stream = Stream(
                queue.identity.caller, place.process, message.lease, queue.identity.numbers
            )
            stream.life = 0
            caller.make_way(stream, caller.outgoing(place), 0)
            lease = Lease(queue, message.lease, place, stream)
            stream.target = lease
            lease.outgoing.lease = lease
            queue.leases[message.lease] = lease
            self._leases[message.lease] = lease
        self.fill(queue)

    def _recalled(self, peer: bytes, address: Address, message: LeaseRecalled) -> None:  # noqa: ARG002
        lease = self._leases.get(message.lease)
        if lease is not None:
            lease.is_recalled = True
            self._return_if_idle(lease)

    def _return_if_idle(self, lease: Lease) -> None:
        with self._process.caller.lock:
            if not lease.stream.pending and not lease.outgoing.gathered:
                self._give_back(lease)

    def _give_back(self, lease: Lease) -> None:
        if self._leases.pop(lease.id, None) is None:
            return
        lease.queue.leases.pop(lease.id, None)
        self._returned.append(lease.id)
        if lease.outgoing.lease is lease:
            lease.outgoing.lease = None
        queue = lease.queue
        queue.asked = min(queue.asked, len(queue.leases))
        if not queue.waiting:
            self._process.tell(Demand(queue.key, queue.shape, len(queue.leases)))
        self._process.tell(ReturnLease(lease.id, not lease.is_closing))
        if queue.waiting:
            queue.asked = 0
            self._ask(queue)

    def _return_idle(self) -> None:
        """Return the leases that had nothing to do. On the leader, `LINGER` after the last work."""
        self._is_lingering = False
        busy = False
        with self._process.caller.lock:
            for lease in list(self._leases.values()):
                if lease.stream.pending or lease.outgoing.gathered or lease.queue.waiting:
                    busy = True
                else:
                    self._give_back(lease)
        if busy:
            self._is_lingering = True
            self._process.post.call_later(LINGER, self._return_idle)

    def _handed_back(
        self,
        peer: Peer,
        stream: Stream,
        seq: int,
        value: Any,
        extras: Any,
        frames: Any,  # noqa: ARG002
    ) -> int:
        result = stream.pending.pop(seq, None)
        if result is None:
            return 0
        if value:
            from zactor.runtime.calls.missing import find_again  # it needs this module

            process = self._process
            process.post.call_later(0, lambda: find_again(process, result, value))  # type: ignore[arg-type]
            return 1
        lease: Lease = stream.target
        lease.mean = max(lease.mean, QUEUE_SECONDS)
        lease.queue.waiting.appendleft(result)  # type: ignore[arg-type]
        return 1

    def _lost(self, peer: bytes, address: Address, message: LeaseLost) -> None:  # noqa: ARG002
        # What the dead worker sent may still be in the inbox.
        self._process.post.when_drained(lambda: self._apply_loss(message))

    def _apply_loss(self, message: LeaseLost) -> None:
        lease = self._leases.pop(message.lease, None)
        if lease is None:
            return
        queue = lease.queue
        queue.leases.pop(lease.id, None)
        queue.asked = min(queue.asked, len(queue.leases))
        caller = self._process.caller
        rows = {(bytes(row[0]), row[1]): (row[2], row[3]) for row in message.progress}
        unknown = unseen(self._process, lease.stream, rows)
        started, finished = rows.get((lease.stream.caller, lease.stream.number), unknown)
        with caller.lock:
            caller.make_way(lease.stream, None, 0)
            left = lease.stream.take_pending() + lease.stream.take_held()
        again: list[Any] = []
        for result in left:
            seq = getattr(result, "seq", None)
            ran = seq is not None and (seq <= started or started < 0)
            if not ran:
                again.append(result)
            elif result.retries and not message.cause.get("cancelled"):
                spend_retry(result)
                again.append(result)
            else:
                done = started >= 0 and seq is not None and seq <= finished
                caller.fail(result, self._crashed(result, lease, message, done=done))
        for result in reversed(again):
            queue.waiting.appendleft(result)
        self._process.process_died(lease.address.process)
        self.fill(queue)

    def _crashed(
        self, result: Any, lease: Lease, message: LeaseLost, *, done: bool
    ) -> Exception:
        text = message.cause.get("text") or message.cause.get("kind") or "no cause is known"
        return WorkerCrashedError(
            f"the worker that ran {result.function[1]}() {text}",
            executed="yes" if done else "unknown",
        )

    def _failed(self, peer: bytes, address: Address, message: DemandFailed) -> None:  # noqa: ARG002
        queue = self._by_key.get(message.key)
        if queue is None:
            return
        error = from_wire(message.error)
        if not message.final:
            waits = next(iter(queue.waiting), None)
            name = waits.function[1] if waits is not None else "a task"
            self._process.warn(
                f"{name}() waits for a worker: {error.message}. {ADVICE}", about=error.message
            )
            return
        # Not before what is known of lost leases is applied: their tasks wait here then.
        self._process.post.when_drained(partial(self._fail_queue, queue, error))

    def _fail_queue(self, queue: TaskQueue, error: Exception) -> None:
        queue.asked = 0
        while queue.waiting:
            self._process.caller.fail(queue.waiting.popleft(), error)

    def broker_moved(self) -> None:
        """The broker was started again: say what is wanted, and find out what was lost meanwhile."""
        for queue in list(self._queues.values()):
            if queue.asked:
                self._process.tell(Demand(queue.key, queue.shape, queue.asked))
        for lease in list(self._leases.values()):
            self._process.objects.watch(lease.address.process)

    def process_died(self, process: bytes) -> None:
        """A process is dead: if a lease of its was not reported lost, nobody will do so any more."""
        cause = {"kind": "lost", "text": "died, or its node did, while the broker was away"}
        for lease in [
            each for each in self._leases.values() if each.address.process == process
        ]:
            self._process.post.when_drained(
                partial(self._apply_loss, LeaseLost(lease.id, cause, []))
            )

    @property
    def has_been_used(self) -> bool:
        """Whether there ever was a task."""
        return bool(self._queues)

    def streams(self) -> list[Stream]:
        """Return the streams to the workers that are leased now."""
        return [lease.stream for lease in list(self._leases.values())]

    def waiting(self) -> list[Any]:
        """Return the tasks that have not left."""
        return [
            result for queue in list(self._queues.values()) for result in list(queue.waiting)
        ]

    def name_of(self, lease: Lease, method: int) -> str:
        """Return the name of the function that a method number of a lease stands for."""
        for key, number in lease.functions.items():
            if number == method:
                return self.names.get(key, "")
        return ""

    def lease_of(self, stream: Stream) -> Lease | None:
        """Return the lease a task's stream belongs to."""
        return stream.target if isinstance(stream.target, Lease) else None

    def fail_all(self, error: Exception) -> None:
        """No worker will answer any more."""
        for queue in list(self._queues.values()):
            while queue.waiting:
                self._process.caller.fail(queue.waiting.popleft(), error)
            for lease in list(queue.leases.values()):
                for result in lease.stream.take_pending():
                    self._process.caller.fail(result, error)


protected(
    Tasks.submit,
    Tasks.fill,
    Tasks._push,  # noqa: SLF001
    Tasks._ask,  # noqa: SLF001
    Tasks._give_back,  # noqa: SLF001
    Tasks._return_idle,  # noqa: SLF001
)
