"""Results of a pool's work that come later: one, a list, or a stream of them.

Does not send work. Callbacks run in a thread of their own, one for each AsyncResult that has
any; what they raise is reported by that thread's excepthook.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

import zactor
from zactor.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Outcome(NamedTuple):
    """What one run of the function came to: its value, or the exception it raised."""

    good: bool
    value: Any

    def unwrap(self) -> Any:
        """Return the value or raise the exception."""
        if self.good:
            return self.value
        raise self.value


class AsyncResult:
    """The result of `apply_async`, `map_async` or `starmap_async`.

    Args:
        refs: References of the chunks' outcomes, in order.
        callback: Called with the result, once it is there.
        error_callback: Called with the exception, once it is there.
        single: The result is one value, not a list.
    """

    def __init__(
        self,
        refs: list[Any],
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[Any], Any] | None = None,
        *,
        single: bool = False,
    ) -> None:
        self._refs = refs
        self._single = single
        if callback is not None or error_callback is not None:
            threading.Thread(
                target=self._call_back, args=(callback, error_callback), daemon=True
            ).start()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is there, up to `timeout` seconds."""
        if self._refs:
            zactor.wait(self._refs, num_returns=len(self._refs), timeout=timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Return the result, or raise the first exception of the runs, in their order.

        Raises:
            multiprocessing.TimeoutError: The result was not there within `timeout` seconds.
        """
        self.wait(timeout)
        if not self.ready():
            raise multiprocessing.TimeoutError
        outcomes = [outcome for chunk in zactor.get(self._refs) for outcome in chunk]
        values = [outcome.unwrap() for outcome in outcomes]
        return values[0] if self._single else values

    def ready(self) -> bool:
        """Return whether the result is there."""
        if not self._refs:
            return True
        _, rest = zactor.wait(self._refs, num_returns=len(self._refs), timeout=0)
        return not rest

    def successful(self) -> bool:
        """Return whether no run raised.

        Raises:
            ValueError: The result is not there yet.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error() is None

    def _error(self) -> Exception | None:
        try:
            self.get()
        except Exception as error:  # noqa: BLE001 - the user's function's, or its actor's
            return error
        return None

    def _call_back(
        self,
        callback: Callable[[Any], Any] | None,
        error_callback: Callable[[Any], Any] | None,
    ) -> None:
        self.wait()
        error = self._error()
        if error is None and callback is not None:
            callback(self.get())
        if error is not None and error_callback is not None:
            error_callback(error)


class IMapIterator:
    """An iterator over results; work is sent as results are taken.

    Args:
        sent: Sends one chunk each time it is advanced, and yields its reference.
        ahead: How many chunks are out at once.
        ordered: Yield in the order of the input.
    """

    def __init__(self, sent: Iterator[Any], *, ahead: int, ordered: bool) -> None:
        self._sent = sent
        self._ordered = ordered
        self._pending = list(islice(sent, ahead))
        self._outcomes: deque[Outcome] = deque()

    def __iter__(self) -> IMapIterator:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result: the value, or the exception that was raised, as Ray does.

        Raises:
            StopIteration: There are no more.
            multiprocessing.TimeoutError: It was not there within `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._outcomes:
            if not self._pending:
                raise StopIteration
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            candidates = self._pending[:1] if self._ordered else self._pending
            ready, _ = zactor.wait(candidates, num_returns=1, timeout=left)
            if not ready:
                raise multiprocessing.TimeoutError
            self._pending.remove(ready[0])
            self._pending.extend(islice(self._sent, 1))
            self._outcomes.extend(zactor.get(ready[0]))
        return self._outcomes.popleft().value
