"""What user code waits by, made to wait in the world's time, for as long as a world is open.

Patched, for the strands of the world and nobody else: `time`'s clocks and `sleep`; `threading`'s locks,
conditions (and with them events, semaphores, barriers, `queue.Queue`, `concurrent.futures`) and threads;
`queue.SimpleQueue`; new asyncio loops; `os._exit`, `os.getpid` and `os.kill`, by which programs crash what
they take for a process of its own; the state of `random`.

Names that modules have imported from `time` are patched too, unless they have renamed them. Not patched is
what waits or looks at the clock in C: sockets, subprocesses, `select`, `datetime.now()`.
"""

from __future__ import annotations

import _thread
import asyncio
import atexit
import os
import queue
import random
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from zactor.runtime.inprocess.scheduler import EPOCH, LOOK, Real, Scheduler, Strand, Unwinding

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.runtime.inprocess.world import World

_LEFT_ALONE = (
    "zactor.",
    "_pytest.",
    "pytest",
    "pluggy",
)  # they look at the clock for themselves
_real_sleep = time.sleep
_RealLock = threading.Lock
_RealRLock = threading.RLock
_real_wait = threading.Condition.wait
_real_start = threading.Thread.start
_real_join = threading.Thread.join
_real_getpid = os.getpid
_real_kill = os.kill
_real_exit = os._exit  # noqa: SLF001


class Patches:
    """What is patched for one world; undone by `undo`."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._scheduler = world.scheduler
        self._undo: list[tuple[Any, str, Any]] = []
        self._random_state = random.getstate()
        random.seed(f"zactor user {seed}")
        self._clocks()
        self._threads()
        self._processes()
        new_loop = self._new_loop(asyncio.new_event_loop)
        self._set(asyncio, "new_event_loop", new_loop)
        self._set(asyncio.events, "new_event_loop", new_loop)

    def _set(self, owner: Any, name: str, value: Any) -> None:
        self._undo.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def undo(self) -> None:
        """Put everything back."""
        for owner, name, value in reversed(self._undo):
            setattr(owner, name, value)
        self._undo.clear()
        random.setstate(self._random_state)

    # -- clocks --------------------------------------------------------------------------------

    def _clocks(self) -> None:
        scheduler = self._scheduler
        here = scheduler.strand_here

        def clock(real: Callable[[], Any], start: float, unit: float = 0) -> Callable[[], Any]:
            def look() -> Any:
                if here() is None:
                    return real()
                scheduler.now += LOOK
                now = start + scheduler.now
                return int(now * unit) if unit else now

            return look

        for name, start in (("time", EPOCH), ("monotonic", 0.0), ("perf_counter", 0.0)):
            self._set(time, name, clock(getattr(time, name), start))
            self._set(time, f"{name}_ns", clock(getattr(time, f"{name}_ns"), start, 1e9))

        def sleep(seconds: float) -> None:
            strand = here()
            if strand is None or strand.is_real:
                _real_sleep(seconds)
                return
            if seconds < 0:
                raise ValueError("sleep length must be non-negative")
            scheduler.sleep(seconds)

        self._set(time, "sleep", sleep)
        self._set(threading, "_time", time.monotonic)
        self._by_name()

    def _by_name(self) -> None:
        """Patch what modules have imported by name: `from time import sleep`."""
        patched = {
            id(value): getattr(time, name) for owner, name, value in self._undo if owner is time
        }
        names = [name for owner, name, _ in self._undo if owner is time]
        for title, module in list(sys.modules.items()):
            if title == "time" or title.startswith(_LEFT_ALONE):
                continue
            known = getattr(module, "__dict__", None) or {}
            for name in names:
                found = known.get(name)
                if found is not None and id(found) in patched:
                    self._set(module, name, patched[id(found)])

    # -- threads -------------------------------------------------------------------------------

    def _threads(self) -> None:
        scheduler = self._scheduler

        def wait(condition: Any, timeout: float | None = None) -> bool:
            strand = scheduler.strand_here()
            if strand is None or strand.is_real:
                return _real_wait(condition, timeout)
            return wait_in(scheduler, strand, condition, timeout)

        self._set(threading.Condition, "wait", wait)
        self._set(threading, "Lock", lambda: WorldLock(scheduler, _RealLock()))
        self._set(threading, "RLock", lambda: WorldRLock(scheduler, _RealRLock()))
        self._set(queue, "SimpleQueue", queue._PySimpleQueue)  # type: ignore[attr-defined] # noqa: SLF001
        self._set(threading.Thread, "start", self._start)
        self._set(threading.Thread, "join", self._join)

    @property
    def _start(self) -> Callable[..., None]:
        scheduler = self._scheduler

        def start(thread: threading.Thread) -> None:
            me = scheduler.strand_here()
            if me is None or me.is_real:
                _real_start(thread)
                return
            strand = scheduler.adopt(thread.name, me.process)
            run = thread.run

            def run_in_turn() -> None:
                try:
                    scheduler.enter(strand)
                    run()
                except Unwinding:
                    pass
                finally:
                    scheduler.leave(strand)

            thread.run = run_in_turn  # type: ignore[method-assign]
            thread.__dict__["_zactor_strand"] = strand
            with Real(me):
                _real_start(thread)
            scheduler.make_ready(strand)
            scheduler.maybe_yield()

        return start

    @property
    def _join(self) -> Callable[..., None]:
        scheduler = self._scheduler

        def join(thread: threading.Thread, timeout: float | None = None) -> None:
            me = scheduler.strand_here()
            strand = thread.__dict__.get("_zactor_strand")
            if me is not None and not me.is_real and strand is not None:
                deadline = None if timeout is None else scheduler.now + max(timeout, 0.0)
                why = f"joins the thread {thread.name!r}"
                if not scheduler.block(me, lambda: strand.is_over, deadline, why=why):
                    return
                timeout = None
            with Real(me):
                _real_join(thread, timeout)

        return join

    # -- processes -----------------------------------------------------------------------------

    def _processes(self) -> None:
        world, scheduler = self._world, self._scheduler

        def simulated() -> Any:
            strand = scheduler.strand_here()
            process = strand.process if strand is not None else None
            return process if process is not None and process.is_worker else None

        def exit_now(code: int) -> None:
            process = simulated()
            if process is None:
                _real_exit(code)
            cause = {"kind": "exit", "code": code, "text": f"exited with code {code}"}
            world.crash_process(process, cause)
            raise Unwinding

        def getpid() -> int:
            process = simulated()
            return _real_getpid() if process is None else process.pid

        def kill(pid: int, number: int) -> None:
            if pid < PIDS or scheduler.strand_here() is None:
                _real_kill(pid, number)
                return
            process = world.process_of(pid)
            if process is None:
                raise ProcessLookupError(3, "No such process")
            if number == 0:
                return
            name = signal.Signals(number).name
            if number not in (signal.SIGKILL, signal.SIGTERM, signal.SIGABRT, signal.SIGSEGV):
                raise NotImplementedError(f"{name} cannot be sent within an in-process world")
            cause = {"kind": "signal", "code": -number, "text": f"was killed by {name}"}
            world.crash_process(process, cause)
            if process is simulated():
                raise Unwinding

        def register(function: Any, *args: Any, **kwargs: Any) -> Any:
            process = simulated()
            if process is None:
                return real_register(function, *args, **kwargs)
            process.exit_handlers.append(lambda: function(*args, **kwargs))
            return function

        real_register = atexit.register
        self._set(atexit, "register", register)
        self._set(os, "_exit", exit_now)
        self._set(os, "getpid", getpid)
        self._set(os, "kill", kill)

    def _new_loop(self, real: Callable[[], Any]) -> Callable[[], Any]:
        scheduler = self._scheduler

        def new_event_loop() -> Any:
            if scheduler.strand_here() is None:
                return real()
            from zactor.runtime.inprocess.loop import WorldLoop

            return WorldLoop(scheduler)

        return new_event_loop


PIDS = 1 << 23
"""Process ids from here on are made up: Linux gives none above 4,194,304."""


def wait_in(
    scheduler: Scheduler, strand: Strand, condition: Any, timeout: float | None
) -> bool:
    """`Condition.wait`, in the world's time."""
    if not condition._is_owned():  # noqa: SLF001
        raise RuntimeError("cannot wait on un-acquired lock")
    waiter = _thread.allocate_lock()
    waiter.acquire()
    condition._waiters.append(waiter)  # noqa: SLF001
    state = condition._release_save()  # noqa: SLF001
    got = False
    try:
        deadline = None if timeout is None else scheduler.now + max(timeout, 0.0)
        got = scheduler.block(
            strand, lambda: not waiter.locked(), deadline, why="waits on a threading object"
        )
        return got
    finally:
        condition._acquire_restore(state)  # noqa: SLF001
        if not got:
            try:
                condition._waiters.remove(waiter)  # noqa: SLF001
            except ValueError:
                pass


class WorldLock:
    """`threading.Lock`, for strands: who waits for it gives the baton up."""

    def __init__(self, scheduler: Scheduler, lock: Any) -> None:
        self._scheduler = scheduler
        self._lock = lock

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 - as threading has it
        """Acquire the lock."""
        lock, scheduler = self._lock, self._scheduler
        if lock.acquire(False):
            return True
        strand = scheduler.strand_here()
        if strand is None or strand.is_real or scheduler.is_closed:
            return bool(lock.acquire(blocking, timeout))
        if not blocking:
            return False
        deadline = None if timeout < 0 else scheduler.now + timeout
        while not lock.acquire(False):  # between its release and our turn, others may take it
            scheduler.block(strand, self._is_free, deadline, why="waits for a lock")
            if deadline is not None and scheduler.now >= deadline:
                return bool(lock.acquire(False))
        return True

    def _is_free(self) -> bool:
        return not self._lock.locked()

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def locked(self) -> bool:
        """Whether it is held."""
        return bool(self._lock.locked())

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()  # noqa: SLF001


class WorldRLock(WorldLock):
    """`threading.RLock`, for strands."""

    def _is_free(self) -> bool:
        if not self._lock.acquire(False):
            return False
        self._lock.release()
        return True

    def locked(self) -> bool:
        """Whether somebody else holds it."""
        return not self._is_free()

    def _is_owned(self) -> bool:
        return bool(self._lock._is_owned())  # noqa: SLF001

    def _release_save(self) -> Any:
        return self._lock._release_save()  # noqa: SLF001

    def _acquire_restore(self, state: Any) -> None:
        self.acquire()
        self._lock.release()
        self._lock._acquire_restore(state)  # noqa: SLF001
