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

import ctypes
import threading
import time
from _thread import allocate_lock, get_ident
from collections import deque
from contextvars import ContextVar
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any

from zactor.ids import caller_id
from zactor.runtime.calls.caller import Identity
from zactor.runtime.hosting.calling import NATIVE_TYPES, Call, Execution, StopServing
from zactor.runtime.hosting.hosts import FAST, FAST_RUNS, REPLY_AGE
from zactor.runtime.links.interrupts import enters_user_code
from zactor.runtime.links.reception import Waiter
from zactor.runtime.process import BLOCKED_AFTER, Process

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zactor.core.calls import Result, Stream
    from zactor.core.intake import Intake

MAX_THREADS = (
    2_000  # methods that may wait at a time; beyond, nothing new is begun until one returns
)
MAX_IDLE = 8  # threads kept for the next method
SLICE = 64  # calls of one actor before others have their turn
SAY_MANY = 256  # actors constructed in a row before the node hears of them
SETTLE = 1.0  # seconds that replies have to arrive before the end of their actor is told


class SharedIdentity(Identity):
    """A shared actor as a caller: current where that actor's code runs."""

    __slots__ = ()

    def __init__(self, caller: bytes) -> None:
        self.caller = caller
        self.numbers = count(1)
        self.streams: dict[Any, Stream] = {}

    @property
    def is_current(self) -> bool:  # type: ignore[override]
        """Whether what asks is this actor's code."""
        actor = running_actor.get()
        return actor is not None and actor.caller is self


class SharedProcess(Process):
    """The process of a worker that has turned out to be for shared actors."""

    shared: SharedHost

    @property
    def identity(self) -> Identity:  # type: ignore[override]
        """Who calls: the actor whose code asks; in threads that user code has made, the worker."""
        actor = running_actor.get()
        return self.__dict__["identity"] if actor is None else actor.identity()  # type: ignore[no-any-return]

    @property
    def running(self) -> Any:
        """What runs the actor whose code asks."""
        actor = running_actor.get()
        return None if actor is None else actor.execution

    def block_on(
        self,
        waiter: Waiter,
        deadline: float | None,
        needed: Sequence[Result] = (),
    ) -> None:
        """Send what was gathered and wait, without the run token."""
        if waiter.is_done:
            return
        seat = self.shared.give_token_up()
        self.flush()
        wait = None
        try:
            soon = time.monotonic() + BLOCKED_AFTER
            is_asked_about = bool(needed) and deadline is None
            if is_asked_about and not self.reception.wait(waiter, soon):
                wait = self.deadlocks.waits(needed, waiter)
            self.reception.wait(waiter, deadline)
        finally:
            if wait is not None:
                self.deadlocks.over(wait)
            if seat is not None:
                self.shared.take_token_back(seat)
        if wait is not None and wait.error is not None:
            raise wait.error


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
    """The methods of one instance by number: what `Execution.functions` is for a shared actor."""

    __slots__ = ("extra", "instance", "names")

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        self.instance: Any = None
        self.extra: dict[int, Any] = {}

    def get(self, number: int) -> Any:
        """Return the bound method, or None."""
        name = self.names.get(number)
        return self.extra.get(number) if name is None else getattr(self.instance, name)

    def __setitem__(self, number: int, function: Any) -> None:
        self.extra[number] = function


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
        self.runs: list[Any] = []
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
        self.host.queue(self, run)

    def cancel(self, intake: Intake, seq: int, flags: int) -> None:  # noqa: ARG002
        """Cancel a call: not run if it waits; if it runs, when its thread next runs Python code."""
        seat = self.seat
        if seat is None or not seat.interrupt(intake, seq):
            intake.cancel(seq)


running_actor: ContextVar[Any] = ContextVar("zactor_shared_actor", default=None)
"""The shared actor whose code runs in this thread or asyncio task."""


class Seat(Execution):
    """A thread that runs plain actors, one after the other; what `Execution` is for the one in it."""

    def __init__(self, process: Process) -> None:
        super().__init__(process, None, "")
        self.ident = 0
        self.actor: SharedActor | None = None
        self.waiter: Waiter | None = None  # while it is idle
        self.woken = allocate_lock()  # released when it is given the token back
        self.woken.acquire()
        self.flat: list[Any] = []  # replies of the present run, not yet gathered
        self.first = 0  # seq of the first of them

    @property
    def spec(self) -> dict[str, Any]:
        """The spec of the actor that sits here."""
        return {**self.actor.kind.spec, "id": self.actor.id} if self.actor is not None else {}

    @spec.setter
    def spec(self, spec: dict[str, Any]) -> None:
        """Ignore what is not the actor's."""

    def sit(self, actor: SharedActor) -> None:
        """Be the execution of `actor` from now on."""
        self.actor = actor
        actor.seat = self
        kind = actor.kind
        self.label, self.names, self.streaks = kind.label, kind.names, kind.streaks
        self.functions = methods = Methods(kind.names)  # type: ignore[assignment]
        methods.instance = self.instance = actor.instance
        self.actor_id = actor.id.hex()
        self.repr = actor.repr
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
        with self._cancel_lock:
            self.is_cancelled = False
            _raise_in(self.ident, None)


def _raise_in(ident: int, error: type[BaseException] | None) -> None:
    """Have a thread raise `error` when it next runs Python code (None: take that back)."""
    wanted = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), wanted)


class SharedHost:
    """All shared actors of a worker. See the module."""

    def __init__(self, process: Process, say: Callable[[list[Any]], None]) -> None:
        process.__class__ = SharedProcess  # it has learned what it is for
        self.process: SharedProcess = process  # type: ignore[assignment]
        self.process.shared = self
        process.callee.hosts_many = True
        self.say = say
        self.lock = allocate_lock()
        self.actors: dict[tuple[bytes, int], Any] = {}
        self.ready: deque[SharedActor] = deque()
        self.holder: Seat | None = None
        self.idle: list[Seat] = []
        self.resuming: deque[Seat] = deque()
        self.is_over = False
        self._kinds: dict[Any, Kind] = {}
        self._seats: dict[int, Seat] = {}
        self._pools: Any = None
        self._ready_rows: list[list[Any]] = []  # constructed; the node does not know yet
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
        if (actor, life) in self.actors:
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
        self.actors[actor, life] = made
        self.process.callee.adopt(actor, made)
        self.queue(made, None)

    def pools(self) -> Any:
        """Return what runs async and threaded actors, made when the first one comes."""
        if self._pools is None:
            from zactor.runtime.hosting.shared_pools import SharedPools

            self._pools = SharedPools(self)
        return self._pools

    def stop(self, actor: bytes, life: int) -> None:
        """End an actor once its queue is empty."""
        found = self.actors.get((actor, life))
        if found is None:
            return
        found.is_stopping = True
        if isinstance(found, SharedActor):
            self.queue(found, None)
        else:
            found.stop()

    def kill(self, actor: bytes, life: int) -> None:
        """Drop an actor now. A method of it that runs is interrupted if it can be; what it
        returns is not sent."""
        found = self.actors.get((actor, life))
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

    def queue(self, actor: SharedActor, run: Any) -> None:
        """Give an actor something to do (None: only its turn). Any thread."""
        with self.lock:
            if run is not None:
                actor.runs.append(run)
            if not actor.is_busy and not actor.is_over:
                actor.is_busy = True
                self.ready.append(actor)
                if self.holder is None:
                    self._grant()

    def _grant(self) -> None:
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
        self._gather(seat)
        with self.lock:
            self.holder = None
            self._grant()
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
            self._run_ready(seat)
            self._idle(seat, stays=True)

    def _sit(self, seat: Seat) -> None:
        seat.ident = get_ident()
        if self._pools is not None:
            self._pools.greet_thread()
        while not self.is_over:
            self._run_ready(seat)
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

    def _run_ready(self, seat: Seat) -> None:
        """Run what is ready until nothing is, or somebody's wait is over; then let the token go."""
        ready, callee, resuming = self.ready, self.process.callee, self.resuming
        turns = 0
        while not resuming and not self.is_over:
            with self.lock:
                if not ready:
                    break
                actor = ready.popleft()
            try:
                self._turn(seat, actor)
            finally:
                seat.actor = actor.seat = None
                running_actor.set(None)
            turns += 1
            if len(self._ready_rows) >= SAY_MANY:
                self._tell_node()
        callee.flush()
        if self._said or self._ready_rows:
            self._tell_node()
        with self.lock:
            self.holder = None
            self._grant()

    # -- one actor's turn ----------------------------------------------------------------------

    def _turn(self, seat: Seat, actor: SharedActor) -> None:
        if actor.is_over:
            return
        if type(actor) is not SharedActor:
            self._begin(seat, actor)
            return
        seat.sit(actor)
        if actor.spec is not None and not self._construct(seat, actor):
            return
        calls = 0
        try:
            while actor.runs and calls < SLICE:
                run = actor.runs.pop(0)
                calls += len(run[3]) >> 1
                self._run(seat, actor, run)
                if actor.is_over:
                    return  # type: ignore[unreachable]  # mypy does not see that the run may end it
        except StopServing as stop:
            self.ended(actor, stop.cause)
            return
        except SystemExit:
            self.ended(actor, "exited")
            return
        with self.lock:
            if actor.runs:
                self.ready.append(actor)
                return
            actor.is_busy = False
            is_stopping = actor.is_stopping
        if is_stopping:
            self.ended(actor, "stopped")

    def _construct(self, seat: Seat, actor: SharedActor) -> bool:
        from zactor.runtime.hosting.construction import make_instance
        from zactor.runtime.worker import repr_of, shown_constructor_error

        assert actor.spec is not None
        common, args = actor.spec
        actor.spec = None
        seat.parent = None
        try:
            actor.instance = make_instance(self.process, common, actor.id, args)
        except StopServing:
            self.ended(actor, "exited")
            return False
        except BaseException as error:  # noqa: BLE001 - the user's constructor
            self.gone(actor)
            said = ["failed", actor.id, actor.life, shown_constructor_error(error, seat)]
            self._said.append(said)
            return False
        seat.functions.instance = seat.instance = actor.instance  # type: ignore[attr-defined]
        actor.repr = seat.repr = repr_of(actor.instance)
        self._ready_rows.append([actor.id, actor.life, actor.repr])
        return not actor.is_over

    def _begin(self, seat: Seat, actor: Any) -> None:
        """Construct an actor that then runs by itself, without the token."""
        from zactor.runtime.worker import shown_constructor_error

        running_actor.set(actor)
        try:
            actor.construct()
        except StopServing:
            self.ended(actor, "exited")
        except BaseException as error:  # noqa: BLE001 - the user's constructor
            self.gone(actor)
            failed = shown_constructor_error(error, actor.execution)
            self._said.append(["failed", actor.id, actor.life, failed])
        else:
            self._ready_rows.append([actor.id, actor.life, actor.execution.repr])
            actor.begin()

    @enters_user_code
    def _run(self, seat: Seat, actor: SharedActor, run: Any) -> None:  # noqa: C901 - the hot path
        """Run the calls that came together. The counterpart of `MainHost._run_ready`."""
        callee = self.process.callee
        words = callee.progress.words  # type: ignore[union-attr]
        intake, seq, number, calls, frames, parent = run
        row = intake.row
        instance, names, streaks, loads = actor.instance, seat.names, seat.streaks, seat.loads
        seat.enter(intake, number - seq, parent)
        seat.flat, seat.first = [], seq
        seat.run_calls = (seq, calls)
        pairs = iter(calls)
        started = perf_counter()
        for method, arguments in zip(pairs, pairs, strict=True):
            if (seat.flat or callee.oldest) and (
                streaks.get(method, 0) < FAST_RUNS
                or (callee.oldest and started - callee.oldest > REPLY_AGE)
            ):
                self._gather(seat)
                callee.flush()
            if not seat.flat:
                seat.first = seq
            seat.started = started
            seat.method = method
            words[row] = seq
            seat.seq = seq
            if type(arguments) is list or method < 0 or intake.cancelled:
                self._gather(seat)
                try:
                    seat.special(actor, intake, seq, number, method, arguments, frames)
                finally:
                    seat.seq_over()
            else:
                try:
                    function = getattr(instance, names[method])
                    if arguments is None:
                        value = function()
                    else:
                        args = loads(arguments)
                        value = (
                            function(*args)
                            if type(args) is tuple
                            else function(*args[0], **args[1])
                        )
                    seat.seq_over()
                except BaseException as error:  # noqa: BLE001 - user code
                    seat.seq_over()
                    self._gather(seat)
                    if not actor.is_over:
                        seat.failed(intake, seq, method, error)
                else:
                    if type(value) in NATIVE_TYPES and type(value) is not int:
                        status = 0
                    else:
                        status, value = seat.encode_simple(value)
                    if actor.is_over:
                        return
                    if status < 0:
                        self._gather(seat)
                        seat.returned(intake, seq, method, value)
                    else:
                        seat.flat += (seq, status, value)
            if seat.is_cancelled:
                try:
                    seat.absorb()
                except KeyboardInterrupt:
                    seat.is_cancelled = False
            if actor.is_over:
                return
            words[row + 1] = seq
            seq += 1
            number += 1
            ended = perf_counter()
            streaks[method] = streaks.get(method, 0) + 1 if ended - started < FAST else 0
            started = ended
        self._gather(seat)
        seat.leave()

    def _gather(self, seat: Seat) -> None:
        flat = seat.flat
        if not flat:
            return
        seat.flat = []
        intake = seat.intake
        assert intake is not None
        callee = self.process.callee
        with callee.lock:
            group = callee.group_of(intake)
            group += flat
            intake.keep(seat.first, flat)
            intake.unfinished -= len(flat) // 3
            if not callee.oldest:
                callee.oldest = perf_counter()

    # -- the end of an actor -------------------------------------------------------------------

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
            actor.runs = []
        self.actors.pop((actor.id, actor.life), None)
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
            self._tell_node()  # "ready" comes before "exited"
            self.process.flush()
            self.process.post.settle_links(SETTLE)
            for message in ended:
                self.say(message)

    def _tell_node(self) -> None:
        with self.lock:
            rows, self._ready_rows = self._ready_rows, []
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
