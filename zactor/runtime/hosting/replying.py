"""What becomes of a call that has run: its value, its error, as the reply that its caller gets.

`Execution` runs the call; `Callee` gathers the reply and sends it. What the caller may ask for is
decided here: several values, values in the store, references in them, exceptions with where they were.
"""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any

from zactor.exceptions import (
    SerializationError,
    TaskCancelledError,
    TaskError,
    ZactorError,
    to_wire,
)
from zactor.ids import pack_object_id
from zactor.runtime.calls.arguments import references_of
from zactor.runtime.calls.several import take_values
from zactor.runtime.calls.values import LARGE
from zactor.runtime.hosting.arguments import ArgumentsMissingError
from zactor.runtime.hosting.running_call import StopServing
from zactor.runtime.links.interrupts import protected
from zactor.serde.exceptions import pack_exception, pack_task_error
from zactor.serde.values import dumps
from zactor.wire import batches
from zactor.wire.batches import EXTRA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zactor.core.intake import Intake
    from zactor.runtime.process import Process

NATIVE_TYPES = frozenset((type(None), bool, int, float, bytes))
"""Results of these types travel as msgpack's own values: 0.4 us less than pickling, both ways.

str is not among them: one with surrogates cannot be packed."""


class Replies:
    """The replies of one actor's calls, or of the tasks of one worker.

    Attributes:
        label: Class name; "" for tasks.
        names: The name of each method number, for errors and listings.
        actor_repr: Its repr, for errors.
        offset: What to add to a seq of the present run to have the call's number.
        method: The method number of the call that the main thread runs.
        is_cancelled: Whether that is.
        flagged: The cancelled one of the calls that ask whether they are: intake and seq.
        cancel_target: The call that the signal on its way is for: intake and seq.
    """

    process: Process
    label: str
    names: dict[int, str]
    actor_id: str
    actor_repr: str
    offset: int
    method: int
    is_cancelled: bool
    flagged: Any
    cancel_target: tuple[Intake, int] | None

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
            return batches.USER_ERROR, self.packed(error, self.method)

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
        try:
            status, value, frames, refs = self.pack_value(object_id, intake, encoded)
        except ZactorError as error:
            self.failed(intake, seq, method, error, call)
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
        """Return `(status, value, frames, references)` of something encoded.

        Raises:
            SerializationError: It could not be.
            ObjectStoreFullError: There is no room for it.
        """
        if isinstance(encoded, SerializationError):
            raise encoded
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
            late = self.packed(error, method)
        wire: list[list[Any]] = []
        named: list[Any] = []
        for index, part in enumerate(parts):
            object_id = pack_object_id(intake.caller, number, index)
            status, encoded = self.encode_simple(part)
            if status < 0:
                try:
                    status, encoded, frames, refs = self.pack_value(object_id, intake, encoded)
                except ZactorError as error:
                    wire.append([batches.USER_ERROR, self.packed(error, method)])
                    continue
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
            isinstance(error, TaskCancelledError) and self.cancel_target == (intake, seq)
        ):
            self.is_cancelled = False
            error = interrupted(error)
        payload = self.packed(error, method)
        self.settle_references(call, intake.peer, (), ())
        self.process.callee.reply(intake, seq, batches.USER_ERROR, payload)

    def packed(self, error: BaseException, method: int) -> bytes:
        payload: bytes = pack_exception(
            error,
            self._named(method),
            pid=os.getpid(),
            actor_repr=self.actor_repr,
            actor_id=self.actor_id,
        )[0]
        return payload

    def _named(self, method: int) -> str:
        name = self.names.get(method, "")
        return f"{self.label}.{name}" if self.label else name

    def cancelled_while_running(
        self, intake: Intake, seq: int, method: int, call: bytes = b""
    ) -> None:
        """Reply to a call that was told that it is cancelled, and returned all the same."""
        self.failed(intake, seq, method, cancelled_to_the_end(), call)

    def not_run(self, intake: Intake, seq: int, method: int, error: BaseException) -> None:
        """Reply to a call whose arguments could not be had."""
        if isinstance(error, ArgumentsMissingError):
            self.process.callee.reply(intake, seq, batches.HANDED_BACK, error.missing)
        elif isinstance(error, TaskError):  # of an argument
            payload = pack_task_error(error, self._named(method))
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


protected(
    Replies.encode_simple,
    Replies.returned,
    Replies.failed,
    Replies.not_run,
)
