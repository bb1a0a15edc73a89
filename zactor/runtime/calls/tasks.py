"""Tasks on their way out: which worker runs which, on leases that the broker grants.

Tasks of one shape (resources, strategy, environment) wait in one queue (`task_queues`). The broker is
told how many workers could be used; each it grants is a *lease*, to which tasks are pushed directly, like
calls to an actor; a worker that finds out that a task blocks or is long hands those behind it back. A
lease without work is kept for a moment, then returned. Tasks whose large arguments are on another node
wait in a queue of their own, whose workers are wanted there.

Owned by: the caller's lock guards queues and leases.
"""

from __future__ import annotations

from collections import deque
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from zactor.core.calls import PENDING, Stream, spend_retry
from zactor.exceptions import WorkerCrashedError, from_wire
from zactor.runtime.calls.actors import ADVICE, unseen
from zactor.runtime.calls.locality import node_with_most
from zactor.runtime.calls.task_queues import QUEUE_SECONDS, Lease, TaskQueue, TaskResult
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
    from zactor.runtime.links.peer import Peer
    from zactor.runtime.process import Process

LINGER = 0.5  # how long a lease without work is kept
FIRST_FUNCTION = 1_000  # method numbers from here are functions of this link
GATHERED = 64  # tasks that wait for company at most while every worker has something to run
MOST_WANTED = 4_096  # workers asked for at once


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
                found.digest = key
                self._by_key[name] = found
        return found

    def submit(self, result: TaskResult) -> None:
        """Queue a task whose arguments are ready, and send what can be sent."""
        queue = result.queue
        if queue.goes_near and type(result.payload) is list:
            queue = self._nearer(queue, result)
        queue.waiting.append(result)
        waiting = len(queue.waiting)
        if waiting % GATHERED == 0 or (waiting == 1 and queue.is_worker_free()):
            self.fill(queue)
        elif not queue.is_unfilled:
            queue.is_unfilled = True
            self.unfilled.append(queue)
            self._process.reception.gathered()

    def _nearer(self, queue: TaskQueue, result: TaskResult) -> TaskQueue:
        """Return the queue of tasks of this shape whose arguments are where this one's are."""
        home = self._process.node
        node = node_with_most(result.payload[1], home.node if home is not None else b"")
        if not node:
            return queue
        shape = {**queue.shape, "near": node}
        near = result.queue = self.queue(queue.digest + node, shape, queue.identity)
        if not near.waiting and not any(x.room() for x in list(near.leases.values())):
            self._return_idle_at(node)
        return near

    def _return_idle_at(self, node: bytes) -> None:
        """Return the leases there that only linger: they would keep out who is to go there."""
        with self._process.caller.lock:
            for lease in list(self._leases.values()):
                if lease.address.node == node and not lease.queue.waiting:
                    self._return_if_idle(lease)

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
            for lease in [each for each in queue.leases.values() if each.is_leaving]:
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
            if queue.spreads:
                lease.quota -= 1
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
                result.has_run = True  # type: ignore[attr-defined] # all here are tasks'
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
            result = queue.waiting.popleft()
            self._process.caller.fail(result, _said_of(error, result))

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

    def fail_all(self, error: Exception) -> None:
        """No worker will answer any more."""
        for queue in list(self._queues.values()):
            while queue.waiting:
                self._process.caller.fail(queue.waiting.popleft(), error)
            for lease in list(queue.leases.values()):
                for result in lease.stream.take_pending():
                    self._process.caller.fail(result, error)


def _said_of(error: Any, result: TaskResult) -> Exception:
    """Return the error that ended a queue, as it is true of a task that waited there."""
    executed = "unknown" if getattr(result, "has_run", False) else "no"
    if getattr(error, "executed", executed) != executed:
        error = copy(error)
        error.executed = executed
    return cast("Exception", error)


protected(
    Tasks.submit,
    Tasks.fill,
    Tasks._push,  # noqa: SLF001
    Tasks._ask,  # noqa: SLF001
    Tasks._give_back,  # noqa: SLF001
    Tasks._return_idle,  # noqa: SLF001
)
