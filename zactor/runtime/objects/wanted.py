"""Values of borrowed objects: asked of their owners, and given to who asks.

What is asked of one owner at once travels together, and so do the answers that are there already. A value with
frames or references of its own travels alone.

    OBJECT_WANTED   [object ids, the place where a stored one was not found, if it is asked for again]
    OBJECT_VALUE    [[object id, status, value, rows of the references in it], ...]; frames are the last one's

Does not decide how long a value is kept (`core.ownership`), nor make a lost one again (`recovery`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.calls import (
    ERROR,
    NATIVE,
    PENDING,
    PICKLED,
    STORED,
    USER_ERROR,
    Result,
)
from zactor.exceptions import ZactorError, from_wire, to_wire
from zactor.runtime.links.interrupts import protect_module
from zactor.wire import batches
from zactor.wire.codec import OBJECT_VALUE, OBJECT_WANTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zactor.runtime.links.peer import Peer
    from zactor.runtime.objects.objects import Borrowed, Objects
    from zactor.runtime.process import Process
    from zactor.wire.messages import Address

MOST_ASKED = 1_024  # ids in one message
MOST_BYTES = 64 << 10  # of gathered values, about

STATUS_OF = {
    NATIVE: batches.NATIVE,
    PICKLED: batches.PICKLED,
    USER_ERROR: batches.USER_ERROR,
    ERROR: batches.ERROR,
    STORED: batches.STORED,
}
_to_state = {status: state for state, status in STATUS_OF.items()}


class Wanted:
    """What this process wants of others, and others of it."""

    def __init__(self, process: Process, objects: Objects) -> None:
        self._process = process
        self._objects = objects
        process.post.on_kind(OBJECT_WANTED, self._asked, _is_question)
        process.post.on_kind(OBJECT_VALUE, self._answered)

    # -- asking --------------------------------------------------------------------------------

    def ask_all(self, results: Iterable[Borrowed]) -> None:
        """Ask for those that nobody has asked for, all of one owner together."""
        by_owner: dict[Address, list[bytes]] = {}
        for result in results:
            if not result.is_wanted and result.state == PENDING:
                result.is_wanted = True
                by_owner.setdefault(result.owner, []).append(result.id)
        for owner, ids in by_owner.items():
            for at in range(0, len(ids), MOST_ASKED):
                self.ask(owner, [ids[at : at + MOST_ASKED]])

    def ask(self, owner: Address, question: list[Any]) -> None:
        """Send a question; an owner that dies is not waited for."""
        peer = self._process.post.peer(owner)
        with peer.lock:
            peer.transmit(OBJECT_WANTED, question)
        self._objects.watch(owner.process)

    def _answered(self, peer: Peer, body: Any, frames: Sequence[bytes]) -> None:
        last = body[-1]
        for each in body:
            self._arrived(peer, each, frames if each is last else ())

    def _arrived(self, peer: Peer, answer: Any, frames: Sequence[bytes]) -> None:
        objects = self._objects
        object_id, status, value, rows = answer
        if rows:
            objects.value_arrives(object_id, peer.id, None, rows)
        borrowed = objects.awaited(object_id)
        if borrowed is None or borrowed.state != PENDING:
            return
        state = _to_state[status]
        if state == ERROR:
            value = from_wire(value)
        elif state == PICKLED and frames:
            value = (value, frames)
        if rows:
            borrowed.inner = objects.learn(rows)
            objects.keep_inner(object_id, borrowed.inner)
        borrowed.settle(state, value)

    # -- answering -----------------------------------------------------------------------------

    def _asked(self, peer: Peer, body: Any, frames: Sequence[bytes]) -> None:  # noqa: ARG002
        ids, lost = body[0], body[1] if len(body) > 1 else None
        answers: list[list[Any]] = []
        size = 0
        for object_id in ids:
            try:
                result = self._objects.found(object_id, lost)
            except ZactorError as error:
                answers.append([object_id, batches.ERROR, to_wire(error), None])
                continue
            if not result.state or _travels_alone(result):
                self._objects.want(result)
                result.add_waiter(_Answer(self, peer, object_id))
                continue
            status, value, _, _ = self._objects.wire_value(result)
            answers.append([object_id, status, value, None])
            size += len(value) if type(value) in (bytes, str) else 16
            if size >= MOST_BYTES:
                self._send(peer, answers)
                answers, size = [], 0
        if answers:
            self._send(peer, answers)

    def answer(self, peer: Peer, object_id: bytes, result: Result) -> None:
        """Send a value to a process that asked for it."""
        status, value, rows, frames = self._objects.wire_value(result)
        if rows:
            self._objects.value_leaves(object_id, peer.id, result.inner)
        self._send(peer, [[object_id, status, value, rows]], frames)

    def _send(self, peer: Peer, answers: list[Any], frames: Sequence[bytes] = ()) -> None:
        with peer.lock:
            peer.transmit(OBJECT_VALUE, answers, frames)


class _Answer:
    """Sends a value to a peer once it is settled."""

    __slots__ = ("_object_id", "_peer", "_wanted")

    def __init__(self, wanted: Wanted, peer: Peer, object_id: bytes) -> None:
        self._wanted = wanted
        self._peer = peer
        self._object_id = object_id

    def settled(self, result: Result) -> None:
        """On the leader."""
        self._wanted.answer(self._peer, self._object_id, result)


def _travels_alone(result: Result) -> bool:
    return bool(result.inner) or (result.state == PICKLED and type(result.value) is tuple)


def _is_question(body: Any) -> bool:
    """Whether a handler's failure is not the sender's fault."""
    return (
        type(body) is list
        and len(body) in (1, 2)
        and type(body[0]) is list
        and all(type(each) is bytes for each in body[0])
    )


protect_module(__name__)
