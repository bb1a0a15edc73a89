"""Shared actors, small as they are kept, and the seats they run in, one after the other.

What only a running actor needs belongs to the thread that runs it, its *seat*: there may be a hundred
thousand actors, and a few threads.
"""

from __future__ import annotations

import ctypes
from _thread import allocate_lock, get_ident
from typing import TYPE_CHECKING, Any

from zactor.ids import caller_id
from zactor.runtime.hosting.calling import Execution
from zactor.runtime.hosting.running_call import Call
from zactor.runtime.hosting.shared_callers import SharedIdentity, running_actor

if TYPE_CHECKING:
    from zactor.core.intake import Intake
    from zactor.runtime.hosting.shared import SharedHost
    from zactor.runtime.links.reception import Waiter
    from zactor.runtime.process import Process


class Kind:
    """What all shared actors of one class and options have in common."""

    __slots__ = ("label", "names", "spec", "streaks")

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = {
            key: value for key, value in spec.items() if key not in ("args", "definition")
        }
        self.label = spec.get("class_name") or "Actor"
        self.names = {number: row[0] for number, row in enumerate(spec.get("methods") or ())}
        self.streaks: dict[int, int] = {}


class Methods:
    """The methods of the actor in a seat by number: what `Execution.functions` is elsewhere."""

    __slots__ = ("instance", "names")

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.instance: Any = None

    def get(self, number: int) -> Any:
        """Return the bound method, or None."""
        name = self.names.get(number)
        return None if name is None else getattr(self.instance, name)


class SharedActor:
    """One plain actor of a shared worker: its mailbox, and the host that its callers' calls find.

    Small, since there may be a hundred thousand: what only a running actor needs is its seat's.
    """

    __slots__ = (
        "caller", "host", "id", "instance", "is_busy", "is_over", "is_stopping", "kind", "life",
        "repr", "runs", "seat", "spec",
    )  # fmt: skip

    is_task_host = False

    def __init__(
        self, host: SharedHost, actor: bytes, life: int, kind: Kind, spec: Any
    ) -> None:
        self.host = host
        self.id = actor
        self.life = life
        self.kind = kind
        self.spec: tuple[dict[str, Any], Any] | None = (
            spec  # and arguments, until it is constructed
        )
        self.instance: Any = None
        self.caller: SharedIdentity | None = None  # once it calls
        self.seat: Seat | None = None  # where it runs, or waits
        # A list while there are some; or the only one, as `Turns.take_singles` has put it.
        self.runs: Any = ()
        self.is_busy = False  # ready, running or waiting
        self.is_stopping = False
        self.is_over = False
        self.repr = ""

    def identity(self) -> SharedIdentity:
        """Return who it is as a caller."""
        if self.caller is None:
            self.caller = SharedIdentity(caller_id(self.id, self.life))
        return self.caller

    @property
    def execution(self) -> Execution | None:
        """What runs it now."""
        return self.seat

    def put(self, run: Any) -> None:
        """Queue a run. On the leader."""
        host = self.host
        with host.lock:
            if self.runs:
                self.runs = [*as_runs(self.runs), run]
            else:
                self.runs = [run]
            if not self.is_busy and not self.is_over:
                self.is_busy = True
                host.ready.append(self)
                if host.holder is None:
                    host.grant()

    def cancel(self, intake: Intake, seq: int, flags: int) -> None:  # noqa: ARG002
        """Cancel a call: not run if it waits; if it runs, when its thread next runs Python code."""
        seat = self.seat
        if seat is None or not seat.interrupt(intake, seq):
            intake.cancel(seq)


def as_runs(runs: Any) -> list[Any]:
    """Return what `SharedActor.runs` stands for, as all hosts have it (see `hosts`)."""
    if type(runs) is tuple:
        if not runs:
            return []
        intake, seq, number, method, arguments = runs
        return [(intake, seq, number, (method, arguments), (), None)]
    found: list[Any] = runs
    return found


class Seat(Execution):
    """A thread that runs plain actors, one after the other; what `Execution` is for the one in it."""

    def __init__(self, process: Process) -> None:
        self.actor: SharedActor | None = None
        self.kind: Kind | None = None  # of the actor that sat here last
        super().__init__(process, None, "")
        self.ident = 0
        self.methods = self.functions = Methods()  # type: ignore[assignment]
        self.waiter: Waiter | None = None  # while it is idle
        self.woken = allocate_lock()  # released when it is given the token back
        self.woken.acquire()
        self.flat: list[Any] = []  # replies of the present run, not yet gathered
        self.singles: list[Any] = []  # and those of calls that came alone, to `peer`
        self.since = 0.0  # when the first of those was made; 0.0: there are none
        self.peer: Any = None

    # What is asked for rarely is not set for each actor that sits down.

    @property
    def spec(self) -> dict[str, Any]:
        """The spec of the actor that sits here."""
        return {**self.actor.kind.spec, "id": self.actor.id} if self.actor is not None else {}

    @spec.setter
    def spec(self, value: Any) -> None:
        """Ignore what is not the actor's."""

    @property
    def actor_id(self) -> str:
        """Its id."""
        return self.actor.id.hex() if self.actor is not None else ""

    @actor_id.setter
    def actor_id(self, value: Any) -> None:
        """Ignore it, too."""

    @property
    def actor_repr(self) -> str:
        """Its repr."""
        return self.actor.repr if self.actor is not None else ""

    @actor_repr.setter
    def actor_repr(self, value: Any) -> None:
        """Ignore it, too."""

    def sit(self, actor: SharedActor) -> None:
        """Be the execution of `actor` from now on."""
        self.actor = actor
        actor.seat = self
        kind = actor.kind
        if kind is not self.kind:
            self.kind = kind
            self.label, self.names, self.streaks = kind.label, kind.names, kind.streaks
            self.methods.names = kind.names
        self.methods.instance = self.instance = actor.instance
        running_actor.set(actor)

    def enter(self, intake: Intake, offset: int, parent: Any) -> None:
        """A run begins."""
        self.intake, self.offset, self.parent = intake, offset, parent
        caller = self.actor.caller if self.actor is not None else None
        self.first_made = int(caller.numbers.__reduce__()[1][0]) if caller is not None else 1

    def current(self) -> Call | None:
        """Return the call that runs here."""
        if self.seq and self.intake is not None and self.ident == get_ident():
            return Call(self.intake, self.seq, self.seq + self.offset, self.label, self.parent)
        return None

    def seq_over(self) -> None:
        """The user's code has returned: a cancel must not hit what comes after."""
        with self._cancel_lock:
            self.seq = 0

    def interrupt(self, intake: Intake, seq: int) -> bool:
        """Raise in this thread if it runs that call; say whether it does."""
        with self._cancel_lock:
            if self.seq != seq or self.intake is not intake:
                return False
            self.is_cancelled = True
            _raise_in(self.ident, KeyboardInterrupt)
            return True

    def absorb(self) -> None:
        """Take back a cancel that came after the call had ended."""
        try:
            with self._cancel_lock:
                self.is_cancelled = False
                _raise_in(self.ident, None)
        except KeyboardInterrupt:
            self.is_cancelled = False


def _raise_in(ident: int, error: type[BaseException] | None) -> None:
    """Have a thread raise `error` when it next runs Python code (None: take that back)."""
    wanted = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), wanted)
