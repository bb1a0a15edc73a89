"""What has happened in the cluster lately, for people: `list_cluster_events`, `zactor list events`.

A bounded list of rows that the broker keeps in memory. What is ordinary (an actor whose handles are
gone, a worker that was idle) is no event. The same thing said of the same subject again and again is
one row with a count.

Does not decide anything: nobody reads it but people.

Invariants
    V1  There are at most `limit` events; the oldest go first.
    V2  An event that is repeated moves to the end and counts; it never fills the list.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zactor.core.membership import Node

INFO, WARNING, ERROR = "INFO", "WARNING", "ERROR"

# Of an actor's end: what nobody has to hear of.
ORDINARY = frozenset({"exited", "released", "owner", "job", "group"})


class Events:
    """The list. `now` is set by the machine with each of its steps.

    Attributes:
        now: The time of the present step.
        epoch: What is added to it to have seconds since 1970.
    """

    def __init__(self, limit: int, epoch: float = 0.0) -> None:
        self.now = 0.0
        self.epoch = epoch
        self._limit = limit
        self._number = 0
        self._events: OrderedDict[tuple[str, str, str], dict[str, Any]] = OrderedDict()

    def add(
        self,
        severity: str,
        kind: str,
        message: str,
        *,
        node: bytes = b"",
        actor: bytes = b"",
        worker: bytes = b"",
        job: bytes = b"",
    ) -> None:
        """Note an event: `kind` is its type, as `ACTOR_DIED`; the ids say whom it is about."""
        subject = (actor or worker or node or job).hex()
        key = (kind, subject, message)
        known = self._events.pop(key, None)
        self._number += 1
        self._events[key] = {
            "event_id": f"{self._number:08x}",
            "timestamp": self.epoch + self.now,
            "severity": severity,
            "source_type": kind.partition("_")[0],
            "event_type": kind,
            "message": message,
            "count": 1 + (known["count"] if known else 0),
            "node_id": node.hex(),
            "actor_id": actor.hex(),
            "worker_id": worker.hex(),
            "job_id": job.hex(),
        }
        if len(self._events) > self._limit:
            self._events.popitem(last=False)

    def rows(self) -> list[dict[str, Any]]:
        """Return the events, the latest last."""
        return list(self._events.values())

    def check(self) -> None:
        """Assert V1."""
        assert len(self._events) <= self._limit, "V1"


def note_store(events: Events, node: Node, load: dict[str, Any]) -> None:
    """Note what a node's heartbeat tells of its object store: values spilled, requests refused."""
    store, before = load.get("store"), node.load.get("store")
    if not isinstance(store, dict):
        return
    name = node.id.hex()[:12]
    if _risen("spills", store, before):
        text = f"the object store of node {name} is full and spills values to disk"
        events.add(INFO, "OBJECT_STORE_SPILLED", text, node=node.id)
    if _risen("refused", store, before):
        text = (
            f"the object store of node {name} is full, and so is the disk: values were refused "
            "(ObjectStoreFullError)"
        )
        events.add(ERROR, "OBJECT_STORE_FULL", text, node=node.id)


def _risen(name: str, store: dict[str, Any], before: Any) -> bool:
    now, then = store.get(name), before.get(name) if isinstance(before, dict) else 0
    return isinstance(now, int) and now > (then if isinstance(then, int) else 0)
