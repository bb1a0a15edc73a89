"""`zactor broker` and `zactor node`: the daemons, in the foreground.

Does not daemonize and writes no pid file: what runs services does both better. What the daemons
do stands in `runtime`; here are their options.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zactor.cli import local
from zactor.cli.main import Failure
from zactor.wire.messages import Address

if TYPE_CHECKING:
    from zactor.runtime import joining

    _ParamType = click.ParamType[dict[str, Any]]
else:
    _ParamType = click.ParamType


class Pairs(_ParamType):
    """`a=1,b=2`, or a JSON object."""

    name = "pairs"

    def __init__(self, *, numbers: bool) -> None:
        self._numbers = numbers

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Return the dictionary that the text stands for."""
        if not isinstance(value, str):
            return value
        try:
            if value.lstrip().startswith("{"):
                pairs = json.loads(value)
            else:
                pairs = dict(part.split("=", 1) for part in value.split(",") if part)
            return {str(key): self._value(item) for key, item in pairs.items()}
        except (ValueError, TypeError):
            kind = "numbers" if self._numbers else "texts"
            self.fail(f"{value!r} is neither 'a=1,b=2' nor a JSON object of {kind}", param, ctx)

    def _value(self, item: Any) -> Any:
        if self._numbers:
            return float(item)
        if not isinstance(item, str):
            raise TypeError(item)
        return item


@click.command()
@click.option(
    "--listen",
    default="127.0.0.1:0",
    show_default=True,
    metavar="HOST[:PORT]",
    help="Where others reach it. The default is this machine only; port 0 is any free one.",
)
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("cluster.zactor"),
    show_default=True,
    help="The cluster file to write: its address and keys, mode 0600.",
)
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Keep the directory in this file, and go on with it after a restart.",
)
def broker(listen: str, path: Path, state: Path | None) -> None:
    """Run the broker of a cluster, in the foreground, until it is stopped.

    It writes the cluster file, which nodes and programs join by. Whoever has the file can run code
    on the cluster.
    """
    host, _, port = listen.rpartition(":") if ":" in listen else (listen, "", "0")
    if not host or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f"{listen!r} is not HOST[:PORT]", param_hint="--listen")
    from zactor.config import Config
    from zactor.runtime import joining
    from zactor.runtime.cluster import run_broker

    content = _cluster_to_be(path, state)
    if port == "0" and content.broker.tcp:
        port = content.broker.tcp.rpartition(":")[2]  # where nodes and programs look for it

    def ready(address: Address) -> None:
        local.leave_note("broker", address)
        own = content._replace(broker=address)
        joining.write_cluster_file(str(local.directory_of(address) / joining.IN_SESSION), own)
        joining.write_cluster_file(str(path), own)
        _hold(path)
        click.echo(
            f"broker of cluster {own.cluster.hex()[:8]} at {address.tcp}; join by {path}"
        )

    more = {} if state is None else {"state": str(state)}
    run_broker(
        Config.from_environment(), content.cluster, keys=content.keys, host=host, port=int(port),
        ready=ready, **more,
    )  # fmt: skip


def _cluster_to_be(path: Path, state: Path | None) -> joining.ClusterFile:
    """Return the id and keys: those of before if the state is kept, or else new ones.

    Raises:
        Failure: A broker that runs has written the file.
    """
    from zactor.runtime import joining
    from zactor.transport.curve import make_keys

    if path.exists():
        before = joining.read_cluster_file(str(path))
        if not _hold(path):
            raise Failure(f"a broker runs already with {path}")
        if state is not None and state.exists():
            return before
    nowhere = Address(b"", b"", b"", "", "")
    return joining.ClusterFile(os.urandom(12), nowhere, make_keys())


def _hold(path: Path) -> bool:
    """Lock the cluster file for as long as this process runs; False if another has."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # closed by the end of the process
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return False
    return True


@click.command()
@click.option(
    "--join",
    envvar="ZACTOR_ADDRESS",
    required=True,
    metavar="FILE",
    help="The cluster file that the broker wrote.",
)
@click.option("--num-cpus", type=click.FloatRange(min=0), default=None, help="Default: all.")
@click.option("--num-gpus", type=click.FloatRange(min=0), default=None, help="Default: all.")
@click.option("--memory", type=click.IntRange(min=0), default=None, help="Bytes for actors.")
@click.option(
    "--object-store-memory", type=click.IntRange(min=1 << 20), default=None, help="Bytes."
)
@click.option(
    "--resources", type=Pairs(numbers=True), default=None, help="Like camera=1,disk=2."
)
@click.option("--labels", type=Pairs(numbers=False), default=None, help="Like zone=a,kind=big.")
@click.option(
    "--preload", multiple=True, metavar="MODULE", help="Import it before workers fork."
)
@click.option(
    "--host",
    default=None,
    help="Where it listens. Default: the address by which it reaches the broker.",
)
def node(
    join: str,
    host: str | None,
    preload: tuple[str, ...],
    num_cpus: float | None,
    num_gpus: float | None,
    memory: int | None,
    object_store_memory: int | None,
    resources: dict[str, float] | None,
    labels: dict[str, str] | None,
) -> None:
    """Run this machine's node of a cluster, in the foreground, until it is stopped."""
    from zactor.config import Config
    from zactor.runtime import joining
    from zactor.runtime.cluster import run_node

    config = Config.from_environment()
    if object_store_memory is not None:
        config = config._replace(store_bytes=object_store_memory)
    place = joining.find_cluster(join, config)
    place.session.close()  # the node opens its own
    keys = place.keys
    assert keys is not None  # a cluster file has them

    def broker_now() -> Address | None:
        try:
            return joining.read_cluster_file(join).broker
        except (OSError, ValueError):
            return None

    def ready(address: Address) -> None:
        local.leave_note("node", address)
        own = joining.ClusterFile(place.cluster, place.broker, keys)
        joining.write_cluster_file(str(local.directory_of(address) / joining.IN_SESSION), own)
        cluster = place.cluster.hex()[:8]
        click.echo(f"node {address.node.hex()} of cluster {cluster} at {address.tcp}")

    amounts = {"CPU": num_cpus, "GPU": num_gpus, "memory": memory, **(resources or {})}
    run_node(
        config,
        place.cluster,
        place.broker,
        {
            "resources": amounts,
            "labels": labels or {},
            "preload": list(preload),
            "sys_path": [],
        },
        keys=place.keys,
        host=host or _own_host(place.broker),
        find_broker=broker_now,
        ready=ready,
    )


def _own_host(broker: Address) -> str:
    """Return the address of the interface through which the broker is reached."""
    host, _, port = broker.tcp.removeprefix("tcp://").rpartition(":")
    if not host:
        return "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, int(port)))  # sends nothing
        found: str = probe.getsockname()[0]
    return found
