"""Under whose name a worker's output is shown, said within the output itself.

A worker runs tasks of many functions, and an actor learns late what it calls itself: which of them has
printed a line, the node that reads the pipe could not know from elsewhere in step with it. So a name is
written into the pipe, in front of the first line that is printed under it, as an escape sequence that
terminals ignore. The node takes it out, for the driver and for the logs.

Who prints nothing writes nothing. What does not come through Python's streams (of C code, of child
processes) is shown under the name that was said last.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer

_MARK = b"\x1b_zactor:"
_END = b"\x1b\\"
_LONGEST = 200  # bytes of a name

Piece = tuple[str | None, bytes]


def mark(name: str) -> bytes:
    """Return what is written to a pipe to say that `name` prints from now on."""
    return _MARK + name.replace("\x1b", "").encode("utf-8", "replace")[:_LONGEST] + _END


class Marks:
    """Takes the names out of what is read from one pipe."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""  # the beginning of what may be a name

    def take(self, data: bytes) -> list[Piece]:
        """Return the text, in pieces, and with each the name that it begins; None: still the last."""
        if not self._held and b"\x1b" not in data:
            return [(None, data)]
        first, *rest = (self._held + data).split(_MARK)
        pieces: list[Piece] = [(None, first)]
        for piece in rest:
            name, end, text = piece.partition(_END)
            if end and len(name) <= _LONGEST:
                pieces.append((name.decode("utf-8", "replace"), text))
            else:  # not ours; or ours, and the rest is to come
                pieces.append((None, _MARK + piece))
        self._held = _unfinished(pieces[-1][1])
        if self._held:
            name_of_last, text = pieces[-1]
            pieces[-1] = (name_of_last, text[: -len(self._held)])
        return pieces

    def rest(self) -> bytes:
        """Return what was taken for the beginning of a name: nothing more will come."""
        held, self._held = self._held, b""
        return held


def _unfinished(text: bytes) -> bytes:
    """Return the end of `text` that may be the beginning of a mark."""
    at = text.rfind(_MARK)
    if at >= 0 and len(text) - at < len(_MARK) + _LONGEST + len(_END):
        return text[at:]
    for size in range(min(len(_MARK) - 1, len(text)), 0, -1):
        if text.endswith(_MARK[:size]):
            return text[-size:]
    return b""


class _NamingFile(io.FileIO):
    """One of a worker's two pipes, as Python writes to it."""

    def __init__(self, fd: int, name: str, printing: Callable[[], str]) -> None:
        super().__init__(fd, "wb", closefd=False)
        self.name = name
        self._printing = printing
        self._said = ""

    def write(self, data: ReadableBuffer) -> int:
        """Write, behind the name of who prints if it is another than before."""
        name = self._printing()
        if name != self._said:
            super().write(mark(name))
            self._said = name
        return super().write(data)


def name_output(printing: Callable[[], str]) -> None:
    """Have this process's standard streams say who prints: what `printing()` returns."""
    for stream, fd in ((sys.stdout, 1), (sys.stderr, 2)):
        if not isinstance(stream, io.TextIOWrapper) or _descriptor(stream) != fd:
            continue  # the program has put something else there
        encoding, errors, name = stream.encoding, stream.errors, stream.name
        # In place: log handlers and such may have it already.
        stream.detach()
        file = io.BufferedWriter(_NamingFile(fd, name, printing))
        stream.__init__(file, encoding, errors, line_buffering=True)  # type: ignore[misc]


def _descriptor(stream: io.TextIOWrapper) -> int:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return -1


def say_name(name: str) -> None:
    """Say once, for all that this process will print, who prints."""
    for stream, fd in ((sys.stdout, 1), (sys.stderr, 2)):
        with suppress(OSError, ValueError):  # closed: nobody prints
            if stream is not None:
                stream.flush()
            os.write(fd, mark(name))
