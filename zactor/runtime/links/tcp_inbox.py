"""A post's inbox for other machines: bound to tcp, behind CURVE and an allow-list, when first needed.

Owned by: the receiving thread; made under `_lock`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from zactor.runtime.links.interrupts import protect_module

if TYPE_CHECKING:
    from zactor.runtime.links.post import Post
    from zactor.transport.curve import AllowList, Keys
    from zactor.transport.network import ReceivingSocket

MESSAGES_A_TURN = 256


class TcpInbox:
    """See the module.

    Attributes:
        has_more: There is something that the socket's descriptor does not tell of.
        socket: None until it is bound.
    """

    def __init__(self, post: Post) -> None:
        self._post = post
        self._lock = threading.Lock()
        self._allowed: AllowList | None = None
        self.socket: ReceivingSocket | None = None
        self.has_more = False

    def bind(self, host: str, keys: Keys, port: int) -> str:
        """Bind, if that was not done; return the endpoint.

        Raises:
            OSError: The host is none of this machine's, or the port is taken.
        """
        from zactor.transport.context import context
        from zactor.transport.curve import AllowList
        from zactor.transport.network import ReceivingSocket

        with self._lock:
            if self._allowed is None:
                self._allowed = AllowList(context(), {keys.client_public})
            if self.socket is None:
                self.socket = ReceivingSocket()
                self.socket.on_arrival = self._shows
                self._post.arrivals.register(self.socket.fd, self.drain)
            return self.socket.bind_tcp(host, keys, port)

    @property
    def strangers(self) -> int:
        """How many connections were refused for want of the cluster's keys."""
        return self._allowed.refused if self._allowed is not None else 0

    def drain(self) -> None:
        """Take what has arrived, some of it if it is much."""
        assert self.socket is not None
        receive, deliver = self.socket.receive, self._post.deliver
        for _ in range(MESSAGES_A_TURN):
            arrived = receive()
            if arrived is None:
                self.has_more = False
                return
            deliver(*arrived)
        # The descriptor tells only of what comes after it was found empty.
        self.has_more = self._post.arrivals.has_more = True

    def _shows(self) -> None:
        self.has_more = True

    def close(self) -> None:
        """Close it, and let nobody in any more."""
        if self.socket is not None:
            self._post.arrivals.unregister(self.socket.fd)
            self.socket.close()
        if self._allowed is not None:
            self._allowed.close()


protect_module(__name__)
