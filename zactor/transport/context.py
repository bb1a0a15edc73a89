"""This process's ZeroMQ context, and its end.

Imports zmq with the first context: most processes talk to their own machine only and never make one,
and libzmq and what comes with it is a fifth of a start.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from zactor.transport.limits import MAX_SOCKETS

if TYPE_CHECKING:
    import zmq

_context: tuple[int, zmq.Context[zmq.Socket[bytes]]] | None = None
inboxes: set[int] = set()  # ids of the receiving sockets that are open


def context() -> zmq.Context[zmq.Socket[bytes]]:
    """Return this process's ZeroMQ context, made on first use; a forked child makes its own."""
    global _context  # noqa: PLW0603 - one context a process is ZeroMQ's own rule
    pid = os.getpid()
    if _context is None or _context[0] != pid:
        import zmq

        made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        made.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
        _context = (pid, made)
        inboxes.clear()
    return _context[1]


def close_context() -> None:
    """End this process's context if no inbox is left; every socket must be closed by then."""
    global _context  # noqa: PLW0603
    if _context is not None and _context[0] == os.getpid():
        if inboxes:
            return  # tests have several in one process
        _context[1].term()
    _context = None
