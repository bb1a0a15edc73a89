"""What runs in a process of an in-process world, for whoever asks: the runtime context above all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.ids import pack_object_id
from zactor.runtime.hosting.calling import current_call
from zactor.wire import batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.runtime.inprocess.process import LocalProcess
    from zactor.runtime.inprocess.scheduler import Strand

OWN_NAMES = {
    batches.APPLY: "__zactor_call__",
    batches.READY: "__zactor_ready__",
    batches.TERMINATE: "__zactor_terminate__",
}


class LocalExecution:
    """What runs in a process: an actor, or a task. The runtime context asks it."""

    def __init__(self, process: LocalProcess, label: str, spec: dict[str, Any]) -> None:
        self.process = process
        self.label = label  # class name; "" for tasks
        self.spec = spec
        self.actor_id = ""
        self.repr = ""
        self.instance: Any = None
        self.functions: dict[int, Callable[..., Any]] = {}
        self.names: dict[int, str] = dict(OWN_NAMES)
        self.polled: Any = None  # (stream, seq) of a call that asks whether it was cancelled
        self.flagged: Any = None  # the one of these that was
        self.is_cancelled = False

    def current(self) -> LocalCall | None:
        """Return the call that runs in the asking strand or task."""
        call: Any = current_call.get()
        return call if isinstance(call, LocalCall) else None

    def name_of(self, call: LocalCall) -> str:
        """Return the name of the function that runs."""
        return call.function

    def module_of(self, call: LocalCall) -> str:
        """Return the module of what runs."""
        if self.label:
            return type(self.instance).__module__
        return str(getattr(call.code, "__module__", None) or "")

    def name_given(self, call: LocalCall) -> str:
        """Return the name that the caller gave the call, if any."""
        return call.given

    def text_of(self, function: str) -> str:
        """Return what a call of this process is called."""
        return f"{self.label}.{function}" if self.label else function


class LocalCall:
    """A call that runs, for whoever asks what runs here."""

    __slots__ = (
        "code",
        "function",
        "given",
        "intake",
        "is_cancelled",
        "is_told",
        "number",
        "seq",
        "strand",
        "task",
    )

    def __init__(self, stream: Any, seq: int, number: int, function: str, given: str) -> None:
        self.intake = stream
        self.seq = seq
        self.number = number
        self.function = function
        self.code: Any = None  # of a task, the function itself
        self.given = given
        self.is_cancelled = False
        self.is_told = False  # that it is cancelled, while it ran: what it returns is dropped
        self.task: Any = None  # asyncio task, or ident of a thread that runs it beside others
        self.strand: Strand | None = None

    def object_id(self) -> bytes:
        """Return the id of its (first) result."""
        return pack_object_id(self.intake.caller, self.number, 0)
