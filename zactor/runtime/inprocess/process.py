"""What a process offers to `zactor.api`, without a process: one `LocalProcess` for each there would be.

The driver, each life of an actor, and each run of a task has its own: its identity as a caller, what it
runs, what it has loaded. What they share is the world's: actors, references, time.

Has the attributes of `runtime.process.Process` that `api` uses, and no others; what those do with
sockets and threads is done here by the scheduler.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, PENDING, Result, Stream
from zactor.exceptions import TaskCancelledError
from zactor.ids import caller_id
from zactor.runtime.calls.actors import ActorView
from zactor.runtime.calls.caller import Identity
from zactor.runtime.calls.cancelling import cancel_result
from zactor.runtime.calls.deadlines import Deadlines
from zactor.runtime.calls.streaming import Streaming
from zactor.runtime.calls.task_queues import TaskQueue
from zactor.runtime.inprocess.loop import WorldLoop
from zactor.runtime.links.reception import Waiter
from zactor.serde.definitions import load_definition, pack_definition

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zactor.runtime.inprocess.placing import LocalGroupViews
    from zactor.runtime.inprocess.world import World


NO_PEERS = "an in-process world has no other process to talk to"


class LocalProcess:
    """See the module."""

    def __init__(
        self, world: World, process_id: bytes, identity: Identity | None = None, *, pid: int = 0
    ) -> None:
        self.world = world
        self.id = process_id
        self.pid = pid
        self.is_worker = identity is not None
        self.identity = identity or Identity(caller_id(process_id, 0))
        self.job = world.job
        self.namespace = world.namespace
        self.session: dict[str, Any] = {}
        self.parent: Any = None
        self.host: Any = None  # the actor or task that it runs
        self.running: Any = None
        self.is_over: Exception | None = None
        self.lends_all = False  # nothing is lost, so nothing has to be lent
        self.awaiting: dict[Result, None] = {}  # calls whose arguments are not all here
        self.is_dead = False
        self.blocking: Callable[[bool], None] | None = None
        self.broker = world.address(world.cluster_id)
        self.node = world.address(world.node_id)
        self.post = LocalPost(self)
        self.caller = LocalCaller(self)
        self.reception = LocalReception(self)
        self.definitions = LocalDefinitions(world)
        self.objects = world.objects
        self.actors = world.views
        self.tasks = LocalTasks(self)
        self.streams = LocalStreams(world)
        self.creations = LocalCreations(world)
        self.exit_handlers: list[Callable[[], Any]] = []  # of atexit, if it ends in order
        self.deadlines = Deadlines(self)

    @property
    def groups(self) -> LocalGroupViews:
        """Placement groups, as everybody in the world sees them."""
        return self.world.group_views

    def take_environment(self, spec: dict[str, Any]) -> None:
        """Be what the spec of an actor, or the shape of a task, says."""
        self.session["group"] = spec.get("group")
        self.session["runtime_env"] = spec.get("env") or {}

    def run_exit_handlers(self) -> None:
        """Run what was registered with atexit, last first."""
        while self.exit_handlers:
            try:
                self.exit_handlers.pop()()
            except Exception:  # noqa: BLE001, S110 - the user's clean-up; nobody waits for it
                pass

    def cancel_all(self) -> None:
        """Cancel what this process has called and is pending."""
        made = [
            result
            for stream in self.identity.streams.values()
            for result in [*stream.pending.values(), *stream.held]
        ]
        for result in [*made, *self.world.tasks_of(self.identity)]:
            cancel_result(self, result, force=False, recursive=True)

    # -- waiting -------------------------------------------------------------------------------

    def wait_for(self, results: Sequence[Result], count: int, deadline: float | None) -> bool:
        """Wait until `count` of the pending results are settled; False if the deadline came."""
        waiter = Waiter(count)
        for result in results:
            result.add_waiter(waiter)
        try:
            self.block_on(waiter, deadline, results if count == len(results) else ())
        finally:
            if not waiter.is_done:
                for result in results:
                    result.remove_waiter(waiter)
        return waiter.is_done

    def block_on(
        self, waiter: Waiter, deadline: float | None, needed: Sequence[Result] = ()
    ) -> None:
        """Let others run until the waiter is done, or the deadline has come.

        Raises:
            DeadlockError: It never will be.
        """
        scheduler = self.world.scheduler
        me = scheduler.here()
        if waiter.is_done:
            return
        if needed and deadline is None:
            self.world.check_circle(me, needed)
        if self.blocking is not None:
            self.blocking(True)
        try:
            scheduler.block(
                me, lambda: waiter.is_done, deadline, needs=needed, why="is blocked in a get"
            )
        finally:
            if self.blocking is not None:
                self.blocking(False)

    def look(self) -> None:
        """Let others run: whoever asks will ask again."""
        self.world.scheduler.poll()

    def flush(self) -> None:
        """There is nothing gathered."""

    # -- asking --------------------------------------------------------------------------------

    def ask(self, message: Any, *, to: Any = None, timeout: float = 0.0) -> Any:  # noqa: ARG002
        """Return what a broker would answer.

        Raises:
            ZactorError: What it would answer.
            NotImplementedError: An in-process world has no answer.
        """
        if self.is_over is not None:
            raise self.is_over
        self.world.scheduler.here()
        answer = self.world.directory.ask(self, message)
        self.world.scheduler.maybe_yield()
        return answer

    def tell(self, message: Any) -> None:
        """There is nobody to be told."""

    def end_actor(self) -> None:
        """End the actor that runs here, from whatever task of it asks."""
        if self.host.is_async:
            self.host.end_loop("exit_actor")

    def explain(self, result: Result) -> tuple[list[dict[str, Any]], Any]:
        """Return the causes why a result is not there: all of them, there is nobody to ask."""
        return self.world.explain(result), None

    def inherited_session(self) -> dict[str, Any]:
        """Return what actors and tasks made here take over from the session."""
        return dict(self.session)

    def warn(self, text: str) -> None:
        """Tell the user something that is no error."""
        import warnings

        warnings.warn(text, RuntimeWarning, stacklevel=2)

    def end(self, reason: Exception) -> None:
        """The session is over: everything that is asked from now on ends with `reason`."""
        self.is_over = self.is_over or reason


class LocalPost:
    """What is asked of a post office."""

    def __init__(self, process: LocalProcess) -> None:
        self._process = process
        self.address = process.world.address(process.id)
        self.peers: dict[bytes, Any] = {}

    def on(self, message_type: type, handler: Any) -> None:
        """Nothing arrives."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Have something done a little later."""
        scheduler = self._process.world.scheduler
        scheduler.at(scheduler.now + seconds, callback)

    def request(self, to: Any, message: Any) -> Answered:  # noqa: ARG002
        """Return what a broker would answer, at once."""
        try:
            return Answered(self._process.world.directory.ask(self._process, message), None)
        except Exception as error:  # noqa: BLE001 - whoever asked raises it
            return Answered(None, error)

    def peer(self, address: Any) -> Any:
        """There is no other process.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(NO_PEERS)


class Answered:
    """A future that has its outcome."""

    def __init__(self, value: Any, error: Exception | None) -> None:
        self._value = value
        self._error = error

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call it, now."""
        callback(self)

    def done(self) -> bool:
        """It is."""
        return True

    def exception(self) -> Exception | None:
        """Return the error, if there is one."""
        return self._error

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        """Return the answer."""
        if self._error is not None:
            raise self._error
        return self._value


class LocalReception:
    """What is asked of whoever receives."""

    def __init__(self, process: LocalProcess) -> None:
        self._world = process.world

    def attach(self, loop: Any) -> None:
        """A loop's tasks wait for references.

        Raises:
            RuntimeError: The loop was made outside of the world, and cannot wait in its time.
        """
        if not isinstance(loop, WorldLoop):
            raise RuntimeError(
                "this event loop was made outside of the in-process world, so it sleeps in real time "
                "while the world's stands still. Open the world first, then start the loop "
                "(asyncio.run, asyncio.new_event_loop)."
            )

    def is_on(self, loop: Any) -> bool:  # noqa: ARG002
        """Whether the asking thread runs the loop: it is always woken as if not."""
        return False

    def flush_soon(self, loop: Any) -> None:
        """There is nothing gathered."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Have a callback of the user's run in a strand of its own."""
        self._world.callbacks.append(callback)

    def gathered(self) -> None:
        """There is nothing gathered."""


class LocalCaller:
    """What is asked of the caller's half of the data plane: calls go to their actors."""

    def __init__(self, process: LocalProcess) -> None:
        self._world = process.world
        self._process = process
        self.lock = nullcontext()  # one strand runs at a time

    def note_name(self, result: Result, name: str) -> None:
        """There are no listings of calls."""

    def note_failure(self, result: Result, state: int, value: Any) -> None:
        """There are no listings of calls."""

    def fail(self, result: Result, error: BaseException) -> None:
        """Settle a call with an error that was made here."""
        result.settle(ERROR, error)

    def hold(self, result: Result) -> None:
        """Queue a call behind what is held on its stream, or hand it over if nothing is."""
        stream: Stream = result.stream
        stream.hold(result)
        self.release(stream)
        if not self._world.scheduler.is_choosing:
            self._world.scheduler.here()
            self._world.scheduler.maybe_yield()

    def release(self, stream: Stream) -> None:
        """Hand held calls over, in order, as far as their arguments allow."""
        view: ActorView = stream.target
        held = stream.held
        if view.is_dead:
            while held:
                held.popleft().settle(ERROR, self._world.views.death(view))
            return
        actor = self._world.actors.get(view.id)
        if actor is None:
            return  # its constructor's arguments are not here yet
        while held and not held[0].waiting:
            result = held.popleft()
            if result.state == PENDING:
                result.seq = stream.next_seq
                stream.next_seq += 1
                stream.sent(result.seq, result)
                actor.deliver(result)

    def cancel_sent(self, stream: Any, seq: int, flags: int) -> None:
        """Cancel a call that has been handed over."""
        result = stream.pending.get(seq)
        if result is None:
            return
        if isinstance(stream.target, ActorView):
            actor = self._world.actors.get(stream.actor)
            if actor is not None:
                actor.cancel(result, flags)
        else:
            stream.target.cancel(flags)


class LocalDefinitions:
    """Functions and classes: packed as they would be, and loaded once for each process."""

    def __init__(self, world: World) -> None:
        self._blobs = world.blobs
        self._published: dict[int, tuple[Any, bytes]] = {}
        self._loaded: dict[bytes, Any] = {}

    def publish(self, definition: Any) -> bytes:
        """Return the key of a class or function."""
        known = self._published.get(id(definition))
        if known is not None:
            return known[1]
        key, blob = pack_definition(definition)
        self._blobs[key] = blob
        self._published[id(definition)] = (definition, key)
        return key

    def load(self, key: bytes) -> Any:
        """Return the class or function behind a key."""
        found = self._loaded.get(key)
        if found is None:
            found = self._loaded[key] = load_definition(self._blobs[key])
        return found

    def known(self, key: bytes) -> Any:
        """Return what is behind a key, as this process has it."""
        return self.load(key)


class LocalStreams:
    """What is asked of those who carry what generators yield."""

    def __init__(self, world: World) -> None:
        self._world = world

    def took(self, result: Streaming) -> None:
        """The consumer has taken an item; a generator in a loop has to be told."""
        wake = self._world.full_streams.pop(result, None)
        if wake is not None:
            wake()

    def pull(self, peer: Any, call: bytes) -> Result:
        """Every stream is of this process.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(NO_PEERS)

    def drop_soon(self, result: Streaming) -> None:
        """Nobody wants more of it. For finalizers."""
        self._world.dropped_streams.append(result)

    def drop(self, result: Streaming) -> None:
        """Nobody wants more of it: its generator ends at its next `yield`."""
        result.arrived.clear()
        if result.is_over or result.is_dropped:
            return
        result.is_dropped = True
        result.retries = 0
        self.took(result)
        pending = getattr(result.stream, "pending", {})
        if pending.get(getattr(result, "seq", 0)) is not result:
            result.settle(ERROR, TaskCancelledError(executed="no"))
            result.arrived.clear()


class LocalCreations:
    """Shared actors are created one by one."""

    rows: tuple[Any, ...] = ()

    def __init__(self, world: World) -> None:
        self._world = world

    def add(self, spec: dict[str, Any], actor: bytes, args: Any) -> None:
        """Create an actor."""
        self._world.create({**spec, "id": actor, "args": args})
        self._world.scheduler.maybe_yield()


class LocalTasks:
    """Tasks of one process: they wait in the world."""

    def __init__(self, process: LocalProcess) -> None:
        self._process = process
        self._queues: dict[bytes, TaskQueue] = {}

    def queue(self, key: bytes, shape: dict[str, Any], identity: Identity) -> TaskQueue:
        """Return the queue of a shape: it says what its tasks need."""
        found = self._queues.get(key)
        if found is None:
            found = self._queues[key] = TaskQueue(self, key, shape, identity)  # type: ignore[arg-type]
        return found

    def submit(self, result: Any) -> None:
        """Queue a task whose arguments are here."""
        world = self._process.world
        world.submit(result)
        if not world.scheduler.is_choosing:
            world.scheduler.here()
            world.scheduler.maybe_yield()

    def streams(self) -> list[Stream]:
        """Return what this process's tasks run on."""
        return []

    def waiting(self) -> list[Any]:
        """Return the tasks of this process that have not ended."""
        return self._process.world.tasks_of(self._process.identity)
