"""Hosts: where calls wait for their actor, and how its kind of actor runs them.

    MainHost    plain actors and tasks: one call at a time, in the worker's main thread
    ThreadHost  `max_concurrency` or concurrency groups without async methods: a pool of threads
    AsyncHost   `async def` methods: one event loop, in the main thread, calls interleave at `await`
    GroupedHost the same with concurrency groups: each has a loop and a thread of its own

A host has `put(run)` (on the leader), `cancel`, and `serve()`, which the worker's main thread
runs until the actor ends. A *run* is what one CALLS group brought:
`(intake, first seq, first number, [method, arguments, ...], frames, parent chain)`.

User code runs here and nowhere else in a worker. What it raises becomes a reply.
"""

from __future__ import annotations

import threading
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Any

from zactor.exceptions import to_wire
from zactor.runtime.hosting.calling import Execution
from zactor.runtime.hosting.replying import NATIVE_TYPES, cancelled_to_the_end
from zactor.runtime.hosting.running_call import StopServing
from zactor.runtime.links.interrupts import enters_user_code, protected
from zactor.runtime.links.reception import Waiter
from zactor.wire import batches

if TYPE_CHECKING:
    from zactor.core.intake import Intake
    from zactor.runtime.process import Process

FAST = 1e-4  # a method whose last runs all took less may run before gathered replies have left
FAST_RUNS = 16
REPLY_AGE = 2e-4  # gathered replies older than this leave before the next method is entered
HAND_BACK = 0.005  # a task that has run this long has its followers handed back
LEASES_KEPT = 256  # of those that the node has told of
LEASE_PATIENCE = 1.0  # seconds that the word on a lease may come later than its first task

Run = tuple[Any, ...]


class MainHost:
    """Runs calls one at a time in the main thread. See the module."""

    def __init__(self, process: Process, execution: Execution, life: int) -> None:
        self.process = process
        self.execution = execution
        self.life = life
        self.runs: deque[Run] = deque()
        execution.main_host = self
        self.lock = threading.Lock()
        self._waiter: Waiter | None = None
        self._run: Run | None = None  # of tasks, what the main thread is in the middle of
        self.is_task_host = False
        # Leases that the node has told of, the latest last. A node that has two of them to place may
        # give this worker the younger one first: the numbers do not rise.
        self._leases: dict[int, None] = {}
        self._leased = threading.Event()
        self.ending = ""  # how a call ended the actor, if one did
        self.is_stopping = False
        self._watching = False

    # -- in, on the leader ---------------------------------------------------------------------

    def put(self, run: Run) -> None:
        """Queue a run."""
        self.runs.append(run)
        waiter = self._waiter
        if waiter is not None:
            waiter.is_done = True
            waiter.wake()
        elif self.is_task_host and not self._watching:
            self._watching = True
            self.process.post.call_later(HAND_BACK, self._look_at_task)

    def cancel(self, intake: Intake, seq: int, flags: int) -> None:
        """Cancel a call: not run if it waits, interrupted if it runs."""
        self.execution.cancel(intake, seq, flags)

    @property
    def is_running(self) -> bool:
        """Whether a task runs. Any thread."""
        return self._run is not None

    def hand_back(self) -> None:
        """Give tasks that have not started back to those who sent them. Any thread."""
        while True:
            try:
                run = self.runs.popleft()
            except IndexError:
                break
            intake, seq, _, calls = run[:4]
            for at in range(len(calls) // 2):
                self.execution.not_run_here(calls[2 * at + 1])
                self.process.callee.reply(intake, seq + at, batches.HANDED_BACK, None)
        with self.lock:
            current, at = self._run, self.execution.seq
            # From here on the main thread takes no further call of its present run. If it is between
            # two calls, nobody but itself knows which is the next.
            if at:
                self.execution.hand_back_rest = True
        if current is not None and at:
            intake, seq, _, calls = current[:4]
            for behind in range(max(at + 1, seq), seq + len(calls) // 2):
                self.execution.not_run_here(calls[2 * (behind - seq) + 1])
                self.process.callee.reply(intake, behind, batches.HANDED_BACK, None)
        self.process.callee.flush()

    def _look_at_task(self) -> None:
        self._watching = False
        if self._waiter is None and (self.runs or self._run is not None):
            if self.execution.running_for() >= HAND_BACK:
                self.hand_back()
            else:
                self._watching = True
                self.process.post.call_later(HAND_BACK, self._look_at_task)

    # -- the main thread -----------------------------------------------------------------------

    def serve(self) -> None:
        """Run what comes until the actor ends."""
        reception = self.process.reception
        try:
            while True:
                if not self.runs:
                    if self.is_stopping:
                        return
                    self.process.objects.tidy()  # it may be long until something comes
                    waiter = Waiter()
                    self._waiter = waiter
                    if not self.runs and not self.is_stopping:
                        reception.wait(waiter)
                    self._waiter = None
                self._run_ready()
        except StopServing as stop:
            self.ending = stop.cause
            self.process.callee.flush()

    def told_of_lease(self, lease: int) -> None:
        """The node has said what the tasks of a lease run with. On the lane's thread."""
        self._leases[lease] = None
        if len(self._leases) > LEASES_KEPT:
            del self._leases[next(iter(self._leases))]
        self._leased.set()

    def _await_lease(self, lease: int) -> None:
        """Wait for the node's word on a lease: its first task has overtaken it, on another way."""
        until = perf_counter() + LEASE_PATIENCE
        while lease not in self._leases and perf_counter() < until:
            self._leased.clear()
            if lease not in self._leases:
                self._leased.wait(until - perf_counter())

    def stop(self) -> None:
        """Have `serve` return once the queue is empty. Any thread."""
        self.is_stopping = True
        waiter = self._waiter
        if waiter is not None:
            waiter.is_done = True
            waiter.wake()

    @enters_user_code
    def _run_ready(self) -> None:  # noqa: C901 - the hot path: one function, nothing called twice
        process, execution = self.process, self.execution
        callee, runs = process.callee, self.runs
        words = callee.progress.words  # type: ignore[union-attr]
        functions, streaks, loads = execution.functions, execution.streaks, execution.loads
        clock = perf_counter
        is_task_host = self.is_task_host
        started = clock()
        while runs:
            try:
                run = runs.popleft()
            except IndexError:
                break
            intake, seq, number, calls, frames, parent = run
            row = intake.row
            flat: list[Any] = []
            gathered_at = began = started
            execution.enter(intake, number - seq, parent)
            if is_task_host:
                if intake.number not in self._leases:
                    self._await_lease(intake.number)
                with self.lock:
                    execution.hand_back_rest = False
                    self._run = run
                if not self._watching and (len(calls) > 2 or runs):
                    self._watching = True
                    process.post.call_later(HAND_BACK, self._look_at_task)
            execution.run_calls = (seq, calls)
            pairs = iter(calls)
            for method, arguments in zip(pairs, pairs, strict=True):
                # A reply leaves before the next method is entered, unless that is known to be
                # fast: 2 to 5 times the calls a second, for at most 0.2 ms.
                if (flat or callee.oldest) and (
                    streaks.get(method, 0) < FAST_RUNS
                    or started - (gathered_at if flat else callee.oldest) > REPLY_AGE
                ):
                    self._gather(intake, flat)
                    callee.flush()
                    flat = []
                execution.method = method
                if is_task_host:
                    with self.lock:
                        if execution.hand_back_rest:
                            break
                        execution.seq = seq
                else:
                    execution.seq = seq
                words[row] = seq
                execution.started = started
                if type(arguments) is list or method < 0 or intake.cancelled:
                    self._gather(intake, flat)
                    flat = []
                    execution.special(self, intake, seq, number, method, arguments, frames)
                else:
                    try:
                        if arguments is None:
                            value = functions[method]()
                        else:
                            args = loads(arguments)
                            if type(args) is tuple:
                                value = functions[method](*args)
                            else:
                                value = functions[method](*args[0], **args[1])
                        execution.seq = 0
                    except BaseException as error:  # noqa: BLE001 - user code
                        self._gather(intake, flat)
                        flat = []
                        execution.failed(intake, seq, method, error)
                    else:
                        if type(value) in NATIVE_TYPES:
                            status = 0
                            if type(value) is int and not -(1 << 63) <= value < 1 << 63:
                                status, value = execution.encode_simple(value)
                        else:
                            status, value = execution.encode_simple(value)
                        if status < 0:  # it has buffers, references, or is large
                            self._gather(intake, flat)
                            flat = []
                            execution.returned(intake, seq, method, value)
                        else:
                            if not flat:
                                gathered_at = started
                            flat += (seq, status, value)
                words[row + 1] = seq
                seq += 1
                number += 1
                ended = clock()
                if ended - started < FAST:
                    streaks[method] = streaks.get(method, 0) + 1
                else:
                    streaks[method] = 0
                started = ended
            self._gather(intake, flat)
            if is_task_host:
                with self.lock:
                    self._run = None
            execution.leave()
            if is_task_host:
                mean = (started - began) / (len(calls) >> 1)
                callee.task_mean = max(1, int(mean * 1e6))
        callee.flush()

    def _gather(self, intake: Intake, flat: list[Any]) -> None:
        if not flat:
            return
        callee = self.process.callee
        flagged = self.execution.flagged
        if flagged is not None and flagged[0] is intake and flagged[1] in flat[::3]:
            at = 3 * flat[::3].index(flagged[1])  # it looked at is_canceled(), and returned
            flat[at + 1 : at + 3] = batches.ERROR, to_wire(cancelled_to_the_end())
        callee.gather(intake, flat)


protected(MainHost._gather, MainHost.serve, MainHost.put)  # noqa: SLF001
