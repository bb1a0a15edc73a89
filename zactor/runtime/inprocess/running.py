"""One call, run in an in-process world: arguments in, user code, outcome.

Calls run as they do in a worker: arguments are unpickled, results and exceptions pickled, a method that
raises what it is to be retried on is run again in its place. A `Run` goes through a strand, or, of an async
actor, through a task of its loop.

What ends the actor passes on: `StopServing`, `SystemExit`, and `Unwinding` where its process was killed.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from zactor.core.calls import (
    ERROR,
    NATIVE,
    PENDING,
    PICKLED,
    USER_ERROR,
    Result,
    spend_retry,
)
from zactor.exceptions import (
    AsyncioActorExit,
    DeadlineExceededError,
    SerializationError,
    TaskCancelledError,
    TaskError,
    ZactorError,
)
from zactor.runtime.calls.arguments import references_of
from zactor.runtime.calls.deadlines import Inherited
from zactor.runtime.calls.several import Several, take_values
from zactor.runtime.calls.streaming import Item, Streaming
from zactor.runtime.calls.values import decode_wire
from zactor.runtime.hosting.again import is_retried
from zactor.runtime.hosting.calling import (
    StopServing,
    cancelled_to_the_end,
    current_call,
    interrupted,
)
from zactor.runtime.hosting.outflow import aclose, close, each, iterate
from zactor.runtime.inprocess.execution import LocalCall, LocalExecution
from zactor.runtime.inprocess.scheduler import Unwinding
from zactor.serde.exceptions import failed_argument, pack_exception, pack_task_error
from zactor.serde.values import dumps, loads_args
from zactor.wire import batches

if TYPE_CHECKING:
    from zactor.runtime.inprocess.process import LocalProcess

_NATIVE = frozenset((type(None), bool, int, float, bytes, str))


class Run:
    """One call on its way through a process."""

    def __init__(self, host: Any, result: Result) -> None:
        self.host = host
        self.world = host.world
        self.process: LocalProcess = host.process
        self.execution: LocalExecution = host.execution
        self.stream = result.stream
        self.seq = result.seq
        self.method = result.method
        payload = result.payload
        self.payload, self.extras = payload if type(payload) is list else (payload, {})
        self.frames = result.frames
        self.pin = result.pin  # what is passed lives until the call has ended
        self.name = host.name_of(result)
        given = str(self.extras.get(batches.X_NAME, ""))
        self.call = LocalCall(self.stream, self.seq, result.number, self.name, given)
        self.returns = self.extras.get(batches.X_RETURNS, 1)
        self.attempts = self.extras.get(batches.X_RETRY, (0, None))[0]
        self.count = 0  # items that were yielded
        self.fault: Any = None

    @property
    def text(self) -> str:
        """What the call is called."""
        return self.execution.text_of(self.name)

    def run(self) -> None:
        """Run it to its outcome, in this strand."""
        strand = self.world.scheduler.current
        strand.call, self.call.strand = self.call, strand
        token = current_call.set(self.call)  # type: ignore[arg-type]
        try:
            with self._deadline():
                self._run()
        finally:
            current_call.reset(token)
            self.pin = None
            self.world.listing.over(self)

    def _deadline(self) -> Any:
        deadline = self.extras.get(batches.X_DEADLINE)
        return nullcontext() if deadline is None else Inherited(deadline)

    def _run(self) -> None:
        prepared = self._begin()
        if prepared is None:
            return
        function, args, kwargs = prepared
        del prepared
        if self.returns < 0:
            self._run_stream(function, args, kwargs)
            return
        while True:
            try:
                value = function(*args, **kwargs)
                self._may_not_be_interrupted()
                break
            except (StopServing, Unwinding):
                raise
            except BaseException as error:  # noqa: BLE001 - user code
                self._may_not_be_interrupted()
                if self._tries_again(error):
                    continue
                args = kwargs = None
                self.failed(error)
                return
        args = kwargs = None
        self.returned(value)

    async def run_async(self) -> None:
        """Run it to its outcome, in a task of the actor's loop."""
        self.call.task = asyncio.current_task()
        current_call.set(self.call)  # type: ignore[arg-type]
        try:
            with self._deadline():
                await self._run_async()
        finally:
            self.pin = None
            self.world.listing.over(self)

    async def _run_async(self) -> None:
        prepared = self._begin()
        if prepared is None:
            return
        function, args, kwargs = prepared
        del prepared
        while True:
            try:
                value = function(*args, **kwargs)
                if self.returns < 0:
                    await self._run_stream_async(value)
                    return
                if inspect.isawaitable(value):
                    value = await value
                break
            except (StopServing, Unwinding):
                raise
            except BaseException as error:  # noqa: BLE001 - user code
                if isinstance(error, Exception) and self._tries_again(error):
                    continue
                args = kwargs = None
                self._failed_async(error)
                return
        args = kwargs = None
        self.returned(value)

    def _begin(self) -> Any:
        """Return `(function, args, kwargs)`, or None if there is nothing to run any more."""
        self.world.note("starts", self.host.label, self.name)
        self.world.listing.began(self)
        if self.method == batches.TERMINATE:
            self.settle(NATIVE, None)
            raise StopServing("terminated")
        self.fault = self.world.faults.take(self.host, self.name)
        if self.fault is not None and not self.fault.ran:
            self.fault.strike(self)
            return None
        try:
            return self._prepare()
        except Unwinding:
            raise
        except BaseException as error:  # noqa: BLE001 - unpickling runs user code
            self._not_run(error)
            return None

    def _may_not_be_interrupted(self) -> None:
        """The user's code has returned: a cancel that comes now came too late."""
        self.call.strand = None
        self.world.scheduler.current.raises = None

    def _tries_again(self, error: BaseException) -> bool:
        if not self.attempts or isinstance(error, StopServing | Unwinding):
            return False
        is_one = is_retried(error, self.extras[batches.X_RETRY][1])
        if is_one:
            self.attempts -= self.attempts > 0
            pending = self.pending()
            if pending is not None:
                spend_retry(pending)
            self.world.note("retries", self.host.label, self.name)
            self.call.strand = self.world.scheduler.current
        return is_one

    # -- in ------------------------------------------------------------------------------------

    def _prepare(self) -> tuple[Any, Any, Any]:
        deadline = self.extras.get(batches.X_DEADLINE)
        if deadline is not None and time.time() > deadline:
            raise DeadlineExceededError("it waited too long to be run", executed="no")
        args: Any = ()
        kwargs: dict[str, Any] = {}
        if self.payload is not None:
            buffers = self.frames if self.extras.get(batches.X_FRAMES) else ()
            args, kwargs = loads_args(self.payload, buffers or ())
        slots = self.extras.get(batches.X_SLOTS)
        if slots:
            args = list(args)
            for slot, status, value, *_ in slots:
                try:
                    decoded = decode_wire(self.process, status, value)
                except ZactorError as error:
                    raise failed_argument(error) from None
                if type(slot) is int:
                    while len(args) <= slot:
                        args.append(None)
                    args[slot] = decoded
                else:
                    kwargs[slot] = decoded
        self.payload = self.frames = None
        if self.method == batches.APPLY:
            function, *rest = args
            return function, (self.execution.instance, *rest), kwargs
        if self.method == batches.READY:
            return _yes, (), {}
        self.call.code = self.host.function_of(self.method)
        return self.call.code, args, kwargs

    # -- out -----------------------------------------------------------------------------------

    def pending(self) -> Any:
        """Return what is to be settled: the call's result, a stand-in for it, or None."""
        return self.stream.pending.get(self.seq)

    def settle(self, state: int, value: Any, refs: Any = ()) -> None:
        """Give the call its outcome."""
        result = self.stream.pending.pop(self.seq, None)
        if result is None or self.process.is_dead:
            return
        self.world.note(
            "ends" if state in (NATIVE, PICKLED) else "raises", self.host.label, self.name
        )
        self.world.listing.settled(self, result, state, value)
        if refs:
            self._hold(result, refs)
        if result.state == PENDING:
            result.settle(state, value)

    def _hold(self, result: Result, refs: Any) -> None:
        named = references_of(self.process, refs)
        self.process.objects.hold_value(result, named)

    def encode(self, value: Any) -> tuple[int, Any, Any]:
        """Return `(state, value, references)` of something returned or yielded."""
        if type(value) in _NATIVE:
            return NATIVE, value, ()
        payload, buffers, refs = dumps(
            value, f"the result of {self.execution.label or 'a task'}", executed="yes"
        )
        if buffers:
            return PICKLED, (payload, [bytes(buffer) for buffer in buffers]), refs
        return PICKLED, payload, refs

    def returned(self, value: Any) -> None:
        """The user's code has returned."""
        if self.fault is not None:
            self.fault.strike(self)
            return
        if self.call.is_told:
            self.failed(cancelled_to_the_end())
            return
        if self.returns != 1:
            self._returned_several(value)
            return
        try:
            encoded = self.encode(value)
        except SerializationError as error:
            if inspect.isgenerator(value):
                self._returned_generator(value)
            else:
                self.settle(ERROR, error)
            return
        self.settle(*encoded)

    def _returned_generator(self, generator: Any) -> None:
        """Give the caller, who wants one value (`num_returns=1`), the first that is yielded."""
        try:
            for value in generator:
                self.settle(*self.encode(value))
                return
            raise ValueError("num_returns=1, but the generator yielded nothing")
        except Exception as error:  # noqa: BLE001 - runs user code
            self.failed(error)

    def _returned_several(self, value: Any) -> None:
        parts: list[Any] = []
        late: Any = None  # the error of a generator that had yielded some
        try:
            if self.returns:
                take_values(value, self.returns, self.text, parts)
        except Exception as error:  # noqa: BLE001 - iterating runs user code
            if not parts or not inspect.isgenerator(value):
                self.failed(error)
                return
            late = self._packed(error)
        result = self.stream.pending.pop(self.seq, None)
        if not isinstance(result, Several) or self.process.is_dead:
            return
        self.world.note("ends", self.host.label, self.name)
        for part, each_value in zip(result.parts, parts, strict=False):
            try:
                state, encoded, refs = self.encode(each_value)
            except SerializationError as error:
                state, encoded, refs = ERROR, error, ()
            if refs:
                self._hold(part, refs)
            if part.state == PENDING:
                part.settle(state, encoded)
        for part in result.parts[len(parts) :]:
            if part.state == PENDING:
                part.settle(USER_ERROR, late[0])
        if result.state == PENDING:
            Result.settle(result, ERROR, None)

    def failed(self, error: BaseException) -> None:
        """The user's code has raised. What ends the actor passes on."""
        if isinstance(error, StopServing | SystemExit | Unwinding):
            raise error
        if self.call.is_cancelled and isinstance(error, KeyboardInterrupt | TaskCancelledError):
            error = interrupted(error)
        self.settle(USER_ERROR, *self._packed(error))

    def _packed(self, error: BaseException) -> tuple[Any, Any]:
        """Return the user's exception as it travels, and the references in it."""
        execution = self.execution
        payload, _, refs = pack_exception(
            error, self.text, pid=self.process.pid, actor_repr=execution.repr,
            actor_id=execution.actor_id,
        )  # fmt: skip
        return payload, refs

    def _failed_async(self, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            self.failed(interrupted(error))
        elif isinstance(error, AsyncioActorExit):
            raise StopServing("exited") from error
        else:
            self.failed(error)

    def _not_run(self, error: BaseException) -> None:
        if isinstance(error, TaskError):
            self.settle(USER_ERROR, pack_task_error(error, self.text))
        elif isinstance(error, ZactorError):
            self.settle(ERROR, error)
        else:
            self.failed(error)

    # -- generators ----------------------------------------------------------------------------

    def _run_stream(self, function: Any, args: Any, kwargs: Any) -> None:
        scheduler = self.world.scheduler
        while True:
            iterator: Any = ()
            self.count = 0
            try:
                iterator = iterate(function(*args, **kwargs))
                for value in iterator:
                    self._put(value)
                    if self._is_full():
                        scheduler.block(
                            scheduler.here(), self._is_not_full, why="has a full stream"
                        )
                    if self._is_dropped():
                        break
                if self._is_dropped():
                    close(iterator)
                self._may_not_be_interrupted()
                self._stream_ended()
                return
            except (StopServing, Unwinding):
                raise
            except BaseException as error:  # noqa: BLE001 - user code
                self._may_not_be_interrupted()
                close(iterator)
                if self._tries_again(error):
                    continue
                self._stream_failed(error)
                return

    async def _run_stream_async(self, made: Any) -> None:
        iterator = made if hasattr(made, "__aiter__") else each(made)
        self.count = 0
        async for value in iterator:
            self._put(value)
            while self._is_full():
                await self._consumed()
            if self._is_dropped():
                break
        if self._is_dropped():
            await aclose(iterator)
        self._stream_ended()

    def _put(self, value: Any) -> None:
        result = self.pending()
        index, self.count = self.count, self.count + 1
        if not isinstance(result, Streaming) or result.is_dropped or index < result.received:
            return
        state, encoded, refs = self.encode(value)
        item: Any = Item(result, result.received + 1)
        item.state, item.value = state, encoded
        if refs:
            self._hold(item, refs)
        result.received += 1
        result.arrived.append(item)
        self.world.note("yields", self.host.label, self.name)
        result.changed()
        if self.call.task is None:
            self.world.scheduler.maybe_yield()

    async def _consumed(self) -> None:
        """Wait, in a loop, until the consumer takes something, or wants no more."""
        loop = asyncio.get_running_loop()
        taken = loop.create_future()

        def went_on() -> None:
            if not taken.done():
                taken.set_result(None)

        def wake() -> None:
            loop.call_soon_threadsafe(went_on)

        self.world.full_streams[self.pending()] = wake
        await taken

    def _is_full(self) -> bool:
        result = self.pending()
        return (
            isinstance(result, Streaming)
            and bool(result.backpressure)
            and result.received - result.taken >= result.backpressure
            and not result.is_dropped
        )

    def _is_not_full(self) -> bool:
        return not self._is_full()

    def _is_dropped(self) -> bool:
        result = self.pending()
        return not isinstance(result, Streaming) or result.is_dropped

    def _stream_ended(self) -> None:
        if self.fault is not None:
            self.fault.strike(self)
            return
        result = self.stream.pending.pop(self.seq, None)
        if isinstance(result, Streaming) and not self.process.is_dead:
            self.world.note("ends", self.host.label, self.name)
            result.ended(self.process, self.count)

    def _stream_failed(self, error: BaseException) -> None:
        if isinstance(error, ZactorError) and not hasattr(error, "cause"):
            self.settle(ERROR, error)
        else:
            self.failed(error)


def _yes() -> bool:
    return True
