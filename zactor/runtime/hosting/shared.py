"""Many actors in one worker: `isolation="shared"`.

Plain methods of all the worker's shared actors run one at a time: whoever runs one holds the *run
token*. A thread that begins a blocking zactor wait gives the token away, another one goes on with
the next actor, and the first takes the token back before its wait returns. So there is one thread
for what runs, and one for each method that waits; they are made when they are needed. Async
actors run on one event loop, threaded ones in their own pools (`shared_pools`), without the token.

Each shared actor is a caller of its own: in a shared worker `process.identity` is that of the
actor whose code asks, wherever it runs, by a context variable.

What the actors do not have is the isolation of a process. A method that exits the process, or is
killed, takes all actors of the worker along, and each is restarted, or not, by its own policy; one
that loops without a zactor wait keeps the others from running; memory is everybody's.

Owned by: `lock` guards `ready`, the token, `idle` and `resuming`, and each actor's `runs` and flags.

Invariants
    T1  Plain user code, constructors among it, runs only in the thread that holds the token.
    T2  An actor is in `ready` at most once, and only if it is not running and not waiting.
    T3  If the token is free, nothing is ready, or as many threads wait as there may be.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock, get_ident
from collections import deque
from typing import TYPE_CHECKING, Any

from zactor.runtime.hosting.seats import Kind, Seat, SharedActor
from zactor.runtime.hosting.shared_callers import SharedProcess
from zactor.runtime.hosting.turns import Turns
from zactor.runtime.links.reception import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.runtime.process import Process

MAX_THREADS = (
    2_000  # methods that may wait at a time; beyond, nothing new is begun until one returns
)
MAX_IDLE = 8  # threads kept for the next method
SETTLE = 1.0  # seconds that replies have to arrive before the end of their actor is told


class SharedHost:
    """All shared actors of a worker. See the module."""

    def __init__(self, process: Process, say: Callable[[list[Any]], None]) -> None:
        process.__class__ = SharedProcess  # it has learned what it is for
        self.process: SharedProcess = process  # type: ignore[assignment]
        self.process.shared = self
        self.turns = Turns(self)
        process.callee.hosts_many = True
        process.callee.turns = self.turns
        self.say = say
        self.lock = allocate_lock()
        self.ready: deque[SharedActor] = deque()
        self.holder: Seat | None = None
        self.idle: list[Seat] = []
        self.resuming: deque[Seat] = deque()
        self.is_over = False
        self._kinds: dict[Any, Kind] = {}
        self._seats: dict[int, Seat] = {}
        self._pools: Any = None
        self.ready_rows: list[list[Any]] = []  # constructed; the node does not know yet
        self._said: list[list[Any]] = []  # for the node, not yet sent
        self._ended: list[list[Any]] = []
        self._is_telling = False

    # -- orders of the node, on the lane's thread ----------------------------------------------

    def create(self, actor: bytes, life: int, spec: dict[str, Any]) -> None:
        """Host an actor; its constructor runs when it is its turn."""
        self._host(actor, life, spec, spec.get("args"))

    def create_many(self, common: dict[str, Any], rows: list[Any]) -> None:
        """Host actors that differ in their ids and arguments only."""
        for actor, life, _, _, args in rows:
            self._host(actor, life, common, args)

    def _host(self, actor: bytes, life: int, spec: dict[str, Any], args: Any) -> None:
        if self._hosted(actor, life) is not None:
            return
        if (
            spec.get("is_async")
            or (spec.get("max_concurrency") or 1) != 1
            or spec.get("concurrency_groups")
        ):
            whole = {**spec, "id": actor, "args": args}
            made: Any = self.pools().make(actor, life, whole)
        else:
            key = spec["class_key"]
            kind = self._kinds.get(key)
            if kind is None:
                kind = self._kinds[key] = Kind(spec)
            made = SharedActor(self, actor, life, kind, (spec, args))
        self.process.callee.adopt(actor, made)
        self.queue(made)

    def _hosted(self, actor: bytes, life: int) -> Any:
        found = self.process.callee.hosts.get(actor)
        return found if found is not None and found.life == life else None

    def pools(self) -> Any:
        """Return what runs async and threaded actors, made when the first one comes."""
        if self._pools is None:
            from zactor.runtime.hosting.shared_pools import SharedPools

            self._pools = SharedPools(self)
        return self._pools

    def stop(self, actor: bytes, life: int) -> None:
        """End an actor once its queue is empty."""
        found = self._hosted(actor, life)
        if found is None:
            return
        found.is_stopping = True
        if isinstance(found, SharedActor):
            self.queue(found)
        else:
            found.stop()

    def kill(self, actor: bytes, life: int) -> None:
        """Drop an actor now. A method of it that runs is interrupted if it can be; what it
        returns is not sent."""
        found = self._hosted(actor, life)
        if found is not None:
            seat = getattr(found, "seat", None)
            self.over(found, {"kind": "killed", "code": 9, "text": "was killed by zactor.kill"})
            if seat is not None and seat.intake is not None:
                seat.interrupt(seat.intake, seat.seq)
            elif hasattr(found, "abandon"):
                found.abandon()

    def close(self) -> None:
        """Have `serve` return. Any thread."""
        with self.lock:
            self.is_over = True
            idle, self.idle = self.idle, []
        for seat in idle:
            _wake(seat)

    # -- the run token -------------------------------------------------------------------------

    def queue(self, actor: Any) -> None:
        """Give an actor its turn, though nothing was sent to it. Any thread."""
        with self.lock:
            if not actor.is_busy and not actor.is_over:
                actor.is_busy = True
                self.ready.append(actor)
                if self.holder is None:
                    self.grant()

    def grant(self) -> None:
        """Give the free token to who needs it. Under `lock`."""
        if self.resuming:
            seat = self.holder = self.resuming.popleft()
            seat.woken.release()
        elif self.ready:
            if self.idle:
                here = get_ident()
                at = len(self.idle) - 1
                for index, idle in enumerate(self.idle):
                    if idle.ident == here:
                        at = index  # the leader itself: no other thread has to wake
                seat = self.holder = self.idle.pop(at)
                _wake(seat)
            elif len(self._seats) < MAX_THREADS and not self.is_over:
                seat = self.holder = Seat(self.process)
                self._seats[id(seat)] = seat  # counted from now on
                name = f"zactor-shared-{len(self._seats)}"
                threading.Thread(target=self._sit, args=(seat,), name=name, daemon=True).start()

    def give_token_up(self) -> Seat | None:
        """The thread is about to wait: let others run. Returns its seat if it held the token."""
        seat = self.holder
        if seat is None or seat.ident != get_ident():
            return None
        self.turns.gather(seat)
        with self.lock:
            self.holder = None
            self.grant()
        return seat

    def take_token_back(self, seat: Seat) -> None:
        """The wait is over: go on when nobody else runs."""
        with self.lock:
            if self.holder is None:
                self.holder = seat
                return
            self.resuming.append(seat)
        seat.woken.acquire()

    # -- threads -------------------------------------------------------------------------------

    def serve(self) -> None:
        """Run actors in the calling thread until `close`."""
        seat = Seat(self.process)
        self._seats[id(seat)] = seat
        seat.ident = get_ident()
        self._idle(seat, stays=True)
        while not self.is_over:
            self._run(seat)
            self._idle(seat, stays=True)

    def _sit(self, seat: Seat) -> None:
        seat.ident = get_ident()
        if self._pools is not None:
            self._pools.greet_thread()
        while not self.is_over:
            self._run(seat)
            if not self._idle(seat, stays=False):
                break
        self._seats.pop(id(seat), None)

    def _idle(self, seat: Seat, *, stays: bool) -> bool:
        """Wait until the seat holds the token; False if it is not needed any more."""
        with self.lock:
            if self.is_over:
                return False
            if self.holder is None and self.ready:
                self.holder = seat
                return True
            if len(self.idle) >= MAX_IDLE and not stays:
                return False
            waiter = seat.waiter = Waiter()
            self.idle.append(seat)
        self.process.reception.wait(waiter)
        return not self.is_over

    def _run(self, seat: Seat) -> None:
        """Run what is ready, then let the token go."""
        self.turns.run_ready(seat)
        self.process.callee.flush()
        if self._said or self.ready_rows:
            self.tell_node()
        with self.lock:
            self.holder = None
            self.grant()

    # -- the end of an actor -------------------------------------------------------------------

    def never_began(self, actor: Any, error: list[Any]) -> None:
        """The actor's constructor has raised. With the token."""
        self.gone(actor)
        self._said.append(["failed", actor.id, actor.life, error])

    def ended(self, actor: Any, why: str) -> None:
        """The actor has ended of itself, or in order."""
        from zactor.runtime.hosting.construction import run_shutdown_hook
        from zactor.runtime.worker import exit_cause

        if why == "stopped" or why == "terminated":
            try:
                run_shutdown_hook(actor.instance)
            except Exception:  # noqa: BLE001 - the user's clean-up must not keep it alive
                import traceback

                traceback.print_exc()
        self.over(actor, exit_cause(why))

    def over(self, actor: Any, cause: dict[str, Any]) -> None:
        """The actor is gone: say so once its last replies have arrived. Any thread."""
        rows = self.process.callee.rows_of(actor.id)
        if not self.gone(actor):
            return
        with self.lock:
            self._ended.append(["exited", actor.id, actor.life, cause, rows])
            starts, self._is_telling = not self._is_telling, True
        if starts:
            threading.Thread(target=self._tell_ends, name="zactor-ends", daemon=True).start()

    def gone(self, actor: Any) -> bool:
        """Take an actor out; False if it was out already. Any thread."""
        with self.lock:
            if actor.is_over:
                return False
            actor.is_over = True
            actor.runs = ()
        self.process.callee.refuse(actor.id, actor.life)
        if actor.caller is not None:
            self.process.actors.leave(actor.caller)
        return True

    def _tell_ends(self) -> None:
        # The notice goes another way than the replies, and must not overtake them.
        while True:
            with self.lock:
                ended, self._ended = self._ended, []
                if not ended:
                    self._is_telling = False
                    return
            self.tell_node()  # "ready" comes before "exited"
            self.process.flush()
            self.process.post.settle_links(SETTLE)
            for message in ended:
                self.say(message)

    def tell_node(self) -> None:
        with self.lock:
            rows, self.ready_rows = self.ready_rows, []
            said, self._said = self._said, []
        if rows:
            self.say(["readies", rows])
        for message in said:
            self.say(message)


def _wake(seat: Seat) -> None:
    waiter = seat.waiter
    if waiter is not None:
        waiter.is_done = True
        waiter.wake()
