"""Ctrl-C and zactor's critical sections.

`KeyboardInterrupt` raised between taking a message and settling what it says would leave a call
unsettled for ever; between counting a message and keeping it, it would break a link. So a handler
of ours stands in for Python's default one: it looks at the interrupted stack, from the innermost
frame out, and the first frame that is one of these decides:

    interruptible   a function of zactor that only sleeps, or that user code runs in: raise now
    a function that enters user code: raise if what it has called runs now, not in between
    protected       a function or a whole module that must not be left midway: put it off

Put off, it comes again about a millisecond later, and at the latest when the section ends. The hot
path pays nothing for any of this. A handler that the user installed is left alone.

Invariants
    N1  Nothing is raised while the innermost frame of zactor's own is in a protected function.
    N2  What was put off is delivered, once, unless the process's session ends before.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from types import CodeType, FrameType

F = TypeVar("F", bound="Callable[..., Any]")

_protected: set[CodeType] = set()
_protected_files: set[str] = set()
_interruptible: set[CodeType] = set()
_entries: set[CodeType] = set()


def protected(*functions: Any) -> None:
    """Mark functions that an interrupt must not leave midway."""
    _protected.update(function.__code__ for function in functions)


def protect_module(name: str) -> None:
    """Mark all functions of a module, by its `__name__`, but those marked otherwise."""
    file = sys.modules[name].__file__
    assert file is not None
    _protected_files.add(file)


def interruptible(function: F) -> F:
    """Mark a function that only sleeps, or only runs user code: an interrupt leaves it at once."""
    _interruptible.add(function.__code__)
    return function


def enters_user_code(function: F) -> F:
    """Mark a function that calls user code and must not be left midway itself."""
    _entries.add(function.__code__)
    return function


def may_raise(frame: FrameType | None) -> bool:
    """Whether an exception may be raised in a thread that is at `frame`."""
    is_innermost = True
    while frame is not None:
        code = frame.f_code
        if code in _interruptible:
            return True
        if code in _entries:
            return not is_innermost
        if code in _protected or code.co_filename in _protected_files:
            return False
        is_innermost = False
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


def is_waiting() -> bool:
    """Whether something was put off."""
    return bool(_put_off)


def deliver() -> None:
    """Send the signals that were put off."""
    while _put_off:
        try:
            send = _put_off.pop()
        except IndexError:
            return  # another thread was faster
        send()


@interruptible
def give_way() -> None:
    """Let what was put off be raised here: the caller is at a point where it may be left."""
    if threading.current_thread() is threading.main_thread():
        deliver()


def forget() -> None:
    """There is nobody any more to deliver what was put off."""
    global redeliver  # noqa: PLW0603 - there is one of it in a process
    redeliver = _nobody
    _put_off.clear()


def _interrupt_main() -> None:
    ident = threading.main_thread().ident
    if ident is not None:
        signal.pthread_kill(ident, signal.SIGINT)


def _on_sigint(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler
    if not may_raise(frame):
        later(_interrupt_main)
    elif not _left_to_asyncio(number, frame):
        raise KeyboardInterrupt


def _left_to_asyncio(number: int, frame: FrameType | None) -> bool:
    """Whether `asyncio.run` has taken the interrupt: it cancels its main task, the first time.

    It would by itself, but only in place of Python's default handler, which ours is not.
    """
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    while frame is not None:
        if frame.f_code is asyncio.Runner.run.__code__:
            runner, task = frame.f_locals.get("self"), frame.f_locals.get("task")
            take = getattr(runner, "_on_sigint", None)
            if take is None or task is None:
                return False
            take(number, frame, task)  # raises KeyboardInterrupt the second time
            return True
        frame = frame.f_back
    return False


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
