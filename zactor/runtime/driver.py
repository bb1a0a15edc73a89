"""The driver: the user's process, from `init` to `shutdown`.

It joins a cluster, or starts one that dies with it, and opens a session there. What the session
owns (actors that are not detached, leases, values) goes with it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from zactor.config import Config
from zactor.exceptions import GetTimeoutError, SessionLostError, ZactorSystemError
from zactor.runtime import current as processes
from zactor.runtime.insight.terminal import Terminal
from zactor.runtime.links import interrupts
from zactor.runtime.links.reception import Waiter
from zactor.runtime.objects.sharing import FarStore, Sharing
from zactor.runtime.process import Process
from zactor.wire.messages import (
    Address,
    Answer,
    Attach,
    Detach,
    Notice,
    Output,
    Query,
    SessionLost,
    Survey,
)

if TYPE_CHECKING:
    from zactor.transport.curve import Keys

DETACH_TIMEOUT = 5.0
ATTACH_PATIENCE = 2.0  # seconds within which a broker that nobody listens for may come back
ATTACH_TIMEOUT = 10.0
LAST_OUTPUT = 1.0  # seconds that the last output of workers is waited for


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
        session: Any = None,
        config: Any = None,
    ) -> None:
        config = config or Config.from_environment()
        self.launched = launched
        self._session = session  # of the machine; held while we are in it
        self._shm_dir = config.shm_dir
        self.process = process = Process(
            os.urandom(12),
            directory,
            broker=broker,
            node=None,
            machine=machine,
            keys=keys,
            transport=config.transport,
            host=config.host or _own_host(broker, machine),
            busy_poll=config.busy_poll,
        )
        self.cluster: dict[str, Any] = {}
        self._cluster_end: threading.Thread | None = None
        self.log_to_driver = bool(metadata.get("log_to_driver", True))
        self.terminal = Terminal(process, folds=config.fold_output)
        process.post.on(Output, self._output)
        process.post.on(SessionLost, self._session_lost)
        process.post.on(Survey, self._survey)
        process.post.on(Notice, lambda _, __, message: process.warn(message.text))
        self._attach = Attach(0, role, list(process.post.address), namespace, metadata)
        try:
            answer = self._attach_first()
        except BaseException:
            process.close(0.0)
            raise
        process.job = answer["job"]
        process.namespace = answer["namespace"]
        # Who attaches again keeps the namespace that it was given.
        self._attach = self._attach._replace(namespace=process.namespace)
        self.cluster = answer.get("cluster") or {}
        if launched is not None:
            self._watch_cluster(launched.pidfd)
            answer["node_address"] = list(launched.node)
        self._settle_in(answer)
        if launched is None:
            process.on_broker_moved.append(self._attach_again)
            process.on_died = self._died
            process.post.on_back = self._back
        interrupts.install()

    def _attach_first(self) -> dict[str, Any]:
        """Open the session.

        Raises:
            ConnectionError: Nobody answers, or the answer is no; says why.
        """
        process = self.process
        since = time.monotonic()

        def unreachable(peer: Any) -> None:
            if peer.is_refused or time.monotonic() > since + ATTACH_PATIENCE:
                process.post.fail_requests(peer.id, peer.reason)

        process.on_broker_unreachable = unreachable
        where = process.broker.ipc or process.broker.tcp
        if process.broker.machine != process.post.address.machine:
            where = process.broker.tcp
        try:
            answer: dict[str, Any] = process.ask(self._attach, timeout=ATTACH_TIMEOUT)
        except (ZactorSystemError, GetTimeoutError) as error:
            raise ConnectionError(f"the broker at {where} cannot be joined: {error}") from None
        finally:
            process.on_broker_unreachable = None
        return answer

    def _settle_in(self, answer: dict[str, Any]) -> None:
        """Take the node that the broker names as ours."""
        process = self.process
        node = answer.get("node_address")
        process.node = Address._make(node) if node else None
        home = process.node.node if process.node else answer.get("node") or b""
        process.post.address = process.post.address._replace(node=home)
        if process.node is None:
            process.objects.store = process.objects.store or FarStore(process)
            return
        if not isinstance(process.objects.store, Sharing):
            Sharing(process, self._shm_dir)
        if self.launched is None:
            process.objects.watch(process.node.process)

    def _attach_again(self) -> None:
        attach = self._attach._replace(address=list(self.process.post.address))
        future = self.process.post.request(self.process.broker, attach)

        def answered(done: Any) -> None:
            error = done.exception()
            if error is None:
                self._settle_in(done.result())
            else:
                self.process.end(SessionLostError(str(error)))

        future.add_done_callback(answered)

    def _back(self, peer: Any) -> None:
        """The broker can be reached again: it is to hear so, and may say that it is too late."""
        if peer.id == self.process.broker.process:
            self.process.post.call_later(0, self._attach_again)

    def _died(self, process: bytes) -> None:
        node = self.process.node
        if node is not None and process == node.process:
            self.process.node = None
            self._attach_again()  # there may be another node on this machine

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
        self.process.end(SessionLostError(message.reason))

    def _survey(self, peer: bytes, address: Address, message: Survey) -> None:  # noqa: ARG002
        from zactor.runtime.insight.listing import survey

        try:
            answer = Answer(message.request, True, survey(self.process, *message[1:]))
        except (ValueError, TypeError) as error:
            answer = Answer(message.request, False, ["BadRequest", str(error), {}])
        self.process.post.send(address, answer)

    def _output(self, peer: bytes, address: Address, message: Output) -> None:  # noqa: ARG002
        if self.log_to_driver:
            self.terminal.take(message.lines)

    def _show_rest(self) -> None:
        """Show what workers have printed and their nodes have not sent yet."""
        process = self.process
        if not (process.actors.all() or process.tasks.has_been_used):
            return  # it has had no workers
        until = time.monotonic() + LAST_OUTPUT
        if self.launched is not None:
            nodes = [process.node] if process.node is not None else []
        else:
            query = Query(0, "nodes", {"filters": [["state", "=", "ALIVE"]]})
            rows = process.ask(query, timeout=LAST_OUTPUT)
            nodes = [Address._make(row["process_address"]) for row in rows]
        waiter = Waiter(len(nodes))
        for node in nodes:
            survey = Survey(0, "output", {"job": process.job})
            process.post.request(node, survey).add_done_callback(waiter.settled)
        process.flush()
        process.reception.wait(waiter, until)
        self.terminal.finish()

    def close(self) -> None:
        """End the session, and the cluster if it was started for it."""
        self._is_closing = True
        process = self.process
        interrupts.uninstall()
        if process.is_over is None:
            # A broker that is away finds out by itself, when it is back.
            process.on_broker_unreachable = lambda peer: process.post.fail_requests(
                peer.id, peer.reason
            )
            if self.log_to_driver:
                with suppress(Exception):
                    self._show_rest()
            with suppress(Exception):  # the session ends either way
                process.ask(Detach(0), timeout=DETACH_TIMEOUT)
        process.close(0.2)
        if process.objects.store is not None:
            process.objects.store.close()
        if self._session is not None:
            self._session.close()
        if self.launched is not None:
            self.launched.stop()


def _own_host(broker: Address, machine: bytes) -> str:
    """Return the address at which this program can be reached by who is as near as the broker."""
    host, _, port = broker.tcp.removeprefix("tcp://").rpartition(":")
    if not host or broker.machine == machine:
        return "127.0.0.1"
    return host_towards(host.strip("[]"), int(port))


def host_towards(host: str, port: int) -> str:
    """Return the address of the interface through which another host is reached."""
    try:
        family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(target)  # sends nothing
            found: str = probe.getsockname()[0]
    except OSError:
        return "127.0.0.1"
    return found
