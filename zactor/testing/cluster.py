"""Several nodes on one machine: real daemons, in processes of their own.

A `Cluster` is a broker daemon and any number of node daemons, which can be added, removed and
killed. Programs join it by `zactor.init(cluster.address)`. All of it ends with `shutdown`, with the
`with` block, or with the program.

Does not speak the protocol: it starts what the command line starts.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any, Self

from zactor.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

START_TIMEOUT = 30.0
STOP_TIMEOUT = 15.0
_POLL = 0.02


class ClusterNode(NamedTuple):
    """A node of a `Cluster`."""

    node_id: str
    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        """The process of the node's daemon."""
        return self.process.pid


class Cluster:
    """A cluster for tests.

    Args:
        initialize_head: Start a first node at once.
        connect: Open this process's session with the cluster at once.
        head_node_args: Arguments of `add_node` for the first node.
        settings: Settings by name, for all its processes: `{"lease": 2.0}`.
    """

    def __init__(
        self,
        initialize_head: bool = False,  # noqa: FBT001, FBT002 - Ray's signature
        connect: bool = False,  # noqa: FBT001, FBT002
        head_node_args: Mapping[str, Any] | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._directory = tempfile.mkdtemp(prefix="zactor-test-")
        self._environ = {f"ZACTOR_{k.upper()}": str(v) for k, v in (settings or {}).items()}
        self.address = os.path.join(self._directory, "cluster.zactor")
        self.nodes: list[ClusterNode] = []
        atexit.register(self.shutdown)
        try:
            self.broker, _ = self._start("broker", "--file", self.address)
            if initialize_head:
                self.add_node(**(head_node_args or {}))
            if connect:
                self.connect()
        except BaseException:
            self.shutdown()
            raise

    @property
    def head_node(self) -> ClusterNode | None:
        """The node that was started first, if it is still there."""
        return self.nodes[0] if self.nodes else None

    def connect(self, namespace: str | None = None) -> None:
        """Open this process's session with the cluster."""
        import zactor

        zactor.init(self.address, namespace=namespace)

    def add_node(self, wait: bool = True, **options: Any) -> ClusterNode:  # noqa: FBT001, FBT002, ARG002
        """Start a node: `num_cpus`, `num_gpus`, `memory`, `object_store_memory`, `resources`, `labels`.

        It has one CPU if nothing is said. The node can be used when this returns.
        """
        argv = ["node", "--join", self.address]
        for name, value in {"num_cpus": 1, **options}.items():
            if value is not None:
                argv += ["--" + name.replace("_", "-"), _argument(value)]
        process, line = self._start(*argv)
        node = ClusterNode(line.split()[1], process)
        self.nodes.append(node)
        self._wait_seen(node.node_id, alive=True)
        return node

    def remove_node(self, node: ClusterNode, allow_graceful: bool = True) -> None:  # noqa: FBT001, FBT002
        """Stop a node, in order or by SIGKILL; what ran there is gone."""
        self.nodes.remove(node)
        if allow_graceful:
            self._end(node.process)
            self._wait_seen(node.node_id, alive=False)
        else:
            node.process.kill()
            node.process.wait()
        _close(node.process)

    def kill(self, node: ClusterNode) -> None:
        """Kill a node, as a power cut would."""
        self.remove_node(node, allow_graceful=False)

    def wait_for_nodes(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until the cluster is of exactly the nodes that run, as this process's session sees it.

        Without a session, none is opened: then it is as the broker sees it.

        Raises:
            TimeoutError: It is not, in time.
        """
        expected = {node.node_id for node in self.nodes}
        if not self._wait_until(lambda living: living == expected, timeout):
            raise TimeoutError(f"the cluster is not of {len(expected)} nodes in {timeout} s")

    def shutdown(self) -> None:
        """End the nodes and the broker. This process's session is to be ended before."""
        atexit.unregister(self.shutdown)
        processes = [node.process for node in self.nodes]
        self.nodes = []
        for process in processes:
            process.terminate()
        broker = getattr(self, "broker", None)
        for process in [*processes, *([broker] if broker else [])]:
            self._end(process)
            _close(process)
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()

    def _start(self, *argv: str) -> tuple[subprocess.Popen[str], str]:
        """Start a daemon, and return it with the line in which it says that it is ready."""
        log = os.path.join(self._directory, f"{argv[0]}-{len(self.nodes)}.log")
        with open(log, "a") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "zactor", *argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **self._environ},
                start_new_session=True,
            )
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT)
        line = process.stdout.readline() if ready else ""
        if not line:
            process.kill()
            process.wait()
            _close(process)
            with open(log) as errors:
                said = errors.read().strip()[-2000:]
            raise RuntimeError(f"the {argv[0]} did not start: {said or 'it said nothing'}")
        return process, line

    def _end(self, process: subprocess.Popen[str]) -> None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_seen(self, node_id: str, *, alive: bool) -> None:
        """Wait until the broker knows of a change."""
        self._wait_until(lambda living: (node_id in living) == alive, START_TIMEOUT)

    def _wait_until(self, condition: Callable[[set[str]], bool], timeout: float) -> bool:
        """Return whether the ids of the living nodes come to satisfy `condition`."""
        import zactor
        from zactor.cli import session

        deadline = time.monotonic() + timeout
        with contextlib.ExitStack() as stack:
            if zactor.is_initialized():
                living = _living
            else:
                tool = stack.enter_context(session.attached(self.address))
                rows = [["state", "=", "ALIVE"]]

                def living() -> set[str]:
                    return {row["node_id"] for row in tool.query("nodes", filters=rows)}

            while not condition(living()):
                if time.monotonic() > deadline:
                    return False
                select.select([], [], [], _POLL)
        return True


def _living() -> set[str]:
    """Return the nodes that this process's session sees."""
    import zactor

    return {node["NodeID"] for node in zactor.nodes() if node["Alive"]}


def _close(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(OSError):
        if process.stdout is not None:
            process.stdout.close()


def _argument(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # bytes, which programs write as 1e9
    return json.dumps(value) if isinstance(value, dict) else str(value)
