"""Which node has most of what a task is going to read.

Only values in the stores of nodes count: what travels with the call is nowhere else.
"""

from __future__ import annotations

from typing import Any

from zactor.wire.batches import STORED, X_SLOTS, X_STORED


def node_with_most(extras: dict[int, Any], home: bytes) -> bytes:
    """Return the node that has more bytes of a call's arguments than `home` has, and most; or b""."""
    slots = extras.get(X_SLOTS)
    stored = extras.get(X_STORED)
    if not slots and not stored:
        return b""
    sizes: dict[bytes, int] = {home: 0}
    places = [row[2] for row in slots or () if row[1] == STORED]
    if stored:
        places.append(stored[0])
    for place in places:
        sizes[place[2]] = sizes.get(place[2], 0) + place[1]
    most = max(sizes, key=sizes.__getitem__)  # of equals the first: home
    return b"" if most == home else most
