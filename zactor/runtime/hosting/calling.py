"""One call, run: arguments in, user code, result out. What all hosts have in common.

An `Execution` belongs to one actor (or to the tasks of one worker). The main host keeps its fast
path to itself and comes here for whatever is not plain: references or buffers in arguments or results, several
return values, retries, cancels, errors.
"""

from __future__ import annotations

import contextvars
import inspect
import os
import signal
import threading
import time
from time import perf_counter
from typing import TYPE_CHECKING, Any

from zactor.exceptions import (
    DeadlineExceededError,
    ObjectLostError,
    SerializationError,
    TaskCancelledError,
    TaskError,
    ZactorError,
    to_wire,
)
from zactor.ids import pack_object_id
from zactor.runtime.calls.arguments import references_of
from zactor.runtime.calls.cancelling import cancel_made_since
from zactor.runtime.calls.several import take_values
from zactor.runtime.calls.values import LARGE, decode, decode_wire
from zactor.runtime.links import interrupts
from zactor.runtime.links.interrupts import enters_user_code, protected
from zactor.serde.exceptions import pack_exception
from zactor.serde.pickling import unpickle_plain
from zactor.serde.values import dumps, loads_args
from zactor.wire import batches
from zactor.wire.batches import EXTRA

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zactor.core.intake import Intake
    from zactor.runtime.process import Process

NATIVE_TYPES = frozenset((type(None), bool, int, float, bytes))
"""Results of these types travel as msgpack's own values: 0.4 us less than pickling, both ways.

str is not among them: one with surrogates cannot be packed."""

CANCEL_SIGNAL = signal.SIGRTMIN + 3


class StopServing(BaseException):  # noqa: N818 - not an error: it passes through user code
    """Ends the actor from inside one of its calls."""

    def __init__(self, cause: str = "exited") -> None:
        super().__init__(cause)
        self.cause = cause


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


class Functions(dict[int, Any]):
    """What method numbers stand for; those of tasks are loaded when they are first asked for.

    A number is defined by the first call that is sent with it. That one may not be run here: then what
    it brought is `promised` to those after it.
    """

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process
        self._promised: dict[int, bytes] = {}

    def promise(self, number: int, key: bytes) -> None:
        """Have a number stand for the function with this definition key from now on. Any thread."""
        self._promised[number] = key
        self.pop(number, None)  # of an earlier lease

    def get(self, number: int, default: Any = None) -> Any:
        """Return what a number stands for, if anything."""
        try:
            return self[number]
        except KeyError:
            return default

    def __missing__(self, number: int) -> Any:
        key = self._promised.get(number)
        if key is None:
            raise KeyError(number)
        function = self[number] = self._process.definitions.load(key)
        return function


class Execution:
    """What runs calls of one actor, or the tasks of one worker. See the module.

    Attributes:
        functions: What each method number stands for.
        names: Its name, for errors and listings.
        streaks: How often in a row it was fast; see hosts.
        seq: The seq the main thread is running, 0 between calls.
        intake: The stream that belongs to.
    """

    loads = staticmethod(unpickle_plain)

    def __init__(self, process: Process, instance: Any, label: str) -> None:
        self.process = process
        self.instance = instance
        self.label = label  # class name; "" for tasks
        self.functions: dict[int, Callable[..., Any]] = Functions(process)
        self.names: dict[int, str] = {}
        self.streaks: dict[int, int] = {}
        self.seq = 0
        self.method = 0
        self.offset = 0
        self.intake: Intake | None = None
        self.parent: Any = None
        self.started = 0.0
        self.hand_back_rest = False
        self.actor_id = ""
        self.actor_repr = ""
        self.polled: Any = (
            None  # (intake, seq) of an actor's call that asks whether it was cancelled
        )
        self.flagged: Any = None  # the one of these that was
        self.spec: dict[str, Any] = {}  # of the actor, or of the tasks' lease
        self.run_calls: tuple[int, Any] = (
            0,
            (),
        )  # first seq and calls of the main thread's run
        self.is_cancelled = False  # of the call that the main thread runs
        self.main_host: Any = None  # the host whose calls run in the main thread one at a time
        self.first_made = 0  # the number of the first call that the present run may make
        self._cancel_target: tuple[Intake, int] | None = None
        self._cancel_lock = threading.Lock()
        self.calls: dict[tuple[int, int], Call] = {}  # running, of threads and tasks

    def bind(self, number: int, name: str, function: Callable[..., Any]) -> None:
        """Say what a method number stands for."""
        self.functions[number] = function
        self.names[number] = name

    def not_run_here(self, arguments: Any) -> None:
        """A call will not run here: what it says of later ones is kept. Any thread."""
        defined = arguments[1].get(batches.X_FUNCTION) if type(arguments) is list else None
        if defined is not None and isinstance(self.functions, Functions):
            number, key, name = defined
            self.functions.promise(number, key)
            self.names[number] = name

    # -- what runs in the main thread ----------------------------------------------------------

    def enter(self, intake: Intake, offset: int, parent: Any) -> None:
        """The main thread begins a run."""
        self.intake = intake
        self.offset = offset
        self.parent = parent
        # What comes next from itertools.count, without taking it.
        self.first_made = int(self.process.identity.numbers.__reduce__()[1][0])

    def leave(self) -> None:
        """The main thread is between runs."""
        self.seq = 0
        self.is_cancelled = False

    def running_for(self) -> float:
        """Return for how many seconds the main thread has been running its present call."""
        return perf_counter() - self.started if self.seq else 0.0

    def name_of_wait(self, call: Call | None) -> str:
        """Return what blocks, for humans: a call, or the constructor."""
        if call is None:
            name = "__init__"
        elif call.task is None:
            name = self.names.get(self.method, "a call")
        else:
            name = call.function
        return f"{self.label or 'task'}.{name}() ({self.actor_id or self.process.id.hex()})"

    def runs_now(self, caller: bytes, number: int) -> bool:
        """Whether the main thread runs that call. Any thread."""
        intake, seq = self.intake, self.seq
        return bool(seq and intake is not None) and (
            intake.caller == caller and seq + self.offset == number  # type: ignore[union-attr]
        )

    def current(self) -> Call | None:
        """Return the call that runs in the asking thread or task."""
        call = current_call.get()
        if call is not None:
            return call
        if self.seq and self.intake is not None and is_main_thread():
            intake = self.intake
            return Call(intake, self.seq, self.seq + self.offset, self.label, self.parent)
        return None

    def _main_call(self, call: Call) -> tuple[int, Any]:
        """Return method number and arguments of a call that the main thread runs."""
        first, calls = self.run_calls
        at = 2 * (call.seq - first)
        return (calls[at], calls[at + 1]) if 0 <= at < len(calls) else (0, None)

    def name_of(self, call: Call) -> str:
        """Return the name of the method or function that runs."""
        if call.task is not None:
            return call.function
        return self.names.get(self._main_call(call)[0], "")

    def module_of(self, call: Call) -> str:
        """Return the module of what runs."""
        if self.label:
            return type(self.instance).__module__
        function = self.functions.get(self._main_call(call)[0])
        return str(getattr(function, "__module__", None) or "")

    def name_given(self, call: Call) -> str:
        """Return the name that the caller gave the call, if any."""
        if call.task is not None:
            return ""
        arguments = self._main_call(call)[1]
        return str(arguments[1].get(batches.X_NAME, "")) if type(arguments) is list else ""

    # -- one call that is not plain ------------------------------------------------------------

    def special(
        self,
        host: Any,
        intake: Intake,
        seq: int,
        number: int,
        method: int,
        arguments: Any,
        frames: Any,
    ) -> None:
        """Run a call in the main thread that the fast path does not cover."""
        callee = self.process.callee
        if intake.cancelled and seq in intake.cancelled:
            intake.cancelled.discard(seq)
            self.not_run_here(arguments)
            self.reply_error(intake, seq, TaskCancelledError(executed="no"))
            return
        payload, extras = arguments if type(arguments) is list else (arguments, {})
        if method == batches.VOID:
            intake.unfinished -= 1
            return
        if method == batches.TERMINATE:
            callee.reply(intake, seq, batches.NATIVE, None)
            raise StopServing("terminated")
        self.run(intake, seq, number, method, payload, extras, frames)

    def run(
        self,
        intake: Intake,
        seq: int,
        number: int,
        method: int,
        payload: Any,
        extras: Any,
        frames: Any,
    ) -> None:
        """Run one call to its reply: in the main thread, or in a thread of a pool."""
        deadline = extras.get(batches.X_DEADLINE)
        if deadline is None:
            self._run(intake, seq, number, method, payload, extras, frames)
            return
        from zactor.runtime.calls.deadlines import Inherited

        with Inherited(deadline):
            self._run(intake, seq, number, method, payload, extras, frames)

    @enters_user_code
    def _run(
        self,
        intake: Intake,
        seq: int,
        number: int,
        method: int,
        payload: Any,
        extras: Any,
        frames: Any,
    ) -> None:
        peer = intake.peer
        call = pack_object_id(intake.caller, number, 0)
        refs: list[Any] = []
        try:
            function, args, kwargs, refs = self.prepare(
                call, intake, method, payload, extras, frames
            )
        except BaseException as error:  # noqa: BLE001 - unpickling runs user code
            self.settle_references(call, peer, refs, ())
            self.not_run(intake, seq, method, error)
            return
        if extras.get(batches.X_RETURNS, 1) < 0:
            from zactor.runtime.hosting.outflow import run_stream

            name = call if refs else b""
            run_stream(self, intake, seq, number, method, function, args, kwargs, extras, name)
            return
        attempts = extras.get(batches.X_RETRY, (0, None))[0]
        while True:
            try:
                value = function(*args, **kwargs)
                break
            except StopServing:
                raise
            except BaseException as error:  # noqa: BLE001 - user code
                if attempts and self._is_retried(error, extras):
                    attempts -= attempts > 0
                    continue
                args = kwargs = None
                self.failed(intake, seq, method, error, call if refs else b"")
                return
        if is_main_thread():
            self.seq_over()
        args = kwargs = None
        self.finish(intake, seq, number, method, value, extras, call if refs else b"")

    def seq_over(self) -> None:
        """The user's code has returned: a cancel must not hit what comes after."""
        self.seq = 0

    def prepare(
        self,
        call: bytes,
        intake: Intake,
        method: int,
        payload: Any,
        extras: dict[int, Any],
        frames: Any,
    ) -> tuple[Any, Any, Any, list[Any]]:
        """Return `(function, args, kwargs, references)` of a call that is about to run."""
        objects = self.process.objects
        deadline = extras.get(batches.X_DEADLINE)
        if deadline is not None and time.time() > deadline:
            self.not_run_here([None, extras])
            raise DeadlineExceededError("it waited too long to be run", executed="no")
        defined = extras.get(batches.X_FUNCTION)
        if defined is not None:
            number, key, name = defined
            self.bind(number, name, self.process.definitions.load(key))
        rows = extras.get(batches.X_REFS)
        refs = objects.learn(rows) if rows else []
        if refs:
            objects.call_arrives(call, intake.peer.id, refs)
        args: Sequence[Any] = ()
        kwargs: dict[str, Any] = {}
        if payload is not None:
            buffers = frames if extras.get(batches.X_FRAMES) else ()
            args, kwargs = loads_args(payload, buffers)
        stored = extras.get(batches.X_STORED)
        if stored is not None:
            value = objects.store.read_place(*stored)
            args, kwargs = (value, {}) if type(value) is tuple else value
        slots = extras.get(batches.X_SLOTS)
        if slots:
            args = list(args)
            for slot, status, value, *name in slots:
                value = self._slot(status, value, name, refs)
                if type(slot) is int:
                    while len(args) <= slot:
                        args.append(None)
                    args[slot] = value
                else:
                    kwargs[slot] = value
        if method == batches.APPLY:
            function, *rest = args
            return function, (self.instance, *rest), kwargs, refs
        if method == batches.READY:
            return _yes, (), {}, refs
        found = self.functions.get(method)
        if found is None:
            raise SerializationError(f"method number {method} is not one of {self.label}'s")
        return found, args, kwargs, refs

    def _slot(self, status: int, value: Any, name: list[bytes], refs: list[Any]) -> Any:
        """Return the value of a reference that was an argument of its own."""
        try:
            return decode_wire(self.process, status, value, *name)
        except ObjectLostError:
            owner = dict(refs).get(name[0]) if name else None
            if owner is None:
                raise
            found, guard = self.process.objects.recover_argument(name[0], owner, value)
            value = decode(found)
            del guard  # what is mapped is held by its views
            return value

    def finish(
        self,
        intake: Intake,
        seq: int,
        number: int,
        method: int,
        value: Any,
        extras: Any,
        call: bytes,
    ) -> None:
        """Send the result of a call that returned."""
        running = current_call.get()
        if self.flagged == (intake, seq) or (running is not None and running.is_told):
            self.cancelled_while_running(intake, seq, method, call)
            return
        returns = extras.get(batches.X_RETURNS, 1)
        if returns != 1:
            self.returned_several(intake, seq, number, method, value, returns, call)
            return
        status = 0
        if type(value) not in NATIVE_TYPES or type(value) is int:
            status, value = self.encode_simple(value)
        if status >= 0 and not call:
            self.process.callee.reply(intake, seq, status, value)
        else:
            self.returned(
                intake, seq, method, (status, value) if status >= 0 else value, call, number
            )

    # -- results -------------------------------------------------------------------------------

    def encode_simple(self, value: Any) -> tuple[int, Any]:
        """Return `(status, wire value)`, or `(-1, (payload, buffers, refs))` if there is more to it."""
        if type(value) is int and -(1 << 63) <= value < 1 << 63:
            return 0, value
        try:
            pickled = dumps(value, f"the result of {self.label or 'a task'}")
        except SerializationError as error:
            if inspect.isgenerator(value):
                return self._encode_only(value)
            error.executed = "yes"
            return -1, error
        payload, buffers, refs = pickled
        if buffers or refs or len(payload) > LARGE:
            return -1, pickled
        return 1, payload

    def _encode_only(self, generator: Any) -> tuple[int, Any]:
        """Encode what a generator yields whose caller wants one value (`num_returns=1`)."""
        try:
            for value in generator:
                return self.encode_simple(value)
            raise ValueError("num_returns=1, but the generator yielded nothing")
        except Exception as error:  # noqa: BLE001 - runs user code
            return batches.USER_ERROR, self._packed(error, self.method)

    def returned(
        self,
        intake: Intake,
        seq: int,
        method: int,
        encoded: Any,
        call: bytes = b"",
        number: int = -1,
    ) -> None:
        """Reply with a result that has references, buffers, or is large; or cannot be pickled."""
        if self.flagged == (intake, seq):
            self.cancelled_while_running(intake, seq, method, call)
            return
        if number < 0:
            number = seq + self.offset
        object_id = pack_object_id(intake.caller, number, 0)
        peer = intake.peer
        if isinstance(encoded, SerializationError):
            self.settle_references(call, peer, (), ())
            self.reply_error(intake, seq, encoded)
            return
        try:
            status, value, frames, refs = self.pack_value(object_id, intake, encoded)
        except ZactorError as error:
            self.settle_references(call, peer, (), ())
            self.reply_error(intake, seq, error)
            return
        extras: dict[int, Any] = {}
        named = references_of(self.process, refs)
        if named:
            extras[batches.Y_REFS] = self.process.objects.rows(named)
        refs = ()
        if call:
            if self.process.objects.call_finishes(call, peer.id, named):
                extras[batches.Y_UNCONFIRMED] = 1
        elif named:
            self.process.objects.value_leaves(object_id, peer.id, named)
        if extras:
            status, value = status | EXTRA, [value, extras]
        if frames:
            self.process.callee.reply_with_frames(intake, seq, status, value, frames)
        else:
            self.process.callee.reply(intake, seq, status, value)

    def pack_value(
        self, object_id: bytes, intake: Intake, encoded: Any
    ) -> tuple[int, Any, Sequence[Any], Sequence[Any]]:
        """Return `(status, value, frames, references)` of something encoded."""
        if type(encoded[0]) is int:
            return encoded[0], encoded[1], (), ()
        payload, buffers, refs = encoded
        size = len(payload) + sum(len(buffer) for buffer in buffers)
        store = self.process.objects.store
        if size > LARGE and store is not None and store.writes:
            place = store.write(object_id, intake.peer.id, payload, buffers)
            return batches.STORED, place, (), refs
        return batches.PICKLED, payload, [bytes(buffer) for buffer in buffers], refs

    def returned_several(
        self,
        intake: Intake,
        seq: int,
        number: int,
        method: int,
        value: Any,
        returns: Any,
        call: bytes,
    ) -> None:
        """Reply with `num_returns` values."""
        name = self.names.get(method, "")
        if returns == 0:
            self.settle_references(call, intake.peer, (), ())
            self.process.callee.reply(intake, seq, batches.SEVERAL, [])
            return
        parts: list[Any] = []
        late = b""  # the error of a generator that had yielded some
        try:
            take_values(value, returns, f"{self.label}.{name}", parts)
        except Exception as error:  # noqa: BLE001 - iterating runs user code
            if not parts or not inspect.isgenerator(value):
                self.failed(intake, seq, method, error, call)
                return
            late = self._packed(error, method)
        wire: list[list[Any]] = []
        named: list[Any] = []
        for index, part in enumerate(parts):
            object_id = pack_object_id(intake.caller, number, index)
            status, encoded = self.encode_simple(part)
            if status < 0:
                if isinstance(encoded, SerializationError):
                    wire.append([batches.ERROR, to_wire(encoded)])
                    continue
                status, encoded, frames, refs = self.pack_value(object_id, intake, encoded)
                if frames:
                    encoded = [encoded, list(frames)]
                rows = references_of(self.process, refs)
                named += rows
                wire.append(
                    [status, encoded, self.process.objects.rows(rows) if rows else None]
                )
            else:
                wire.append([status, encoded])
        wire += [[batches.USER_ERROR, late] for _ in range(returns - len(parts))]
        extras: dict[int, Any] = {}
        if named:
            self.process.objects.value_leaves(
                pack_object_id(intake.caller, number, 0), intake.peer.id, named
            )
        if call and self.process.objects.call_finishes(call, intake.peer.id, ()):
            extras[batches.Y_UNCONFIRMED] = 1
        self.process.callee.reply(
            intake,
            seq,
            batches.SEVERAL | (EXTRA if extras else 0),
            [wire, extras] if extras else wire,
        )

    # -- failures ------------------------------------------------------------------------------

    def failed(
        self, intake: Intake, seq: int, method: int, error: BaseException, call: bytes = b""
    ) -> None:
        """Reply with what the user's code raised. Actor exits pass on."""
        if isinstance(error, StopServing | SystemExit):
            raise error
        if (isinstance(error, KeyboardInterrupt) and self.is_cancelled) or (
            # What it called was cancelled with it, and was heard of first.
            isinstance(error, TaskCancelledError) and self._cancel_target == (intake, seq)
        ):
            self.is_cancelled = False
            error = interrupted(error)
        payload = self._packed(error, method)
        self.settle_references(call, intake.peer, (), ())
        self.process.callee.reply(intake, seq, batches.USER_ERROR, payload)

    def _packed(self, error: BaseException, method: int) -> bytes:
        name = self.names.get(method, "")
        payload: bytes = pack_exception(
            error,
            f"{self.label}.{name}" if self.label else name,
            pid=os.getpid(),
            actor_repr=self.actor_repr,
            actor_id=self.actor_id,
        )[0]
        return payload

    def cancelled_while_running(
        self, intake: Intake, seq: int, method: int, call: bytes = b""
    ) -> None:
        """Reply to a call that was told that it is cancelled, and returned all the same."""
        self.failed(intake, seq, method, cancelled_to_the_end(), call)

    def not_run(self, intake: Intake, seq: int, method: int, error: BaseException) -> None:
        """Reply to a call whose arguments could not be had."""
        if isinstance(error, TaskError):
            payload, _, _ = pack_exception(error, self.names.get(method, ""), pid=os.getpid())
            self.process.callee.reply(intake, seq, batches.USER_ERROR, payload)
        elif isinstance(error, ZactorError):
            self.reply_error(intake, seq, error)
        else:
            self.failed(intake, seq, method, error)

    def reply_error(self, intake: Intake, seq: int, error: ZactorError) -> None:
        """Reply with an error of zactor's."""
        self.process.callee.reply(intake, seq, batches.ERROR, to_wire(error))

    def settle_references(self, call: bytes, peer: Any, refs: Any, named: Any) -> None:  # noqa: ARG002
        """The call is over without a value that has references."""
        if call:
            self.process.objects.call_finishes(call, peer.id, ())

    @staticmethod
    def _is_retried(error: BaseException, extras: dict[int, Any]) -> bool:
        kinds = extras[batches.X_RETRY][1]
        if kinds is True:
            return isinstance(error, Exception)
        allowed = unpickle_plain(kinds)
        cause = getattr(error, "cause", None)
        return isinstance(error, tuple(allowed)) or isinstance(cause, tuple(allowed))

    # -- cancel --------------------------------------------------------------------------------

    def cancel(self, intake: Intake, seq: int, flags: int) -> None:
        """Cancel a call of the main thread. On the leader."""
        with self._cancel_lock:
            if self.seq == seq and self.intake is intake:
                if flags & batches.C_FORCE and not self.actor_id:
                    os.kill(os.getpid(), signal.SIGKILL)
                if flags & batches.C_RECURSIVE:
                    cancel_made_since(self.process, self.first_made, flags)
                if self.polled == (intake, seq):
                    self.flagged = (intake, seq)  # it asks by itself
                    return
                self._cancel_target = (intake, seq)
                _send_cancel()
            elif not (self.intake is intake and 0 < seq < self.seq) and seq > 0:
                intake.cancel(seq)

    def on_cancel_signal(self, number: int, frame: Any) -> None:  # noqa: ARG002
        """Raise in the main thread if the call to cancel still runs there. A signal handler."""
        target = self._cancel_target
        if target is None or target != (self.intake, self.seq) or not self.seq:
            return
        if not interrupts.may_raise(frame):
            interrupts.later(_send_cancel)
            return
        self._cancel_target = None
        self.is_cancelled = True
        raise KeyboardInterrupt


def is_main_thread() -> bool:
    """Whether this is the process's main thread."""
    return (
        threading.get_ident() == _main_ident
        or threading.current_thread() is threading.main_thread()
    )


_main_ident = threading.main_thread().ident


def interrupted(error: BaseException) -> TaskCancelledError:
    """Return what a call that was cancelled while it ran raises at `get`: with where it was.

    Sent like an error of the user's: there it is a TaskError as well, as Ray's is.
    """
    found = TaskCancelledError(executed="unknown").with_traceback(error.__traceback__)
    found.__suppress_context__ = True
    return found


def cancelled_to_the_end() -> TaskCancelledError:
    """Return what a call raises at `get` that was told of its cancelling, and went on to its end."""
    return TaskCancelledError(
        "It was cancelled while it ran, and has returned; what it returned is dropped.",
        executed="yes",
    )


def _send_cancel() -> None:
    signal.pthread_kill(_main_ident or 0, CANCEL_SIGNAL)


def _yes() -> bool:
    return True


def is_coroutine_function(function: Any) -> bool:
    """Whether calling it makes a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


protected(
    Execution.run,
    Execution.enter,
    Execution.leave,
    Execution.encode_simple,
    Execution.seq_over,
    Execution.special,
    Execution.finish,
    Execution.returned,
    Execution.failed,
    Execution.not_run,
    Execution.prepare,
)
