"""The configuration: paths, limits and intervals, with what `ZACTOR_*` variables change.

One frozen record, read once from the environment by each process that starts a session and
handed to what needs it; nothing else in the package reads the environment. Node and workers get
their driver's or daemon's values because environment variables are inherited.

It does not hold what a user says in code: options of actors, tasks and `init` are in `options`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from zactor.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


class Config(NamedTuple):
    """Every setting, with its default. `ZACTOR_<NAME IN CAPITALS>` overrides one."""

    # -- paths and addresses
    address: str = ""
    """Where `init()` looks for a cluster when it is given no address."""
    tmpdir: str = ""
    """The directory of session directories; "" is `/tmp/zactor-<uid>`."""
    host: str = ""
    """Where a program or worker listens once another machine wants to reach it; "" is chosen by how
    the broker is reached: the loopback, or the interface that leads to it."""
    transport: str = ""
    """"relay" has everything pass through the broker, for tests; "" is direct where possible."""
    shm_dir: str = "/dev/shm"  # noqa: S108 - the one place POSIX shared memory lives on Linux
    """Where shared-memory segments are files."""

    # -- time, in seconds
    lease: float = 10.0
    """How long a node counts as alive after it was last heard."""
    renew: float = 2.0
    """How often a node is heard."""
    driver_grace: float = 10.0
    """How long a driver on another machine may be unreachable until its session is over."""
    shutdown_hook: float = 30.0
    """How long an actor's shutdown hook may run before its worker is killed."""
    exit_grace: float = 3.0
    """How long a worker that was asked to exit may take."""
    idle_worker: float = 60.0
    """How long a worker without work is kept for the next task of its job."""
    start_timeout: float = 60.0
    """How long a worker may take from its fork to its first word."""
    busy_poll: float = 0.0003
    """How long a wait for the next message may look for it before it sleeps, while that pays; 0 never
    does. It trades CPU time of an otherwise idle core for the time of one call after another."""

    # -- limits
    spare_workers: int = -1
    """Workers started ahead of need; -1 is one per CPU, at most 4."""
    idle_workers: int = 64
    """Idle workers kept at most, on one node."""
    starts_at_once: int = 16
    """Workers being forked at one time by one fork server."""
    fork_servers: int = 8
    """Fork servers (one a runtime environment) kept at most; the least recently used goes."""
    log_bytes: int = 10 * 1024 * 1024
    """Size at which a worker's log file is rotated; one earlier file is kept."""
    log_files: int = 200
    """Logs of dead workers kept at most."""
    output_rate: int = 4 * 1024 * 1024
    """Bytes a second of workers' output that one job's driver is sent; beyond it workers wait."""
    store_bytes: int = 0
    """Capacity of the node's object store; 0 is 30% of memory, within what /dev/shm has."""

    # -- behaviour
    debug: bool = False
    """Check every invariant after each event, and end on the first that fails."""
    refuse_infeasible: bool = False
    """Whether what no node of the cluster could ever take is refused after a second, with an error,
    instead of waiting for a node that can. The broker's setting."""
    log_to_driver: bool = True
    """Whether workers' output is shown by their driver."""
    show_unhandled_errors: bool = True
    """Whether the error of a call is shown if its last reference goes and nobody has asked for it."""
    fold_output: bool = True
    """Whether a line that many workers print at the same time is shown once, with a count."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Config:
        """Read `ZACTOR_*` over the defaults.

        Raises:
            ValueError: A variable's text is not of its setting's type; names both.
        """
        environ = os.environ if environ is None else environ
        found: dict[str, object] = {}
        for field, default in cls._field_defaults.items():
            name = "ZACTOR_" + field.upper()
            text = environ.get(name)
            if text is not None:
                found[field] = _parse(name, text, type(default))
        return cls(**found)  # type: ignore[arg-type]

    @property
    def base(self) -> str:
        """The directory that holds the session directories of this user on this machine."""
        return self.tmpdir or f"/tmp/zactor-{os.getuid()}"  # noqa: S108 - owner and mode are checked


def _parse(name: str, text: str, kind: type) -> object:
    if kind is bool:
        lowered = text.strip().lower()
        if lowered in _TRUE:
            return True
        if lowered in _FALSE:
            return False
        raise ValueError(f"{name}={text!r}: not a truth value (1 or 0)")
    try:
        return kind(text)
    except ValueError:
        raise ValueError(
            f"{name}={text!r}: not {'a number' if kind is float else kind.__name__}"
        ) from None
