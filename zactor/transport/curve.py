"""CURVE keys and the allow-list: who may connect over tcp.

A cluster has one server key pair, used by every inbox of it, and one client key pair, used by
every connection to one. Both live in the cluster file (mode 0600). Every process that binds tcp
first starts a ZAP handler that admits the client key and nothing else: libzmq's CURVE without
ZAP admits any key (measured), and ZAP without a handler admits anyone unless ZAP_ENFORCE_DOMAIN
is set, so it is.
"""

from __future__ import annotations

import threading
from typing import Any

import zmq
from zmq.utils import z85

from zactor.named import NamedTuple

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
DOMAIN = b"zactor"


class Keys(NamedTuple):
    """The two key pairs of a cluster, Z85-encoded."""

    server_public: bytes
    server_secret: bytes
    client_public: bytes
    client_secret: bytes


def make_keys() -> Keys:
    """Make the keys of a new cluster."""
    return Keys(*zmq.curve_keypair(), *zmq.curve_keypair())


def server_options(socket: zmq.Socket[bytes], keys: Keys) -> None:
    """Make a socket that is about to bind tcp a CURVE server that asks ZAP."""
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.server_secret)
    socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def client_options(socket: zmq.Socket[bytes], keys: Keys) -> None:
    """Make a socket that is about to connect a CURVE client of the cluster."""
    socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server_public)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.client_public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.client_secret)


class AllowList:
    """The ZAP handler of one process: one small thread that answers libzmq's questions.

    It starts before the process binds tcp and ends with the process's context.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], allowed: set[bytes]) -> None:
        self._allowed = {z85.decode(key) for key in allowed}
        self._socket = context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(ZAP_ENDPOINT)
        self._stop = context.socket(zmq.PAIR)
        self._stop.bind(f"inproc://zactor-zap-stop-{id(self)}")
        self._stopper = context.socket(zmq.PAIR)
        self._stopper.connect(f"inproc://zactor-zap-stop-{id(self)}")
        self.refused = 0
        self._thread = threading.Thread(target=self._serve, name="zactor-zap", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._stop, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._stop in ready:
                break
            request = self._socket.recv_multipart()
            self._socket.send_multipart(self._answer(request))
        self._socket.close()
        self._stop.close()

    def _answer(self, request: list[bytes]) -> list[bytes]:
        version, number = [*request, b"", b""][:2]
        mechanism: Any = request[5] if len(request) > 5 else b""
        key = request[6] if len(request) > 6 else b""
        if version == b"1.0" and mechanism == b"CURVE" and key in self._allowed:
            return [b"1.0", number, b"200", b"OK", b"cluster", b""]
        self.refused += 1
        return [b"1.0", number, b"400", b"not of this cluster", b"", b""]

    def close(self) -> None:
        """Stop the thread."""
        self._stopper.send(b"")
        self._thread.join(5)
        self._stopper.close()
