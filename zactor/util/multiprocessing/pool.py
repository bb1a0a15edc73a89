"""`Pool`: the interface of `multiprocessing.Pool`, run by actors.

Each of the pool's processes is an actor; a chunk of work is one call of it, sent to the actor
with the fewest calls outstanding. Does not retry: a chunk whose actor dies fails with the
actor's error.

Invariants
    P1  Results are in the order of the input, but for `imap_unordered`.
    P2  An actor that has run `maxtasksperchild` chunks takes no more and is replaced.
    P3  `imap` reads its input as results are taken: at most two chunks a process ahead.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Self

import zactor
from zactor.named import NamedTuple
from zactor.util.multiprocessing.results import AsyncResult, IMapIterator, Outcome

__all__ = ["AsyncResult", "IMapIterator", "Pool"]

Callback = Callable[[Any], Any]


class _Process:
    """One of the pool's processes: runs chunks of work in an actor."""

    def __init__(
        self, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]
    ) -> None:
        if initializer is not None:
            initializer(*initargs)

    def ping(self) -> None:
        pass

    def run(self, func: Callable[..., Any], chunk: list[_Item]) -> list[Outcome]:
        return [_run_one(func, item) for item in chunk]


class _Item(NamedTuple):
    """The arguments of one run of the function."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def _run_one(func: Callable[..., Any], item: _Item) -> Outcome:
    try:
        return Outcome(True, func(*item.args, **item.kwargs))
    except Exception as error:  # noqa: BLE001 - the user's function, whatever it raises
        return Outcome(False, error)


class _Seat:
    """A place in the pool: its actor, and what the actor has been given."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.taken = 0
        self.last: Any = None
        self.pending: list[Any] = []


class Pool:
    """A pool of actors with the interface of `multiprocessing.Pool`.

    Functions may also be remote functions of zactor: then each item is a task.

    Args:
        processes: How many; by default as many as the cluster has processors.
        initializer: Called with `initargs` in each actor before it works.
        initargs: Arguments of `initializer`.
        maxtasksperchild: After how many chunks an actor is replaced.
        context: Taken for the interface's sake, and ignored with a warning.
        ray_address: The cluster to join, if the program has joined none.
        ray_remote_args: Options of the actors.

    Raises:
        ValueError: `processes` is not positive, or more than the cluster's processors.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] | None = None,
        maxtasksperchild: int | None = None,
        context: Any = None,
        ray_address: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        if context is not None:
            warnings.warn("The 'context' argument is not supported and ignored", stacklevel=2)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._init = initializer, tuple(initargs or ())
        self._limit = maxtasksperchild or 0
        self._options = dict(ray_remote_args or {})
        self._open = True
        count = _pool_size(processes, ray_address)
        self._seats = [_Seat(self._new_actor()) for _ in range(count)]
        self._leaving: list[Any] = []
        zactor.get([seat.actor.ping.remote() for seat in self._seats])

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()

    def __reduce__(self) -> Any:
        raise NotImplementedError("Pool objects cannot be passed between processes or pickled")

    def apply(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call `func(*args, **kwargs)` in the pool and wait for the result."""
        return self.apply_async(func, args, kwargs).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> AsyncResult:
        """Call `func(*args, **kwargs)` in the pool; return an AsyncResult at once."""
        self._check_open()
        ref = self._send(_plain(func), [_Item(tuple(args or ()), dict(kwargs or {}))])
        return AsyncResult([ref], callback, error_callback, single=True)

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Apply `func` to each item; return the results in order."""
        results: list[Any] = self.map_async(func, iterable, chunksize).get()
        return results

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> AsyncResult:
        """Apply `func` to each item; return an AsyncResult of the list at once."""
        items = [_Item((value,), {}) for value in iterable]
        return self._send_all(func, items, chunksize, callback, error_callback)

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[Any]:
        """Apply `func(*item)` to each item; return the results in order."""
        items = [_Item(tuple(value), {}) for value in iterable]
        results: list[Any] = self._send_all(func, items, chunksize, None, None).get()
        return results

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        callback: Callback | None = None,
        error_callback: Callback | None = None,
        chunksize: int | None = None,
    ) -> AsyncResult:
        """Apply `func(*item)` to each item; return an AsyncResult of the list at once."""
        items = [_Item(tuple(value), {}) for value in iterable]
        return self._send_all(func, items, chunksize, callback, error_callback)

    def imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> IMapIterator:
        """Apply `func` to each item as results are taken; iterate over them in order."""
        return self._iterate(func, iterable, chunksize, ordered=True)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> IMapIterator:
        """Apply `func` to each item; iterate over the results as they come."""
        return self._iterate(func, iterable, chunksize, ordered=False)

    def close(self) -> None:
        """Take no more work; the actors end once they have done what they were given."""
        if not self._open:
            return
        self._open = False
        for seat in self._seats:
            self._leaving.append(seat.actor.__ray_terminate__.remote())

    def terminate(self) -> None:
        """Take no more work, and end the actors at once."""
        self._open = False
        for seat in self._seats:
            zactor.kill(seat.actor)

    def join(self) -> None:
        """Wait until the actors have ended.

        Raises:
            ValueError: The pool is still open.
        """
        if self._open:
            raise ValueError("Pool is still running")
        if self._leaving:
            zactor.wait(self._leaving, num_returns=len(self._leaving))

    def _check_open(self) -> None:
        if not self._open:
            raise ValueError("Pool not running")

    def _new_actor(self) -> Any:
        options = {"num_cpus": 0, **self._options}
        return zactor.remote(**options)(_Process).remote(*self._init)

    def _send_all(
        self,
        func: Callable[..., Any],
        items: list[_Item],
        chunksize: int | None,
        callback: Callback | None,
        error_callback: Callback | None,
    ) -> AsyncResult:
        self._check_open()
        func = _plain(func)
        if chunksize is None:
            # As in the standard library: four chunks for each process.
            chunksize = -(-len(items) // (len(self._seats) * 4)) or 1
        chunks = _chunks(iter(items), _checked(chunksize))
        refs = [self._send(func, chunk) for chunk in chunks]
        return AsyncResult(refs, callback, error_callback)

    def _iterate(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        *,
        ordered: bool,
    ) -> IMapIterator:
        self._check_open()
        func = _plain(func)
        items = (_Item((value,), {}) for value in iterable)
        chunks = _chunks(items, _checked(chunksize or 1))
        sent = (self._send(func, chunk) for chunk in chunks)
        return IMapIterator(sent, ahead=2 * len(self._seats), ordered=ordered)

    def _send(self, func: Callable[..., Any], chunk: list[_Item]) -> Any:
        seat = min(self._seats, key=_outstanding)
        if self._limit and seat.taken == self._limit:
            # P2: what it was given before is done first.
            self._leaving.append(seat.actor.__ray_terminate__.remote())
            self._seats.remove(seat)
            seat = _Seat(self._new_actor())
            self._seats.append(seat)
        ref = seat.actor.run.remote(func, chunk)
        seat.taken += 1
        seat.pending.append(ref)
        return ref


def _outstanding(seat: _Seat) -> int:
    if seat.pending:
        _, seat.pending = zactor.wait(seat.pending, num_returns=len(seat.pending), timeout=0)
    return len(seat.pending)


def _plain(func: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a remote function into one that calls it and waits."""
    if not hasattr(func, "remote"):
        return func
    remote = func

    def call(*args: Any, **kwargs: Any) -> Any:
        return zactor.get(remote.remote(*args, **kwargs))

    return call


def _chunks(items: Iterator[_Item], size: int) -> Iterator[list[_Item]]:
    while chunk := list(islice(items, size)):
        yield chunk


def _checked(chunksize: int) -> int:
    if chunksize < 1:
        raise ValueError(f"chunksize must be positive, not {chunksize}")
    return chunksize


def _pool_size(processes: int | None, address: str | None) -> int:
    if processes is not None and processes <= 0:
        raise ValueError("Processes in the pool must be >0.")
    if not zactor.is_initialized():
        if address is not None:
            zactor.init(address=address)
        else:
            zactor.init(num_cpus=processes) if processes else zactor.init()
    cpus = int(zactor.cluster_resources().get("CPU", 1))
    if processes is None:
        return max(cpus, 1)
    if processes > cpus:
        raise ValueError(
            f"Tried to start a pool with {processes} processes on an existing cluster, but "
            f"there are only {cpus} CPUs in the cluster."
        )
    return processes
