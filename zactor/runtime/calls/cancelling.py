"""Cancelling calls that this process has made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zactor.core.calls import PENDING
from zactor.exceptions import TaskCancelledError
from zactor.runtime.calls.several import Part
from zactor.runtime.objects.objects import Borrowed
from zactor.wire.batches import C_FORCE, C_RECURSIVE, NO_CHANNEL
from zactor.wire.codec import CANCEL

if TYPE_CHECKING:
    from zactor.core.calls import Result
    from zactor.runtime.offered import Offered


def cancel_result(process: Offered, result: Result, *, force: bool, recursive: bool) -> None:
    """Cancel a pending call: at once if it has not left this process, else where it runs."""
    flags = (C_RECURSIVE if recursive else 0) | (C_FORCE if force else 0)
    if result.state == PENDING and type(result) is Borrowed:  # its owner has made the call
        peer = process.post.peer(result.owner)
        with peer.lock:
            peer.transmit(CANCEL, [NO_CHANNEL, result.id, flags])
        return
    if result.state != PENDING or result.stream is None:
        return
    with process.caller.lock:
        stream = result.stream
        outgoing = getattr(stream, "outgoing", None)
        if outgoing is not None:
            outgoing.flush()
        seq = getattr(result, "seq", None)
        if seq is None or getattr(stream, "pending", {}).get(seq) is not result:
            process.caller.fail(result, TaskCancelledError(executed="no"))
            if hasattr(stream, "held"):
                process.caller.release(stream)
            return
        result.retries = 0
        process.caller.cancel_sent(stream, seq, flags)
    process.flush()


def cancel_shared(process: Offered, object_id: bytes, flags: int) -> None:
    """Cancel a call of ours for a process that has a reference to its result."""
    result = process.objects.shared(object_id)
    if isinstance(result, Part):
        result = result.call
    if result is not None:
        force = bool(flags & C_FORCE) and hasattr(result, "queue")
        cancel_result(process, result, force=force, recursive=bool(flags & C_RECURSIVE))


def cancel_made_since(process: Offered, number: int, flags: int) -> None:
    """Cancel what the process's present caller has called since its call number `number`."""
    streams = list(process.identity.streams.values()) + process.tasks.streams()
    made = [
        result
        for stream in streams
        for result in [*stream.pending.values(), *stream.held]
        if result.number >= number
    ]
    made += [result for result in process.tasks.waiting() if result.number >= number]
    for result in made:
        cancel_result(
            process,
            result,
            force=bool(flags & C_FORCE) and hasattr(result, "queue"),
            recursive=True,
        )
