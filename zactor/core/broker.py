"""The broker as a machine: messages in, effects out, nothing else.

It is the control plane of one cluster: directory, placement, leases, membership, groups. Calls
never pass through it. All that must outlive it goes through `core.state`; on the same state a
broker that is started again goes on where the one before was killed, as soon as nodes and
drivers have re-attached.

    core/broker            this machine: its door, its clock, its checks
    core/client_requests   what drivers, workers and tools ask
    core/node_reports      what nodes tell
    core/cluster           the parts together: what a death means
    core/directory, lifecycle, restarts             actors
    core/placement, waiting, resources, groups      where things go
    core/leases, recall                             workers for tasks
    core/membership, processes, sessions            who is there
    core/journal, state, deadlines                  what is written, sent, due

Does not own a socket, a clock, a thread or a file, and does not raise for anything that a peer
can send: that is answered with an error, or reported and dropped. The one exception that leaves
`drain` is `StaleError`: another broker has taken over the state, and this one must end.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from zactor.core.checks import field_error
from zactor.core.client_requests import CHANGING, LATER, ClientRequests, RefusedError
from zactor.core.cluster import Cluster
from zactor.core.journal import Effect, Report, Send, Watch
from zactor.core.node_reports import NodeReports
from zactor.core.processes import FORGOTTEN
from zactor.core.sessions import Answers
from zactor.named import NamedTuple
from zactor.wire.messages import Answer, CreateActor, CreateGroup, SessionLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.core.broker_config import BrokerConfig
    from zactor.core.state import State
    from zactor.ids import IdSource
    from zactor.wire.messages import Address

__all__ = ["BrokerMachine", "BrokerStats", "Effect", "Report", "Send", "Watch"]

HEARD_FROM_THE_DEAD = frozenset({"Attach", "NodeUp", "Renew"})
STORY = 64  # events kept for the text of a broken invariant


class BrokerStats(NamedTuple):
    """Counters of a broker."""

    term: int
    revision: int
    nodes: int
    actors: dict[str, int]  # by state
    jobs: int
    leases: int
    granted: int
    waiting: int  # lines
    groups: int
    processes: int
    definitions: int  # bytes
    messages: int  # received
    refused: int  # of those, senseless ones


def _answers_itself(message: Any, answer: Answer) -> bool:
    """Whether the directory answers a repeated request by what it holds: 800 bytes an actor less."""
    return (
        answer.ok
        and isinstance(message, CreateActor | CreateGroup)
        and answer.value["id"] == message.spec.get("id")
    )


class BrokerMachine:
    """One broker. See the module, and STYLE.md for what each method of a machine means."""

    def __init__(self, state: State, ids: IdSource, config: BrokerConfig) -> None:
        self._cluster = Cluster(state, ids, config)
        self._requests = ClientRequests(self._cluster)
        self._reports = NodeReports(self._cluster)
        self._cluster.on_overdue = self._requests.overdue
        self._handlers = {**self._requests.handlers, **self._reports.handlers}
        self._answers = Answers(config)
        self._story: deque[str] = deque(maxlen=STORY)
        self._is_started = False
        self._messages = 0
        self._refused = 0

    @property
    def message_types(self) -> list[type]:
        """The messages it understands: the shell registers for these."""
        return list(self._handlers)

    def show_links(self, counted: Callable[[], dict[str, int]]) -> None:
        """Have `status` show what the shell's links have counted."""
        self._cluster.links = counted

    def start(self, now: float) -> None:
        """Begin: read the state. Done by the first event, if nobody asks for it."""
        if not self._is_started:
            self._is_started = True
            self._cluster.start(now)

    def receive(self, peer: bytes, address: Address, message: Any, now: float) -> None:
        """A message arrived from the process `peer`, which is reached at `address`."""
        self.start(now)
        self._cluster.journal.events.now = now
        self._messages += 1
        self._story.append(f"{now:.3f} {type(message).__name__} from {peer.hex()[:8]}")
        handler = self._handlers.get(type(message))
        problem = "is not for a broker" if handler is None else field_error(message)
        if problem is not None or handler is None:
            self._senseless(peer, address, message, str(problem))
        elif self._is_heard(peer, address, message, now):
            self._handle(handler, peer, message, now)
            self._after(now)

    def _senseless(self, peer: bytes, address: Address, message: Any, problem: str) -> None:
        self._refused += 1
        journal = self._cluster.journal
        text = f"{type(message).__name__} from process {peer.hex()[:12]}: {problem}"
        journal.report("warning", text)
        request = getattr(message, "request", None)
        if isinstance(request, int):
            journal.book.setdefault(peer, address)
            journal.send(peer, Answer(request, False, ["BadRequest", text, {}]))

    def _is_heard(self, peer: bytes, address: Address, message: Any, now: float) -> bool:
        """Whether the sender has a say; notes where it is."""
        cluster = self._cluster
        book = cluster.journal.book
        cause = cluster.processes.dead.get(peer)
        if cause is FORGOTTEN:
            del cluster.processes.dead[peer]  # it had only been out of sight
        elif cause is not None and type(message).__name__ not in HEARD_FROM_THE_DEAD:
            if cause.get("kind") == "lost":
                book[peer] = address
                cluster.journal.send(peer, SessionLost(str(cause.get("text"))))
                del book[peer]
            return False
        if peer not in book and len(book) >= cluster.config.max_clients * 4:
            self._refused += 1
            cluster.journal.report("warning", "too many processes; one is not listened to")
            return False
        book[peer] = address
        if ("driver", peer) in cluster.deadlines:
            cluster.deadlines.cancel(("driver", peer))
        return True

    def _handle(self, handler: Any, peer: bytes, message: Any, now: float) -> None:
        request = getattr(message, "request", None)
        if request is None:
            handler(peer, message, now)
            return
        is_kept = isinstance(message, CHANGING)
        answer = self._answers.get(peer, request) if is_kept else None
        if answer is None:
            try:
                value = handler(peer, message, now)
            except RefusedError as refused:
                answer = Answer(request, False, refused.wire)
            else:
                if value is LATER:
                    return
                answer = Answer(request, True, value)
            if is_kept and not _answers_itself(message, answer):
                self._answers.keep(peer, request, answer)
        self._cluster.journal.send(peer, answer)

    def lost(self, peer: bytes, now: float) -> None:
        """The link to a process cannot be re-made."""
        self.start(now)
        self._cluster.journal.events.now = now
        self._story.append(f"{now:.3f} lost {peer.hex()[:8]}")
        cluster = self._cluster
        node = cluster.membership.by_process.get(peer)
        if node is not None:
            cluster.membership.unreachable(node)
            cluster.waiting.recheck()
        if peer in cluster.sessions.by_driver:
            if ("driver", peer) not in cluster.deadlines:
                cluster.deadlines.set(("driver", peer), now + cluster.config.driver_grace)
        elif peer in cluster.sessions.tools:
            cause = {"kind": "detached", "code": 0, "text": "its link was lost"}
            cluster.process_died(peer, cause, now)
        elif peer not in cluster.processes.living:
            cluster.journal.book.pop(peer, None)
        self._after(now)

    def process_ended(self, process: bytes, now: float) -> None:
        """A process that `Watch` asked for has ended."""
        self._story.append(f"{now:.3f} ended {process.hex()[:8]}")
        self._cluster.journal.events.now = now
        cause = {"kind": "exit", "code": 0, "text": "its process has ended"}
        self._cluster.ended(process, cause, now)
        self._after(now)

    def tick(self, now: float) -> None:
        """Act on every deadline that has come."""
        self.start(now)
        self._cluster.look_at_clock(now)
        self._cluster.journal.events.now = now
        while (name := self._cluster.deadlines.take_due(now)) is not None:
            self._story.append(f"{now:.3f} due {name[0]}")
            self._cluster.due(name, now)
        self._after(now)

    def _after(self, now: float) -> None:
        if self._cluster.membership.draining:
            self._cluster.stop_drained(now)
        self._cluster.settle(now)

    def knows(self, process: bytes) -> bool:
        """Whether a process may still come back to what was sent to it: its session may be over."""
        cause = self._cluster.processes.dead.get(process)
        is_only_lost = cause is not None and cause.get("kind") == "lost"
        return is_only_lost or process in self._cluster.journal.book

    def node_address(self, node: bytes) -> Address | None:
        """Return where a node is, for the relay."""
        known = self._cluster.membership.nodes.get(node)
        return known.address if known is not None else None

    def next_deadline(self) -> float | None:
        """When `tick` is due."""
        return self._cluster.deadlines.next()

    def drain(self) -> list[Effect]:
        """Commit what was written; return what is to be done, in order, and forget it.

        Raises:
            StaleError: Another broker has written to the state.
        """
        self._cluster.directory.publish()
        return self._cluster.journal.drain()

    def commit(self) -> None:
        """Commit what was written; what is to be done stays for `drain`.

        Raises:
            StaleError: Another broker has written to the state.
        """
        self._cluster.journal.commit()

    @property
    def forgets(self) -> bool:
        """Whether nothing that it writes is ever read back."""
        return self._cluster.journal.forgets

    def close(self) -> None:
        """Let go of the state. Nothing may be called afterwards."""
        self._cluster.journal.state.close()

    def check(self) -> None:
        """Assert every invariant; the error tells what happened last."""
        try:
            self._cluster.check()
        except AssertionError as error:
            story = "\n  ".join(self._story)
            raise AssertionError(f"{error}\nbefore that:\n  {story}") from error

    def stats(self) -> BrokerStats:
        """Return its counters."""
        cluster = self._cluster
        return BrokerStats(
            term=cluster.term,
            revision=cluster.journal.revision,
            nodes=len(cluster.membership.nodes),
            actors=dict(cluster.directory.counts),
            jobs=len(cluster.sessions.by_driver),
            leases=len(cluster.leases.leases),
            granted=cluster.leases.granted,
            waiting=len(cluster.waiting.lines),
            groups=len(cluster.groups.groups),
            processes=len(cluster.processes.living),
            definitions=cluster.definitions.size,
            messages=self._messages,
            refused=self._refused,
        )
