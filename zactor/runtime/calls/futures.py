"""References as futures of the standard library: `concurrent.futures` and `asyncio`."""

from __future__ import annotations

import asyncio
import concurrent.futures
from functools import partial
from typing import TYPE_CHECKING, Any

from zactor.core.calls import STORED
from zactor.runtime import current as processes
from zactor.runtime.calls.cancelling import cancel_result
from zactor.runtime.calls.values import decode
from zactor.runtime.hosting.running_call import current_call
from zactor.runtime.objects.sharing import ELSEWHERE

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.core.calls import Result
    from zactor.runtime.calls.refs import ObjectRef


def future_of(ref: ObjectRef[Any]) -> concurrent.futures.Future[Any]:
    """Return a `concurrent.futures.Future` of a reference's value."""
    process = processes.current()
    assert process is not None
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()
    # The value lives while the future does.
    future.object_ref = ref  # type: ignore[attr-defined]
    result = ref._result
    process.objects.want(result)
    result.add_waiter(_Concurrent(process, future))
    process.flush()
    return future


class _Concurrent:
    __slots__ = ("_future", "_process")

    def __init__(self, process: Any, future: concurrent.futures.Future[Any]) -> None:
        self._process = process
        self._future = future

    def settled(self, result: Result) -> None:
        # Callbacks of the user's run with it, so not here, on the leader.
        self._process.reception.call_soon(lambda: self._set(result))

    def _set(self, result: Result) -> None:
        future = self._future
        if future.cancelled() or not future.set_running_or_notify_cancel():
            return
        try:
            value = decode(result)
        except BaseException as error:  # noqa: BLE001 - it is the future's
            future.set_exception(error)
        else:
            future.set_result(value)


def asyncio_future_of(ref: ObjectRef[Any]) -> asyncio.Future[Any]:
    """Return an `asyncio.Future` of a reference's value, for the running loop."""
    loop = asyncio.get_running_loop()
    process = processes.current()
    assert process is not None
    future: asyncio.Future[Any] = loop.create_future()
    result = ref._result
    if result.state:
        _settle(future, ref)
        return future
    process.reception.attach(loop)
    process.objects.want(result)
    result.add_waiter(_Asyncio(process, loop, future, ref))
    process.reception.flush_soon(loop)
    call = current_call.get()
    if call is not None:
        future.add_done_callback(lambda done: _pass_on(process, call, done, result))
    return future


def _pass_on(process: Any, call: Any, future: asyncio.Future[Any], result: Result) -> None:
    """A call that was cancelled, and not for itself alone, cancels what it awaited."""
    if future.cancelled() and call.is_cancelled:
        cancel_result(process, result, force=False, recursive=True)


class _Asyncio:
    __slots__ = ("_future", "_loop", "_process", "_ref")

    def __init__(self, process: Any, loop: Any, future: Any, ref: Any) -> None:
        self._process = process
        self._loop = loop
        self._future = future
        self._ref = ref  # the value lives while somebody awaits it

    def settled(self, result: Result) -> None:  # noqa: ARG002
        is_here = self._process.reception.is_on(self._loop)
        call = self._loop.call_soon if is_here else self._loop.call_soon_threadsafe
        try:
            call(_settle, self._future, self._ref)  # decoding is not the leader's
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more


def _settle(
    future: asyncio.Future[Any],
    ref: ObjectRef[Any],
    read: Callable[[Result], Any] | None = None,
) -> None:
    if future.done():
        return
    try:
        value = (read or _read_at_once)(ref._result)
    except asyncio.CancelledError:
        future.cancel()
    except StopIteration as error:
        future.set_exception(RuntimeError(f"the call raised {error!r}"))
    except BaseException as error:  # noqa: BLE001 - it is the future's
        future.set_exception(error)
    else:
        if value is ELSEWHERE:
            _fetch(future, ref)
        else:
            future.set_result(value)


def _read_at_once(result: Result) -> Any:
    """Return the value, or `ELSEWHERE` if reading it would hold the loop up."""
    process = processes.current()
    if result.state == STORED and process is not None:
        return process.objects.store.read(result, waits=False)
    return decode(result)


def _fetch(future: asyncio.Future[Any], ref: ObjectRef[Any]) -> None:
    """Have a value fetched or made again by a thread, and then given to the loop."""
    process = processes.current()
    assert process is not None
    fetching = process.objects.store.fetching
    fetched = fetching.outcome(future.get_loop(), partial(decode, ref._result))
    fetched.add_done_callback(lambda done: _settle(future, ref, lambda _: done.result().get()))
