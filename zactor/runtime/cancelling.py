"""Cancelling calls that this process has made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, PENDING
from zactor.exceptions import TaskCancelledError
from zactor.wire.batches import C_FORCE, C_RECURSIVE
from zactor.wire.codec import CANCEL_OBJECT

if TYPE_CHECKING:
    from zactor.core.calls import Result
    from zactor.runtime.process import Process


def cancel_result(process: Process, result: Result, *, force: bool, recursive: bool) -> None:
    """Cancel a pending call: at once if it has not left this process, else where it runs."""
    if result.state != PENDING:
        return
    flags = (C_RECURSIVE if recursive else 0) | (C_FORCE if force else 0)
    owner = getattr(result, "owner", None)
    if owner is not None:  # borrowed: it is for the owner, who has made the call
        peer = process.post.peer(owner)
        with peer.lock:
            peer.transmit(CANCEL_OBJECT, [result.object_id(), flags])
        process.flush()
        return
    if result.stream is None:
        return
    with process.caller.lock:
        stream = result.stream
        outgoing = getattr(stream, "outgoing", None)
        if outgoing is not None:
            outgoing.flush()
        seq = getattr(result, "seq", None)
        if seq is None or getattr(stream, "pending", {}).get(seq) is not result:
            result.settle(ERROR, TaskCancelledError(executed="no"))
            if hasattr(stream, "held"):
                process.caller.release(stream)
            return
        result.retries = 0
        process.caller.cancel_sent(stream, seq, flags)
    process.flush()


def install(process: Process) -> None:
    """Have holders of references to this process's calls cancel them."""

    def cancel_object(peer: Any, body: Any, frames: Any) -> None:  # noqa: ARG001
        object_id, flags = body[:2]
        result: Any = process.objects.shown(object_id)
        if result is not None:
            result = getattr(result, "call", result)  # one of several values
            force = bool(flags & C_FORCE) and hasattr(result, "queue")
            cancel_result(process, result, force=force, recursive=bool(flags & C_RECURSIVE))

    process.post.on_kind(CANCEL_OBJECT, cancel_object)


def cancel_made_since(process: Process, number: int, flags: int) -> None:
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
