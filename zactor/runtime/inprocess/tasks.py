"""Tasks of an in-process world: they wait for CPUs, run in a process of their own, and may run again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, PENDING, Result, Stream, spend_retry
from zactor.core.placement import shape_of_demand
from zactor.exceptions import Executed, TaskCancelledError, WorkerCrashedError, from_wire
from zactor.ids import caller_id
from zactor.runtime.calls.caller import Identity
from zactor.runtime.calls.streaming import Streaming
from zactor.runtime.inprocess.actors import interrupt
from zactor.runtime.inprocess.execution import LocalExecution
from zactor.runtime.inprocess.process import LocalProcess
from zactor.runtime.inprocess.running import Run
from zactor.wire import batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.core.placement import Obstacle
    from zactor.runtime.inprocess.placing import Held
    from zactor.runtime.inprocess.world import World


class LocalTask:
    """One task, from its submission to its outcome."""

    kind = "Task"  # in the names of errors

    def __init__(self, world: World, result: Any) -> None:
        self.world = world
        self.result = result
        self.identity: Identity = result.queue.identity
        self.shape: dict[str, Any] = result.queue.shape
        self.function_key, self.name = result.function
        self.label = self.name
        self.submitted = world.scheduler.now
        self.place_shape = shape_of_demand(self.shape)
        self.held: Held | None = None  # its resources, while it runs
        self.run: Run | None = None
        self.process: LocalProcess
        self.execution: LocalExecution
        stream = Stream(self.identity.caller, b"", 0, self.identity.numbers)
        stream.target = self
        self._stream = stream
        world.scheduler.sources[self] = None

    def options(self) -> list[Callable[[], Any]]:
        """Return what could start now: this task, if it may."""
        if self.result.state != PENDING:
            self.world.scheduler.sources.pop(self, None)
            return []
        return self.world.placing.starts(self, self._start)

    def name_of(self, result: Result) -> str:  # noqa: ARG002 - of an actor it depends on it
        """Return the name of the function."""
        return str(self.name)

    def function_of(self, method: int) -> Callable[..., Any]:  # noqa: ARG002
        """Return the function, as this process has it."""
        function: Callable[..., Any] = self.process.definitions.load(self.function_key)
        return function

    def _start(self) -> Any:
        world, result = self.world, self.result
        world.scheduler.sources.pop(self, None)
        held = self.held = world.placing.take(self.place_shape)
        worker = world.fresh_id()
        self.process = process = LocalProcess(
            world, worker, Identity(caller_id(worker, 0)), pid=world.fresh_pid()
        )
        world.processes[process.pid] = process
        process.host = self
        process.namespace = self.shape.get("namespace") or world.namespace
        process.session = dict(self.shape.get("session") or {})
        process.take_environment(self.shape)
        process.blocking = held.lend
        assigned = self.shape.get("resources") or {}
        spec = {**self.shape, "assigned": assigned, "gpu_ids": held.holding.gpu_ids}
        self.execution = process.running = LocalExecution(process, "", spec)
        result.stream = self._stream
        result.seq = self._stream.next_seq
        self._stream.next_seq += 1
        self._stream.sent(result.seq, result)
        self.run = Run(self, result)
        return world.scheduler.start(self.name, process, self._run)

    def _run(self) -> None:
        assert self.run is not None
        try:
            self.run.run()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
            self.life_over({"kind": "exit", "code": code, "text": f"exited with code {code}"})
        finally:
            self._over()

    def _over(self) -> None:
        process = self.process
        if not process.is_dead:
            self.world.processes.pop(process.pid, None)
            self._give_back()
            self.run = None

    def _give_back(self) -> None:
        if self.held is not None:
            self.held.give_back()
            self.held = None

    def refused(self, obstacle: Obstacle) -> None:
        """It can never be placed."""
        self.world.scheduler.sources.pop(self, None)
        self.result.settle(ERROR, from_wire(["Task" + obstacle.kind, obstacle.text, {}]))

    def cancel(self, flags: int) -> None:
        """Cancel the task, which runs."""
        run = self.run
        if run is None:
            return
        run.call.is_cancelled = True
        self.result.retries = 0
        if flags & batches.C_FORCE:
            self.life_over({"kind": "killed", "code": 9, "text": "was cancelled by force"})
            return
        if flags & batches.C_RECURSIVE:
            self.process.cancel_all()
        interrupt(self.world, run.call)

    def life_over(
        self, cause: dict[str, Any], *, is_final: bool = False, executed: Executed | None = None
    ) -> None:
        """The worker has died under it: it is run again, or fails."""
        process, result = self.process, self.result
        if process.is_dead:
            return
        process.is_dead = True
        self.world.note("crashes", self.label, str(cause.get("text") or ""))
        self.world.end_process(process, cause, self.label)
        self._give_back()
        self.run = None
        pending = self._stream.pending.pop(result.seq, None)
        if pending is None or pending.state != PENDING:
            return
        is_dropped = isinstance(result, Streaming) and result.is_dropped
        if result.retries and not is_final and not is_dropped:
            spend_retry(result)
            self.world.scheduler.sources[self] = None
            return
        if is_dropped:
            result.settle(ERROR, TaskCancelledError(executed="unknown"))
            return
        if cause.get("error"):
            result.settle(ERROR, from_wire(cause["error"]))
            return
        text = f"the worker of {self.name}() {cause.get('text') or 'died'}"
        result.settle(ERROR, WorkerCrashedError(text, executed=executed or "unknown"))
