"""Messages and their bytes: one ZeroMQ message is one envelope, packed with msgpack.

    frame 0    [version, kind, source, destination, seq, ack, body]
    frame 1..  opaque payload frames that the body refers to by position

`source` and `destination` are process ids. `seq` numbers the messages from source to destination
over the whole life of the link (0: outside the sequence); `ack` is the highest seq received the
other way. What follows the body is ignored, so that later versions can add to it.

Knows nothing of sockets, and nothing of what a payload means. The layouts of calls and replies
are in `batches`; control messages are the tuples of `messages`.

Invariants
    W1  `unpack(pack(m)) == m` for every message.
    W2  No input makes `unpack_envelope` or `unpack_control` raise anything but ProtocolError.
"""

from __future__ import annotations

from typing import Any

import msgpack

from zactor.exceptions import RemoteProtocolError
from zactor.ids import PROCESS_ID_SIZE
from zactor.wire.messages import CODES

VERSION = 1

# Kinds below 16 are the link's own and the data plane's; a control message's kind is its code.
HELLO = 1
WELCOME = 2
REFUSED = 3
ACK = 4
CALLS = 5
REPLIES = 6
REFERENCES = 7
CANCEL = 8
OBJECT_WANTED = 9  # the values of references are wanted of their owner
OBJECT_VALUE = 10  # values that were wanted
WAITS = 11
HOP_LOST = 13  # a relay could not pass something on, or may have lost it: greet again
STREAM = 12
CHUNK = 14  # a piece of a stored value, in a frame: answers a `ReadSegment`
WHY = 15  # why a result is not there yet: a question, or its answer

FIRST_CONTROL = min(CODES)

_codes: dict[type, int] = {message: code for code, message in CODES.items()}
pack = msgpack.packb
"""`packb` itself: the hot path packs a whole envelope with one call."""
unpackb = msgpack.unpackb
"""The same for what arrives; it raises anything, see `unpack_envelope`."""


def unpack_envelope(data: bytes) -> list[Any]:
    """Return `[version, kind, source, destination, seq, ack, body, ...]`.

    Raises:
        RemoteProtocolError: The bytes are no envelope of a version that is understood.
    """
    try:
        envelope = msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise RemoteProtocolError(f"a message that is not msgpack: {error!r}") from None
    if (
        type(envelope) is not list
        or len(envelope) < 7
        or envelope[0] != VERSION
        or type(envelope[1]) is not int
        or type(envelope[2]) is not bytes
        or len(envelope[2]) != PROCESS_ID_SIZE
        or type(envelope[3]) is not bytes
        or type(envelope[4]) is not int
        or type(envelope[5]) is not int
    ):
        raise RemoteProtocolError("a message whose envelope is not understood")
    return envelope


def hello_of_other_version(data: bytes) -> tuple[int, list[Any] | None]:
    """Return the version and the envelope of a hello that only its version makes unreadable."""
    try:
        envelope = msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
        return 0, None
    if (
        type(envelope) is not list
        or len(envelope) < 7
        or type(envelope[0]) is not int
        or envelope[0] == VERSION
        or envelope[1] != HELLO
        or type(envelope[3]) is not bytes
    ):
        return 0, None
    return envelope[0], envelope


def control_code(message: type) -> int:
    """Return the kind of a control message."""
    return _codes[message]


def pack_control(message: Any) -> tuple[int, list[Any]]:
    """Return `(kind, body)` of a control message."""
    return _codes[type(message)], list(message)


def unpack_control(kind: int, body: Any) -> Any:
    """Return the control message of an envelope's kind and body.

    Fields that a newer peer added at the end are ignored.

    Raises:
        RemoteProtocolError: The kind is unknown or fields are missing.
    """
    message: Any = CODES.get(kind)
    if message is None or type(body) is not list:
        raise RemoteProtocolError(f"a control message of unknown kind {kind}")
    width = len(message._fields)
    if len(body) < width:
        raise RemoteProtocolError(f"a {message.__name__} with {len(body)} of {width} fields")
    return message._make(body[:width])
