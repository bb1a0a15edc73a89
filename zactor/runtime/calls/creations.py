"""Shared actors that are about to be created: gathered, to leave with one message for many.

They leave when the thread is about to wait, when many are gathered, or a moment later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.exceptions import from_wire
from zactor.wire.messages import CreateActors

if TYPE_CHECKING:
    from zactor.runtime.process import Process

CREATE_MANY = 500


class Creations:
    """What one process has gathered. Guarded by the caller's lock."""

    def __init__(self, runtime: Process) -> None:
        self.runtime = runtime
        self.spec: dict[str, Any] | None = None
        self.rows: list[Any] = []

    def add(self, spec: dict[str, Any], actor: bytes, args: Any) -> None:
        """Have an actor created soon."""
        runtime = self.runtime
        with runtime.caller.lock:
            if spec is not self.spec:
                self.flush()
                self.spec = spec
            self.rows.append([actor, args])
            if len(self.rows) >= CREATE_MANY:
                self.flush()
            elif len(self.rows) == 1:
                runtime.reception.gathered()

    def flush(self) -> None:
        """Send what is gathered."""
        runtime = self.runtime
        with runtime.caller.lock:
            rows, self.rows = self.rows, []
            if not rows:
                return
            assert self.spec is not None
            future = runtime.post.request(runtime.broker, CreateActors(0, self.spec, rows))

        def answered(done: Any) -> None:
            error = done.exception()
            if error is not None:
                for row in rows:
                    runtime.actors.fail(runtime.actors.view(row[0]), error)
                return
            for actor, refused in done.result():
                runtime.actors.fail(runtime.actors.view(actor), from_wire(refused))

        future.add_done_callback(answered)
