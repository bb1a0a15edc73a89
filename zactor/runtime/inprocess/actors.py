"""The lives of an actor in an in-process world: created, called, killed, restarted, released.

Calls wait in a mailbox, by caller, and start as the actor's kind allows: one at a time, so many of a
concurrency group, or as tasks of an event loop. Of each caller they start in order; whose call is next, the
scheduler chooses among what `options` offers. Whether and when there is another life, `core.restarts` says.

Invariants
    A1  A plain actor runs one call at a time, and all of them in one thread.
    A2  When a life ends, each call of it is settled, or waits for the next life: none is forgotten.
    A3  What a life that has ended still does changes nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from zactor.core.broker_config import BrokerConfig
from zactor.core.calls import ERROR, PENDING, Result, Stream, spend_retry
from zactor.core.placement import shape_of_actor
from zactor.core.restarts import NO_FAULT_KINDS, CrashRecord, is_restarted
from zactor.exceptions import Executed, TaskCancelledError
from zactor.ids import caller_id
from zactor.runtime.calls.caller import Identity
from zactor.runtime.calls.streaming import Streaming
from zactor.runtime.hosting.calling import StopServing
from zactor.runtime.hosting.construction import groups_of, make_instance, run_shutdown_hook
from zactor.runtime.inprocess.execution import OWN_NAMES, LocalExecution
from zactor.runtime.inprocess.loop import WorldLoop
from zactor.runtime.inprocess.process import LocalProcess
from zactor.runtime.inprocess.running import Run
from zactor.runtime.inprocess.scheduler import Unwinding
from zactor.runtime.worker import EXIT_TEXT, constructor_error, repr_of
from zactor.wire import batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.core.placement import Obstacle
    from zactor.runtime.calls.actors import ActorView
    from zactor.runtime.inprocess.placing import Held
    from zactor.runtime.inprocess.scheduler import Strand
    from zactor.runtime.inprocess.world import World

_CONFIG = BrokerConfig()
PENDING_STATE, ALIVE, RESTARTING, DEAD = "PENDING", "ALIVE", "RESTARTING", "DEAD"


class LocalActor:
    """One actor through all its lives.

    Attributes:
        label: What the trace calls it: its class, and which of them it is.
        mailbox: Calls that have not started, by stream, in order.
        running: Calls that run, by their result.
    """

    kind = "Actor"  # in the names of errors

    def __init__(self, world: World, spec: dict[str, Any], label: str) -> None:
        self.world = world
        self.id: bytes = spec["id"]
        self.spec = spec
        self.label = label
        self.view: ActorView = world.views.view(self.id)
        self.is_async = bool(spec.get("is_async"))
        self.groups = groups_of(spec)
        several = (spec.get("max_concurrency") or 1) > 1 or bool(spec.get("concurrency_groups"))
        self.is_plain = not self.is_async and not several
        self.mailbox: dict[Stream, deque[Result]] = {}
        self.running: dict[Result, Run] = {}
        self.counts: dict[str, int] = dict.fromkeys(self.groups.limits, 0)
        self.life = 0
        self.restarts = 0
        self.state = PENDING_STATE
        self.is_up = False  # the constructor has returned
        self.has_been_up = False  # ... in some life
        self.is_between = False  # one life is over, and another is to begin
        self.is_released = False  # its last handle is gone: it ends when it has nothing to do
        self.ending = ""  # how a call ended it, once one did
        self.place_shape = shape_of_actor(spec)
        self.held: Held | None = None  # its resources, while it lives
        self._crashes = CrashRecord()
        self._begins: Callable[[], Any] | None = None  # starts the next life, once it may
        self._strand: Strand | None = None
        self.loop: WorldLoop | None = None
        self._over: asyncio.Future[None] | None = None
        self.process: LocalProcess
        self.execution: LocalExecution
        self._state(PENDING_STATE)
        self._begins = self._begin
        world.scheduler.sources[self] = None

    # -- what the world may start --------------------------------------------------------------

    def options(self) -> list[Callable[[], Any]] | None:
        """Return what could start now, as functions that start it; None if it is idle."""
        if self._begins is not None:
            return self.world.placing.starts(self, self._begins)
        if not self.is_up or self.ending:
            return None
        found: list[Callable[[], Any]] = []
        for stream, queue in self.mailbox.items():
            passed: set[str] = set()
            for result in queue:
                group = self._group(result)
                if group not in passed and self.counts[group] < self.groups.limits[group]:
                    found.append(partial(self._start, stream, result))
                passed.add(group)
                if len(passed) == len(self.counts):
                    break
        if found or self.running or not self.is_released or any(self.mailbox.values()):
            return found or None
        return [self._release]

    def _wake(self) -> None:
        """There may be something to start."""
        self.world.scheduler.sources[self] = None

    def _group(self, result: Result) -> str:
        group = self.groups.of(result.method, result.payload)
        return group if group in self.counts else ""

    def name_of(self, result: Result) -> str:
        """Return the name of the method that a call is of."""
        if result.method < 0:
            return OWN_NAMES.get(result.method, "")
        return str(self.spec["methods"][result.method][0])

    def function_of(self, method: int) -> Callable[..., Any]:
        """Return what a method number stands for."""
        return self.execution.functions[method]

    # -- a life begins -------------------------------------------------------------------------

    def _begin(self) -> Any:
        self._begins = None
        self.is_between = False
        world, spec = self.world, self.spec
        self.held = world.placing.take(self.place_shape)
        self.life += 1
        self.process = process = LocalProcess(
            world,
            world.fresh_id(),
            Identity(caller_id(self.id, self.life)),
            pid=world.fresh_pid(),
        )
        process.namespace = spec.get("namespace") or world.namespace
        process.session = dict((spec.get("options") or {}).get("session") or {})
        process.take_environment(spec)
        spec["gpu_ids"] = self.held.holding.gpu_ids
        world.processes[process.pid] = process
        execution = LocalExecution(process, spec.get("class_name") or "Actor", spec)
        execution.actor_id = self.id.hex()
        spec["restarts"], spec["assigned"] = self.restarts, spec.get("running") or {}
        self.execution = process.running = execution
        process.host = self
        strand = world.scheduler.start(self.label, process, self._live)
        if not self.is_async and self.is_plain:
            self._strand = strand
            world.scheduler.keep(strand)
        return strand

    def _live(self) -> None:
        """Run the constructor; of an async actor, its loop until the end."""
        process = self.process
        self.world.note("starts", self.label, "__init__")
        try:
            if self.is_async:
                self._live_in_loop()
            else:
                self._construct()
        except StopServing as stop:
            self.ended_itself(stop.cause, process)
        except SystemExit as error:
            self.exits(error, process)
        except Unwinding:
            raise
        except Exception as error:  # noqa: BLE001 - the user's constructor
            if process.is_dead:
                return
            self.world.note("raises", self.label, "__init__")
            wire = constructor_error(error, self.execution)  # type: ignore[arg-type]
            self.life_over({"kind": "constructor", "text": wire[1], "error": wire})

    def _construct(self) -> None:
        process, execution = self.process, self.execution
        fault = self.world.faults.take(self, "__init__")
        if fault is not None and not fault.ran:
            fault.strike_constructor(self)
        instance = make_instance(process, self.spec, self.id, self.spec.get("args"))  # type: ignore[arg-type]
        if fault is not None:
            fault.strike_constructor(self)
        if process.is_dead:
            return
        execution.instance = instance
        for number, row in enumerate(self.spec.get("methods") or ()):
            execution.functions[number] = getattr(instance, row[0])
            execution.names[number] = row[0]
        execution.repr = repr_of(instance)
        self.is_up = self.has_been_up = True
        self._wake()
        self._state(ALIVE, repr_name=execution.repr)
        self.world.note("is up", self.label, "")

    def _live_in_loop(self) -> None:
        loop = self.loop = WorldLoop(self.world.scheduler)
        process = self.process
        asyncio.set_event_loop(loop)
        try:
            self._construct()
            self._over = loop.create_future()
            loop.run_until_complete(self._over)
            rest = asyncio.all_tasks(loop)
            for task in rest:
                task.cancel()
            if rest:
                loop.run_until_complete(asyncio.wait(rest, timeout=1.0))
            if self.ending and not process.is_dead:
                self.ended_itself(self.ending, process)
        finally:
            asyncio.set_event_loop(None)
            loop.abandon()

    def _state(self, state: str, **more: Any) -> None:
        self.state = state
        entry = self.view.entry
        self.view.entry = {
            **entry, **more, "state": state, "life": self.life, "restarts": self.restarts,
            "revision": entry.get("revision", 0) + 1,
        }  # fmt: skip

    # -- calls ---------------------------------------------------------------------------------

    def deliver(self, result: Result) -> None:
        """A call has come."""
        stream: Stream = result.stream
        queue = self.mailbox.get(stream)
        if queue is None:
            queue = self.mailbox[stream] = deque()
        queue.append(result)
        self._wake()

    def _start(self, stream: Stream, result: Result) -> Any:
        self.mailbox[stream].remove(result)
        if not self.mailbox[stream]:
            del self.mailbox[stream]
        is_dropped = isinstance(result, Streaming) and result.is_dropped
        if result.state != PENDING or is_dropped:
            stream.pending.pop(result.seq, None)
            if is_dropped:
                result.settle(ERROR, TaskCancelledError(executed="no"))
            return None
        run = self.running[result] = Run(self, result)
        group = self._group(result)
        self.counts[group] += 1
        if self.is_async:
            assert self.loop is not None
            loop, process = self.loop, self.process

            def create() -> None:
                run.call.task = loop.create_task(self._run_async(run, result, group, process))

            loop.call_soon_threadsafe(create)
            return None
        job = partial(self._run, run, result, group, self.process)
        if not self.is_plain:
            run.call.task = -1  # it runs beside others: a cancel is a flag
        return self.world.scheduler.start(
            self.label, self.process, job, self._strand if self.is_plain else None
        )

    def _run(self, run: Run, result: Result, group: str, process: LocalProcess) -> None:
        try:
            run.run()
        except StopServing as stop:
            self.ended_itself(stop.cause, process)
        except SystemExit as error:
            self.exits(error, process)
        finally:
            self._ran(result, group, process)

    async def _run_async(
        self, run: Run, result: Result, group: str, process: LocalProcess
    ) -> None:
        try:
            await run.run_async()
        except StopServing as stop:
            self.end_loop(stop.cause)
        except SystemExit as error:
            self.exits(error, process)
        finally:
            self._ran(result, group, process)

    def _ran(self, result: Result, group: str, process: LocalProcess) -> None:
        if process is self.process and not process.is_dead:
            self.running.pop(result, None)
            self.counts[group] -= 1
            self._wake()

    def cancel(self, result: Result, flags: int) -> None:
        """Cancel a call: not run if it waits; interrupted, cancelled or told if it runs."""
        stream: Stream = result.stream
        run = next((run for run in self.running.values() if run.pending() is result), None)
        if run is None:
            queue = self.mailbox.get(stream)
            if queue is not None and result in queue:
                queue.remove(result)
                stream.pending.pop(result.seq, None)
                result.settle(ERROR, TaskCancelledError(executed="no"))
            return
        call = run.call
        if self.is_async:
            call.is_cancelled = bool(flags & batches.C_RECURSIVE)
            if self.loop is not None and call.task is not None:
                call.is_told = True
                self.loop.call_soon_threadsafe(call.task.cancel)
            return
        call.is_cancelled = True
        call.is_told = not self.is_plain or self.execution.polled == (call.intake, call.seq)
        if not call.is_told:
            if flags & batches.C_RECURSIVE:
                self.process.cancel_all()
            interrupt(self.world, call)

    # -- a life ends ---------------------------------------------------------------------------

    def ended_itself(self, cause: str, process: LocalProcess) -> None:
        """A call has ended the actor, in order."""
        if process.is_dead:
            return
        self.ending = cause
        if cause != "exit_actor":
            self._run_hook()
        process.run_exit_handlers()
        text = EXIT_TEXT.get(cause, cause)
        self.life_over({"kind": "exited", "code": 0, "text": text})

    def end_loop(self, cause: str) -> None:
        """Have the loop of an async actor end."""
        self.ending = self.ending or cause
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    def exits(self, error: SystemExit, process: LocalProcess) -> None:
        """`sys.exit()` in a method ends the process."""
        if process.is_dead:
            return
        process.run_exit_handlers()
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        self.life_over({"kind": "exit", "code": code, "text": f"exited with code {code}"})

    def _release(self) -> Any:
        """The last handle is gone and nothing is left to do."""
        self.ending = "stopped"
        if self.is_async:
            assert self.loop is not None
            self.loop.call_soon_threadsafe(self.end_loop, "stopped")
            return None
        process = self.process
        job = partial(self.ended_itself, "stopped", process)
        return self.world.scheduler.start(
            self.label, process, job, self._strand if self.is_plain else None
        )

    def _run_hook(self) -> None:
        try:
            run_shutdown_hook(self.execution.instance)
        except Exception:  # noqa: BLE001, S110 - the user's clean-up; nobody waits for it
            pass

    def refused(self, obstacle: Obstacle) -> None:
        """It can never be placed."""
        kind = "group" if obstacle.kind == "PlacementGroupRemoved" else "unschedulable"
        error = ["Actor" + obstacle.kind, obstacle.text, {"actor_id": self.id.hex()}]
        self.life_over({"kind": kind, "text": obstacle.text, "error": error}, is_final=True)

    def kill(self, *, no_restart: bool) -> None:
        """End it now."""
        cause = {"kind": "killed", "code": 9, "text": "was killed by zactor.kill"}
        self.life_over(cause, is_final=no_restart)

    def life_over(
        self, cause: dict[str, Any], *, is_final: bool = False, executed: Executed | None = None
    ) -> None:
        """The present life has ended by `cause`. Any strand, those of the actor among them.

        Args:
            cause: As in the directory.
            is_final: There is to be no other, whatever its options say.
            executed: What is said of the calls that ran; by default what can be known of them.
        """
        if self.state == DEAD or (self.is_between and not is_final):
            return
        world, max_restarts = self.world, self.spec.get("max_restarts") or 0
        goes_on = not is_final and is_restarted(
            cause, max_restarts=max_restarts, restarts=self.restarts
        )
        world.note("restarts" if goes_on else "dies", self.label, str(cause.get("text") or ""))
        self._begins, self.is_up = None, False
        ran, self.running = self.running, {}
        self.counts = dict.fromkeys(self.counts, 0)
        if goes_on:
            self.restarts += 1
        else:
            world.names_freed(self)
            world.scheduler.sources.pop(self, None)
        self.is_between = goes_on
        following = RESTARTING if self.has_been_up else PENDING_STATE
        self._state(following if goes_on else DEAD, cause=cause)
        self.ending = ""
        started = self.life > 0 and not getattr(self, "process", world.driver).is_dead
        if started:
            self._end_process(cause)
        said: Executed = executed or "unknown"
        again = self._settle_calls(ran, said, goes_on=goes_on)
        if goes_on:
            self._put_back(again)
            pause = 0.0
            if cause.get("kind") not in NO_FAULT_KINDS:
                pause = self._crashes.crashed(world.scheduler.now, _CONFIG)
            world.scheduler.at(world.scheduler.now + pause, self._may_begin)
        else:
            world.views.bury(self.view, world.views.death(self.view))
            self.mailbox.clear()

    def _may_begin(self) -> None:
        if self.is_between:
            self._begins = self._begin
            self._wake()

    def _end_process(self, cause: dict[str, Any]) -> None:
        process, world = self.process, self.world
        process.is_dead = True
        if self._strand is not None:
            world.scheduler.give_back(self._strand)
            self._strand = None
        world.end_process(process, cause, self.label)
        self.loop = self._over = None
        self.execution.instance = None
        self.execution.functions = {}
        if self.held is not None:
            self.held.give_back()
            self.held = None

    def _settle_calls(
        self, ran: dict[Result, Run], said: Executed, *, goes_on: bool
    ) -> list[tuple[Stream, list[Result]]]:
        """Settle the calls of this life; return those that are for the next, by stream."""
        started = {(run.stream, run.seq) for run in ran.values()}
        views, view = self.world.views, self.view
        again = []
        for stream in list(view.streams):
            for_next = []
            for result in stream.take_pending():
                if result.state != PENDING:
                    continue
                executed: Executed = said if (stream, result.seq) in started else "no"
                if not goes_on:
                    result.settle(ERROR, views.death(view, executed))
                elif not result.retries and self.has_been_up:
                    result.settle(ERROR, views.unavailable(view, executed))
                else:
                    if result.retries > 0 and executed != "no" and self.has_been_up:
                        spend_retry(result)
                    for_next.append(result)
            if goes_on and self.has_been_up:
                self._refuse_held(stream)
            if for_next:
                again.append((stream, for_next))
        return again

    def _refuse_held(self, stream: Stream) -> None:
        """What waits for its arguments, and may not wait for another life, fails."""
        for result in list(stream.held):
            if not result.retries:
                stream.held.remove(result)
                result.settle(ERROR, self.world.views.unavailable(self.view, "no"))

    def _put_back(self, again: list[tuple[Stream, list[Result]]]) -> None:
        self.mailbox.clear()
        for stream, results in again:
            stream.put_back(results)
            self.world.driver.caller.release(stream)


def interrupt(world: World, call: Any) -> None:
    """Raise KeyboardInterrupt where a call waits. It cannot run now: whoever cancels does."""
    strand = call.strand
    if strand is None:
        return
    if strand is world.scheduler.current:
        strand.raises = KeyboardInterrupt()
    else:
        strand.raises = KeyboardInterrupt()
        world.scheduler.wake(strand)
