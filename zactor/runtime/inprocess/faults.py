"""Faults on demand: the next call of something is lost, or its process crashes, before or after it ran."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR
from zactor.exceptions import ActorUnavailableError, Executed, WorkerCrashedError
from zactor.runtime.inprocess.scheduler import Unwinding

if TYPE_CHECKING:
    from zactor.runtime.inprocess.running import Run
    from zactor.runtime.inprocess.world import World

CRASH = {"kind": "signal", "code": -9, "text": "was killed by SIGKILL (crash_next)"}


class Fault:
    """What is to happen to one call.

    Attributes:
        target: Which: an actor's id, or the name of a class or function.
        method: Of an actor, which of its methods; None: any, but for the constructor.
        ran: Whether the method has run when it happens.
        executed: What the caller is told of it.
        is_crash: The process dies; otherwise only the reply is lost.
    """

    def __init__(
        self, world: World, target: Any, method: str | None, *, ran: bool, executed: Executed,
        is_crash: bool,
    ) -> None:  # fmt: skip
        self.world = world
        self.target = target
        self.method = method
        self.ran = ran
        self.executed = executed
        self.is_crash = is_crash

    def fits(self, host: Any, name: str) -> bool:
        """Whether this call is the one."""
        is_actor = hasattr(host, "mailbox")
        if is_actor:
            named = self.target in (host.id, host.spec.get("class_name"), host.label)
        else:
            named = self.target == host.name
        if not named:
            return False
        if self.method is None:
            return name != "__init__"
        return self.method == name

    def strike(self, run: Run) -> None:
        """Let it happen. What crashes passes on."""
        self.world.note("crashes" if self.is_crash else "is lost", run.host.label, run.name)
        if self.is_crash:
            run.host.life_over(CRASH, executed=self.executed)
            raise Unwinding
        result = run.pending()
        if result is None:
            return
        if hasattr(run.host, "mailbox"):
            view = run.host.view
            error: Any = ActorUnavailableError(
                "the link to it was lost (lose_next)", actor_id=view.id.hex(),
                class_name=view.entry.get("class_name") or "", name=view.entry.get("name") or "",
                method=run.name, executed=self.executed,
            )  # fmt: skip
        else:
            text = f"the worker that ran {run.name}() was lost (lose_next)"
            error = WorkerCrashedError(text, executed=self.executed)
        run.settle(ERROR, error)

    def strike_constructor(self, actor: Any) -> None:
        """Let the process crash in, or right after, the actor's constructor."""
        self.world.note("crashes", actor.label, "__init__")
        actor.life_over(CRASH)
        raise Unwinding

    def __repr__(self) -> str:
        what = "crash_next" if self.is_crash else "lose_next"
        target = self.target.hex() if isinstance(self.target, bytes) else self.target
        return (
            f"{what}({target!r}, {self.method!r}, ran={self.ran}, executed={self.executed!r})"
        )


class Faults:
    """The faults that are to come."""

    def __init__(self) -> None:
        self.waiting: list[Fault] = []

    def take(self, host: Any, name: str) -> Fault | None:
        """Return the fault that is meant for a call which starts now, and forget it."""
        for at, fault in enumerate(self.waiting):
            if fault.fits(host, name):
                return self.waiting.pop(at)
        return None
