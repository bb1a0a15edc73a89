"""Calls on their way to one peer: gathered, numbered, packed and sent as batches.

The first call to a peer that owes no reply leaves at once; later ones gather until the peer
answers, 64 are gathered, the thread is about to block, or the pump gets to them.

Owned by: the caller's lock, but for `gathered` (appended to by any thread) and `settled` (the leader's).
"""

from __future__ import annotations

from collections import deque
from time import time as wall_clock
from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, Result, Stream, payload_size
from zactor.exceptions import SerializationError
from zactor.runtime.links.interrupts import protect_module
from zactor.transport.limits import MAX_MESSAGE
from zactor.wire import batches
from zactor.wire.codec import CALLS, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zactor.runtime.calls.caller import Caller
    from zactor.runtime.links.peer import Peer

BATCH_CALLS = 64  # gathered calls that leave without waiting for more
BATCH_BYTES = 64 << 10
MANY_SINGLES = 8  # calls to an actor each for which it is worth to look for more
SMALL = 4_096  # bytes of arguments
MESSAGE_CALLS = 1_024  # calls in one message at the most
MAX_FRAME = MAX_MESSAGE - (1 << 20)  # of arguments; the peer's socket refuses larger messages

_UNPACKABLE = (TypeError, ValueError, OverflowError, RecursionError)


class Outgoing:
    """Calls on their way to one peer.

    Attributes:
        gathered: Calls that were submitted and have not left, in order.
        streams: The streams by the channel numbers they were defined under.
        sent: Calls that have left, ever. Written under the caller's lock.
        settled: Calls that were settled, ever. Written by the leader.
        is_gathering: The pump knows that something is gathered.
        blocked: Streams that are released once the link has room.
    """

    __slots__ = (
        "blocked",
        "caller",
        "gathered",
        "is_busy",
        "is_gathering",
        "lease",
        "peer",
        "sent",
        "settled",
        "streams",
    )

    def __init__(self, caller: Caller, peer: Peer) -> None:
        self.caller = caller
        self.peer = peer
        self.gathered: deque[Result] = deque()
        self.streams: list[Stream] = []
        self.sent = 0
        self.settled = 0
        self.blocked: dict[Stream, None] = {}
        self.is_gathering = False
        self.is_busy = False
        self.lease: Any = None

    def start_gathering(self) -> None:
        """Tell the pump that something waits for company."""
        self.is_gathering = True
        self.caller.gathering.append(self)
        self.caller.on_gathered()

    def flush(self) -> None:
        """Send what is gathered."""
        with self.caller.lock:
            if self.is_busy:
                return  # re-entered by a finalizer of user code: the outer flush goes on
            self.is_busy = True
            try:
                self.is_gathering = False
                while self.gathered:
                    with self.peer.lock:
                        is_full = self.peer.link.is_full
                        if not is_full and not (
                            self.peer.takes_singles
                            and self.lease is None
                            and self._send_singles()
                        ):
                            self._send_batch()
                    if is_full:
                        self._take_back()
            finally:
                self.is_busy = False

    def waits_for_room(self, stream: Stream) -> bool:
        """Whether the link is full; if so, the stream is released once it is not. Under the lock."""
        with self.peer.lock:
            if not self.peer.link.is_full:
                return False
            self.blocked[stream] = None
            self.peer.needs_room = True
        stream.is_open = False
        return True

    def room(self) -> None:
        """The link is not full any more. On the leader."""
        with self.caller.lock:
            blocked, self.blocked = self.blocked, {}
            for stream in blocked:
                self.caller.release(stream)

    def _take_back(self) -> None:
        """Have what is gathered wait on its streams: the link is full."""
        for stream, results in _by_stream(self.take_gathered()).items():
            stream.put_back(results)
            if not self.waits_for_room(stream):
                self.caller.release(stream)  # acknowledged meanwhile

    def take_gathered(self) -> list[Result]:
        """Remove and return what is gathered now; other threads may be appending to it."""
        popleft = self.gathered.popleft
        return [popleft() for _ in range(len(self.gathered))]

    def _send_batch(self) -> None:  # noqa: C901 - the hot path
        popleft = self.gathered.popleft
        groups: list[Any] = []
        sent_on: list[Stream] = []  # for each group
        frames: Sequence[bytes] = ()
        stream: Stream | None = None
        strays: dict[Stream, list[Result]] = {}  # calls that cannot go (on) this way
        calls: list[Any] = []
        pending: dict[int, Result] = {}
        number = seq = taken = size = 0
        for _ in range(min(len(self.gathered), MESSAGE_CALLS)):
            result = popleft()
            if result.stream is not stream or result.number != number:
                if stream is not None:
                    stream.next_seq = seq
                stream = result.stream
                if (
                    (stream.held and stream.held[0].number < result.number)
                    or len(stream.pending) >= stream.credit
                    or stream.outgoing is not self
                    or stream in strays
                ):
                    strays.setdefault(stream, []).append(result)
                    stream = None
                    continue
                calls = []
                pending = stream.expand()
                seq = stream.next_seq
                number = result.number
                groups.append([self._channel(stream), seq, number, stream.floor(), calls])
                sent_on.append(stream)
            pending[seq] = result
            result.seq = seq
            payload = result.payload
            calls.append(result.method)
            calls.append(payload)
            seq += 1
            number += 1
            taken += 1
            if payload is not None:
                if type(payload) is bytes:
                    size += len(payload)
                else:
                    size += payload_size(result)
                    if result.frames:
                        frames = result.frames
                        break
                if size > BATCH_BYTES:
                    break
        if stream is not None:
            stream.next_seq = seq
        if taken:
            self.sent += taken
            self._transmit(groups, frames, size)
            history, when = self.caller.history, wall_clock()
            for group, stream in zip(groups, sent_on, strict=True):
                history.append((stream, group[2], group[4][::2], when))
        for stray, results in strays.items():
            stray.is_open = False
            stray.put_back(results)
            if stray.outgoing is not self:
                self.caller.release(stray)  # otherwise the next reply does so

    def _send_singles(self) -> bool:
        """Send calls that go to an actor each, if such ones come next, and many of them.

        As groups of their own they take 1.5 us more, half of it for the garbage collector.
        """
        gathered = self.gathered
        if len(gathered) < MANY_SINGLES or gathered[0].stream is gathered[1].stream:
            return False
        groups: list[Any] = []
        sent_on: list[Any] = []  # for each group: its streams, or its stream
        flat: list[Any] = []  # of the last group, if it is one of single calls
        streams: list[Stream] = []  # and its streams
        number = taken = size = 0
        while gathered and taken < MESSAGE_CALLS and size < BATCH_BYTES:
            result = gathered[0]
            stream, payload = result.stream, result.payload
            if (
                stream.held
                or stream.outgoing is not self
                or (
                    payload is not None and (type(payload) is not bytes or len(payload) > SMALL)
                )
                or (len(gathered) > 1 and gathered[1].stream is stream)
                or len(stream.several) >= stream.credit
            ):
                break
            gathered.popleft()
            channel = stream.channel
            if channel < 0:
                channel = self._channel(stream)
            seq = result.seq = stream.next_seq
            stream.next_seq = seq + 1
            if stream.single is not None or stream.several:
                stream.expand()[seq] = result
                calls = [result.method, payload]
                groups.append([channel, seq, result.number, stream.floor(), calls])
                sent_on.append(stream)
                flat = []
            else:
                if not flat or number != result.number:
                    number, flat, streams = result.number, [], []
                    groups.append([None, number, flat])
                    sent_on.append(streams)
                stream.single = result
                flat += (channel, seq, result.method, payload)
                streams.append(stream)
                number += 1
            taken += 1
            if payload is not None:
                size += len(payload)
        if taken:
            self.sent += taken
            self._transmit(groups, (), size)
            history, when = self.caller.history, wall_clock()
            for group, leaving in zip(groups, sent_on, strict=True):
                is_run = group[0] is not None
                methods = group[4][::2] if is_run else group[2][2::4]
                history.append((leaving, group[2] if is_run else group[1], methods, when))
        return taken > 0

    def _transmit(self, groups: list[Any], frames: Sequence[bytes], size: int) -> None:
        if size:
            self.caller.sent_payload(self, size)
        try:
            if size <= MAX_FRAME:
                self.peer.transmit(CALLS, groups, frames)
                return
        except _UNPACKABLE:
            pass
        for group in groups:
            if group[0] is not None and self._void_unsendable(group):
                frames = ()
        self.peer.transmit(CALLS, groups, frames)

    def _void_unsendable(self, group: list[Any]) -> bool:
        """Make the calls of a group that cannot be sent void, and say why (O3).

        Returns:
            Whether the one that the frames belong to is among them.
        """
        channel, seq, calls = group[0], group[1], group[4]
        stream = self.streams[channel if type(channel) is int else -1]
        had_frames = False
        for at in range(0, len(calls), 2):
            result = stream.pending[seq + at // 2]
            try:
                size = max(map(len, (pack(calls[at : at + 2]), *(result.frames or ()))))
                if size <= MAX_FRAME:
                    continue
                text = (
                    f"arguments of {size:,} bytes are too large to be sent along with a call "
                    f"({MAX_FRAME:,} at the most): put() them and pass the reference"
                )
            except _UNPACKABLE as error:
                text = f"the options or references of a call cannot be sent: {error!r}"
            had_frames = had_frames or bool(result.frames)
            calls[at : at + 2] = [batches.VOID, None]
            del stream.pending[result.seq]
            self.settled += 1
            result.settle(ERROR, SerializationError(text, executed="no"))
        return had_frames

    def _channel(self, stream: Stream) -> Any:
        if stream.channel >= 0:
            return stream.channel
        stream.channel = len(self.streams)
        self.streams.append(stream)
        return [stream.caller, stream.actor, stream.life, stream.number, stream.version]


def _by_stream(results: list[Result]) -> dict[Stream, list[Result]]:
    streams: dict[Stream, list[Result]] = {}
    for result in results:
        streams.setdefault(result.stream, []).append(result)
    return streams


protect_module(__name__)
