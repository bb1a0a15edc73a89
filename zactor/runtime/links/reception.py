"""Who receives: the thread that waits does (leader and followers), and a stand-in when none waits.

A thread that waits for a result polls the inbox itself: no hand-over, which is worth 3x in
calls a second, one at a time. Other waiters sleep until they are settled or promoted. When no user
thread has led for 5 ms, the *pump*, a background thread, leads, blocked in the kernel without any
timer; a user thread that wants to lead evicts it through an eventfd. The pump also flushes what
was gathered and not sent within about a millisecond. Callbacks of users run on a thread of their own,
made when there are any: they may block, or wait for results themselves.

In a thread that runs an asyncio loop, the loop watches the inbox and is the leader (`attach`).

Receiving and settling is a critical section for signals: Ctrl-C must not tear it, so the SIGINT
handler looks at the interrupted stack, and inside zactor's own functions it is put off. See `interrupts`.

Owned by:
    lead          a lock: its holder is the leader, and alone touches the inbox
    followers     a deque; appended before trying `lead` again, looked at after releasing it

Invariants
    E1  While anybody waits, somebody leads, or is about to: whoever gives up the lead, or is
        promoted and leaves without it, promotes a follower; if there is none, the pump takes over.
    E2  A waiter that is done wakes up, whichever thread found it done.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from _thread import allocate_lock, get_ident
from collections import deque
from typing import TYPE_CHECKING, Any

from zactor.exceptions import ZactorSystemError
from zactor.runtime.links import interrupts
from zactor.runtime.links.interrupts import interruptible, protect_module
from zactor.transport.busy_poll import BusyPoll

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from zactor.runtime.links.post import Post

QUIET = 0.005  # without a user leader, after which the pump leads
GATHER = 0.001  # how long a gathered call may wait for its companions


class Waiter:
    """One thread waiting for `count` results to settle."""

    __slots__ = ("_lock", "count", "is_done", "reception")

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self.is_done = count <= 0
        self.reception: Reception | None = None  # while its thread leads there
        self._lock = allocate_lock()
        self._lock.acquire()

    def settled(self, result: Any) -> None:  # noqa: ARG002 - the waiter protocol
        """One of the awaited results has its outcome. Any thread; mostly the leader."""
        self.count -= 1
        if self.count <= 0:
            self.is_done = True
            self.wake()

    def wake(self) -> None:
        """Have the thread look again. Any thread."""
        reception = self.reception
        if reception is not None:  # it leads: it is not its lock that it waits for
            reception.wake_leader()
        try:
            self._lock.release()
        except RuntimeError:
            pass  # it is awake already

    def sleep(self, timeout: float | None) -> None:
        """Sleep until woken."""
        if timeout is None:
            self._lock.acquire()
        else:
            self._lock.acquire(timeout=max(0.0, timeout))


class Reception:
    """Receives for one process. See the module."""

    def __init__(
        self, post: Post, flush: Callable[[], None], *, busy_poll: float = 0.0
    ) -> None:
        self.post = post
        self.busy_poll = BusyPoll(busy_poll)  # of whoever leads
        self.lead = threading.Lock()
        self.followers: deque[Waiter] = deque()
        self.flush = flush  # sends all that was gathered
        self.deferred: deque[Callable[[], None]] = deque()  # callbacks of users
        # (what there is to do, what does it): run by the leader once all is drained.
        self.housekeeping: list[tuple[Any, Callable[[], None]]] = []
        self._leader_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._pump_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._arrivals = post.arrivals
        self._arrivals.register(self._leader_fd, self._leader_woken)
        self._wait = self._arrivals.wait
        self._pump_lead_poll = _poll_set(self._arrivals.fd, self._pump_fd)
        self._pump_poll = _poll_set(self._pump_fd)
        self._leader = 0  # ident of the leading thread
        self._interrupted = False  # a SIGINT was put off
        self.led = 0  # how often a user thread has led or drained
        self._leader_sleeps = False  # a user leader is blocked in the kernel
        self._pump_leads = False
        self.pump_sleeps = False  # without a timer: `kick` is needed
        self.needs_flush = False
        self._stopped = False
        self._calling = threading.Lock()  # held by the thread that runs callbacks
        self._loops: dict[asyncio.AbstractEventLoop, Any] = {}
        post.on_wake = self.wake
        interrupts.redeliver = self._redeliver_later
        self._thread = threading.Thread(target=self._pump, name="zactor-pump", daemon=True)
        self._thread.start()

    # -- waiting -------------------------------------------------------------------------------

    def wait(self, waiter: Waiter, deadline: float | None = None) -> bool:
        """Receive, or sleep, until the waiter is done; False if the deadline came first.

        Raises:
            ZactorSystemError: Nothing is received any more: the session is over.
        """
        while not waiter.is_done:
            if self._stopped:
                raise ZactorSystemError("the session was shut down while a thread waited")
            if self.lead.acquire(False) or self._queue_up(waiter):
                try:
                    self._leader = get_ident()
                    waiter.reception = self
                    self._lead_until(waiter, deadline)
                finally:
                    waiter.reception = None
                    self._leader = 0
                    self.led += 1
                    self.lead.release()
                    if self.followers:
                        self._promote()
                    if self.pump_sleeps:
                        self.kick()
            else:
                self._follow_until(waiter, deadline)
            if deadline is not None and not waiter.is_done and time.monotonic() >= deadline:
                return False
        return True

    def _queue_up(self, waiter: Waiter) -> bool:
        """Become a follower; True if the lead came free meanwhile and is ours now."""
        # Looked at again once the waiter is in the queue: who gave the lead up before did not see
        # it there, and who does so from now on will.
        self.followers.append(waiter)
        if not self.lead.acquire(False):
            return False
        self._leave_queue(waiter)
        return True

    def _leave_queue(self, waiter: Waiter) -> bool:
        """Take a waiter out of the queue; False if it is not there: it was promoted."""
        try:
            self.followers.remove(waiter)
        except ValueError:
            return False
        return True

    def _follow_until(self, waiter: Waiter, deadline: float | None) -> None:
        if self._pump_leads:
            self.kick()
        goes_on = False
        try:
            self._follow(waiter, None if deadline is None else deadline - time.monotonic())
            goes_on = not waiter.is_done and (deadline is None or time.monotonic() < deadline)
        finally:
            # Whoever was promoted and does not take the lead passes it on (E1).
            if not self._leave_queue(waiter) and not goes_on:
                self._promote()

    def _lead_until(self, waiter: Waiter, deadline: float | None) -> None:
        post = self.post
        has_looked = False
        while not (waiter.is_done or self._stopped):
            if interrupts._put_off:  # noqa: SLF001 - the call of a function would be paid for each time
                interrupts.give_way()
            timeout = None
            if post.is_due():
                timeout = 0.0
            else:
                wake = post.next_deadline()
                if deadline is not None and (wake is None or deadline < wake):
                    wake = deadline
                if wake is not None:
                    timeout = max(0.0, wake - post.now())
            if (
                timeout == 0.0
                and has_looked
                and deadline is not None
                and post.now() >= deadline
            ):
                return
            self._leader_sleeps = True
            try:
                ready = self._sleep(timeout)
            finally:
                self._leader_sleeps = False
            self._take(ready)
            has_looked = True

    @interruptible
    def _sleep(self, timeout: float | None) -> list[tuple[int, int]]:
        return self.busy_poll.wait(self._wait, timeout)  # type: ignore[no-any-return]

    @interruptible
    def _follow(self, waiter: Waiter, timeout: float | None) -> None:
        waiter.sleep(timeout)

    def receive(self) -> int:
        """Take what has arrived and what is due; 0 if that was nothing. The caller leads."""
        self._arrivals.has_more = False
        ready = self._wait(0)
        return self._take(ready)

    def _take(self, ready: list[tuple[int, int]]) -> int:
        post = self.post
        taken = len(ready)
        if ready:
            self._arrivals.handle(ready)
        if post.is_due():
            post.tick(post.now())
            taken += 1
        for due, work in self.housekeeping:
            if due:
                work()
        return taken

    def _leader_woken(self) -> None:
        _clear(self._leader_fd)

    def _promote(self) -> None:
        try:
            self.followers.popleft().wake()
        except IndexError:
            pass

    # -- the pump ------------------------------------------------------------------------------

    def kick(self) -> None:
        """Have the pump look: there is something to flush, or it is to give up the lead."""
        self.pump_sleeps = False
        _signal(self._pump_fd)

    def wake(self) -> None:
        """Have whoever leads look at the deadlines and the loopback. Any thread."""
        if self._leader != get_ident():
            _signal(self._leader_fd)
            self.kick()

    def wake_leader(self) -> None:
        """Have a user thread that leads see whether it is done. Any thread."""
        if self._leader != get_ident():
            _signal(self._leader_fd)

    def _redeliver_later(self) -> None:
        # In a signal handler: no lock, no new thread.
        self._interrupted = True
        _signal(self._pump_fd)

    def gathered(self) -> None:
        """Something was gathered that nobody has sent yet."""
        self.needs_flush = True
        if self.pump_sleeps:
            self.kick()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run a callback that may block or raise, on a thread for that. In order. Any thread."""
        self.deferred.append(callback)
        if self._calling.acquire(False):
            try:
                threading.Thread(
                    target=self._run_deferred, name="zactor-callbacks", daemon=True
                ).start()
            except RuntimeError:  # the interpreter ends: nobody can run anything
                self._calling.release()

    def _run_deferred(self) -> None:
        while True:
            try:
                callback = self.deferred.popleft()
            except IndexError:
                self._calling.release()
                # Who came in between found the thread still there.
                if not self.deferred or not self._calling.acquire(False):
                    return
                continue
            try:
                callback()
            except BaseException:  # noqa: BLE001 - a user's callback
                threading.excepthook(
                    threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
                )

    def _pump(self) -> None:
        led = -1
        while not self._stopped:
            if self._interrupted:
                self._interrupted = False
                self._pump_wait(GATHER)
                interrupts.deliver()
            if self.needs_flush:
                self._pump_wait(GATHER)
                self._flush_late()
            if led != self.led:
                # A user thread has led since.
                led = self.led
                busy = self._pump_wait(QUIET)
                if not busy and led == self.led and self._somebody_sleeps():
                    self._pump_sleep()
                continue
            if self._somebody_sleeps():
                self._pump_sleep()
            elif self.lead.acquire(False):
                try:
                    self._pump_lead()
                finally:
                    self.lead.release()
                    self._promote()
                led = -1  # let the thread that was promoted have it: wait before leading again
            else:
                self._pump_wait(QUIET)

    def _pump_wait(self, timeout: float | None) -> bool:
        if _readable(self._pump_poll, timeout):
            _clear(self._pump_fd)
            return True
        return False

    def _somebody_sleeps(self) -> bool:
        """Whether a user thread or a loop is blocked where it notices what arrives."""
        return self._leader_sleeps or any(
            leader.is_asleep for leader in list(self._loops.values())
        )

    def _pump_sleep(self) -> None:
        """Sleep until kicked."""
        self.pump_sleeps = True
        try:
            # Whoever stops leading kicks if it sees us asleep: we say so before we look.
            if self._has_nothing_to_do() and self._somebody_sleeps():
                self._pump_wait(None)
        finally:
            self.pump_sleeps = False

    def _has_nothing_to_do(self) -> bool:
        return not (self.needs_flush or self._stopped or self._interrupted)

    def _until_deadline(self) -> float | None:
        wake = self.post.next_deadline()
        return None if wake is None else wake - self.post.now()

    def _pump_lead(self) -> None:
        self._pump_leads = True
        self._leader = get_ident()
        try:
            while not self._stopped and not self.followers:
                if self.receive():
                    continue
                self.pump_sleeps = True
                if self.followers or not self._has_nothing_to_do() or self._somebody_sleeps():
                    break
                ready = _readable(self._pump_lead_poll, self._until_deadline())
                self.pump_sleeps = False
                if any(fd == self._pump_fd for fd, _ in ready):
                    _clear(self._pump_fd)
                    if not self._has_nothing_to_do():
                        break
        finally:
            self.pump_sleeps = False
            self._leader = 0
            self._pump_leads = False

    def _flush_late(self) -> None:
        self.needs_flush = False
        self.flush()

    # -- asyncio -------------------------------------------------------------------------------

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have a running loop receive whenever it is idle. Call it on the loop's thread."""
        leader = self._loops.get(loop)
        if leader is not None:
            leader.ident = get_ident()  # it may run on another thread than before
            return
        for closed in [known for known in list(self._loops) if known.is_closed()]:
            self._loops.pop(closed, None)
        from zactor.runtime.links.loop_leader import LoopLeader

        self._loops[loop] = LoopLeader(self, loop)
        self.kick()

    def is_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this thread runs `loop`."""
        leader = self._loops.get(loop)
        return leader is not None and leader.ident == get_ident()

    def flush_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send what was gathered at the end of this turn of a loop. On its thread."""
        leader = self._loops.get(loop)
        if leader is None:
            loop.call_soon(self.flush)
        else:
            leader.flush_soon()

    def detach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Undo `attach`."""
        leader = self._loops.pop(loop, None)
        if leader is not None:
            leader.detach()

    def take_lead(self) -> bool:
        """Become the leader if there is none."""
        if not self.lead.acquire(False):
            if self._pump_leads:
                self.kick()
            return False
        self._leader = get_ident()
        return True

    def give_lead(self) -> None:
        """Stop leading."""
        self._leader = 0
        self.lead.release()
        self._promote()

    def leader_falls_asleep(self) -> None:
        """A loop that leads is about to block: nobody need stand in for it."""
        if self._pump_leads:
            self.kick()

    def leader_wakes(self) -> None:
        """A loop that leads has something to do: the pump is to look after it."""
        if self.pump_sleeps:
            self.kick()

    # -- end -----------------------------------------------------------------------------------

    def stop(self) -> None:
        """End the pump and all waiting: nothing is received any more, the inbox can be closed."""
        if self._stopped:
            return
        self._stopped = True
        self.kick()
        if threading.current_thread() is not self._thread:
            self._thread.join(5)
        _signal(self._leader_fd)
        for waiter in list(self.followers):
            waiter.wake()
        self.lead.acquire(timeout=5)  # and never released: nobody leads any more
        for loop in list(self._loops):
            try:
                self.detach(loop)
            except (RuntimeError, OSError):
                pass
        if interrupts.redeliver == self._redeliver_later:
            interrupts.forget()
        self._arrivals.unregister(self._leader_fd)
        # Late wakes must not write into whatever gets these numbers next.
        fds = self._pump_fd, self._leader_fd
        self._pump_fd = self._leader_fd = -1
        for fd in fds:
            os.close(fd)


def _poll_set(*fds: int) -> select.poll:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return poll


def _readable(poll: select.poll, timeout: float | None) -> list[tuple[int, int]]:
    # A signal does not end it (PEP 475).
    return poll.poll(None if timeout is None else max(0.0, timeout * 1000))


def _signal(fd: int) -> None:
    try:
        os.eventfd_write(fd, 1)
    except (OSError, ValueError):
        pass  # closed: there is nobody left to wake


def _clear(fd: int) -> None:
    try:
        os.eventfd_read(fd)
    except BlockingIOError:
        pass


protect_module(__name__)
