"""The cluster process: a broker and a node together, or one of them as a daemon.

`main` is what a driver has launched that starts a cluster of its own: one process, embedded, which
dies with the driver. Its steps, in the order that makes it fast (what is slow to import runs beside what
has to wait for it):

    1. import what workers need too, and fork the fork server: before any thread or ZeroMQ context
    2. open the session, make the post, the broker and the node
    3. tell the driver the address
    4. sweep what dead clusters have left

It is found again by others on the machine through the session (see `runtime.session`).

Invariants
    C1  An embedded cluster is gone soon after its driver, however that ended: workers, segments,
        sockets, files. It watches the driver's pidfd; a pipe's end could be held by a child.
    C2  Ctrl-C in the driver's terminal is the driver's alone.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import msgpack

from zactor.config import Config
from zactor.runtime.launching import DRIVER_FD, RESULT_FD, await_end
from zactor.wire.messages import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zactor.runtime.links.loop import Loop
    from zactor.runtime.links.post import Post
    from zactor.runtime.nodes.node import Node
    from zactor.runtime.session import Session
    from zactor.transport.curve import Keys

BROKER_ENTRY = "zactor.runtime.broker:start_broker"
"""What starts the broker: `function(loop, post, config, info)` returns it."""

BROKER_SOCKET = "broker.inbox"
"""The name of a broker daemon's inbox: the same after a restart."""
_ABORT_PATIENCE = 2.0
# What broker and node need, and workers too: imported once, before the fork server is forked.
_SHARED = (
    "zactor.runtime.links.post",
    "zactor.runtime.links.routing",
    "zactor.runtime.links.succession",
    "zactor.runtime.nodes.lane",
    "zactor.runtime.hosting.progress",
    "zactor.runtime.machine",
    "zactor.runtime.objects.chunks",
    "zactor.store.segments",
)


def main() -> NoReturn:
    """Be an embedded cluster: `launch` has prepared the descriptors and the first argument."""
    options = msgpack.unpackb(bytes.fromhex(sys.argv[1]))
    os.closerange(DRIVER_FD + 1, 0x7FFFFFFF)
    for fd in (RESULT_FD, DRIVER_FD):
        os.set_inheritable(fd, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # C2
    gc.disable()  # what a start makes stays
    try:
        embedded = _Embedded(options)
    except Exception as error:  # noqa: BLE001 - the process ends here, whatever it was
        if not isinstance(
            error, (OSError, ValueError)
        ):  # what a user can cause explains itself
            sys.excepthook(*sys.exc_info())
        _tell_driver({"error": f"the cluster process cannot start: {error}"})
        os._exit(1)
    gc.freeze()
    gc.enable()
    embedded.run()


def _tell_driver(result: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):  # it died meanwhile; its pidfd tells
        os.write(RESULT_FD, msgpack.packb(result))
    os.close(RESULT_FD)


class _Embedded:
    """The embedded cluster process."""

    def __init__(self, options: dict[str, Any]) -> None:
        from zactor.runtime.machine import raise_descriptor_limit

        raise_descriptor_limit()
        fork_server = _fork_early()
        self._cluster = os.urandom(12)
        self._config = _configure(options.get("settings") or {})
        self._part = _Part(self._config, self._cluster)
        log = _open_log(self._part.session)
        if options.get("broker"):
            sys.path.extend(options["sys_path"])
        # Broker and node share the post: the messages that they take are not the same.
        self._part.start_broker(options.get("broker", ""))
        self.node = self._part.start_node(
            self._part.post.address,
            options,
            fork_server=fork_server,
            ended=self._ended,
        )
        self._part.loop.add_reader(DRIVER_FD, self._driver_died)
        self._part.session.publish(list(self._part.post.address))
        self._part.on_signal(signal.SIGTERM, self._terminated)
        _tell_driver(
            {
                "broker": list(self._part.post.address),
                "node": list(self._part.post.address),
                "session": self._part.session.path,
                "cluster": self._cluster,
                "machine": self._part.post.address.machine,
            }
        )
        for fd in (1, 2):  # from here on the driver's terminal is not ours
            os.dup2(log, fd)
        os.close(log)
        self._part.loop.call_later(0.2, self._sweep)

    def run(self) -> NoReturn:
        """Serve until the driver is dead or the cluster was ended."""
        try:
            self._part.loop.run()
        except BaseException:  # noqa: BLE001 - whatever it was, nothing may be left behind
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        self._abort()

    def _sweep(self) -> None:
        from zactor.runtime.session import sweep

        self._has_swept = True
        sweep(self._config)

    _has_swept = False

    def _driver_died(self) -> None:
        self._abort()  # C1

    def _terminated(self) -> None:
        # The end of each of its actors is nobody's business any more: with a hundred thousand of them
        # the broker would take seconds to enter it.
        self._part.broker.retire()
        self.node.stop("the cluster was ended", with_actors=True)
        self._part.loop.call_later(self._config.exit_grace + 1.0, self._abort)

    def _ended(self, reason: str) -> None:  # noqa: ARG002
        self.node.close()
        self._part.close()
        self._sweep_late()
        os._exit(0)

    def _sweep_late(self) -> None:
        # A short life is no excuse for leaving what dead clusters have left.
        if not self._has_swept:
            self._sweep()

    def _abort(self) -> NoReturn:
        await_end(self.node.kill_workers(), _ABORT_PATIENCE)
        self._part.session.close()
        self._sweep_late()
        os._exit(0)


class _Part:
    """What each cluster process has: a session, a loop, a post; and a broker, a node or both."""

    def __init__(
        self,
        config: Config,
        cluster: bytes,
        *,
        keys: Keys | None = None,
        has_node: bool = True,
        name: str = "",
    ) -> None:
        from zactor.runtime.links.gate import GatedPost
        from zactor.runtime.links.loop import Loop
        from zactor.runtime.session import machine_token, open_session

        self.config = config
        self.session: Session = open_session(config, cluster)
        self.loop: Loop = Loop()
        self.post: Post = GatedPost(
            os.urandom(12),
            self.session.path,
            node=os.urandom(12) if has_node else b"",
            machine=machine_token(config),
            keys=keys,
            name=name,
        )
        self.loop.drive(self.post)
        self.broker: Any = None

    def start_broker(self, entry: str, **more: Any) -> None:
        """Start the broker, or what `entry` ("module:function") starts in its place."""
        module, _, name = (entry or BROKER_ENTRY).partition(":")
        __import__(module)
        start = getattr(sys.modules[module], name)
        info = {"id": self.session.cluster, "session": self.session.path}
        self.broker = start(self.loop, self.post, self.config, info, **more)

    def start_node(
        self,
        broker: Address,
        options: Mapping[str, Any],
        *,
        fork_server: tuple[socket.socket, int] | None = None,
        ended: Callable[[str], None],
        boot: dict[str, Any] | None = None,
    ) -> Node:
        """Start the node."""
        from zactor.runtime.machine import (
            describe_machine,
            detect_resources,
            ip_address,
            store_capacity,
        )
        from zactor.runtime.nodes.node import Node, NodeSetup
        from zactor.runtime.nodes.storage import StorageShell

        capacity = store_capacity(self.config)
        storage = StorageShell(
            self.post.address.node,
            self.post.process_id,
            self.session.prefix_of_node(self.post.process_id),
            spill_dir=os.path.join(self.session.path, "spill"),
            capacity=capacity,
            shm=self.config.shm_dir,
        )
        ip = ip_address()
        entry = {
            **describe_machine(),
            "ip": ip,
            "machine": self.post.address.machine,
            "resources": {
                "object_store_memory": float(capacity),
                f"node:{ip}": 1.0,
                **detect_resources(self.config, overrides=options.get("resources")),
            },
            "labels": dict(options.get("labels") or {}),
            "store": capacity,
        }
        boot = {**(boot or {}), "busy_poll": self.config.busy_poll}
        setup = NodeSetup(
            entry, broker, boot, list(options.get("sys_path") or ()),
            list(options.get("preload") or ()), options.get("entry_point", ""),
        )  # fmt: skip
        node = Node(
            self.loop, self.post, self.config, self.session, setup,
            storage=storage, ended=ended, warn=warn,
        )  # fmt: skip
        node.open(fork_server)
        return node

    def on_signal(self, number: int, callback: Callable[[], None]) -> None:
        """Run `callback` on the loop when the signal arrives."""
        signal.signal(number, lambda *_: self.loop.call_soon(callback))

    def close(self) -> None:
        """Close the post, then leave the session."""
        self.post.close(linger=0.2)
        self.session.close()


def warn(text: str) -> None:
    """Write what a human should know to the process's log."""
    from time import strftime

    sys.stderr.write(f"{strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    sys.stderr.flush()


def run_broker(
    config: Config,
    cluster: bytes,
    *,
    keys: Keys | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    state: str = "",
    ready: Callable[[Address], None],
    **more: Any,
) -> None:
    """Be a broker daemon until SIGTERM or SIGINT.

    `ready(address)` is called once, when it can be reached. What must survive the broker is kept in
    the file `state`, if there is one; `more` goes to the broker's shell.
    """
    from zactor.runtime.session import sweep

    if state:
        from zactor.store.state import SqliteState

        # It holds what users' programs have pickled: for its owner alone.
        os.close(os.open(state, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        more["state"] = SqliteState(state)

    sweep(config)
    part = _Part(config, cluster, keys=keys, has_node=False, name=BROKER_SOCKET)
    if keys is not None:
        part.post.bind_tcp(host, port, advertise=_advertised(host))
    part.start_broker("", **more)
    part.session.publish(list(part.post.address))
    for number in (signal.SIGTERM, signal.SIGINT):
        part.on_signal(number, part.loop.stop)
    ready(part.post.address)
    part.loop.run()
    part.broker.close()
    part.close()


def _advertised(host: str) -> str:
    """Return what others connect to if `host` is every interface; "" if it can be used itself."""
    if host not in ("0.0.0.0", "*", "::"):  # noqa: S104 - compared, not bound
        return ""
    from zactor.runtime.driver import host_towards

    return host_towards("192.0.2.1", 9)  # the interface of the default route


def run_node(
    config: Config,
    cluster: bytes,
    broker: Address,
    options: Mapping[str, Any],
    *,
    keys: Keys | None = None,
    host: str = "127.0.0.1",
    find_broker: Callable[[], Address | None] = lambda: None,
    ready: Callable[[Address], None],
) -> None:
    """Be a node daemon until SIGTERM or SIGINT, or until the broker stops it.

    A node that comes back after it was declared lost does so as another process: it executes its
    own command line again.

    `options` are as `launch` makes them; `find_broker` is asked where the broker is now when it
    cannot be reached any more.
    """
    from zactor.runtime.machine import raise_descriptor_limit
    from zactor.runtime.session import sweep

    raise_descriptor_limit()
    sweep(config)
    part = _Part(config, cluster, keys=keys)
    if keys is not None:
        part.post.bind_tcp(host, advertise=_advertised(host))
    boot = {
        "keys": list(keys) if keys else None,
        "host": _advertised(host) or host,
        "transport": config.transport,
    }
    why = ""

    def ended(reason: str) -> None:
        nonlocal why
        why = reason
        part.loop.stop()

    node = part.start_node(broker, options, ended=ended, boot=boot)
    node.find_broker = find_broker
    for number in (signal.SIGTERM, signal.SIGINT):
        part.on_signal(number, partial(node.leave, "the node was ended"))
    part.session.publish(list(broker))
    node.on_broker_moved = lambda address: part.session.publish(list(address))
    node.on_joined = lambda: ready(part.post.address)
    part.loop.run()
    await_end(node.kill_workers(), _ABORT_PATIENCE)
    has_joined = node.has_joined
    node.close()
    part.close()
    if node.wants_fresh_start:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own interpreter
    if not has_joined and why:
        raise ConnectionError(why)


def _configure(settings: Mapping[str, Any]) -> Config:
    return Config.from_environment()._replace(**settings)


def _fork_early() -> tuple[socket.socket, int]:
    """Fork the fork server of the default environment; return its lane and pid."""
    # What both need is imported once, and shared.
    for name in _SHARED:
        import_module(name)
    from zactor.runtime.nodes.forkserver import serve

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if not pid:
        ours.close()
        os.dup2(theirs.detach(), 3, inheritable=False)
        os.closerange(4, 0x7FFFFFFF)
        serve(socket.socket(fileno=3), warm=True)
    theirs.close()
    return ours, pid


def _open_log(session: Session) -> int:
    path = os.path.join(session.logs, "cluster.log")
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


if __name__ == "__main__":
    main()
