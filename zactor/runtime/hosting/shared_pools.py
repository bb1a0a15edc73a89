"""Shared actors that run several calls at a time: async ones on one loop, threaded ones in threads.

They are the process actors' hosts, told which actor they are for; what differs is where the loop runs,
and that the end of one actor is not the end of the worker.

Invariants
    T4  All async actors of a worker run on one loop, in one thread, and hold no run token there.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from zactor.ids import caller_id
from zactor.runtime.hosting.calling import Execution
from zactor.runtime.hosting.construction import groups_of
from zactor.runtime.hosting.pools import AsyncHost, ThreadHost
from zactor.runtime.hosting.shared_callers import SharedIdentity, running_actor

if TYPE_CHECKING:
    from zactor.runtime.hosting.seats import Seat
    from zactor.runtime.hosting.shared import SharedHost


class SharedPools:
    """Makes the async and threaded actors of a shared worker, and runs their loop."""

    def __init__(self, shared: SharedHost) -> None:
        self.shared = shared
        self._loop: asyncio.AbstractEventLoop | None = None

    def make(self, actor: bytes, life: int, spec: dict[str, Any]) -> Any:
        """Return the host of an actor that is to be constructed when it is its turn."""
        kind = SharedAsyncActor if spec.get("is_async") else SharedThreadActor
        return kind(self, actor, life, spec)

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop of the async actors; it is started with the first."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            started = threading.Event()
            threading.Thread(
                target=self._run_loop, args=(started,), name="zactor-loop", daemon=True
            ).start()
            started.wait()
        return self._loop

    def _run_loop(self, started: threading.Event) -> None:
        loop = self._loop
        assert loop is not None
        asyncio.set_event_loop(loop)
        loop.call_soon(self.shared.process.reception.attach, loop)
        loop.call_soon(started.set)
        loop.run_forever()

    def greet_thread(self) -> None:
        """Constructors of async actors may ask for the loop, whichever thread they run in."""
        if self._loop is not None:
            asyncio.set_event_loop(self._loop)


class _Shared:
    """What `SharedHost` expects of an actor, for a host that runs several calls at a time."""

    kind: Any = None
    is_busy = False
    is_over = False
    is_task_host = False
    seat: Seat | None = None

    def _become(
        self, pools: SharedPools, actor: bytes, life: int, spec: dict[str, Any]
    ) -> None:
        self.pools = pools
        self.id = actor
        self.is_stopping = False
        self.caller: SharedIdentity | None = SharedIdentity(caller_id(actor, life))
        self.runs: list[Any] = []  # only ever empty: calls go to the pool
        self.spec: dict[str, Any] | None = spec

    @property
    def instance(self) -> Any:
        """The actor's object."""
        return self.execution.instance  # type: ignore[attr-defined]

    def identity(self) -> SharedIdentity:
        """Return who it is as a caller."""
        assert self.caller is not None
        return self.caller

    def construct(self) -> None:
        """Run the constructor. With the run token, since it may be any code."""
        from zactor.runtime.hosting.construction import make_instance
        from zactor.runtime.worker import repr_of

        spec, self.spec = self.spec, None
        assert spec is not None
        execution: Execution = self.execution  # type: ignore[attr-defined]
        execution.instance = instance = make_instance(
            self.pools.shared.process, spec, self.id, spec.get("args")
        )
        for number, row in enumerate(spec.get("methods") or ()):
            execution.bind(number, row[0], getattr(instance, row[0]))
        execution.actor_repr = repr_of(instance)

    def finished(self) -> None:
        """The host has ended: the actor is over."""
        if isinstance(self._ending, SystemExit):  # type: ignore[attr-defined]
            why = "exited"
        else:
            why = self.ending or "stopped"  # type: ignore[attr-defined]
        self.pools.shared.ended(self, why)


def _execution(pools: SharedPools, actor: bytes, spec: dict[str, Any]) -> Execution:
    execution = Execution(pools.shared.process, None, spec.get("class_name") or "Actor")
    execution.actor_id = actor.hex()
    left_out = ("args", "definition")
    execution.spec = {key: spec[key] for key in spec if key not in left_out} | {"id": actor}
    return execution


class SharedThreadActor(_Shared, ThreadHost):
    """A threaded actor of a shared worker."""

    def __init__(
        self, pools: SharedPools, actor: bytes, life: int, spec: dict[str, Any]
    ) -> None:
        process = pools.shared.process
        ThreadHost.__init__(
            self, process, _execution(pools, actor, spec), life, groups_of(spec)
        )
        self._become(pools, actor, life, spec)
        self._over = _Over(self.finished)  # type: ignore[assignment]

    def begin(self) -> None:
        """The constructor has returned: run what has come."""
        with self._lock:
            early, self._early = self._early or [], None
        for run in early:
            self.put(run)
        if self.is_stopping:
            self.stop()

    def _work(self, group: str) -> None:
        running_actor.set(self)
        super()._work(group)

    def stop(self) -> None:
        """End once the queues are empty."""
        self.is_stopping = True
        if self._early is None:
            super().stop()

    def abandon(self) -> None:
        """It was killed: nothing more of it is begun."""
        self._ending = SystemExit()


class SharedAsyncActor(_Shared, AsyncHost):
    """An async actor of a shared worker."""

    def __init__(
        self, pools: SharedPools, actor: bytes, life: int, spec: dict[str, Any]
    ) -> None:
        process = pools.shared.process
        AsyncHost.__init__(self, process, _execution(pools, actor, spec), life, groups_of(spec))
        self._become(pools, actor, life, spec)
        self._tasks: set[Any] = set()

    def construct(self) -> None:
        """Run the constructor, in a thread that knows the loop."""
        self.pools.loop()
        self.pools.greet_thread()
        super().construct()

    def begin(self) -> None:
        """The constructor has returned: run what has come."""
        self.loop = self.pools.loop()
        self.loop.call_soon_threadsafe(self._start)
        if self.is_stopping:
            self.stop()

    async def _run_one(self, group: str, item: Any) -> None:
        running_actor.set(self)
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            await super()._run_one(group, item)
        finally:
            self._tasks.discard(task)

    def _end(self, error: BaseException | None) -> None:
        if self._ending is None:
            super()._end(error)
            self._cancel_all()
            self.finished()

    def stop(self) -> None:
        """End once no call is left."""
        self.is_stopping = True
        super().stop()

    def abandon(self) -> None:
        """It was killed: what runs is cancelled."""
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self._cancel_all)

    def _cancel_all(self) -> None:
        here = asyncio.current_task()
        for task in list(self._tasks):
            if task is not here:
                task.cancel()


class _Over:
    """Stands in for the waiter that a process actor's main thread waits on."""

    def __init__(self, tell: Any) -> None:
        self._tell = tell

    def settled(self, result: Any) -> None:  # noqa: ARG002
        """The pool has ended."""
        self._tell()
