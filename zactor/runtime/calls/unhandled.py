"""What user code raised and nobody has asked for: said once, where the program's log is.

A call that fails is told by `get`. Whose last reference goes without that has failed unseen, and a program
that only starts things would never hear of it.

Owned by: nobody; what finalizers saw go is in a deque.

Invariants
    H1  Who has asked for a value, by `get` (also of a list in which another has failed), by `await` or a
        future, or by passing it on, hears of its error there, and not here.
    H2  Finalizers take no lock, and run no user code.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from zactor.config import Config
from zactor.core.calls import PENDING, Result
from zactor.exceptions import TaskCancelledError
from zactor.serde.exceptions import describe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zactor.runtime.process import Process

MOST_SAID = 1_000  # different failures of one process
CANCELLED = f"\n{TaskCancelledError.__module__}.{TaskCancelledError.__qualname__}: "


class Unhandled:
    """Goes with a result that failed: if nobody has asked until then, it is said."""

    __slots__ = ("_errors", "_payload", "is_handled")

    def __init__(self, errors: UnhandledErrors, payload: Any) -> None:
        self._errors = errors
        self._payload = payload
        self.is_handled = False

    def __del__(self) -> None:
        if not self.is_handled:
            self._errors.gone(self._payload)


def handled(result: Result) -> None:
    """Somebody has asked for a settled result."""
    if type(result.pin) is Unhandled:
        result.pin.is_handled = True


def asked_for(results: Iterable[Result]) -> None:
    """Somebody has asked for all of these, and was told of the error of one."""
    for result in results:
        if result.state != PENDING:
            handled(result)
        elif result.waiters is None or _asked not in result.waiters:
            result.add_waiter(_asked)


class _Asked:
    """Waits for a result whose error is not to be said again."""

    @staticmethod
    def settled(result: Result) -> None:
        handled(result)


_asked = _Asked()


class UnhandledErrors:
    """The failures of this process's calls that nobody has asked for."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._gone: deque[Any] = deque()
        self._said: set[tuple[str, str]] = set()
        process.caller.on_user_error = self.of
        process.reception.housekeeping.append((self._gone, self._look))

    def of(self, result: Result, value: Any) -> Unhandled | None:
        """Return what a result that is about to fail is to keep."""
        if self._process.objects.is_shared(result):
            return None  # others may ask for it
        return Unhandled(self, value[0] if isinstance(value, tuple | list) else value)

    def gone(self, payload: Any) -> None:
        """The last reference is gone. For finalizers."""
        self._gone.append(payload)
        if len(self._gone) == 1:
            self._process.reception.gathered()
            self._process.reception.wake_leader()

    def _look(self) -> None:
        while self._gone:
            # Not here: this is the thread that receives.
            self._process.reception.call_soon(partial(self._say, self._gone.popleft()))

    def _say(self, payload: Any) -> None:
        from zactor.runtime.process import show_warning

        if (
            self._process.is_over is not None
            or not Config.from_environment().show_unhandled_errors
        ):
            return
        function, text = describe(payload)
        last = text.rpartition("\n")[2]
        if CANCELLED in text or len(self._said) >= MOST_SAID:
            return
        if (function, last) not in self._said:
            self._said.add((function, last))
            show_warning(
                "Unhandled error: nobody has asked for this result (get the reference, or set "
                f"ZACTOR_SHOW_UNHANDLED_ERRORS=0 not to be told): {text}"
            )
