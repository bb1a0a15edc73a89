"""A post that acknowledges only what its owner has written down.

Messages that were acknowledged are not sent again: what a broker was told and had not committed
when it died would be lost. So with a gate, acknowledgements wait until `written` says that what has
arrived so far is safe; whatever else tells a peer how far its messages have come has it written first.

Without a gate it is a plain post.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.runtime.links.post import Post

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.runtime.links.peer import Peer


class GatedPost(Post):
    """See the module."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._write: Callable[[], None] | None = None
        self._write_soon: Callable[[], None] | None = None
        self._unwritten: dict[bytes, Peer] = {}  # peers whose messages may not be written yet

    def gate(self, write: Callable[[], None], write_soon: Callable[[], None]) -> None:
        """From now on, acknowledge only what is written.

        Args:
            write: Has all that was handled written.
            write_soon: Has it written in this turn, and `written` called.
        """
        self._write = write
        self._write_soon = write_soon

    def acknowledge(self, peer: Peer) -> None:
        """Tell a peer what has arrived, once that is written."""
        if self._write_soon is None:
            super().acknowledge(peer)
        else:  # the last message that has arrived from it may not even be handled yet
            self._unwritten[peer.id] = peer
            self._write_soon()

    def written(self) -> None:
        """All that has arrived is written."""
        unwritten, self._unwritten = self._unwritten, {}
        for peer in unwritten.values():
            super().acknowledge(peer)

    def received_from(self, peer: Peer) -> int:
        """Return the number of the last message that has arrived from a peer, once that is written."""
        if self._write is not None:
            self._write()
        return super().received_from(peer)
