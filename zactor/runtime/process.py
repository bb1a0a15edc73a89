"""What every driver and worker process is made of, put together.

One `Process` at a time, found by `runtime.current`: its post office, who receives, the caller's and the
callee's halves of the data plane, the actors it has handles of, its tasks and its objects.

Does not know what the process is for: `runtime.driver` and `runtime.worker` do.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from zactor.exceptions import GetTimeoutError, SessionLostError
from zactor.ids import caller_id
from zactor.runtime.calls import several
from zactor.runtime.calls.actors import ActorViews
from zactor.runtime.calls.caller import Caller, Identity
from zactor.runtime.calls.cancelling import cancel_shared
from zactor.runtime.calls.creations import Creations
from zactor.runtime.calls.deadlines import Deadlines
from zactor.runtime.calls.definitions import Definitions
from zactor.runtime.calls.groups import GroupViews
from zactor.runtime.calls.streaming import Streams
from zactor.runtime.calls.tasks import Tasks
from zactor.runtime.calls.unhandled import UnhandledErrors
from zactor.runtime.hosting.callee import Callee
from zactor.runtime.insight.deadlocks import Deadlocks
from zactor.runtime.links.post import Post
from zactor.runtime.links.reception import Reception, Waiter
from zactor.runtime.links.routing import Routing
from zactor.runtime.links.succession import hand_over
from zactor.runtime.objects import chunks
from zactor.runtime.objects.objects import Objects
from zactor.wire.codec import WHY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from zactor.core.calls import Result
    from zactor.runtime.hosting.progress import ProgressPage
    from zactor.transport.curve import Keys
    from zactor.wire.messages import Address

ANSWER_TIMEOUT = 60.0  # for what a broker or node is asked; it survives a restart of the broker
BLOCKED_AFTER = 0.002  # a wait shorter than this is not worth giving CPUs back for

MOST_WARNED = 1_000  # different warnings of one process; what comes after is not shown


class Process:
    """See the module.

    Attributes:
        identity: Who calls now: the driver's session, the actor that runs, or this worker for tasks.
        job: The job that what is made here belongs to.
        namespace: Where its actors' names are.
        running: What this process runs now, for the runtime context; None in a driver.
        parent: The chain of calls that led to what runs now; travels with the calls made by it.
    """

    def __init__(
        self,
        process_id: bytes,
        directory: str,
        *,
        broker: Address,
        node: Address | None,
        machine: bytes,
        keys: Keys | None,
        progress: ProgressPage | None = None,
        features: dict[str, Any] | None = None,
        transport: str = "",
        host: str = "",
        busy_poll: float = 0.0,
    ) -> None:
        self.id = process_id
        self.pid = os.getpid()
        self.broker = broker
        self.node = node
        self.job = b""
        self.namespace = ""
        self.session: dict[str, Any] = {}
        self.post = Post(
            process_id,
            directory,
            node=node.node if node else b"",
            machine=machine,
            keys=keys,
            features=features,
        )
        self.identity = Identity(caller_id(process_id, 0))
        self.parent: Any = None
        self.running: Any = None
        self._warned: set[str] = set()
        self.awaiting: dict[Result, None] = {}  # calls whose arguments are not all ready
        self.on_broker_moved: list[
            Callable[[], None]
        ] = []  # say again what only it had in memory
        Routing(
            self.post,
            broker=lambda: self.broker,
            node=lambda: self.node,
            transport=transport,
            host=host,
        )
        self.post.on_moved = self._peer_moved
        self.creations = Creations(self)
        self.is_worker = progress is not None
        self.is_over: Exception | None = None  # why nothing can be asked for any more
        self.blocking: Callable[[bool], None] | None = None  # told around long waits
        self.caller = Caller(self.post, self._gathered)
        self.callee = Callee(self.post, progress)
        self.reception = Reception(self.post, self.flush, busy_poll=busy_poll)
        self.definitions = Definitions(self)
        self.objects = Objects(self)
        self.actors = ActorViews(self)
        self.tasks = Tasks(self)
        self.deadlocks = Deadlocks(self)
        several.install(self)
        self.callee.cancel_shared = partial(cancel_shared, self)
        self.streams = Streams(self)
        self.groups = GroupViews(self)
        self.deadlines = Deadlines(self)
        UnhandledErrors(self)
        self.whys: Any = None  # made when somebody asks
        self.post.on_kind(WHY, self._why)
        chunks.listen(self.post)
        self.post.on_lost(self._peer_lost)

    def _gathered(self) -> None:
        self.reception.gathered()

    def flush(self) -> None:
        """Send all that was gathered, calls and replies."""
        if self.creations.rows:
            self.creations.flush()
        if self.tasks.unfilled:
            self.tasks.fill_all()
        self.caller.flush()
        if self.callee.replying:
            self.callee.flush()
        if self.objects.dropped:
            self.objects.sweep()

    def look(self) -> None:
        """Take what has arrived, without waiting."""
        waiter = Waiter()
        self.reception.wait(waiter, time.monotonic())

    # -- waiting -------------------------------------------------------------------------------

    def wait_for(self, results: Sequence[Result], count: int, deadline: float | None) -> bool:
        """Wait until `count` of the pending results are settled; False if the deadline came."""
        waiter = Waiter(count)
        self.objects.want_all(results)
        for result in results:
            result.add_waiter(waiter)
        is_all = count == len(results)
        self.block_on(waiter, deadline, results if is_all else ())
        if not (is_all and waiter.is_done):
            for result in results:
                result.remove_waiter(waiter)
        return waiter.is_done

    def block_on(
        self, waiter: Waiter, deadline: float | None, needed: Sequence[Result] = ()
    ) -> None:
        """Send what was gathered and wait; long waits give back what the wait does not need.

        Args:
            waiter: Is done when the wait is over.
            deadline: When it is over anyway.
            needed: The results that the wait needs, all of them.

        Raises:
            DeadlockError: They wait for this process in turn.
        """
        if waiter.is_done:
            return
        self.flush()
        reception = self.reception
        blocking = self.blocking
        if blocking is None:
            reception.wait(waiter, deadline)
            return
        soon = time.monotonic() + BLOCKED_AFTER
        if deadline is not None and deadline <= soon:
            reception.wait(waiter, deadline)
        elif not reception.wait(waiter, soon):
            blocking(True)
            wait = None
            if needed and deadline is None:
                wait = self.deadlocks.waits(needed, waiter)
            try:
                reception.wait(waiter, deadline)
            finally:
                blocking(False)
                if wait is not None:
                    self.deadlocks.ends(wait)

    # -- asking --------------------------------------------------------------------------------

    def ask(
        self, message: Any, *, to: Address | None = None, timeout: float = ANSWER_TIMEOUT
    ) -> Any:
        """Send a request to the broker (or `to`) and wait for its answer.

        Raises:
            ZactorError: What was answered, or that nothing was within `timeout` seconds.
        """
        if self.is_over is not None:
            raise self.is_over
        future = self.post.request(to or self.broker, message)
        asked = f"{'node' if to else 'broker'}, which was asked for {type(message).__name__}"
        return self.wait_answer(future, timeout, asked)

    def wait_answer(
        self, future: Future[Any], timeout: float = ANSWER_TIMEOUT, asked: str = "broker"
    ) -> Any:
        """Wait for the answer to a request that was sent.

        Raises:
            ZactorError: What was answered, or that nothing was within `timeout` seconds.
        """
        waiter = Waiter()
        future.add_done_callback(waiter.settled)
        self.flush()
        if not self.reception.wait(waiter, time.monotonic() + timeout):
            raise GetTimeoutError(f"no answer within {timeout:g} s from the {asked}")
        return future.result(0)

    def tell(self, message: Any) -> None:
        """Send a one-way message to the broker."""
        self.post.send(self.broker, message)

    def end_actor(self) -> None:
        """End the actor that runs here, from whatever task of it asks."""
        host = self.callee.hosts.get(bytes.fromhex(self.running.actor_id))
        end_actor = getattr(host, "end_actor", None)
        if end_actor is not None:
            end_actor()

    def explain(self, result: Result) -> tuple[list[dict[str, Any]], Any]:
        """Return causes why a result is not there, and a lead to follow for more, or None."""
        from zactor.runtime.insight.explaining import explain

        return explain(self, result)

    def inherited_session(self) -> dict[str, Any]:
        """Return what actors and tasks made here take over from the session."""
        return dict(self.session)

    def warn(self, text: str, *, about: str = "") -> None:
        """Tell the user something that is no error, in the log or else on standard error.

        Once: the same text is not repeated, nor is another that says the same (`about`).
        """
        key = about or text
        if key in self._warned or len(self._warned) >= MOST_WARNED:
            return
        self._warned.add(key)
        self.reception.call_soon(lambda: show_warning(text))

    def _why(self, peer: Any, body: Any, frames: Any) -> None:  # noqa: ARG002
        from zactor.runtime.insight.why import whys_of

        whys_of(self).received(peer, body)

    # -- death ---------------------------------------------------------------------------------

    def _peer_lost(self, peer: Any) -> None:
        """A peer cannot be reached: ask the broker what became of it."""
        if peer.id == self.broker.process:
            if self.on_broker_unreachable is not None:
                self.on_broker_unreachable(peer)
            elif peer.is_refused:
                self.end(SessionLostError(peer.reason))
            return  # calls go on without it, until it is back
        self.objects.watch(peer.id)

    on_died: Callable[[bytes], None] | None = None
    on_broker_unreachable: Callable[[Any], None] | None = None

    def _peer_moved(self, peer: Any, successor: Address) -> bool:
        """Another process answers where `peer` was: fine if that is the broker, started again."""
        if successor.process == self.broker.process:
            return True
        if peer.id != self.broker.process:
            return False
        old = self.broker
        if old.machine != self.post.address.machine and old.tcp:
            successor = successor._replace(tcp=old.tcp)  # by this endpoint it can be reached
        self.broker = successor
        hand_over(self.post, old.process, successor)
        for say_again in (self.actors, self.objects, self.tasks):
            say_again.broker_moved()
        for callback in self.on_broker_moved:
            callback()
        return True

    def process_died(self, process: bytes) -> None:
        """A process is known to be dead: what was expected of it will not come."""
        self.objects.owner_died(process)
        self.tasks.process_died(process)
        self.streams.process_died(process)
        self.post.forget(process)
        if self.on_died is not None:
            self.on_died(process)

    def end(self, reason: Exception) -> None:
        """The session is over: every wait ends with `reason`."""
        if self.is_over is None:
            self.is_over = reason
            self.actors.fail_all(reason)
            self.tasks.fail_all(reason)
            self.objects.fail_all(reason)
            self.post.fail_requests(self.broker.process, str(reason))

    def close(self, linger: float = 1.0) -> None:
        """Stop receiving and close every socket."""
        self.reception.stop()
        self.post.close(linger)


def show_warning(text: str) -> None:
    """Show a warning where the program's log is, or on standard error if it has none."""
    import logging
    import sys

    log = logging.getLogger("zactor")
    if log.hasHandlers():
        log.warning("%s", text)
    elif log.isEnabledFor(logging.WARNING) and sys.stderr is not None:
        with suppress(OSError, ValueError):
            sys.stderr.write(f"zactor: {text}\n")
            sys.stderr.flush()
