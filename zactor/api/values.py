"""`get`, `put`, `wait`, `cancel`: what is done with references."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from zactor.api.session import process
from zactor.core.calls import NATIVE, PICKLED, STORED, Result, error_watchers
from zactor.exceptions import GetTimeoutError, ZactorError
from zactor.runtime.calls.arguments import references_of
from zactor.runtime.calls.refs import ObjectRef
from zactor.runtime.calls.unhandled import asked_for
from zactor.runtime.calls.values import LARGE, decode, error_of, has_error
from zactor.runtime.hosting.running_call import current_call
from zactor.runtime.links.reception import Waiter
from zactor.runtime.objects.objects import Put
from zactor.serde.values import dumps

if TYPE_CHECKING:
    from zactor.api.generators import ObjectRefGenerator

R = TypeVar("R")
W = TypeVar("W", bound="ObjectRef[Any] | ObjectRefGenerator[Any]")
_IMMUTABLE = frozenset((type(None), bool, int, float, bytes, str))


@overload
def get(refs: ObjectRef[R], *, timeout: float | None = None) -> R: ...
@overload
def get(refs: Sequence[ObjectRef[R]], *, timeout: float | None = None) -> list[R]: ...
def get(refs: Any, *, timeout: float | None = None) -> Any:
    """Return the value of a reference, or the list of values of a list of them; wait if need be.

    Arrays in values from shared memory are views of it: no copy, and read-only.

    Args:
        refs: An ObjectRef, or a list of them.
        timeout: Seconds to wait; 0 takes what is there; None waits as long as it takes.

    Raises:
        GetTimeoutError: The time was up.
        TaskError: The call raised; the exception is also an instance of the class it raised.
        ZactorError: The value will never come; see `zactor.exceptions`.
        ValueError: `refs` is neither a reference nor a list of them.
    """
    if type(refs) is ObjectRef:
        result = refs._result
        if timeout is None:
            if not result.state:
                _wait_one(result, None)
            return result.value if result.state == NATIVE else decode(result)
        _check_timeout(timeout)
        deadline = time.monotonic() + timeout
        if not result.state:
            _wait_one(result, deadline, timeout)
        return result.value if result.state == NATIVE else decode(result, deadline)
    if not isinstance(refs, list):
        if isinstance(refs, ObjectRef):
            return get([refs], timeout=timeout)[0]
        from zactor.api.generators import is_generator

        if is_generator(refs):
            return refs
        raise ValueError(
            f"Invalid type of object refs, {type(refs)}, is given. 'object_refs' must either be "
            "an ObjectRef or a list of ObjectRefs."
        )
    return _get_list(refs, timeout)


def _get_list(refs: list[Any], timeout: float | None) -> list[Any]:
    _check_timeout(timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    results = _results_of(refs)
    try:
        return _values_of(results, deadline)
    except GetTimeoutError:
        raise
    except ZactorError:
        asked_for(results)  # the errors of the others are not told apart
        raise


def _values_of(results: list[Result], deadline: float | None) -> list[Any]:
    values: list[Any] = []
    append = values.append
    has_waited = False
    for position, result in enumerate(results):
        state = result.state
        if not state:
            if not has_waited:
                has_waited = True
                process().objects.want_all(results)
            _wait_in_list(results, position, deadline)
            state = result.state
        append(result.value if state == NATIVE else decode(result, deadline))
    return values


def _results_of(refs: list[Any]) -> list[Result]:
    try:
        return [ref._result for ref in refs]
    except AttributeError:
        position = next(at for at, ref in enumerate(refs) if not hasattr(ref, "_result"))
        raise TypeError(
            f"Invalid type of object refs: 'object_refs' must be an ObjectRef or a list of "
            f"ObjectRefs, but item {position} is a {type(refs[position])}."
        ) from None


def _wait_one(result: Result, deadline: float | None, timeout: float = 0.0) -> None:
    if not process().wait_for([result], 1, deadline):
        raise GetTimeoutError(
            f"Get timed out: some object(s) not ready: no result within {timeout:g} s"
        )


TOGETHER = 4_096
"""How many of a list are waited for at once: each wait looks through the whole list for errors."""


def _wait_in_list(results: list[Result], position: int, deadline: float | None) -> None:
    """Wait for some of a list from `position` on; an error in any that is known is raised first."""
    runtime = process()
    watcher = _Watcher()
    error_watchers.append(watcher)
    try:
        while True:
            watcher.has_error = False
            for later in results[position:]:
                if has_error(later):
                    raise error_of(later)
            pending = [
                each for each in results[position : position + TOGETHER] if not each.state
            ]
            if not pending:
                return
            waiter = watcher.waiter = Waiter(len(pending))
            for each in pending:
                each.add_waiter(waiter)
            if watcher.has_error:
                watcher.error_settled()
            try:
                runtime.block_on(waiter, deadline, pending)
            finally:
                late = [each for each in pending if not each.state]
                for each in late:
                    each.remove_waiter(waiter)
            if late and not watcher.has_error:
                raise GetTimeoutError("Get timed out: some object(s) not ready")
    finally:
        error_watchers.remove(watcher)


class _Watcher:
    """Ends a wait when some result, anywhere, became an error: it may be one of the list."""

    waiter: Waiter | None = None
    has_error = False

    def error_settled(self) -> None:
        self.has_error = True
        waiter = self.waiter
        if waiter is not None:
            waiter.is_done = True  # however many it waits for
            waiter.wake()


def put(value: R, *, _owner: Any = None, **_: Any) -> ObjectRef[R]:
    """Store a value and return a reference to it; this process owns it.

    A value of more than 100 KiB goes to shared memory, where any process of the machine reads it
    without a copy. The value is taken as it is now: later changes to it do not show.

    Raises:
        TypeError: `value` is a reference already.
        ObjectStoreFullError: There is no room for it.
        SerializationError: It cannot be pickled.
    """
    if isinstance(value, ObjectRef):
        raise TypeError(
            "Calling 'put' on an ObjectRef is not allowed. If you really want to do this, you "
            "can wrap the ObjectRef in a list and call 'put' on it."
        )
    runtime = process()
    identity = runtime.identity
    number = next(identity.numbers)
    if type(value) in _IMMUTABLE and (type(value) not in (bytes, str) or len(value) < LARGE):  # type: ignore[arg-type]
        return ObjectRef(Put(identity.caller, number, NATIVE, value))
    payload, buffers, refs = dumps(value, "the value")
    size = len(payload) + sum(map(len, buffers)) if buffers else len(payload)
    stored = Put(identity.caller, number, PICKLED, payload)
    if size > LARGE and runtime.objects.store is not None and runtime.objects.store.writes:
        stored.value = runtime.objects.store.write(
            stored.object_id(), runtime.id, payload, buffers
        )
        stored.state = STORED
        runtime.objects.watch_end(stored)
    elif buffers:
        stored.value = (payload, [bytes(buffer) for buffer in buffers])
    if refs:
        named = references_of(runtime, refs)
        runtime.objects.hold_value(stored, named)
    return ObjectRef(stored)


@overload
def wait(
    ray_waitables: list[W],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[W], list[W]]: ...
@overload
def wait(
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
    object_refs: list[W],
) -> tuple[list[W], list[W]]: ...
def wait(
    ray_waitables: Any = None,
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,  # noqa: ARG001 - values are fetched when they are got
    object_refs: Any = None,
) -> tuple[list[Any], list[Any]]:
    """Wait until `num_returns` of the references are ready; return them, and the others.

    Both lists keep the order they were given in. Ready means that there is a value or an error.

    Args:
        ray_waitables: A list of ObjectRefs (and of ObjectRefGenerators), none of them twice.
        num_returns: How many to wait for; the first list has no more, even if more are ready.
        timeout: Seconds to wait at most; 0 looks and returns.
        fetch_local: Of no effect.
        object_refs: The same as the first argument.

    Raises:
        TypeError: Not a list of references.
        ValueError: One is given twice, or `num_returns` or `timeout` is out of range.
    """
    refs = ray_waitables if ray_waitables is not None else object_refs
    results = _waited_for(refs, timeout)
    runtime = process()
    if not refs:
        return [], []
    # Results, since hashing references is 20 times as slow, and each has its own; generators that are
    # ready have one result in common.
    if len(set(results)) != len(results) and len(set(refs)) != len(refs):
        raise ValueError("Wait requires a list of unique object refs.")
    if num_returns <= 0:
        raise ValueError("Invalid number of objects to return: num_returns must be at least 1.")
    if num_returns > len(refs):
        raise ValueError(
            "num_returns cannot be greater than the number of ray_waitables provided to wait()."
        )
    ready = _ready(results, num_returns)
    if len(ready) < num_returns:
        if timeout == 0:
            runtime.objects.want_all(results)
            runtime.flush()
            runtime.look()
        else:
            pending = [result for result in results if not result.state]
            missing = num_returns - (len(results) - len(pending))
            deadline = None if timeout is None else time.monotonic() + timeout
            if missing > 0:
                runtime.wait_for(pending, missing, deadline)
        ready = _ready(results, num_returns)
    # By runs of what is not ready: `wait` of 1 in 1,000, again and again, is what programs do.
    rest: list[Any] = []
    after = 0
    for at in ready:
        rest += refs[after:at]
        after = at + 1
    rest += refs[after:]
    return [refs[at] for at in ready], rest


_ONLY_REFS = {ObjectRef}


def _waited_for(refs: Any, timeout: float | None) -> list[Result]:
    """Return what `wait` waits for, one for each of `refs`, once these are what they should be."""
    from zactor.api.generators import is_generator, waitable

    if isinstance(refs, ObjectRef) or is_generator(refs):
        raise TypeError(
            "wait() expected a list of ObjectRef or ObjectRefGenerator, got a single one"
        )
    if not isinstance(refs, list):
        raise TypeError(
            f"wait() expected a list of ObjectRef or ObjectRefGenerator, got {type(refs)}"
        )
    if timeout is not None and timeout < 0:
        raise ValueError(f"The 'timeout' argument must be nonnegative. Received {timeout}")
    if set(map(type, refs)) == _ONLY_REFS:
        return [ref._result for ref in refs]
    for position, ref in enumerate(refs):
        if not isinstance(ref, ObjectRef) and not is_generator(ref):
            raise TypeError(
                f"wait() expected a list of ObjectRef or ObjectRefGenerator, got list containing "
                f"{type(ref)} at {position}"
            )
    return [ref._result if isinstance(ref, ObjectRef) else waitable(ref) for ref in refs]


def _ready(results: list[Result], most: int) -> list[int]:
    """Return the positions of the first `most` that are settled."""
    ready: list[int] = []
    for at, result in enumerate(results):
        if result.state:
            ready.append(at)
            if len(ready) == most:
                break
    return ready


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None and timeout < 0:
        if timeout == -1:
            raise ValueError(
                "timeout=-1 is not supported: use timeout=None to wait indefinitely"
            )
        raise ValueError(f"timeout must be at least 0, not {timeout!r}")


def is_in_async_actor() -> bool:
    """Whether the caller runs in an asyncio task of an actor."""
    call = current_call.get()
    return call is not None and hasattr(call.task, "cancelling")
