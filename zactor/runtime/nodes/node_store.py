"""The machine's store on the node's loop: messages in, answers out, deaths told.

It stands between `runtime.nodes.storage`, which knows no post and no loop, and the node. Processes of
this machine are known to be dead by their node; of others the broker is asked.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from zactor.core.storage_effects import Ask, Reply, Tell, Watch
from zactor.exceptions import to_wire
from zactor.runtime.objects import chunks
from zactor.store.memory import keep_freed_memory
from zactor.wire.messages import (
    Address,
    Answer,
    FreeSegment,
    LocateSegment,
    ProcessDied,
    ReadSegment,
    ReserveSegment,
    SegmentFilled,
    WatchProcess,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from zactor.runtime.links.loop import Loop
    from zactor.runtime.links.post import Post
    from zactor.runtime.nodes.storage import NodeEffect, StorageShell

MESSAGES = (ReserveSegment, SegmentFilled, FreeSegment, LocateSegment, ReadSegment)


class NodeStore:
    """Drives one `StorageShell`. Everything runs on the loop's thread."""

    def __init__(
        self,
        loop: Loop,
        post: Post,
        shell: StorageShell,
        *,
        is_here: Callable[[bytes], bool],
        broker: Callable[[], Address],
    ) -> None:
        """Begin to listen.

        Args:
            loop: Wakes the shell.
            post: Where requests come from.
            shell: The store.
            is_here: Whether a process lives on this machine, so that `process_died` will come.
            broker: Where the broker is now.
        """
        self._loop = loop
        self._post = post
        self._shell = shell
        self._is_here = is_here
        self._broker = broker
        self._timer_at: float | None = None
        self._is_closed = False
        self._passes_chunks = False  # values have been read from or for other machines
        self._watched_far: set[bytes] = set()  # processes that the broker was asked about
        self._wake_fd = shell.fileno()
        loop.add_reader(self._wake_fd, self._collect)
        for kind in MESSAGES:
            post.on(kind, self._receive)
        chunks.listen(post)
        if broker().process != post.process_id:  # an embedded broker takes these itself
            post.on(ProcessDied, lambda _, __, message: self._far_died(message.process))

    def process_died(self, process: bytes) -> None:
        """A process is dead, of this machine or one that was watched."""
        self._watched_far.discard(process)
        self._apply(self._shell.process_lost(process, self._loop.now()))

    def _far_died(self, process: bytes) -> None:
        """A process that the broker was asked about is dead: what it was asked is not answered."""
        self._post.forget(process)
        self.process_died(process)

    def load(self) -> dict[str, Any]:
        """Return what `Renew` and `status` show."""
        return dict(self._shell.stats()._asdict())

    def close(self) -> None:
        """Delete what is stored."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._wake_fd)
            self._shell.close()

    def _receive(self, peer: bytes, address: Address, message: Any) -> None:
        self._apply(self._shell.receive(peer, address, message, self._loop.now()))

    def _collect(self) -> None:
        self._apply(self._shell.collect(self._loop.now()))

    def _tick(self, due: float) -> None:
        if self._timer_at == due:
            self._timer_at = None
        if not self._is_closed:
            self._apply(self._shell.tick(self._loop.now()))

    def _apply(self, effects: list[NodeEffect]) -> None:
        for effect in effects:
            match effect:
                case Reply(ok=True, value=(int() as size, bytes() as chunk)):
                    self._pass_chunks()
                    to = Address(*effect.address)
                    chunks.send(self._post, to, effect.request, size, chunk)
                case Reply():
                    answer = Answer(effect.request, effect.ok, effect.value)
                    self._post.send(Address(*effect.address), answer)
                case Tell():
                    self._post.send(Address(*effect.address), effect.message)
                case Ask():
                    self._pass_chunks()
                    address = Address(*effect.address)
                    self._watch(address.process)
                    future = self._post.request(address, effect.message)
                    future.add_done_callback(partial(self._answered, effect.token))
                case Watch():
                    self._watch(effect.process)
        due = self._shell.next_deadline()
        if due is not None and (self._timer_at is None or due < self._timer_at):
            self._timer_at = due
            self._loop.call_later(max(0.0, due - self._loop.now()), partial(self._tick, due))

    def _pass_chunks(self) -> None:
        if not self._passes_chunks:
            self._passes_chunks = True
            keep_freed_memory()

    def _answered(self, token: int, future: Future[Any]) -> None:
        error = future.exception()
        value = future.result() if error is None else to_wire(error)
        self._apply(self._shell.answered(token, error is None, value, self._loop.now()))

    def broker_moved(self) -> None:
        """The broker was started again: it does not know who watches whom."""
        watched, self._watched_far = self._watched_far, set()
        for process in watched:
            self._watch(process)

    def _watch(self, process: bytes) -> None:
        if not self._is_here(process) and process not in self._watched_far:
            self._watched_far.add(process)
            future = self._post.request(self._broker(), WatchProcess(0, process))
            future.add_done_callback(partial(self._watched, process))

    def _watched(self, process: bytes, future: Future[Any]) -> None:
        if future.exception() is None and future.result() is not None and not self._is_closed:
            self._far_died(process)
