"""Strangers at the door: what listens where, who gets in, and what nonsense costs."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

import zactor
from tests.system.daemons import PATIENCE, Machines, marked, wait_until
from zactor.runtime.joining import read_cluster_file

Dealer = zmq.Socket[bytes]

pytestmark = [pytest.mark.system, pytest.mark.slow]


@zactor.remote
class Echo:
    def say(self, value: object) -> object:
        return value


def listening() -> dict[int, list[str]]:
    """The tcp addresses that processes of this test listen at, by pid."""
    inodes = {}
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                inodes[words[9]] = words[1]
    found: dict[int, list[str]] = {}
    for pid in [*marked(), os.getpid()]:
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                target = os.readlink(link)
                inode = target.removeprefix("socket:[").rstrip("]")
                if inode in inodes:
                    found.setdefault(pid, []).append(inodes[inode])
    return found


def resident(pid: int) -> int:
    fields = Path(f"/proc/{pid}/status").read_text()
    return int(fields.split("VmRSS:")[1].split()[0]) * 1024


def test_only_daemons_listen_and_only_at_the_loopback_unless_told(world: Machines) -> None:
    broker = world.broker()
    node = world.node()
    world.init()
    assert zactor.get(Echo.remote().say.remote(1), timeout=PATIENCE) == 1
    found = listening()
    assert set(found) == {broker.pid, node.pid}
    loopback = f"{struct.unpack('<I', socket.inet_aton('127.0.0.1'))[0]:08X}"
    for addresses in found.values():
        assert {address.split(":")[0] for address in addresses} == {loopback}


def test_an_embedded_cluster_listens_nowhere(own_cluster: object) -> None:
    zactor.init(num_cpus=1)
    assert zactor.get(Echo.remote().say.remote(1), timeout=PATIENCE) == 1
    assert listening() == {}


def test_what_is_on_disk_is_the_owners_alone(world: Machines) -> None:
    world.broker()
    world.node()
    world.init()
    zactor.get(Echo.remote().say.remote(1), timeout=PATIENCE)
    base = Path(os.environ["ZACTOR_TMPDIR"])
    for path in (base, *base.glob("????????"), *base.glob("????????/logs")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
    for path in (Path(world.file), Path(world.state), *base.glob("????????/cluster")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


class Strangers:
    """Makes sockets that are none of zactor's, and closes them."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._made: list[zmq.Socket[bytes]] = []

    def dealer(self, server: bytes = b"", public: bytes = b"", secret: bytes = b"") -> Dealer:
        made = self._context.socket(zmq.DEALER)
        made.linger = 0
        if server:
            made.curve_serverkey = server
            made.curve_publickey, made.curve_secretkey = public, secret
        self._made.append(made)
        return made

    def close(self) -> None:
        for made in self._made:
            made.close(0)
        self._context.term()


@pytest.fixture
def strangers() -> Iterator[Strangers]:
    made = Strangers()
    yield made
    made.close()


def handshake(socket_: Dealer, endpoint: str) -> int:
    """Connect, and return the event that ends the handshake."""
    monitor = socket_.get_monitor_socket()
    try:
        return _end_of_handshake(socket_, monitor, endpoint)
    finally:
        socket_.disable_monitor()  # before its other end is closed: it says good-bye there
        monitor.close(0)


def _end_of_handshake(socket_: Dealer, monitor: Dealer, endpoint: str) -> int:
    socket_.connect(endpoint)
    ends = (
        zmq.EVENT_HANDSHAKE_SUCCEEDED,
        zmq.EVENT_HANDSHAKE_FAILED_AUTH,
        zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
        zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
        zmq.EVENT_DISCONNECTED,
    )
    while monitor.poll(PATIENCE * 1000):
        frames = monitor.recv_multipart()
        event: int = struct.unpack("=hi", frames[0])[0]
        if event in ends:
            return event
    raise AssertionError("the handshake does not end")


@pytest.mark.parametrize("daemon", ["broker", "node"])
def test_who_has_not_the_clusters_key_is_refused(
    world: Machines, strangers: Strangers, daemon: str
) -> None:
    world.broker()
    node = world.node()
    content = read_cluster_file(world.file)
    endpoint = content.broker.tcp if daemon == "broker" else node.line.split()[-1]
    keys = content.keys

    refused = {
        "plain": strangers.dealer(),
        # Knows the server's public key, which is no secret, but is on no list.
        "a stranger": strangers.dealer(keys.server_public, *zmq.curve_keypair()),
        "one of another cluster": strangers.dealer(
            zmq.curve_keypair()[0], keys.client_public, keys.client_secret
        ),
    }
    for who, dealer in refused.items():
        assert handshake(dealer, endpoint) != zmq.EVENT_HANDSHAKE_SUCCEEDED, who
    friend = strangers.dealer(keys.server_public, keys.client_public, keys.client_secret)
    assert handshake(friend, endpoint) == zmq.EVENT_HANDSHAKE_SUCCEEDED


NONSENSE = {
    "nothing": b"",
    "garbage": os.urandom(4096),
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zmtp1": b"\x01\x00" + b"\x05\x00abcd",
    "zmtp2": b"\xff" + bytes(8) + b"\x7f\x01\x05\x00\x00",
    "null mechanism": b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32),
    "cut greeting": b"\xff" + bytes(8) + b"\x7f\x03",
    "a frame of 1 GB": b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)
    + b"\x06" + (1 << 30).to_bytes(8, "big") + b"x" * 65536,
}  # fmt: skip


def test_nonsense_is_refused_and_memory_stays_flat(
    world: Machines, strangers: Strangers
) -> None:
    broker = world.broker()
    world.node()
    world.init()
    echo = Echo.remote()
    zactor.get(echo.say.remote(1), timeout=PATIENCE)
    content = read_cluster_file(world.file)
    host, _, port = content.broker.tcp.removeprefix("tcp://").rpartition(":")
    before = resident(broker.pid)
    for _ in range(25):
        for sent in NONSENSE.values():
            with socket.create_connection((host, int(port)), timeout=5) as raw:
                raw.sendall(sent)
    # One who has the keys and speaks nonsense, or claims to be somebody else.
    keys = content.keys
    friend = strangers.dealer(keys.server_public, keys.client_public, keys.client_secret)
    friend.connect(content.broker.tcp)
    for _ in range(50):
        for sent in (b"", b"\xc1", os.urandom(1000), b"\x97" + b"\x01" * 7, b"\x90" * 5000):
            friend.send(sent)
        friend.send_multipart([os.urandom(10)] * 20)
        friend.send(b"\xdd\xff\xff\xff\xff")  # a list of four billion
    assert zactor.get(echo.say.remote(2), timeout=PATIENCE) == 2
    assert zactor.get(Echo.remote().say.remote(3), timeout=PATIENCE) == 3
    assert broker.process.poll() is None
    wait_until(lambda: resident(broker.pid) - before < 32 << 20)


def test_nonsense_on_ipc_is_refused_too(world: Machines, strangers: Strangers) -> None:
    broker = world.broker()
    world.node()
    world.init()
    echo = Echo.remote()
    zactor.get(echo.say.remote(1), timeout=PATIENCE)
    sockets = [
        path
        for path in Path(os.environ["ZACTOR_TMPDIR"]).glob("????????/*")
        if stat.S_ISSOCK(path.stat().st_mode)
    ]
    assert len(sockets) >= 4  # broker, node, worker, this program
    for path in sockets:
        for sent in NONSENSE.values():
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                with socket.socket(socket.AF_UNIX) as raw:
                    raw.connect(str(path))
                    raw.sendall(sent)
        talker = strangers.dealer()
        talker.connect(f"ipc://{path}")
        for sent in (
            b"",
            b"\xc1",
            os.urandom(1000),
            b"\x97" + b"\x01" * 7,
            b"\xdd\xff\xff\xff\xff",
        ):
            talker.send(sent)
    assert zactor.get(echo.say.remote(2), timeout=PATIENCE) == 2
    assert zactor.get(Echo.remote().say.remote(3), timeout=PATIENCE) == 3
    assert broker.process.poll() is None


def test_a_directory_that_others_can_enter_is_not_used(
    world: Machines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shared = tmp_path / "z"
    shared.mkdir()
    shared.chmod(0o755)
    monkeypatch.setenv("ZACTOR_TMPDIR", str(shared))
    with pytest.raises((ConnectionError, OSError), match="mode 0700"):
        zactor.init(num_cpus=1)
