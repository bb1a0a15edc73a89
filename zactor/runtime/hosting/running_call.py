"""The call that runs in a thread or asyncio task, for whoever asks: which it is, and how it may end."""

from __future__ import annotations

import contextvars
import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from zactor.ids import pack_object_id

if TYPE_CHECKING:
    from zactor.core.intake import Intake


class StopServing(BaseException):  # noqa: N818 - not an error: it passes through user code
    """Ends the actor from inside one of its calls."""

    def __init__(self, cause: str = "exited") -> None:
        super().__init__(cause)
        self.cause = cause


class Arrived(NamedTuple):
    """A call as it came, for what runs it."""

    intake: Intake
    seq: int
    number: int
    method: int
    payload: Any  # pickled arguments, or None
    extras: dict[int, Any]  # by the X_ constants
    frames: Any

    @property
    def object_id(self) -> bytes:
        """The id of its (first) result."""
        return pack_object_id(self.intake.caller, self.number, 0)


class Call:
    """A call that is being run, for whoever asks what runs here."""

    __slots__ = (
        "function",
        "intake",
        "is_cancelled",
        "is_told",
        "number",
        "parent",
        "seq",
        "started",
        "task",
    )

    def __init__(
        self, intake: Intake, seq: int, number: int, function: str, parent: Any
    ) -> None:
        self.intake = intake
        self.seq = seq
        self.number = number
        self.function = function
        self.parent = parent
        self.is_cancelled = False
        self.is_told = False  # that it is cancelled, while it ran: what it returns is dropped
        self.started = perf_counter()
        self.task: Any = None  # asyncio task, or ident of the thread that runs it

    def object_id(self) -> bytes:
        """Return the id of its (first) result, which names the call everywhere."""
        return pack_object_id(self.intake.caller, self.number, 0)


current_call: contextvars.ContextVar[Call | None] = contextvars.ContextVar(
    "zactor_call", default=None
)
"""The call that runs in this thread or asyncio task; the main host says it by its execution instead."""


def is_main_thread() -> bool:
    """Whether this is the process's main thread."""
    return (
        threading.get_ident() == main_ident
        or threading.current_thread() is threading.main_thread()
    )


main_ident = threading.main_thread().ident
