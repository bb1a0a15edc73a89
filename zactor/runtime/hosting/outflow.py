"""Generators that run here: what they yield, on its way to whoever consumes it.

An `Outflow` takes what the user's generator yields. Items gather like replies: each leaves before the
next step of the generator, unless its steps are known to be fast; then all of 0.2 ms leave
together. With back-pressure the generator is not resumed while too many items are not consumed. It
ends when its consumer drops the stream, or dies.

The consumer's side is `streaming`.

Owned by: what gathers is under the callee's lock; credit is the leader's.
"""

from __future__ import annotations

import asyncio
import inspect
from time import perf_counter
from typing import TYPE_CHECKING, Any

from zactor.exceptions import (
    StreamingGeneratorReplayInconsistentError,
)
from zactor.ids import pack_object_id
from zactor.runtime.calls.arguments import references_of
from zactor.runtime.hosting.again import runs_again
from zactor.runtime.hosting.running_call import is_main_thread
from zactor.runtime.links.interrupts import enters_user_code, protected
from zactor.runtime.links.reception import Waiter
from zactor.wire import batches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zactor.core.intake import Intake
    from zactor.runtime.hosting.calling import Execution
    from zactor.runtime.hosting.running_call import Arrived

FAST = 1e-4  # a generator whose last steps all took less has its items gathered
FAST_STEPS = 16
ITEM_AGE = 2e-4  # gathered items older than this leave before the next step
BATCH_BYTES = 64 << 10
TURN = 1e-3  # how long an async generator may go on without the loop having its turn


class Outflow:
    """What a running generator yields, on its way to the caller."""

    def __init__(
        self,
        execution: Execution,
        intake: Intake,
        seq: int,
        number: int,
        extras: dict[int, Any],
    ) -> None:
        self.intake = intake
        self.seq = seq
        self.is_dropped = False
        self.count = 0  # items sent
        self._execution = execution
        self._process = execution.process
        self._callee = execution.process.callee
        self._number = number
        self._limit = extras.get(batches.X_BACKPRESSURE, 0)
        self._consumed = 0
        self._skip = 0  # items of this run that were sent by an earlier one
        self._items: Any = None
        self._flat: Any = None
        self._since = 0.0
        self._stepped = perf_counter()
        self._streak = 0
        self._bytes = 0
        self._waiter: Any = None

    # -- said by the consumer, on the leader

    def consumed_now(self, consumed: int) -> None:
        """So many items have been consumed."""
        self._consumed = max(consumed, self._consumed)
        self._wake()

    def drop(self) -> None:
        """Nobody wants more."""
        self.is_dropped = True
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.settled(None)

    @property
    def is_full(self) -> bool:
        """Whether the consumer has to catch up first."""
        return (
            bool(self._limit)
            and self.count - self._consumed >= self._limit
            and not self.is_dropped
        )

    def explain(self) -> str:
        """Say what it waits for, while it is full."""
        return (
            f"it has yielded {self.count:,} items, of which its consumer has taken "
            f"{self._consumed:,}, and waits until more are taken (back-pressure: {self._limit:,})"
        )

    # -- what is yielded

    def run_again(self) -> None:
        """The generator is run from its start: what was sent is not sent again."""
        self._skip = self.count

    def put(self, value: Any) -> None:
        """Take one value."""
        if self._skip:
            self._skip -= 1
            return
        now = perf_counter()
        self._streak = self._streak + 1 if now - self._stepped < FAST else 0
        kind = type(value)
        if kind in _SIMPLE or (kind is bytes and len(value) < _SMALL_BYTES):
            status = 0
        else:
            status, value = self._execution.encode_simple(value)
            if status < 0:
                self._put_special(value)
                return
            if status:
                self._bytes += len(value)
        callee = self._callee
        is_new = False
        with callee.lock:
            flat, items = self._flat, self._items
            replies = self.intake.peer.replies
            if items is not None and replies and replies[-1][1] is flat and flat[-1] is items:
                items.append(status)
                items.append(value)
            else:
                is_new = True
                self._open([self.count, status, value], batches.ITEM)
                self._since = now
                if not callee.oldest:
                    callee.oldest = now
        self.count += 1
        if (
            self._streak < FAST_STEPS
            or now - self._since > ITEM_AGE
            or self._bytes > BATCH_BYTES
        ):
            self._bytes = 0
            callee.flush()
        elif is_new:
            self._process.reception.gathered()  # should the next step be slow after all
        self._stepped = perf_counter()

    def _open(self, items: list[Any], status: int) -> None:
        flat = self._callee.group_of(self.intake)
        flat += (self.seq, status, items)
        self._flat, self._items = flat, items

    def _put_special(self, encoded: Any) -> None:
        """Send a value with references, buffers or of many bytes, by itself."""
        execution, process, intake = self._execution, self._process, self.intake
        object_id = pack_object_id(intake.caller, self._number, self.count + 1)
        status, value, frames, refs = execution.pack_value(object_id, intake, encoded)
        if frames:
            value = [value, list(frames)]
        named = references_of(process, refs)
        rows = []
        if named:
            rows = process.objects.rows(named)
            process.objects.value_leaves(object_id, intake.peer.id, named)
        with self._callee.lock:
            row = [self.count, status, value, self._number]
            self._open([row, {batches.Y_REFS: rows}], batches.ITEM | batches.EXTRA)
            self._items = None
            self.count += 1
            self._callee.flush()
        self._stepped = perf_counter()

    def wait_for_credit(self) -> None:
        """Wait until the consumer has caught up. Not for event loops."""
        while self.is_full:
            waiter = Waiter()
            self._waiter = waiter
            if self.is_full:
                self._process.block_on(waiter, None)
        self._stepped = perf_counter()

    async def wait_for_credit_async(self) -> None:
        """`wait_for_credit`, for event loops."""
        while self.is_full:
            waiter = _LoopWaiter()
            self._waiter = waiter
            self._process.flush()
            if self.is_full:
                await waiter.future
        self._stepped = perf_counter()

    def end(self, call: bytes) -> None:
        """The generator has returned."""
        if self._skip and not self.is_dropped:
            raise StreamingGeneratorReplayInconsistentError(
                f"the generator was run again and yielded {self._skip} values less than before"
            )
        extras = {}
        if call and self._process.objects.call_finishes(call, self.intake.peer.id, ()):
            extras[batches.Y_UNCONFIRMED] = 1
        status = batches.END | batches.EXTRA if extras else batches.END
        value: Any = [self.count, extras] if extras else self.count
        self._callee.reply(self.intake, self.seq, status, value)


_SIMPLE = frozenset((type(None), bool, float))
_SMALL_BYTES = 4096


class _LoopWaiter:
    """Wakes a task of an asyncio loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future = self._loop.create_future()

    def settled(self, result: Any) -> None:  # noqa: ARG002
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


@enters_user_code
def run_stream(
    execution: Execution, arrived: Arrived, function: Any, args: Any, kwargs: Any, call: bytes
) -> None:
    """Run a generator to its end, in the main thread or a thread of a pool."""
    intake, seq, number, method, _, extras, _ = arrived
    outflow = Outflow(execution, intake, seq, number, extras)
    streams = execution.process.streams
    streams.opened(outflow)
    iterator: Any = ()
    try:
        while True:
            try:
                iterator = iterate(function(*args, **kwargs))
                for value in iterator:
                    outflow.put(value)
                    if outflow.is_full:
                        outflow.wait_for_credit()
                    if outflow.is_dropped:
                        break
                if outflow.is_dropped:
                    close(iterator)
                if is_main_thread():
                    execution.seq_over()
                outflow.end(call)
                return
            except BaseException as error:  # noqa: BLE001 - user code
                close(iterator)
                if runs_again(execution.process, intake, seq, error, extras):
                    outflow.run_again()
                    continue
                if isinstance(error, StreamingGeneratorReplayInconsistentError):
                    execution.settle_references(call, intake.peer, (), ())
                    execution.reply_error(intake, seq, error)
                else:
                    execution.failed(intake, seq, method, error, call)
                return
    finally:
        streams.closed(outflow)


async def run_stream_async(
    execution: Execution, arrived: Arrived, made: Any, remake: Any, call: bytes
) -> None:
    """Run a generator, async or not, in an event loop. What it raises passes on."""
    intake, seq, number, _, _, extras, _ = arrived
    outflow = Outflow(execution, intake, seq, number, extras)
    streams = execution.process.streams
    streams.opened(outflow)
    turn = perf_counter()
    try:
        while True:
            iterator = made if hasattr(made, "__aiter__") else each(made)
            try:
                async for value in iterator:
                    outflow.put(value)
                    if outflow.is_full:
                        await outflow.wait_for_credit_async()
                    if outflow.is_dropped:
                        break
                    if perf_counter() - turn > TURN:
                        await asyncio.sleep(0)
                        turn = perf_counter()
                if outflow.is_dropped:
                    await aclose(iterator)
                outflow.end(call)
                return
            except Exception as error:
                if not runs_again(execution.process, intake, seq, error, extras):
                    raise
                outflow.run_again()
                made = remake()
    finally:
        streams.closed(outflow)


async def each(made: Any) -> Any:
    """Yield what a generator yields, where an event loop runs."""
    for value in iterate(made):
        yield value


def iterate(made: Any) -> Any:
    """Return an iterator of what a call has returned that is to be streamed.

    Raises:
        TypeError: It cannot be iterated.
    """
    if hasattr(made, "__aiter__"):
        return _in_a_loop(made)
    if inspect.iscoroutine(made):
        made.close()
    if not hasattr(made, "__next__"):
        raise TypeError(
            "num_returns='streaming' and 'dynamic' need a generator, but the call returned a "
            f"{type(made)}; iter() makes an iterator of it"
        )
    return made


def _in_a_loop(made: Any) -> Iterator[Any]:
    """Iterate an async generator where no event loop runs."""
    with asyncio.Runner() as runner:
        iterator = aiter(made)
        try:
            while True:
                try:
                    value = runner.run(_next_of(iterator))
                except StopAsyncIteration:
                    return
                yield value
        finally:
            runner.run(aclose(iterator))


async def _next_of(iterator: Any) -> Any:
    return await anext(iterator)


async def aclose(iterator: Any) -> None:
    """End an async generator that nobody wants more of."""
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()


def close(iterator: Any) -> None:
    """End a generator that nobody wants more of."""
    end = getattr(iterator, "close", None)
    if end is not None:
        try:
            end()
        except BaseException:  # noqa: BLE001, S110 - the user's clean-up; nobody waits for it
            pass


protected(Outflow.put, Outflow._put_special, Outflow.end)  # noqa: SLF001
