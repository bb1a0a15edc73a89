"""Who runs now, and what time it is: the heart of an in-process world.

User code runs in *strands*: threads of which one has the baton, and only that one runs. It gives the baton
up where a program of several processes would let others go on: when it waits, sleeps, submits a call, or
ends. Who gets it is drawn by a seeded generator from all that could run: strands that are ready, and
calls that could start. So one seed is one schedule, and breakpoints work.

Time is virtual. It moves when nothing can run before some later moment, and by a microsecond each time
somebody looks at the clock, so that a loop which waits for the time to pass ends.

Does not know what an actor is: `sources` offer what could start. Each is asked for its `options`, functions
that start something, until it says that it is idle, by None.

Invariants
    S1  One strand has the baton; every other one is blocked in `_lock.acquire`.
    S2  The choice depends on the seed and on what was chosen before, and on nothing else.
    S3  A strand that is doomed gets `Unwinding` from whatever it asks of the scheduler, until it has ended.
    S4  Time never passes while something could run.
"""

from __future__ import annotations

import _thread
import contextvars
import ctypes
import heapq
import random
import threading
from itertools import count
from typing import TYPE_CHECKING, Any

from zactor.exceptions import ZactorError
from zactor.runtime import current as processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LOOK = 1e-6  # seconds that a look at the clock takes
EPOCH = 1_735_689_600.0  # the wall clock when a world begins: 2025-01-01, midnight, UTC
PATIENCE = 365 * 86_400.0  # virtual seconds that the driver waits while something goes on
MOST_TICKS = 100_000  # of a clock that ticks while the driver waits for something else
TURN = 1e-3  # seconds that pass in a poll which finds nobody else to run
_numbers = count()
REAL_LOCK = _thread.allocate_lock
CLOSE_PATIENCE = 5.0  # real seconds that a strand has to give the baton back at the end


class Unwinding(BaseException):  # noqa: N818 - not an error: it takes a strand down with its process
    """The process that this strand belongs to has been killed."""


class Strand:
    """One thread of user code.

    Attributes:
        process: What `processes.current()` is while it runs.
        since: While blocked, since when.
        until: While blocked, what is asked whether it may go on; None if it is only woken.
        deadline: While blocked, when it goes on anyway.
        needs: The results it waits for, all of them, for as long as it takes; for `stuck`.
        raises: What it raises when it goes on.
        call: The call it runs, for `stuck` and the trace.
    """

    __slots__ = (
        "call", "deadline", "ident", "is_blocked", "is_doomed", "is_kept", "is_over", "is_real", "job", "lock",
        "name", "needs", "number", "process", "raises", "returns_to", "since", "until", "why",
    )  # fmt: skip

    def __init__(self, name: str, process: Any) -> None:
        self.name = name
        self.number = next(_numbers)
        self.process = process
        self.lock = REAL_LOCK()
        self.lock.acquire()
        self.ident = 0
        self.job: Callable[[], None] | None = None
        self.until: Callable[[], Any] | None = None
        self.deadline: float | None = None
        self.needs: tuple[Any, ...] = ()
        self.why = ""
        self.since = 0.0
        self.raises: BaseException | None = None
        self.call: Any = None
        self.is_blocked = self.is_doomed = False
        self.is_over = False  # it has nothing to run
        self.is_kept = False  # it runs the calls of one actor and no other's
        self.is_real = 0  # > 0: it waits as it would outside of the world
        self.returns_to: Strand | None = None


class Scheduler:
    """See the module. Made by the thread that is to be the driver's strand."""

    def __init__(self, seed: int, *, eagerness: float = 0.25) -> None:
        self.random = random.Random(f"zactor {seed}")
        self.now = 0.0
        self.eagerness = eagerness
        self.sources: dict[Any, None] = {}  # what may have something to start
        self.timers: list[Timer] = []
        self.housekeeping: Callable[[], None] = lambda: None  # done before each choice
        self.on_switch: Callable[[Any], None] = processes.set_current
        self.stuck: Callable[[], BaseException] = lambda: RuntimeError("stuck")
        self.patience = PATIENCE
        self.ticks = 0  # how often time has passed during the driver's present wait
        self.is_closed = self.is_closing = False
        self.is_choosing = False
        self._numbers = count()
        self._strands: dict[int, Strand] = {}  # by thread
        self._ready: list[Strand] = []
        self._blocked: dict[Strand, None] = {}
        self._idle: list[Strand] = []
        self._threads: list[threading.Thread] = []
        self.main = self.current = Strand("driver", None)
        self.main.ident = _thread.get_ident()
        self._strands[self.main.ident] = self.main
        self.switches = 0

    # -- who is here ---------------------------------------------------------------------------

    def strand_here(self) -> Strand | None:
        """Return the strand that the asking thread is, or None if the world does not know it."""
        return self._strands.get(_thread.get_ident())

    def here(self) -> Strand:
        """Return the strand that the asking thread is.

        Raises:
            ZactorError: The world does not know this thread.
        """
        strand = self._strands.get(_thread.get_ident())
        if strand is None:
            raise ZactorError(
                "an in-process world was asked for something by a thread that it does not know: it "
                "was started outside of the world, or by C code. Start threads inside the world, with "
                "threading.Thread."
            )
        if strand.is_doomed and not self.is_closed:
            raise Unwinding
        return strand

    # -- giving the baton up -------------------------------------------------------------------

    def maybe_yield(self) -> None:
        """Let others go first, if the seed says so."""
        if not self.is_choosing and self.random.random() < self.eagerness:
            self.yield_now()

    def yield_now(self) -> None:
        """Be one of those that could run next."""
        me = self.here()
        if self.is_closed:
            return
        self._ready.append(me)
        self._switch(me)

    def poll(self) -> None:
        """Let others run before somebody looks again; time passes if there are none."""
        me = self.here()
        self.block(me, until=None, deadline=self.now + TURN, why="polls")

    def sleep(self, seconds: float) -> None:
        """Come back when so much time has passed."""
        self.block(self.here(), until=None, deadline=self.now + max(seconds, 0.0), why="sleeps")

    def block(
        self,
        me: Strand,
        until: Callable[[], Any] | None,
        deadline: float | None = None,
        *,
        needs: Iterable[Any] = (),
        why: str = "",
    ) -> bool:
        """Give the baton up until `until()` is true, the strand is woken, or the time has come.

        Returns:
            Whether `until()` is true. Without one: whether it was woken.
        """
        if me.is_doomed:
            raise Unwinding
        if until is not None and until():
            return True
        me.until, me.deadline, me.needs, me.why = until, deadline, tuple(needs), why
        me.is_blocked, me.since = True, self.now
        if me is self.main:
            self.ticks = 0
        self._blocked[me] = None
        timer = None if deadline is None else self.at(deadline, lambda: self.wake(me))
        try:
            self._switch(me)
        finally:
            if timer is not None:
                timer.cancel()
            self._unblock(me)
        return bool(until()) if until is not None else deadline is None or self.now < deadline

    def _unblock(self, strand: Strand) -> None:
        self._blocked.pop(strand, None)
        strand.is_blocked = False
        strand.until, strand.deadline, strand.needs, strand.why = None, None, (), ""

    def wake(self, strand: Strand, error: BaseException | None = None) -> None:
        """Have a blocked strand go on when it is chosen; with `error`, if given."""
        if error is not None:
            strand.raises = error
        if strand.is_blocked and strand in self._blocked:
            del self._blocked[strand]
            strand.is_blocked = False
            self._ready.append(strand)

    def _switch(self, me: Strand) -> None:
        """Give the baton to whoever is chosen; return when it is back."""
        following = self._next(me)
        if following is not me:
            self._hand_to(following)
            me.lock.acquire()
        self._resumed(me)

    def _hand_to(self, strand: Strand) -> None:
        self.switches += 1
        self.current = strand
        self.on_switch(strand.process)
        strand.lock.release()

    def _resumed(self, me: Strand) -> None:
        self.current = me
        self.on_switch(me.process)
        if me.is_doomed:
            raise Unwinding
        if me.raises is not None:
            error, me.raises = me.raises, None
            raise error

    # -- choosing ------------------------------------------------------------------------------

    def _next(self, me: Strand) -> Strand:
        """Return who runs next. What starts, starts in an idle strand, or in a new one."""
        self.is_choosing = True
        try:
            while True:
                if self.is_closing:
                    return self.main
                self.housekeeping()
                for strand in [s for s in self._blocked if s.until is not None and s.until()]:
                    self.wake(strand)
                starts = self._starts()
                choices = len(self._ready) + len(starts)
                if choices:
                    chosen = self.random.randrange(choices) if choices > 1 else 0
                    if chosen < len(self._ready):
                        return self._ready.pop(chosen)
                    started: Strand | None = starts[chosen - len(self._ready)]()
                    if started is not None:
                        return started
                elif not self._advance():
                    self.wake(self.main, self.stuck())
        finally:
            self.is_choosing = False

    def _starts(self) -> list[Callable[[], Any]]:
        """Return what could start. Sources that are idle are not asked again until they say so."""
        starts: list[Callable[[], Any]] = []
        for source in list(self.sources):
            found = source.options()
            if found is None:
                del self.sources[source]
            else:
                starts += found
        return starts

    def _advance(self) -> bool:
        """Let the time pass until something happens; False if nothing ever will."""
        main = self.main
        while self.timers:
            timer = heapq.heappop(self.timers)
            if timer.callback is None:
                continue
            is_late = timer.when > main.since + self.patience or self.ticks > MOST_TICKS
            if is_late and main.is_blocked and main.deadline is None:
                # Something ticks for ever, and what the driver waits for does not come of it.
                heapq.heappush(self.timers, timer)
                return False
            self.now = max(self.now, timer.when)
            self.ticks += 1
            timer.callback()
            return True
        return False

    def at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Have something done at a point in time. It must not wait."""
        timer = Timer(when, next(self._numbers), callback)
        heapq.heappush(self.timers, timer)
        return timer

    # -- strands -------------------------------------------------------------------------------

    def start(
        self, name: str, process: Any, job: Callable[[], None], kept: Strand | None = None
    ) -> Strand:
        """Return a strand that will run `job` once it has the baton: `kept`, if given."""
        if kept is not None or self._idle:
            strand = kept or self._idle.pop()
            strand.name, strand.process = name, process
            strand.is_over = False
        else:
            strand = Strand(name, process)
            thread = threading.Thread(
                target=self._serve, args=(strand,), name="zactor-strand", daemon=True
            )
            self._threads.append(thread)
            strand.is_real = 1
            me = self._strands.get(_thread.get_ident())
            with Real(me):
                thread.start()
            strand.is_real = 0
        strand.job = job
        return strand

    def keep(self, strand: Strand) -> None:
        """A strand is one actor's from now on."""
        strand.is_kept = True

    def give_back(self, strand: Strand) -> None:
        """A kept strand is anybody's again."""
        strand.is_kept = False
        if strand.is_over and not self.is_closed:
            self._idle.append(strand)

    def adopt(self, name: str, process: Any) -> Strand:
        """Return a strand for a thread that the user's code is about to start."""
        return Strand(name, process)

    def enter(self, strand: Strand) -> None:
        """An adopted thread begins: wait for the baton."""
        strand.ident = _thread.get_ident()
        self._strands[strand.ident] = strand
        strand.lock.acquire()
        self._resumed(strand)

    def make_ready(self, strand: Strand) -> None:
        """A strand that has not run yet is one of those that could."""
        self._ready.append(strand)

    def leave(self, strand: Strand) -> None:
        """An adopted thread ends: somebody else goes on."""
        strand.is_over = True
        if not self.is_closed:
            following = strand.returns_to or self._next(strand)
            strand.returns_to = None
            self._strands.pop(strand.ident, None)
            self._hand_to(following)
        elif strand.returns_to is not None:
            self._strands.pop(strand.ident, None)
            self._hand_to(strand.returns_to)

    def _serve(self, strand: Strand) -> None:
        strand.ident = _thread.get_ident()
        self._strands[strand.ident] = strand
        while True:
            strand.lock.acquire()
            job, strand.job = strand.job, None
            if job is None:
                return
            self._resumed_quietly(strand)
            if not strand.is_doomed:
                contextvars.Context().run(_quietly, job)
            del job
            strand.is_over = True
            strand.call = strand.raises = None
            back = strand.returns_to
            strand.is_doomed, strand.returns_to = False, None
            self._unblock(strand)
            if not strand.is_kept:
                self._idle.append(strand)
            following = back or self._next(strand)
            if following is strand:
                strand.lock.release()
                self.current = strand
                self.on_switch(strand.process)
            else:
                self._hand_to(following)

    def _resumed_quietly(self, strand: Strand) -> None:
        self.current = strand
        self.on_switch(strand.process)

    # -- the end of a process ------------------------------------------------------------------

    def strands_of(self, process: Any) -> list[Strand]:
        """Return the strands of a process that have not ended."""
        every = {*self._blocked, *self._ready, self.current}
        return sorted(
            (strand for strand in every if strand.process is process and not strand.is_over),
            key=lambda strand: strand.number,
        )

    def end_strands(self, process: Any) -> None:
        """Take down every strand of a process, but for the one that asks: that one is doomed."""
        me = self.current
        for strand in self.strands_of(process):
            if strand is me:
                continue
            self.unwind(strand)
        if me.process is process:
            me.is_doomed = True

    def unwind(self, strand: Strand) -> None:
        """Run a strand to its end, now, with `Unwinding` from wherever it waits."""
        me = self.current
        strand.is_doomed = True
        self._blocked.pop(strand, None)
        if strand in self._ready:
            self._ready.remove(strand)
        strand.is_blocked = False
        strand.returns_to = me
        self._hand_to(strand)
        me.lock.acquire()
        self.current = me
        self.on_switch(me.process)

    def close(self) -> None:
        """Take every strand down but the driver's. On the driver's."""
        self.is_closing = True
        if self.current is not self.main:
            # The driver was interrupted while another strand runs, perhaps for ever: stop that.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self.current.ident), ctypes.py_object(Unwinding)
            )
        if self.current is not self.main and not self.main.lock.acquire(timeout=CLOSE_PATIENCE):
            self.is_closed = True
            return  # interrupted while another strand runs, and goes on running: it is left alone
        self.current = self.main
        for strand in sorted({*self._blocked, *self._ready}, key=lambda each: each.number):
            if strand is not self.main and not strand.is_over:
                self.unwind(strand)
        self.is_closed = True
        for strand in self._strands.values():
            if strand.is_over and strand.job is None:
                strand.lock.release()
        for thread in self._threads:
            thread.join(CLOSE_PATIENCE)
        self._strands.clear()
        self.sources.clear()
        self.timers.clear()


class Timer:
    """Something that is to be done at a point in time, unless it is cancelled."""

    __slots__ = ("callback", "number", "when")

    def __init__(self, when: float, number: int, callback: Callable[[], None]) -> None:
        self.when = when
        self.number = number
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """It is not to be done. Time does not pass for its sake."""
        self.callback = None

    def __lt__(self, other: Timer) -> bool:
        return (self.when, self.number) < (other.when, other.number)


class Real:
    """While entered, a strand's waits are those of the standard library, not the world's."""

    __slots__ = ("_strand",)

    def __init__(self, strand: Strand | None) -> None:
        self._strand = strand

    def __enter__(self) -> None:
        if self._strand is not None:
            self._strand.is_real += 1

    def __exit__(self, *exc: object) -> None:
        if self._strand is not None:
            self._strand.is_real -= 1


def _quietly(job: Callable[[], None]) -> None:
    try:
        job()
    except Unwinding:
        pass
