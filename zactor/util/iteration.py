"""`as_completed` and `map_unordered`: results as they come."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import zactor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["as_completed", "map_unordered"]


def as_completed(
    refs: Sequence[Any], *, chunk_size: int = 10, yield_obj_refs: bool = False, **kwargs: Any
) -> Iterator[Any]:
    """Yield the values of `refs` in the order in which they come.

    Args:
        refs: References, none of them twice.
        chunk_size: How many are waited for and fetched at once, at most.
        yield_obj_refs: Yield the references themselves; then failed calls do not raise.
        **kwargs: Passed on to `zactor.wait` (`timeout` excepted).

    Raises:
        ValueError: `chunk_size` is below one, or `timeout` was given.
    """
    _check_chunk(chunk_size, kwargs)
    return _completed(list(refs), chunk_size, yield_obj_refs, kwargs)


def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    **kwargs: Any,
) -> Iterator[Any]:
    """Call `fn.remote(item)` for each item; yield the results in the order they come.

    Args:
        fn: A remote function, or a method of a handle, of one argument.
        items: What to call it with; read as room comes.
        backpressure_size: How many calls may be unfinished at once; None: no bound.
        chunk_size: How many are waited for and fetched at once, at most.
        yield_obj_refs: Yield the references themselves; then failed calls do not raise.
        **kwargs: Passed on to `zactor.wait` (`timeout` excepted).

    Raises:
        ValueError: `backpressure_size` or `chunk_size` is below one, or `timeout` was given.
    """
    _check_chunk(chunk_size, kwargs)
    if backpressure_size is not None and backpressure_size < 1:
        raise ValueError("backpressure_size must be positive")
    if not hasattr(fn, "remote"):
        raise TypeError(f"fn must be a remote function or an actor's method, not {fn!r}")
    return _mapped(fn, iter(items), backpressure_size, chunk_size, yield_obj_refs, kwargs)


def _mapped(
    fn: Any,
    items: Iterator[Any],
    bound: int | None,
    chunk_size: int,
    yield_refs: bool,
    wait_options: dict[str, Any],
) -> Iterator[Any]:
    pending = [fn.remote(item) for item in islice(items, bound)]
    while pending:
        ready, pending = _next_chunk(pending, chunk_size, wait_options)
        pending += [fn.remote(item) for item in islice(items, len(ready))]
        yield from ready if yield_refs else zactor.get(ready)


def _completed(
    pending: list[Any], chunk_size: int, yield_refs: bool, wait_options: dict[str, Any]
) -> Iterator[Any]:
    while pending:
        ready, pending = _next_chunk(pending, chunk_size, wait_options)
        yield from ready if yield_refs else zactor.get(ready)


def _next_chunk(
    pending: list[Any], chunk_size: int, wait_options: dict[str, Any]
) -> tuple[list[Any], list[Any]]:
    # The first that comes is not held back until the chunk is full: wait for one, then take
    # what else is there.
    zactor.wait(pending, num_returns=1, **wait_options)
    count = min(chunk_size, len(pending))
    return zactor.wait(pending, num_returns=count, timeout=0, **wait_options)


def _check_chunk(chunk_size: int, wait_options: dict[str, Any]) -> None:
    if chunk_size < 1:
        raise ValueError("chunk_size must be positive")
    if "timeout" in wait_options:
        raise ValueError("timeout cannot be given: every result is waited for")
