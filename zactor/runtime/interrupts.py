"""Ctrl-C and zactor's critical sections.

`KeyboardInterrupt` raised between taking a message and settling what it says would leave a call
unsettled for ever. So a handler of ours stands in for Python's default one: it looks at the
interrupted stack, from the innermost frame out. In a function marked `protected` the interrupt is
put off and delivered a moment later; in one marked `interruptible` (a zactor function that only
sleeps), or outside zactor, it is raised at once. The hot path pays nothing for this.

A handler that the user installed is left alone.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from types import CodeType, FrameType

F = TypeVar("F", bound="Callable[..., Any]")

_protected: set[CodeType] = set()
_interruptible: set[CodeType] = set()
_entries: set[CodeType] = set()


def protected(*functions: Any) -> None:
    """Mark functions that an interrupt must not leave midway."""
    _protected.update(function.__code__ for function in functions)


def interruptible(function: F) -> F:
    """Mark a function that only sleeps: an interrupt leaves it at once."""
    _interruptible.add(function.__code__)
    return function


def enters_user_code(function: F) -> F:
    """Mark a function that calls user code: protected itself, but not what it has called."""
    _entries.add(function.__code__)
    return function


def may_raise(frame: FrameType | None) -> bool:
    """Whether an exception may be raised in a thread that is at `frame`."""
    if frame is not None and frame.f_code in _entries:
        return False
    while frame is not None:
        code = frame.f_code
        if code in _entries:
            return True
        if code in _interruptible:
            return True
        if code in _protected:
            return False
        frame = frame.f_back
    return True


def _nobody() -> None:
    """Until a reception takes care of it, what was put off is lost with its section."""


redeliver: Any = _nobody
"""Arranges that `deliver` is called a moment later; set by the process's reception."""

_put_off: list[Callable[[], None]] = []


def later(send: Callable[[], None]) -> None:
    """Have `send` send a signal again, soon. For signal handlers: takes no lock."""
    if send not in _put_off:
        _put_off.append(send)
    redeliver()


def deliver() -> None:
    """Send the signals that were put off."""
    while _put_off:
        _put_off.pop()()


def _interrupt_main() -> None:
    ident = threading.main_thread().ident
    if ident is not None:
        signal.pthread_kill(ident, signal.SIGINT)


def _on_sigint(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler
    if may_raise(frame):
        raise KeyboardInterrupt
    later(_interrupt_main)


def install() -> None:
    """Stand in for Python's default SIGINT handler, if that is what is there. Main thread only."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_sigint)


def uninstall() -> None:
    """Give Python's default handler back, if ours is still there."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is _on_sigint:
        signal.signal(signal.SIGINT, signal.default_int_handler)
