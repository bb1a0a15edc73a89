"""Hosts that run several calls at a time: threads, and an asyncio loop. See `hosts`."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from contextlib import nullcontext
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from zactor.exceptions import AsyncioActorExit, TaskCancelledError
from zactor.runtime.calls.deadlines import Inherited
from zactor.runtime.hosting.again import runs_again
from zactor.runtime.hosting.calling import Execution
from zactor.runtime.hosting.outflow import run_stream_async
from zactor.runtime.hosting.replying import NATIVE_TYPES, interrupted
from zactor.runtime.hosting.running_call import Arrived, Call, StopServing, current_call
from zactor.runtime.links.reception import Waiter
from zactor.runtime.objects.fetching import are_here
from zactor.wire import batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.core.intake import Intake
    from zactor.runtime.process import Process

DEFAULT_GROUP = ""


class Groups:
    """Which concurrency group each method belongs to, and how many calls each runs at a time."""

    def __init__(self, limits: dict[str, int], default: int, methods: dict[int, str]) -> None:
        self.limits = {DEFAULT_GROUP: default, **limits}
        self.methods = methods  # the groups of those that have one, by number

    def of(self, method: int, arguments: Any) -> str:
        """Return the group that a call runs in."""
        if type(arguments) is list:
            named: str | None = arguments[1].get(batches.X_GROUP)
            if named is not None:
                return named if named in self.limits else DEFAULT_GROUP
        group = self.methods.get(method, DEFAULT_GROUP)
        return group if group in self.limits else DEFAULT_GROUP


def _calls_of(run: Any) -> Any:
    intake, seq, number, calls, frames, parent = run
    pairs = iter(calls)
    for at, (method, arguments) in enumerate(zip(pairs, pairs, strict=True)):
        yield intake, seq + at, number + at, method, arguments, frames, parent


class SeveralHost:
    """What hosts that run several calls at a time have in common: how they begin, and one of them."""

    is_task_host = False

    def __init__(
        self, process: Process, execution: Execution, life: int, groups: Groups
    ) -> None:
        self.process = process
        self.execution = execution
        self.life = life
        self.groups = groups
        self._is_stopping = False
        self._ending: BaseException | None = None
        self.ending = ""  # how a call ended the actor, if one did

    def _admit(
        self, intake: Intake, seq: int, number: int, method: int, parent: Any
    ) -> Call | None:
        """Return the call that is about to run; None, and its reply is sent, if it was cancelled."""
        execution = self.execution
        if seq in intake.cancelled:
            intake.cancelled.discard(seq)
            execution.reply_error(intake, seq, TaskCancelledError(executed="no"))
            return None
        words = self.process.callee.progress.words  # type: ignore[union-attr]
        if words[intake.row] < seq:
            words[intake.row] = seq
        return Call(intake, seq, number, execution.names.get(method, ""), parent)

    def _terminate(self, intake: Intake, seq: int) -> None:
        """Answer the call that ends the actor, and end it."""
        self.process.callee.reply(intake, seq, batches.NATIVE, None)
        raise StopServing("terminated")


class ThreadHost(SeveralHost):
    """Runs up to n calls of each group at a time, in threads that are made as they are needed."""

    def __init__(
        self, process: Process, execution: Execution, life: int, groups: Groups
    ) -> None:
        super().__init__(process, execution, life, groups)
        self._queues: dict[str, SimpleQueue[Any]] = {
            name: SimpleQueue() for name in groups.limits
        }
        self._threads: dict[str, int] = dict.fromkeys(groups.limits, 0)
        self._idle: dict[str, int] = dict.fromkeys(groups.limits, 0)
        self._lock = threading.Lock()
        self._queued: dict[
            tuple[bytes, int], str
        ] = {}  # calls by caller and number: their group
        self._group_of: dict[int, str] = {}  # threads by ident
        self._early: list[Any] | None = []
        self._over = Waiter()
        self._unfinished = 0

    def put(self, run: Any) -> None:
        """Hand the calls of a run to their groups' threads. On the leader."""
        with self._lock:
            if self._early is not None:
                self._early.append(run)  # the constructor has not returned
                return
        for call in _calls_of(run):
            group = self.groups.of(call[3], call[4])
            with self._lock:
                self._unfinished += 1
                self._queued[call[0].caller, call[2]] = group
                if not self._idle[group] and self._threads[group] < self.groups.limits[group]:
                    self._threads[group] += 1
                    name = f"zactor-{group or 'calls'}-{self._threads[group]}"
                    threading.Thread(
                        target=self._work, args=(group,), name=name, daemon=True
                    ).start()
                elif self._idle[group]:
                    self._idle[group] -= 1
            self._queues[group].put(call)

    def _work(self, group: str) -> None:
        queue = self._queues[group]
        self._group_of[threading.get_ident()] = group
        while self._ending is None:
            self._run_one(queue.get())
            with self._lock:
                self._unfinished -= 1
                done = self._is_stopping and not self._unfinished
                if queue.empty():
                    self._idle[group] += 1
            if done:
                self._over.settled(None)
            if queue.empty():
                self.process.callee.flush()

    def _run_one(self, item: Any) -> None:
        intake, seq, number, method, arguments, frames, parent = item
        execution = self.execution
        payload, extras = arguments if type(arguments) is list else (arguments, {})
        call = self._admit(intake, seq, number, method, parent)
        if call is None:
            self._queued.pop((intake.caller, number), None)
            return
        call.task = threading.get_ident()
        token = current_call.set(call)
        execution.calls[id(intake), seq] = call
        self._queued.pop((intake.caller, number), None)
        try:
            if method == batches.TERMINATE:
                self._terminate(intake, seq)
            execution.run(Arrived(intake, seq, number, method, payload, extras, frames))
        except (StopServing, SystemExit) as error:
            self._ending = error
            self.ending = getattr(error, "cause", "")
            self._over.settled(None)
        finally:
            del execution.calls[id(intake), seq]
            current_call.reset(token)

    def cancel(self, intake: Intake, seq: int, flags: int) -> None:  # noqa: ARG002
        """A queued call will not run; a running one is told by `is_canceled()`."""
        call = self.execution.calls.get((id(intake), seq))
        if call is not None:
            call.is_cancelled = call.is_told = True
        else:
            intake.cancel(seq)

    def places_of(self, caller: bytes, number: int) -> list[int]:
        """Return the threads all of which have to go on before a call can end. Any thread.

        Its own if it runs; if it is queued those that have all the places of its group; none if
        it is not here, or there is a free place.
        """
        running = list(self.execution.calls.values())
        group = self._queued.get((caller, number))
        if group is None:
            return [c.task for c in running if c.number == number and c.intake.caller == caller]
        threads = [c.task for c in running if self._group_of.get(c.task) == group]
        return threads if len(threads) >= self.groups.limits[group] else []

    def serve(self) -> None:
        """Receive until the actor ends."""
        with self._lock:
            early, self._early = self._early or [], None
        for run in early:
            self.put(run)
        self.process.reception.wait(self._over)
        self.process.callee.flush()
        if isinstance(self._ending, SystemExit):
            raise self._ending

    def stop(self) -> None:
        """Have `serve` return once the queues are empty. Any thread."""
        with self._lock:
            self._is_stopping = True
            idle = not self._unfinished
        if idle:
            self._over.settled(None)


class AsyncHost(SeveralHost):
    """Runs calls as tasks of one event loop, in the main thread; they interleave at `await`."""

    def __init__(
        self, process: Process, execution: Execution, life: int, groups: Groups
    ) -> None:
        super().__init__(process, execution, life, groups)
        self.loop: asyncio.AbstractEventLoop | None = None
        self._calls: dict[tuple[int, int], Call] = {}  # that run, by intake and seq
        self._arrived: deque[Any] = deque()
        self._waiting: dict[str, deque[Any]] = {name: deque() for name in groups.limits}
        self._running: dict[str, int] = dict.fromkeys(groups.limits, 0)
        self._over: asyncio.Future[None] | None = None
        self._wake_sent = False
        self._ident = 0

    # -- in ------------------------------------------------------------------------------------

    def put(self, run: Any) -> None:
        """Queue the calls of a run. On the leader: mostly the loop's own thread."""
        self._arrived.append(run)
        loop = self.loop
        if loop is None:
            return
        if threading.get_ident() == self._ident and loop.get_task_factory() is None:
            self._start()  # makes tasks, and runs none: a user's factory might
        elif not self._wake_sent:
            self._wake_sent = True
            loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        self._wake_sent = False
        while self._arrived:
            for call in _calls_of(self._arrived.popleft()):
                group = self.groups.of(call[3], call[4])
                if (
                    self._running[group] < self.groups.limits[group]
                    and not self._waiting[group]
                ):
                    self._spawn(group, call)
                else:
                    self._waiting[group].append(call)

    def _spawn(self, group: str, item: Any) -> None:
        self._running[group] += 1
        assert self.loop is not None
        task = self.loop.create_task(self._run_one(group, item))
        self.execution.calls[id(item[0]), item[1]] = task  # type: ignore[assignment]

    async def _run_one(self, group: str, item: Any) -> None:
        intake, seq = item[0], item[1]
        try:
            await self._run(*item)
        except (StopServing, SystemExit) as error:
            self._end(error)
        finally:
            self.execution.calls.pop((id(intake), seq), None)
            self._calls.pop((id(intake), seq), None)
            self._running[group] -= 1
            waiting = self._waiting[group]
            while waiting and self._running[group] < self.groups.limits[group]:
                self._spawn(group, waiting.popleft())
            if self._is_last():
                self._end(None)

    @property
    def is_busy(self) -> bool:
        """Whether a call runs or waits here. Any thread."""
        waits = self._arrived or any(self._waiting.values())
        return bool(waits) or any(self._running.values())

    def _is_last(self) -> bool:
        return self._is_stopping and not self.is_busy

    async def _run(
        self,
        intake: Any,
        seq: int,
        number: int,
        method: int,
        arguments: Any,
        frames: Any,
        parent: Any,
    ) -> None:
        execution = self.execution
        call = self._admit(intake, seq, number, method, parent)
        if call is None:
            self.process.reception.flush_soon(self.loop)  # type: ignore[arg-type]
            return
        call.task = asyncio.current_task()
        self._calls[id(intake), seq] = call
        current_call.set(call)
        if method == batches.TERMINATE:
            self._terminate(intake, seq)
        if type(arguments) is not list and method >= 0:
            await self._run_plain(execution, intake, seq, number, method, arguments, call)
        else:
            payload, extras = arguments if type(arguments) is list else (arguments, {})
            deadline = extras.get(batches.X_DEADLINE)
            with Inherited(deadline) if deadline is not None else nullcontext():
                await self._run_special(
                    Arrived(intake, seq, number, method, payload, extras, frames), call
                )
        self.process.reception.flush_soon(self.loop)  # type: ignore[arg-type]

    async def _run_plain(
        self,
        execution: Execution,
        intake: Any,
        seq: int,
        number: int,
        method: int,
        payload: Any,
        call: Call,
    ) -> None:
        try:
            function = execution.functions[method]
            if payload is None:
                value = function()
            else:
                args = execution.loads(payload)
                value = (
                    function(*args) if type(args) is tuple else function(*args[0], **args[1])
                )
            if inspect.isawaitable(value):
                value = await value
        except BaseException as error:  # noqa: BLE001 - user code
            self._failed(intake, seq, method, error, call, b"")
            return
        if call.is_told:
            execution.cancelled_while_running(intake, seq, method)
        elif type(value) in NATIVE_TYPES and type(value) is not int:
            self.process.callee.reply(intake, seq, 0, value)
        else:
            arrived = Arrived(intake, seq, number, method, None, {}, ())
            execution.finish(arrived, value, b"")

    async def _run_special(self, arrived: Arrived, call: Call) -> None:
        execution = self.execution
        intake, seq, _, method, _, extras, _ = arrived
        object_id = arrived.object_id
        refs: list[Any] = []
        try:
            prepare = partial(execution.prepare, object_id, arrived)
            function, args, kwargs, refs = (
                prepare() if are_here(self.process, extras) else await self._fetched(prepare)
            )
        except BaseException as error:  # noqa: BLE001 - unpickling runs user code
            execution.settle_references(object_id, intake.peer, refs, ())
            execution.not_run(intake, seq, method, error)
            return
        while True:
            try:
                value = function(*args, **kwargs)
                if extras.get(batches.X_RETURNS, 1) < 0:
                    again = partial(function, *args, **kwargs)
                    name = object_id if refs else b""
                    await run_stream_async(execution, arrived, value, again, name)
                    return
                if inspect.isawaitable(value):
                    value = await value
                break
            except BaseException as error:  # noqa: BLE001 - user code
                if (
                    isinstance(error, Exception)
                    and extras.get(batches.X_RETURNS, 1) >= 0  # a stream does it by itself
                    and runs_again(self.process, intake, seq, error, extras)
                ):
                    continue
                args = kwargs = None
                self._failed(intake, seq, method, error, call, object_id if refs else b"")
                return
        args = kwargs = None
        execution.finish(arrived, value, object_id if refs else b"")

    async def _fetched(self, prepare: Callable[[], Any]) -> Any:
        """Take a call's arguments from elsewhere, while other calls run."""
        fetching = self.process.objects.store.fetching
        return (await fetching.outcome(asyncio.get_running_loop(), prepare)).get()

    def _failed(
        self,
        intake: Any,
        seq: int,
        method: int,
        error: BaseException,
        call: Call,
        object_id: bytes,
    ) -> None:
        if isinstance(error, asyncio.CancelledError):
            if call.is_cancelled or self._ending is None:
                self.execution.failed(intake, seq, method, interrupted(error), object_id)
            else:
                self.execution.settle_references(object_id, intake.peer, (), ())
            return
        if isinstance(error, AsyncioActorExit):
            raise StopServing("exited") from error
        self.execution.failed(intake, seq, method, error, object_id)

    # -- out -----------------------------------------------------------------------------------

    def cancel(self, intake: Intake, seq: int, flags: int) -> None:
        """Cancel the call's task, or have it not run."""
        task: Any = self.execution.calls.get((id(intake), seq))
        if task is None:
            intake.cancel(seq)
        else:
            call = self._call_of((id(intake), seq))
            if call is not None:
                call.is_told = True
                if flags & batches.C_RECURSIVE:
                    call.is_cancelled = True  # what it awaits is cancelled too
            task.get_loop().call_soon_threadsafe(task.cancel)

    def _call_of(self, key: tuple[int, int]) -> Call | None:
        return self._calls.get(key)

    # -- the main thread -----------------------------------------------------------------------

    def serve(self) -> None:
        """Run the loop until the actor ends."""
        assert self.loop is not None
        loop = self.loop
        self._ident = threading.get_ident()
        self._over = loop.create_future()
        self.process.reception.attach(loop)
        loop.call_soon(self._start)
        if self._is_stopping:  # before there was a loop to be told
            loop.call_soon(self.stop)
        try:
            loop.run_until_complete(self._over)
            self._cancel_rest()
        finally:
            self.process.reception.detach(loop)
            self.process.flush()
        if isinstance(self._ending, SystemExit):
            raise self._ending

    def _cancel_rest(self) -> None:
        assert self.loop is not None
        rest = asyncio.all_tasks(self.loop)
        for task in rest:
            task.cancel()
        if rest:
            self.loop.run_until_complete(asyncio.wait(rest, timeout=1.0))

    def _end(self, error: BaseException | None) -> None:
        if self._ending is None:
            self._ending = error or StopServing("stopped")
            self.ending = getattr(error, "cause", "")
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    def end_actor(self) -> None:
        """End the actor, whatever runs: a task of the user's own asks for it. Any thread."""
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self._end, StopServing("exit_actor"))

    def stop(self) -> None:
        """Have `serve` return once no call is left. Any thread."""

        def stop() -> None:
            self._is_stopping = True
            if self._is_last():
                self._end(None)

        self._is_stopping = True
        if self.loop is not None:
            self.loop.call_soon_threadsafe(stop)
