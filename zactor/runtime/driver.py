"""The driver: the user's process, from `init` to `shutdown`.

It joins a cluster, or starts one that dies with it, and opens a session there. What the session
owns (actors that are not detached, leases, values) goes with it.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from zactor.runtime import interrupts
from zactor.runtime import process as processes
from zactor.runtime.process import Process
from zactor.wire.messages import Address, Attach, Detach, Output, SessionLost

if TYPE_CHECKING:
    from zactor.transport.curve import Keys

DETACH_TIMEOUT = 5.0


class Driver:
    """One session of this process with a cluster."""

    def __init__(
        self,
        *,
        broker: Address,
        directory: str,
        machine: bytes,
        keys: Keys | None,
        namespace: str,
        metadata: dict[str, Any],
        launched: Any = None,
        role: str = "driver",
    ) -> None:
        self.launched = launched
        self.process = process = Process(
            os.urandom(12), directory, broker=broker, node=None, machine=machine, keys=keys
        )
        self.cluster: dict[str, Any] = {}
        self._cluster_end: threading.Thread | None = None
        self.log_to_driver = bool(metadata.get("log_to_driver", True))
        process.post.on(Output, self._output)
        process.post.on(SessionLost, self._session_lost)
        try:
            answer = process.ask(
                Attach(0, role, list(process.post.address), namespace, metadata), timeout=15.0
            )
        except BaseException:
            process.close(0.0)
            raise
        process.job = answer["job"]
        process.namespace = answer["namespace"]
        self.cluster = answer.get("cluster") or {}
        node = answer.get("node")
        process.post.address = process.post.address._replace(
            node=node if isinstance(node, bytes) else b""
        )
        process.node = Address._make(answer["node_address"]) if answer.get("node_address") else None
        if launched is not None:
            self._watch_cluster(launched.pidfd)
            process.node = launched.node
        if process.node is not None:
            from zactor.runtime.sharing import Sharing

            Sharing(process)
        interrupts.install()

    def _watch_cluster(self, pidfd: int) -> None:
        """End the session if the cluster's process dies under it."""
        import select

        watched = os.dup(pidfd)

        def watch() -> None:
            poll = select.poll()
            poll.register(watched, select.POLLIN)
            poll.poll()
            os.close(watched)
            if processes.current() is self.process and not self._is_closing:
                from zactor.exceptions import LocalNodeDiedError

                error = LocalNodeDiedError(
                    "the cluster's process has died, and all its workers with it",
                    executed="unknown",
                )
                self.process.post.when_drained(lambda: self.process.end(error))
                self.process.reception.wake()

        self._cluster_end = threading.Thread(target=watch, name="zactor-cluster", daemon=True)
        self._cluster_end.start()

    _is_closing = False

    def _session_lost(self, peer: bytes, address: Address, message: SessionLost) -> None:  # noqa: ARG002
        from zactor.exceptions import SessionLostError

        self.process.end(SessionLostError(message.reason))

    def _output(self, peer: bytes, address: Address, message: Output) -> None:  # noqa: ARG002
        if not self.log_to_driver:
            return
        from zactor.runtime.output import show

        lines = message.lines
        self.process.reception.call_soon(lambda: show(lines, sys.stdout, sys.stderr))

    def close(self) -> None:
        """End the session, and the cluster if it was started for it."""
        self._is_closing = True
        process = self.process
        interrupts.uninstall()
        if process.is_over is None:
            try:
                process.ask(Detach(0), timeout=DETACH_TIMEOUT)
            except Exception:  # noqa: BLE001 - the session ends either way
                pass
        process.close(0.2)
        if process.objects.store is not None:
            process.objects.store.close()
        if self.launched is not None:
            self.launched.stop()
