"""A thread that runs an asyncio loop, as the leader: it receives whenever the loop is idle.

The loop watches the inbox beside its own descriptors. Around its sleep (the selector's `select`) it says
that it sleeps, as any leader does: then the pump need not stand in, and costs nothing. A loop whose
selector cannot be had (uvloop) works too; there the pump stands in whenever nothing was
received for some milliseconds.
"""

from __future__ import annotations

from _thread import get_ident
from typing import TYPE_CHECKING, Any

from zactor.runtime.links.bugs import guarded
from zactor.runtime.links.interrupts import enters_user_code, protect_module

if TYPE_CHECKING:
    import asyncio

    from zactor.runtime.links.reception import Reception

LOOP_TURNS = 8  # drains in one turn of a loop, before its other work has its turn


class LoopLeader:
    """One loop that receives for a process. Everything runs on the loop's thread.

    Attributes:
        is_asleep: The loop is blocked in its selector; read by the pump.
        ident: The thread that runs the loop.
    """

    def __init__(self, reception: Reception, loop: asyncio.AbstractEventLoop) -> None:
        self._reception = reception
        self._loop = loop
        self.is_asleep = False
        self.ident = get_ident()
        self._fd = reception.post.arrivals.fd
        loop.add_reader(self._fd, self.readable)
        self._selector: Any = getattr(loop, "_selector", None)
        self._select: Any = getattr(self._selector, "select", None)
        if self._select is not None:
            setattr(self._selector, "select", self._select_as_leader)  # noqa: B010 - it is of the loop's type
        self._flush_due = False
        loop.call_soon(self.readable)

    def flush_soon(self) -> None:
        """Send what was gathered once what is ready in this turn of the loop has run."""
        if not self._flush_due:
            self._flush_due = True
            if self._select is None:
                self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        guarded(self._reception.flush)

    def readable(self) -> None:
        """Take what has arrived, up to a bound."""
        reception = self._reception
        reception.led += 1
        for _ in range(LOOP_TURNS):
            if not reception.take_lead():
                return  # who leads now takes it
            try:
                received = reception.receive()
            finally:
                reception.give_lead()
            if not received or not reception.post.arrivals.has_more:
                return  # what comes now wakes the loop
        self._loop.call_soon(self.readable)

    @enters_user_code  # what it calls sleeps, and may be interrupted
    def _select_as_leader(self, timeout: float | None = None) -> Any:
        if self._flush_due:
            self._flush()  # a turn of the loop less than by a callback: 8 us
        if timeout is not None and timeout <= 0:
            return self._select(timeout)
        reception = self._reception
        post = reception.post
        wake = post.next_deadline()
        if post.is_due():
            timeout = 0.0
        elif wake is not None:
            left = max(0.0, wake - post.now())
            timeout = left if timeout is None else min(timeout, left)
        self.is_asleep = True
        reception.leader_falls_asleep()
        try:
            return reception.busy_poll.wait(self._select, timeout)
        finally:
            self.is_asleep = False
            reception.leader_wakes()
            if post.is_due():
                self._loop.call_soon(self.readable)

    def detach(self) -> None:
        """Stop receiving for the process."""
        if self._select is not None:
            self._selector.__dict__.pop("select", None)
        if not self._loop.is_closed():
            self._loop.remove_reader(self._fd)


protect_module(__name__)
