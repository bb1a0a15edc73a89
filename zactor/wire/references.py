"""Reference messages: what processes tell each other about who holds which object.

They travel between a holder and an owner, or between the two ends of a call, on the same link
as calls and replies and in order with them; `pack` flattens a batch for the codec. What they
mean, and why they suffice, is said in `core.ownership`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from zactor.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Hold(NamedTuple):
    """Holder to owner: I have a reference now. Answered by `Held` or `Gone`."""

    object_id: bytes


class Held(NamedTuple):
    """Owner to holder: entered; the object stays while you do."""

    object_id: bytes


class Gone(NamedTuple):
    """Owner to holder: there is no such object any more."""

    object_id: bytes


class Drop(NamedTuple):
    """Holder to owner: my last reference is gone. Never sent before the `Held`."""

    object_id: bytes


class Confirmed(NamedTuple):
    """Callee to caller, after a reply marked `unconfirmed`: I hold for myself what I kept."""

    call: bytes


class Taken(NamedTuple):
    """Receiver of a value to its sender: I hold for myself the references it contained."""

    reply: bytes


ReferenceMessage: TypeAlias = Hold | Held | Gone | Drop | Confirmed | Taken

# Codes on the wire are positions in this tuple; they are never re-used.
REFERENCE_TYPES: tuple[type[ReferenceMessage], ...] = (Hold, Held, Gone, Drop, Confirmed, Taken)
_CODES = {kind: code for code, kind in enumerate(REFERENCE_TYPES)}


def pack(messages: Iterable[ReferenceMessage]) -> list[Any]:
    """Flatten a batch into `[code, id, code, id, ...]`."""
    flat: list[Any] = []
    for message in messages:
        flat.append(_CODES[type(message)])
        flat.append(message[0])
    return flat


def unpack(flat: Sequence[Any]) -> list[ReferenceMessage]:
    """Restore a batch.

    Raises:
        ValueError: `flat` was not made by `pack`.
    """
    codes, ids = flat[::2], flat[1::2]
    if len(codes) != len(ids):
        raise ValueError("a reference message has no id")
    batch = []
    for code, name in zip(codes, ids, strict=True):
        if (
            type(code) is not int
            or not 0 <= code < len(REFERENCE_TYPES)
            or type(name) is not bytes
        ):
            raise ValueError(f"not a reference message: {code!r} {name!r}")
        batch.append(REFERENCE_TYPES[code](name))
    return batch
