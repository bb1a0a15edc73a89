"""Sockets that are none of zactor's, and the nonsense that is sent with them."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

import zmq

from tests.system.daemons import PATIENCE, marked

Dealer = zmq.Socket[bytes]

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00"
NULL = GREETING + b"NULL".ljust(20, b"\0") + bytes(32)
CURVE = GREETING + b"CURVE".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
SHAKEN = NULL + b"\x04" + bytes([len(READY)]) + READY
HUGE = 1 << 30

RAW = {
    "nothing": b"",
    "garbage": os.urandom(4096),
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zmtp 1": b"\x01\x00" + b"\x05\x00abcd",
    "zmtp 2": b"\xff" + bytes(8) + b"\x7f\x01\x05\x00\x00",
    "null mechanism": NULL,
    "cut greeting": GREETING[:12],
    "cut handshake": CURVE + b"\x04\xc8\x05HELLO",
    "a command of 1 GB": CURVE + b"\x06" + HUGE.to_bytes(8, "big") + b"x" * 65536,
    "a frame of 1 GB": SHAKEN + b"\x02" + HUGE.to_bytes(8, "big") + b"x" * 65536,
    "a cut frame": SHAKEN + b"\x02" + (1 << 20).to_bytes(8, "big") + b"x" * 65536,
    "a frame of 2**63": SHAKEN + b"\x02" + b"\xff" * 8,
}
"""Bytes for a bare connection, of one who knows ZMTP more or less well."""

MESSAGES = [
    [b""],
    [b"\xc1"],
    [os.urandom(1000)],
    [b"\x97" + b"\x01" * 7],
    [b"\x90" * 5000],
    [b"\xdd\xff\xff\xff\xff"],  # a list of four billion
    [os.urandom(10)] * 20,
]
"""Messages of one who is let in and does not speak our language. Each is refused once."""


class Strangers:
    """Makes sockets, and closes them."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._made: list[zmq.Socket[bytes]] = []

    def dealer(self, server: bytes = b"", public: bytes = b"", secret: bytes = b"") -> Dealer:
        made = self._context.socket(zmq.DEALER)
        made.linger = 0
        made.reconnect_ivl = -1  # one that is refused goes away
        if server:
            made.curve_serverkey = server
            made.curve_publickey, made.curve_secretkey = public, secret
        self._made.append(made)
        return made

    def close(self) -> None:
        for made in self._made:
            made.close(0)
        self._context.term()


def handshake(socket_: Dealer, endpoint: str, *, said: bytes = b"") -> int:
    """Connect, with a message that waits to be let in; return the event that ends the handshake."""
    monitor = socket_.get_monitor_socket()
    try:
        socket_.connect(endpoint)
        if said:
            with contextlib.suppress(zmq.Again):  # refused already
                socket_.send(said, zmq.NOBLOCK)
        return _end_of_handshake(monitor)
    finally:
        socket_.disable_monitor()  # before its other end is closed: it says good-bye there
        monitor.close(0)


def _end_of_handshake(monitor: Dealer) -> int:
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


def talk(endpoint: str, said: bytes) -> None:
    """Send bytes over a bare connection, to tcp or ipc, and hang up."""
    where, _, path = endpoint.partition("://")
    raw = socket.socket(socket.AF_UNIX if where == "ipc" else socket.AF_INET)
    with raw, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        raw.settimeout(5)
        host, _, port = path.rpartition(":")
        raw.connect(path if where == "ipc" else (host, int(port)))
        raw.sendall(said)


# -- what listens -------------------------------------------------------------------------------


def pids() -> list[int]:
    """What this run has started, and itself."""
    return [*marked(), os.getpid()]


def tcp_endpoints() -> dict[int, list[str]]:
    """The tcp addresses that processes of this run listen at, by pid."""
    inodes = {}
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                host, _, port = words[1].partition(":")
                inodes[words[9]] = f"tcp://{_address(host)}:{int(port, 16)}"
    return _by_pid(inodes)


def _address(host: str) -> str:
    """Undo the kernel's notation: 32-bit words of the machine's own order."""
    words = [int(host[at : at + 8], 16) for at in range(0, len(host), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def ipc_endpoints() -> dict[int, list[str]]:
    """The sockets in the file system that processes of this run listen at, by pid."""
    inodes = {}
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        words = line.split()
        is_listening = int(words[3], 16) & 0x10000
        if is_listening and len(words) > 7 and not words[7].startswith("@"):
            inodes[words[6]] = f"ipc://{words[7]}"
    return _by_pid(inodes)


def _by_pid(inodes: dict[str, str]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for pid in pids():
        for inode in _sockets(pid) & inodes.keys():
            found.setdefault(pid, []).append(inodes[inode])
    return found


def _sockets(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(os.readlink(link).removeprefix("socket:[").rstrip("]"))
    return found


def resident(pid: int) -> int:
    """The memory of a process, in bytes."""
    fields = Path(f"/proc/{pid}/status").read_text()
    return int(fields.split("VmRSS:")[1].split()[0]) * 1024
