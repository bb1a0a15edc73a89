"""Where code of the user's is at, and for which results it waits: read off its stack.

Looks from outside at threads and asyncio tasks of this process; they pay nothing for it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

from zactor.core.calls import Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

MOST_FRAMES = 2_000
MOST_FUTURES = 64

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
_OWN = tuple(
    _PACKAGE + name + os.sep
    for name in ("runtime", "transport", "api", "serde", "core", "store", "wire", "util")
)
_OUTFLOW = _PACKAGE + os.path.join("runtime", "hosting", "outflow.py")
_LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_WAITS = {  # our functions in which a thread waits, and the variable that says for what
    (_PACKAGE + os.path.join("runtime", "process.py"), "wait_for"): "results",
    (_PACKAGE + os.path.join("api", "values.py"), "_wait_in_list"): "result",
}


def is_users(file: str, function: str = "") -> bool:
    """Whether code is neither zactor's nor the standard library's.

    Args:
        file: Its source file. That of `python -c` is "<string>", for functions of the user's as well
            as for the line by which a worker was started.
        function: Its function.
    """
    if file == "<string>":
        return function not in ("", "<module>")
    if file.startswith("<frozen") or file.startswith(_OWN):
        return False
    return not file.startswith(_LIBRARY) or "site-packages" in file or "dist-packages" in file


def frames_of(ident: int | None) -> list[FrameType]:
    """Return the frames of a thread, innermost first."""
    frame = sys._current_frames().get(ident or 0)  # noqa: SLF001 - there is no other way
    found: list[FrameType] = []
    while frame is not None and len(found) < MOST_FRAMES:
        found.append(frame)
        frame = frame.f_back
    return found


def place_of(frames: Iterable[FrameType]) -> str:
    """Return `file:line in function` of the innermost frame of the user's; "" if there is none."""
    for frame in frames:
        code = frame.f_code
        if is_users(code.co_filename, code.co_name):
            return f"{code.co_filename}:{frame.f_lineno} in {code.co_name}"
    return ""


def awaited_in(frames: Iterable[FrameType]) -> list[Result]:
    """Return the pending results for which a thread waits in a `get` or `wait`."""
    for frame in frames:
        code = frame.f_code
        if is_users(code.co_filename, code.co_name):
            return []  # what is further out is not what it waits for now
        variable = _WAITS.get((code.co_filename, code.co_name))
        if variable is not None:
            found = frame.f_locals.get(variable)
            results = found if isinstance(found, list | tuple) else [found]
            return [each for each in results if isinstance(each, Result) and not each.state]
    return []


def held_up_in(frames: Iterable[FrameType]) -> tuple[Any, str] | None:
    """Return the outflow of a generator that its consumer holds up, and where the generator is."""
    outflow, place = None, ""
    for frame in frames:
        name, file = frame.f_code.co_name, frame.f_code.co_filename
        if file != _OUTFLOW:
            if outflow is None and is_users(file, name):
                return None
            continue
        if name in ("wait_for_credit", "wait_for_credit_async"):
            outflow = frame.f_locals.get("self")
        elif name in ("run_stream", "run_stream_async") and outflow is not None:
            iterator = frame.f_locals.get("iterator")
            inner = frame.f_locals.get("made") if name == "run_stream_async" else iterator
            for each in (inner, iterator):
                suspended = getattr(each, "gi_frame", None) or getattr(each, "ag_frame", None)
                if suspended is not None:
                    place = place or place_of([suspended])
            return outflow, place
    return None


def frames_of_task(task: Any) -> list[FrameType]:
    """Return the frames of a suspended asyncio task, innermost first."""
    found: list[FrameType] = []
    waiting = task.get_coro()
    while waiting is not None and len(found) < MOST_FRAMES:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        frame = frame or getattr(waiting, "ag_frame", None)
        if frame is None:
            break
        found.append(frame)
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return found[::-1]


def awaited_by_task(task: Any, pending: Iterable[Result]) -> list[Result]:
    """Return those of the pending results that an asyncio task awaits, also through others."""
    futures = set(map(id, _leaves(task)))
    found = []
    for result in pending:
        for waiter in list(result.waiters or ()):
            if id(getattr(waiter, "_future", None)) in futures:
                found.append(result)
                break
    return found


def _leaves(task: Any) -> Iterator[Any]:
    """Yield the futures that a task waits for in the end."""
    left = [getattr(task, "_fut_waiter", None)]
    for _ in range(MOST_FUTURES):
        if not left:
            return
        future = left.pop()
        if future is None:
            continue
        if isinstance(future, asyncio.Task):
            left.append(getattr(future, "_fut_waiter", None))
        children = getattr(future, "_children", None)
        if children:
            left.extend(child for child in children if not child.done())
        yield future
