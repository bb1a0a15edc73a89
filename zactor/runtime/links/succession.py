"""A broker that was started again: how those who spoke to the one before go on with it.

A broker daemon keeps its endpoints, its keys and its state over a restart, but it is another
process. Who says hello to the old one is told who listens there now, and hands over: what the old
one has not acknowledged is sent to the new one, and what it has not answered is asked again. All
control messages bear being repeated.

Does not tell the new broker what the old one only had in memory (watches, demands, a driver's
session): those who have such things say them again, see `Process.broker_moved`.

Owned by: the receiving thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zactor.wire.codec import unpack_envelope
from zactor.wire.messages import CODES, Answer, NodeUp, Renew

if TYPE_CHECKING:
    from zactor.runtime.links.post import Post
    from zactor.wire.messages import Address

# A node says these anew by itself: what it said then may be out of date.
_NOT_REPEATED = (NodeUp, Renew)


def hand_over(post: Post, old: bytes, new: Address) -> None:
    """Have the process at `new` take the place of process `old`, in this process's view.

    Any thread may go on to send to `old` meanwhile; it reaches the new one, in order.
    """
    successor = post.peer(new)
    former = post.peers.get(old)
    asked = set()
    if former is not None and former is not successor:
        with former.lock, successor.lock:
            for _, (data, frames), _ in list(former.link.unacked):
                envelope = unpack_envelope(data)
                kind, body = envelope[1], envelope[6]
                message = CODES.get(kind)
                if message is None or message in _NOT_REPEATED:
                    continue
                if message is Answer:
                    continue  # who asked is no more
                if message._fields[:1] == ("request",):  # type: ignore[attr-defined]
                    if body[0] not in post.requests:
                        continue
                    asked.add(body[0])
                successor.transmit(kind, body, frames)
            former.successor = successor
            former.close()
        # Who still holds the old address finds the new process.
        post.peers[old] = successor
    for number, (future, process, message) in list(post.requests.items()):
        if process != old:
            continue
        if type(message) in _NOT_REPEATED:
            del post.requests[number]
            continue
        post.requests[number] = (future, new.process, message)
        if number not in asked:
            post.send(new, message._replace(request=number))
