"""The way of a call through caller and callee, with the codec but no socket between them."""

from __future__ import annotations

import threading
from itertools import count
from typing import TYPE_CHECKING, Any

from bench.micro import Piece
from zactor.core.calls import NATIVE, PENDING, Result, Stream
from zactor.core.link import Link
from zactor.ids import PROCESS_ID_SIZE
from zactor.runtime.calls.caller import Caller
from zactor.runtime.hosting.callee import Callee
from zactor.wire import batches, codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HERE, THERE = b"h" * PROCESS_ID_SIZE, b"t" * PROCESS_ID_SIZE
ACTOR = b"a" * PROCESS_ID_SIZE
CALLER = HERE + bytes(4)


class Wire:
    """Stands in for a peer: packs what is sent and hands it, unpacked, to the other side."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.link = Link()
        self.channels: list[Any] = []
        self.replies: list[Any] = []
        self.calls: Any = None
        self.takes_singles = False
        self.deliver: Callable[..., None] = lambda *_: None

    def transmit(self, kind: int, body: Any, frames: Sequence[bytes] = ()) -> None:
        """Pack, unpack, deliver."""
        packed = codec.pack([codec.VERSION, kind, HERE, THERE, 1, 0, body])
        self.deliver(kind, codec.unpack_envelope(packed)[6], frames)


class Post:
    """Stands in for the post office: remembers who handles which kind."""

    def __init__(self) -> None:
        self.handlers: dict[int, Callable[..., None]] = {}

    def on_kind(self, kind: int, handler: Callable[..., None], check: Any = None) -> None:
        """Remember the handler; what it is given is right."""
        self.handlers[kind] = handler


class Host:
    """Stands in for an actor whose method returns b"ok"."""

    life = 1

    def __init__(self, callee: Callee) -> None:
        self.callee = callee

    def put(self, run: tuple[Any, ...]) -> None:
        """Run a batch."""
        intake, seq, _, calls = run[:4]
        for at in range(len(calls) >> 1):
            self.callee.reply(intake, seq + at, batches.NATIVE, b"ok")
        self.callee.flush()


class Path:
    """A caller and a callee joined by two wires."""

    def __init__(self) -> None:
        here, there = Post(), Post()
        self.caller = Caller(here, lambda: None)
        callee = Callee(there)
        callee.hosts[ACTOR] = Host(callee)
        out, back = Wire(), Wire()
        out.deliver = lambda kind, body, frames: there.handlers[kind](back, body, frames)
        back.deliver = lambda kind, body, frames: here.handlers[kind](out, body, frames)
        here.peer = lambda _: out  # type: ignore[attr-defined]
        self.numbers = count(1)
        self.stream = Stream(CALLER, ACTOR, 1, self.numbers)
        outgoing = self.caller.outgoing(None)  # type: ignore[arg-type]
        self.caller.make_way(self.stream, outgoing, Host.life)
        self.outgoing = outgoing

    def calls(self, n: int) -> None:
        """Submit n calls, send them together, and see them settled."""
        stream, numbers, gathered = self.stream, self.numbers, self.outgoing.gathered
        for _ in range(n):
            gathered.append(Result(stream, next(numbers), 3, None, None, 0))
        last = gathered[-1]
        self.outgoing.flush()
        assert last.state != PENDING
        assert last.state == NATIVE


def pieces() -> Iterator[Piece]:
    """One call at a time, and 64 to a message."""
    path = Path()
    for n in (1, 64):
        yield Piece(
            f"calls: submit, send, take, reply, settle; {n} to a message, per call",
            lambda n=n: path.calls(n),
            n,
        )
