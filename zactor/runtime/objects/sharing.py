"""A process and its machine's store: large values written, mapped, moved and freed.

A value of more than 100 KiB lies in a shared-memory segment; what travels is its place:
`[segment name, size, node id, address of the node's process]`. Whoever reads it maps the segment; if it
is not there (on another machine, or moved to disk), the node is asked for it first.

The node is told of segments when something else is sent anyway, or after a moment.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from zactor.core.calls import STORED
from zactor.exceptions import (
    GetTimeoutError,
    ObjectLostError,
    ObjectStoreFullError,
    ZactorSystemError,
)
from zactor.runtime.calls.values import decode
from zactor.runtime.objects.chunks import read_far
from zactor.runtime.objects.fetching import Fetching
from zactor.runtime.objects.objects import Borrowed
from zactor.runtime.objects.recovery import Recovery
from zactor.serde.values import loads
from zactor.store import layout
from zactor.store.segments import SegmentMissingError, SegmentPool
from zactor.store.warm import IDLE_SECONDS, WarmMemory
from zactor.wire.messages import (
    Address,
    FreeSegment,
    LocateSegment,
    ReserveSegment,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zactor.core.calls import Result
    from zactor.runtime.process import Process

TELL_DELAY = 0.05  # how late the node may hear of a segment
LOCATE_TIMEOUT = 600.0  # for a pull or a restore
MOST_MOVES = 100  # how often a value may be moved to disk again before it is mapped
ELSEWHERE = object()  # for a value that has to be waited for
MOST_TRIES = 8  # how often a value may be lost again while it is being got


class Sharing:
    """The store as one process uses it. Any thread."""

    def __init__(self, process: Process, shm_dir: str) -> None:
        self._process = process
        self._pool = SegmentPool(process.id, self._reserve, directory=shm_dir)
        self._is_telling = False
        self.fetching = Fetching()
        self._viewed: dict[
            bytes, int
        ] = {}  # objects with views that the reference table knows of
        self._moved: dict[
            tuple[bytes, str], str
        ] = {}  # what lies elsewhere than its place says
        process.reception.housekeeping.append((self._pool.unviewed, self.look))
        process.objects.store = self
        process.objects.unviewed = self._pool.unviewed
        Recovery(process)
        process.post.on(FreeSegment, self._segment_freed)

    @property
    def writes(self) -> bool:
        """Whether there is a node to ask for room; else values stay in their process."""
        return self._process.node is not None

    def _reserve(self, size: int) -> str:
        process = self._process
        if process.node is None:
            raise ObjectStoreFullError("this machine's node is gone, and its store with it")
        name: str = process.ask(ReserveSegment(0, size), to=process.node)
        return name

    # -- writing -------------------------------------------------------------------------------

    def write(
        self, object_id: bytes, owner: bytes, payload: Any, buffers: Sequence[Any]
    ) -> list[Any]:
        """Copy a value into shared memory; return its place.

        Raises:
            ObjectStoreFullError: There is no room.
        """
        process = self._process
        self.look()  # what was dropped just now makes a warm segment free for this value
        stored = self._pool.put(object_id, payload, buffers, owner=owner)
        self._tell_soon()
        assert process.node is not None
        return [stored.name, stored.size, process.node.node, list(process.node)]

    # -- reading -------------------------------------------------------------------------------

    def read(self, result: Result, deadline: float | None = None, *, waits: bool = True) -> Any:
        """Return the value of a stored result; its arrays are views of shared memory.

        Without `waits`, `ELSEWHERE` if it is not mapped at once.

        Raises:
            GetTimeoutError: It has to be fetched or made again, and the deadline came first.
            ObjectLostError: It is not there, and cannot be made again.
        """
        assert result.state == STORED
        owner = result.owner.process if isinstance(result, Borrowed) else self._process.id
        found: list[Any] | None = [] if result.inner else None
        load = partial(self._load, owner=owner, found=found, deadline=deadline, waits=waits)
        value = _load_or_recover(self._process, result, load, deadline)
        if found is not None and result.state == STORED:
            result.refs = found
        return value

    def read_place(self, place: Any, object_id: bytes) -> Any:
        """Return the value at a place that came inside a call."""
        return self._load(object_id, place)

    def is_here(self, place: Any, object_id: bytes) -> bool:
        """Whether the value at a place can most likely be read without waiting."""
        return self._pool.is_here(self._moved.get((object_id, place[0]), place[0]))

    def _load(
        self,
        object_id: bytes,
        place: Any,
        owner: bytes = b"",
        found: list[Any] | None = None,
        deadline: float | None = None,
        *,
        waits: bool = True,
    ) -> Any:
        name = self._moved.get((object_id, place[0]), place[0])
        same = 0  # how often the node has said the same name
        for _ in range(MOST_MOVES):
            try:
                value = self._pool.get(name, object_id)
            except SegmentMissingError:
                if not waits:
                    return ELSEWHERE
                if self._process.node is None:
                    return _read_far(self._process, object_id, place, WarmMemory(0), deadline)
                try:
                    before, name = name, self._locate(object_id, place, deadline)
                except ObjectStoreFullError:
                    if place[2] == self._process.node.node:
                        raise
                    # What has no room on this machine comes into this process's own memory.
                    return _read_far(self._process, object_id, place, WarmMemory(0), deadline)
                same = same + 1 if name == before else 0
                if same == 2:
                    break
                continue  # where there is little room, what was restored may go before it is mapped
            if value.is_new_view and owner:
                self._mapped(object_id, owner)
            return loads(value.payload, value.buffers, found)
        raise ObjectLostError(
            f"object {object_id.hex()} is not in the store any more",
            object_ref_hex=object_id.hex(),
        )

    def _locate(self, object_id: bytes, place: Any, deadline: float | None) -> str:
        process = self._process
        locate = LocateSegment(0, object_id, place[0], place[2], place[3])
        name: str = _ask_node(process, locate, process.node, object_id, deadline)
        if name != place[0]:
            self._moved[object_id, place[0]] = name
            if len(self._moved) > 10_000:
                del self._moved[next(iter(self._moved))]
        return name

    # -- freeing -------------------------------------------------------------------------------

    def object_freed(self, object_id: bytes, place: Any) -> None:
        """Nobody holds a stored object of ours any more."""
        self._moved.pop((object_id, place[0]), None)
        if self._pool.free(place[0], object_id):
            self._tell_soon()
            return
        node = Address._make(place[3])
        self._process.post.send(node, FreeSegment(place[0], False, object_id))

    def _segment_freed(self, peer: bytes, address: Address, message: FreeSegment) -> None:  # noqa: ARG002
        """The owner of a value that this process wrote says so, through the node."""
        if self._pool.free(message.name, message.object_id):
            self._tell_soon()
        else:
            self._process.post.send(address, message._replace(keep=False))

    # -- the node ------------------------------------------------------------------------------

    def _tell_soon(self) -> None:
        if not self._is_telling:
            self._is_telling = True
            self._process.post.call_later(TELL_DELAY, self._tell)

    def _tell(self) -> None:
        self._is_telling = False
        node = self._process.node
        if node is None:
            return
        for message in self._pool.drain():
            self._process.post.send(node, message)
        due = self._pool.next_deadline()
        if due is not None:
            self._process.post.call_later(max(TELL_DELAY, due - time.monotonic()), self._trim)

    def _trim(self) -> None:
        self._pool.trim(time.monotonic())
        self._tell_soon() if self._pool.next_deadline() is not None else self._tell()

    def _mapped(self, object_id: bytes, owner: bytes) -> None:
        """While there are views of an object it counts as referred to: its memory is still taken."""
        objects = self._process.objects
        with objects.lock:
            objects.references.mapped(object_id, owner)
            self._viewed[object_id] = self._viewed.get(object_id, 0) + 1

    def look(self) -> None:
        """Tell the reference table of views that are gone."""
        objects = self._process.objects
        for object_id in self._pool.drain_unmapped():
            with objects.lock:
                count = self._viewed.pop(object_id, 0)
                if count > 1:
                    self._viewed[object_id] = count - 1
                if count:
                    objects.dropped.append(object_id)
        objects.sweep_if_needed()

    def close(self) -> None:
        """Delete what this process has made; views keep their memory."""
        self._pool.close()


class FarStore:
    """The stores of other machines, as a program sees them on a machine without a node.

    What it gets is read over the network into its own memory, at every `get`; what it puts stays
    in its own memory.
    """

    writes = False

    def __init__(self, process: Process) -> None:
        self._process = process
        self._memory = WarmMemory()
        self._is_trimming = False
        self.fetching = Fetching()
        process.objects.store = self
        Recovery(process)

    def read(self, result: Result, deadline: float | None = None, *, waits: bool = True) -> Any:
        """Return the value of a stored result; as `Sharing.read`."""
        if not waits:
            return ELSEWHERE
        load = partial(self._load, deadline=deadline)
        return _load_or_recover(self._process, result, load, deadline)

    def read_place(self, place: Any, object_id: bytes) -> Any:
        """Return the value at a place that came inside a call."""
        return self._load(object_id, place)

    def is_here(self, place: Any, object_id: bytes) -> bool:  # noqa: ARG002
        """Every value is on another machine."""
        return False

    def _load(self, object_id: bytes, place: Any, deadline: float | None = None) -> Any:
        value = _read_far(self._process, object_id, place, self._memory, deadline)
        if not self._is_trimming:
            self._is_trimming = True
            self._process.post.call_later(IDLE_SECONDS, self._trim)
        return value

    def _trim(self) -> None:
        self._is_trimming = self._memory.trim()
        if self._is_trimming:
            self._process.post.call_later(IDLE_SECONDS, self._trim)

    def object_freed(self, object_id: bytes, place: Any) -> None:
        """Nobody holds an object of ours any more that lies on another machine."""
        message = FreeSegment(place[0], False, object_id)
        self._process.post.send(Address._make(place[3]), message)

    def close(self) -> None:
        """Nothing is held."""


def _load_or_recover(
    process: Process, result: Result, load: Callable[..., Any], deadline: float | None
) -> Any:
    """Return a stored value; have it made again, or found, where it is not at its place."""
    for attempt in range(MOST_TRIES):
        place = result.value
        try:
            return load(result.object_id(), place)
        except ObjectLostError:
            if attempt == MOST_TRIES - 1:
                raise
        process.objects.recover(result, place, deadline)
        if result.state != STORED:
            break
    return decode(result, deadline)


def _read_far(
    process: Process,
    object_id: bytes,
    place: Any,
    memory: WarmMemory,
    deadline: float | None = None,
) -> Any:
    """Return the value at a place on another machine.

    Raises:
        ObjectLostError: It is not there any more, or its node is not.
        GetTimeoutError: The deadline came first.
    """
    if process.is_over is not None:
        raise process.is_over
    view = read_far(process, object_id, place, memory.take, deadline)
    header = layout.read_header(bytes(view[: layout.HEADER_SIZE]))
    if header is None or header.object_id != object_id:
        raise ObjectLostError(
            f"object {object_id.hex()} is not in the store any more",
            object_ref_hex=object_id.hex(),
        )
    table_end = layout.HEADER_SIZE + 16 * header.buffers
    (at, length), spans = layout.pieces(header, bytes(view[layout.HEADER_SIZE : table_end]))
    return loads(view[at : at + length], [view[a : a + n] for a, n in spans])


def _ask_node(
    process: Process,
    message: Any,
    node: Address | None,
    object_id: bytes,
    deadline: float | None,
) -> Any:
    timeout = LOCATE_TIMEOUT
    if deadline is not None:
        timeout = min(timeout, max(0.0, deadline - time.monotonic()))
    try:
        return process.ask(message, to=node, timeout=timeout)
    except GetTimeoutError:
        raise GetTimeoutError(
            "Get timed out: some object(s) not ready: the value is being fetched from another "
            f"node or from disk ({timeout:.1f} s)"
        ) from None
    except ZactorSystemError as error:
        if type(error) is not ZactorSystemError:
            raise
        raise ObjectLostError(
            f"object {object_id.hex()} was in the store of a node that is gone",
            object_ref_hex=object_id.hex(),
        ) from None
