"""Joining a cluster that runs: the cluster file, and what `auto` finds on this machine.

The cluster file is what `zactor broker` writes and everybody else joins by: where the broker is,
and the keys without which nobody gets in. It is JSON, mode 0600, written whole or not at all. A
broker that is started again writes it anew, with the same keys.

Does not connect to anything.
"""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Any

from zactor.named import NamedTuple
from zactor.wire.messages import Address

if TYPE_CHECKING:
    from zactor.config import Config
    from zactor.runtime.session import Session
    from zactor.transport.curve import Keys

FORMAT = 1
IN_SESSION = "cluster"  # the copy that a broker leaves in its session, for `auto`
_LOCAL = "ipc://"
_KEYS = ("server_public", "server_secret", "client_public", "client_secret")


class ClusterFile(NamedTuple):
    """What a cluster file says."""

    cluster: bytes
    broker: Address
    keys: Keys


class Place(NamedTuple):
    """A cluster to join, and where our inbox is to be."""

    broker: Address
    cluster: bytes
    directory: str
    machine: bytes  # our token
    keys: Keys | None
    session: Session  # held while we are there; to be closed


def write_cluster_file(path: str, content: ClusterFile) -> None:
    """Write the file, readable for its owner alone."""
    broker = content.broker
    fields = {
        "zactor": FORMAT,
        "cluster": content.cluster.hex(),
        "broker": {
            "process": broker.process.hex(),
            "machine": broker.machine.hex(),
            "ipc": broker.ipc,
            "tcp": broker.tcp,
        },
        "keys": dict(zip(_KEYS, (key.decode() for key in content.keys), strict=True)),
    }
    draft = f"{path}.{os.getpid()}.new"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w") as file:
        json.dump(fields, file, indent=1)
        file.write("\n")
    os.replace(draft, path)


def read_cluster_file(path: str) -> ClusterFile:
    """Read the file.

    Raises:
        FileNotFoundError: There is none.
        PermissionError: Others may read or write it, or it is another user's.
        ValueError: It is no cluster file, or of a later format.
    """
    from zactor.transport.curve import Keys

    with open(path, "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_uid != os.getuid():
            raise PermissionError(
                f"{path} belongs to another user (uid {found.st_uid}), who could make up what "
                "it says: use a copy of your own, of mode 0600"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise PermissionError(f"{path} holds keys and others can read it: chmod 600 {path}")
        try:
            fields: Any = json.load(file)
            version = fields["zactor"]
            broker = fields["broker"]
            content = ClusterFile(
                bytes.fromhex(fields["cluster"]),
                Address(
                    bytes.fromhex(broker["process"]),
                    b"",
                    bytes.fromhex(broker["machine"]),
                    broker["ipc"],
                    broker["tcp"],
                ),
                Keys(*(fields["keys"][name].encode() for name in _KEYS)),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{path} is no cluster file (`zactor broker` writes one)"
            ) from None
    if version != FORMAT:
        raise ValueError(f"{path} is of format {version}; this zactor reads format {FORMAT}")
    return content


def find_cluster(where: str, config: Config) -> Place:
    """Find the cluster at `where`: "auto", the path of a cluster file, or what `init` returned as the
    address of a cluster of this machine.

    Raises:
        ConnectionError: There is none; the text says what to do.
    """
    if where == "auto":
        return _find_local(config)
    if where.startswith(_LOCAL):
        return _find_at(os.path.dirname(where.removeprefix(_LOCAL)), config)
    try:
        content = read_cluster_file(where)
    except FileNotFoundError:
        raise ConnectionError(
            f"there is no cluster file {where!r}: an address is the path of the file that "
            "`zactor broker` wrote, 'auto' for the cluster of this machine, or 'local' for a new one"
        ) from None
    except (OSError, ValueError) as error:
        raise ConnectionError(str(error)) from None
    return _place(config, content.broker, content.cluster, content.keys)


def _find_local(config: Config) -> Place:
    from zactor.runtime.session import find_broker

    found = find_broker(config)
    if found is None:
        raise ConnectionError(
            f"no cluster of this user runs on this machine (looked in {config.base}): start one "
            "with `zactor broker`, or call zactor.init() without an address"
        )
    return _at_broker(Address._make(found), config)


def _find_at(directory: str, config: Config) -> Place:
    from zactor.runtime.session import broker_in

    found = broker_in(directory)
    if found is None:
        raise ConnectionError(f"the cluster of {directory} is gone, or is not this user's")
    return _at_broker(Address._make(found), config)


def _at_broker(broker: Address, config: Config) -> Place:
    """Return what is known of a broker of this machine."""
    directory = os.path.dirname(broker.ipc.removeprefix(_LOCAL))
    try:
        keys = read_cluster_file(os.path.join(directory, IN_SESSION)).keys
    except (OSError, ValueError):
        keys = None  # embedded: it has none
    return _place(config, broker, bytes.fromhex(os.path.basename(directory)), keys)


def _place(config: Config, broker: Address, cluster: bytes, keys: Keys | None) -> Place:
    from zactor.runtime.session import machine_token, open_session

    machine = machine_token(config)
    if broker.machine != machine and not broker.tcp:
        raise ConnectionError(
            "the broker is on another machine and listens on its own only: start it with "
            "`zactor broker --listen HOST:PORT`"
        )
    session = open_session(config, cluster)
    return Place(broker, cluster, session.path, machine, keys, session)
