"""One call, run: arguments in, user code, result out. What all hosts have in common.

An `Execution` belongs to one actor (or to the tasks of one worker). The main host keeps its fast
path to itself and comes here for whatever is not plain: references or buffers in arguments or results, several
return values, retries, cancels, errors.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from time import perf_counter
from typing import TYPE_CHECKING, Any

from zactor.exceptions import (
    DeadlineExceededError,
    SerializationError,
    TaskCancelledError,
)
from zactor.runtime.calls.cancelling import cancel_made_since
from zactor.runtime.hosting.again import runs_again
from zactor.runtime.hosting.arguments import arguments_of
from zactor.runtime.hosting.functions import Functions
from zactor.runtime.hosting.replying import NATIVE_TYPES, Replies
from zactor.runtime.hosting.running_call import (
    Arrived,
    Call,
    StopServing,
    current_call,
    is_main_thread,
    main_ident,
)
from zactor.runtime.links import interrupts
from zactor.runtime.links.interrupts import enters_user_code, protected
from zactor.serde.pickling import unpickle_plain
from zactor.wire import batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.core.intake import Intake
    from zactor.runtime.process import Process

CANCEL_SIGNAL = signal.SIGRTMIN + 3


def _given(arguments: Any) -> str:
    """Return the name that a call's arguments give it, if any."""
    return str(arguments[1].get(batches.X_NAME, "")) if type(arguments) is list else ""


class Execution(Replies):
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
        self.cancel_target: tuple[Intake, int] | None = None
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

    def _main_call(self, seq: int) -> tuple[int, Any]:
        """Return method number and arguments of a call that the main thread runs."""
        first, calls = self.run_calls
        at = 2 * (seq - first)
        return (calls[at], calls[at + 1]) if 0 <= at < len(calls) else (0, None)

    def name_of(self, call: Call) -> str:
        """Return the name of the method or function that runs."""
        if call.task is not None:
            return call.function
        return self.names.get(self._main_call(call.seq)[0], "")

    def module_of(self, call: Call) -> str:
        """Return the module of what runs."""
        if self.label:
            return type(self.instance).__module__
        function = self.functions.get(self._main_call(call.seq)[0])
        return str(getattr(function, "__module__", None) or "")

    def name_given(self, call: Call) -> str:
        """Return the name that the caller gave the call, if any."""
        if call.task is not None:
            return ""
        return _given(self._main_call(call.seq)[1])

    def printing(self) -> str:
        """Return what a worker's tasks print under: the name of the one that runs. Any thread."""
        if not self.seq:
            return ""
        method, arguments = self._main_call(self.seq)
        return _given(arguments) or self.names.get(method, "")

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
        self.run(Arrived(intake, seq, number, method, payload, extras, frames))

    def run(self, arrived: Arrived) -> None:
        """Run one call to its reply: in the main thread, or in a thread of a pool."""
        deadline = arrived.extras.get(batches.X_DEADLINE)
        if deadline is None:
            self._run(arrived)
            return
        from zactor.runtime.calls.deadlines import Inherited

        with Inherited(deadline):
            self._run(arrived)

    @enters_user_code
    def _run(self, arrived: Arrived) -> None:
        intake, seq, _, method, _, extras, _ = arrived
        peer = intake.peer
        call = arrived.object_id
        refs: list[Any] = []
        try:
            function, args, kwargs, refs = self.prepare(call, arrived)
        except BaseException as error:  # noqa: BLE001 - unpickling runs user code
            self.settle_references(call, peer, refs, ())
            self.not_run(intake, seq, method, error)
            return
        if extras.get(batches.X_RETURNS, 1) < 0:
            from zactor.runtime.hosting.outflow import run_stream

            run_stream(self, arrived, function, args, kwargs, call if refs else b"")
            return
        while True:
            try:
                value = function(*args, **kwargs)
                break
            except StopServing:
                raise
            except BaseException as error:  # noqa: BLE001 - user code
                if runs_again(self.process, intake, seq, error, extras):
                    continue
                args = kwargs = None
                self.failed(intake, seq, method, error, call if refs else b"")
                return
        if is_main_thread():
            self.seq_over()
        args = kwargs = None
        self.finish(arrived, value, call if refs else b"")

    def seq_over(self) -> None:
        """The user's code has returned: a cancel must not hit what comes after."""
        self.seq = 0

    def prepare(self, call: bytes, arrived: Arrived) -> tuple[Any, Any, Any, list[Any]]:
        """Return `(function, args, kwargs, references)` of a call that is about to run."""
        intake, _, _, method, _, extras, _ = arrived
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
        args, kwargs = arguments_of(self, arrived, refs)
        if method == batches.APPLY:
            function, *rest = args
            return function, (self.instance, *rest), kwargs, refs
        if method == batches.READY:
            return _yes, (), {}, refs
        found = self.functions.get(method)
        if found is None:
            raise SerializationError(f"method number {method} is not one of {self.label}'s")
        return found, args, kwargs, refs

    def finish(self, arrived: Arrived, value: Any, call: bytes) -> None:
        """Send the result of a call that returned; `call` names it if its arguments had references."""
        intake, seq, number, method = arrived[:4]
        running = current_call.get()
        if self.flagged == (intake, seq) or (running is not None and running.is_told):
            self.cancelled_while_running(intake, seq, method, call)
            return
        returns = arrived.extras.get(batches.X_RETURNS, 1)
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
                self.cancel_target = (intake, seq)
                _send_cancel()
            elif not (self.intake is intake and 0 < seq < self.seq) and seq > 0:
                intake.cancel(seq)

    def on_cancel_signal(self, number: int, frame: Any) -> None:  # noqa: ARG002
        """Raise in the main thread if the call to cancel still runs there. A signal handler."""
        target = self.cancel_target
        if target is None or target != (self.intake, self.seq) or not self.seq:
            return
        if not interrupts.may_raise(frame):
            interrupts.later(_send_cancel)
            return
        self.cancel_target = None
        self.is_cancelled = True
        raise KeyboardInterrupt


def _send_cancel() -> None:
    signal.pthread_kill(main_ident or 0, CANCEL_SIGNAL)


def _yes() -> bool:
    return True


protected(
    Execution.run,
    Execution.enter,
    Execution.leave,
    Execution.seq_over,
    Execution.special,
    Execution.finish,
    Execution.prepare,
)
