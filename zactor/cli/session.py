"""What the command line asks of a cluster: the only module of it that speaks to one.

Attaches as a tool: it has no job, owns no actors, and leaves nothing behind.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from zactor.cli.main import EXIT_NOT_FOUND, Failure
from zactor.wire.messages import (
    Address,
    DrainNode,
    KillActor,
    Query,
    StackDump,
    StopNode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PATIENCE = 15.0  # seconds for one answer

address_option = click.option(
    "-a",
    "--address",
    envvar="ZACTOR_ADDRESS",
    metavar="FILE",
    help="The cluster: its file, or 'auto' (default) for the latest on this machine.",
)


class Session:
    """A tool's session with one cluster."""

    def __init__(self, process: Any) -> None:
        self._process = process  # of the runtime

    def query(self, what: str, **args: Any) -> Any:
        """Read from the broker: a list of rows, or one for `status` and `resources`."""
        return self._process.ask(Query(0, what, args), timeout=PATIENCE)

    def rows(
        self, what: str, filters: list[Any], limit: int
    ) -> tuple[list[Any], list[str], bool]:
        """Return rows of any table, who did not answer, and whether there are more.

        Raises:
            ValueError: A filter makes no sense.
        """
        from zactor.api.state import find_rows

        return find_rows(self._process, what, filters, limit, PATIENCE)

    def kill(self, actor: bytes, *, no_restart: bool) -> None:
        """End an actor now.

        Raises:
            Failure: The broker does not know it.
        """
        if not self._process.ask(KillActor(0, actor, no_restart), timeout=PATIENCE):
            raise Failure(f"no actor {actor.hex()}", EXIT_NOT_FOUND)

    def stop_node(self, row: Mapping[str, Any], *, graceful: bool) -> None:
        """Stop a node: when it is empty, or at once."""
        if graceful:
            node = bytes.fromhex(row["node_id"])
            self._process.ask(DrainNode(0, node), timeout=PATIENCE)
        else:
            self._process.post.send(_address(row), StopNode("zactor stop --force"))
            self._process.flush()

    def log(
        self,
        row: Mapping[str, Any],
        *,
        stream: int,
        tail: int,
        follow: Callable[[], bool] | None,
    ) -> Iterator[str]:
        """Yield what a worker has printed, and while `follow()` what it prints then.

        Raises:
            Failure: Nothing of it is kept.
        """
        from zactor.api import logs

        log = logs.Log(self._node_of(row), _worker(row), stream)
        try:
            yield from logs.lines_of(self._process, log, tail=tail, follow=follow)
        except ValueError as error:
            raise Failure(str(error), EXIT_NOT_FOUND) from None

    def stacks(self, row: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """Return the Python stacks of one worker, or of all."""
        if row is not None:
            request = StackDump(0, _worker(row))
            return list(self._process.ask(request, to=self._node_of(row), timeout=PATIENCE))
        found: list[dict[str, Any]] = []
        for node in self.query("nodes", filters=[["state", "=", "ALIVE"]]):
            found += self._process.ask(StackDump(0, None), to=_address(node), timeout=PATIENCE)
        return found

    def why_actor(self, actor: bytes) -> list[dict[str, Any]]:
        """Return the chain of causes of what an actor waits for, or does."""
        from zactor.api.why import why_actor

        return why_actor(self._process, actor).rows()

    def why_result(self, object_id: bytes) -> list[dict[str, Any]]:
        """Return the chain of causes of a result that is not there.

        Raises:
            Failure: Nobody in the cluster has made the call.
        """
        from zactor.api.why import why_result

        try:
            return why_result(self._process, object_id).rows()
        except LookupError as error:
            raise Failure(str(error), EXIT_NOT_FOUND) from None

    def _node_of(self, row: Mapping[str, Any]) -> Address:
        nodes = self.query("nodes", id=bytes.fromhex(row["node_id"]))
        if not nodes or nodes[0]["state"] != "ALIVE":
            raise Failure("the node that it ran on is gone", EXIT_NOT_FOUND)
        return _address(nodes[0])


def _address(node: Mapping[str, Any]) -> Address:
    return Address._make(node["process_address"])


def _worker(row: Mapping[str, Any]) -> bytes:
    """Return the process id of a worker, or of the worker that an actor runs in."""
    if not row["worker_id"]:
        raise Failure("it has no process yet", EXIT_NOT_FOUND)
    return bytes.fromhex(row["worker_id"])


@contextmanager
def attached(address: str | None) -> Iterator[Session]:
    """Open a session with the cluster at `address`, and close it at the end.

    Raises:
        ConnectionError: There is no cluster, or nobody answers.
    """
    from zactor.config import Config
    from zactor.exceptions import GetTimeoutError
    from zactor.runtime.driver import Driver
    from zactor.runtime.joining import find_cluster

    place = find_cluster(address or "auto", Config.from_environment())
    driver = None
    try:
        try:
            driver = Driver(
                broker=place.broker,
                directory=place.directory,
                machine=place.machine,
                keys=place.keys,
                namespace="",
                metadata={"pid": os.getpid(), "log_to_driver": False},
                role="tool",
            )
        except GetTimeoutError:
            where = place.broker.tcp or place.broker.ipc
            raise ConnectionError(f"the broker at {where} does not answer") from None
        yield Session(driver.process)
    finally:
        if driver is not None:
            driver.close()
        place.session.close()


def stop_local(*, force: bool, address: str | None) -> list[str]:
    """Stop the daemons on this machine, all or those of one cluster; return what was stopped."""
    from zactor.cli import local
    from zactor.config import Config
    from zactor.runtime.joining import find_cluster

    config = Config.from_environment()
    cluster = None
    if address is not None:
        place = find_cluster(address, config)
        cluster = place.cluster.hex()[:8]
        place.session.close()
    stopped = []
    for daemon in list(local.daemons(config, cluster)):
        local.stop(daemon, force=force)
        stopped.append(str(daemon))
    return stopped
