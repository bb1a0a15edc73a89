"""Reading the stacks that Python's faulthandler writes: what of them is the user's.

A dump is a paragraph a thread, innermost frame first. Below the user's frames of a thread stand
those of zactor that called them; a thread of zactor's own has none of the user's.
"""

from __future__ import annotations

import re

from zactor.runtime.insight.frames import is_users

_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)')
_NOT_THE_USERS = re.compile(
    r"/zactor/(runtime|transport|api|serde|core|store|wire)/"
    r"|/(threading|asyncio/\w+|selectors|concurrent/futures/\w+)\.py$"
    r"|^<frozen .*>$"
)


def of_user(dump: str) -> list[str]:
    """Return the lines of those threads that run the user's code, down to where zactor called it.

    Frames of zactor above the user's stay: they say in what the user's code waits.
    """
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", dump.strip()):
        lines = paragraph.splitlines()
        users = [i for i, line in enumerate(lines) if _is_users(line)]
        if users:
            found += lines[: users[-1] + 1]
    return found


def places(dump: str) -> list[str]:
    """Return `file:line in function` of the user's frames, innermost first."""
    frames = [_FRAME.match(line) for line in of_user(dump)]
    found = [(frame, is_users(frame[1], frame[3])) for frame in frames if frame]
    return [f"{frame[1]}:{frame[2]} in {frame[3]}" for frame, is_own in found if is_own]


def _is_users(line: str) -> bool:
    frame = _FRAME.match(line)
    if frame is None or (frame[1] == "<string>" and not is_users(frame[1], frame[3])):
        return False
    return not _NOT_THE_USERS.search(frame[1])
