"""The worker process: takes work from its node over the control lane, and serves it.

The main thread runs user code (see `hosts`). One small thread serves the control lane: it takes
orders, and ends the process when its node is dead. What a worker is for comes as its first order: an
actor, or leases for tasks. Shared workers host many actors.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from zactor.ids import caller_id
from zactor.runtime import current as processes
from zactor.runtime.calls.caller import Identity
from zactor.runtime.hosting.assigned import Assigned
from zactor.runtime.hosting.calling import CANCEL_SIGNAL, Execution
from zactor.runtime.hosting.hosts import MainHost
from zactor.runtime.hosting.progress import PAGE_SIZE, ProgressPage
from zactor.runtime.hosting.running_call import StopServing
from zactor.runtime.insight.origins import name_output, say_name
from zactor.runtime.machine import CUDA, use_gpus
from zactor.runtime.nodes.lane import Lane, LaneClosedError
from zactor.runtime.process import Process
from zactor.serde.exceptions import describe, pack_exception
from zactor.store.segments import SHM
from zactor.wire.messages import Address, Blocked

if TYPE_CHECKING:
    import socket

IDLE, USED_UP = "idle", "used up"  # why a worker is to exit that may answer "keep"
TASK_EXIT_GRACE = 0.3  # seconds that a running task has when its worker is told to exit
NODE_DEAD = 70  # exit code when the node is gone


class Worker:
    """One worker process."""

    def __init__(self, control: socket.socket, progress_fd: int, boot: dict[str, Any]) -> None:
        self.boot = boot
        self.lane = Lane(control)
        self.orders: SimpleQueue[Any] = SimpleQueue()  # for the main thread
        self.host: Any = None
        self.actor: tuple[bytes, int] | None = None
        self.shared: Any = None  # hosts the actors of a worker for shared ones
        self._orders_lock = threading.Lock()
        self._assigned = Assigned(os.environ)
        self._stopped: set[tuple[bytes, int]] = set()  # asked to end before they had begun
        self.is_exiting = False
        self._node_sees = os.environ.get(CUDA)  # of GPUs, before any were given to this worker
        self._had_gpus = False
        self.process = Process(
            boot["process"],
            boot["directory"],
            broker=Address._make(boot["broker"]),
            node=Address._make(boot["node"]),
            machine=boot["machine"],
            keys=_keys(boot),
            progress=ProgressPage(progress_fd),
            transport=boot.get("transport") or "",
            host=boot.get("host") or "",
            busy_poll=boot.get("busy_poll") or 0.0,
        )
        processes.set_current(self.process)
        self.process.session = dict(boot.get("session") or {})
        self.process.blocking = self._blocking
        self._tasks: MainHost | None = None
        self._is_blocked = False
        self.process.on_broker_moved.append(self._broker_moved)
        self.process.post.on_bound = lambda address: self._say(["up", list(address)])
        self._attach_store()

    def _attach_store(self) -> None:
        from zactor.runtime.objects.sharing import Sharing

        Sharing(self.process, self.boot.get("segments") or SHM)

    # -- the lane ------------------------------------------------------------------------------

    def start(self) -> None:
        """Tell the node that we are up, and serve the lane from now on."""
        self._say(["up", list(self.process.post.address)])
        threading.Thread(target=self._serve_lane, name="zactor-lane", daemon=True).start()

    def _say(self, message: list[Any]) -> None:
        try:
            self.lane.send(message, wait=True)
        except (LaneClosedError, OSError):
            pass  # the node is dead; the lane's thread ends the process

    def _serve_lane(self) -> None:
        poll = select.poll()
        poll.register(self.lane.fileno(), select.POLLIN)
        poll.register(self.boot["node_pidfd"], select.POLLIN)
        lane_is_open = True
        while True:
            for fd, _ in poll.poll():
                if fd == self.boot["node_pidfd"]:
                    os._exit(NODE_DEAD)
                if lane_is_open:
                    try:
                        for order in self.lane.receive():
                            self._ordered(order)
                    except LaneClosedError:
                        lane_is_open = False
                        poll.unregister(fd)

    def _ordered(self, order: list[Any]) -> None:
        what = order[0]
        if what in ("actor", "actors"):
            with self._orders_lock:
                if self.shared is None:
                    self.orders.put(order)
                    return
            self._host_shared(self.shared, order)
        elif what == "exit":
            self.orders.put(order)
            self._exit(order)
        elif what == "lease":
            with self._orders_lock:
                if self._tasks is None:  # the main thread takes it once it is there for tasks
                    self.orders.put(order)
                    return
            self._task_order(order)
        elif what == "unlease":
            pass
        elif what in ("stop", "kill"):
            self._end_order(*order[:3])
        elif what == "bind_tcp":
            self.process.post.call_later(0, self._bind_tcp)
        elif what == "survey":
            self._survey(*order[1:4])

    def _survey(self, number: int, table: str, args: dict[str, Any]) -> None:
        from zactor.runtime.insight.listing import survey

        try:
            said = survey(self.process, table, args)
        except Exception as error:  # noqa: BLE001 - what only looks must not end what it looks at
            said = {"error": str(error)}
        self._say(["surveyed", number, said])

    def _task_order(self, order: list[Any]) -> None:
        self._set_job(order[2], order[3])
        assert self._tasks is not None
        self._tasks.told_of_lease(order[1])

    def _exit(self, order: list[Any]) -> None:
        why = order[1] if len(order) > 1 else ""
        if why in (IDLE, USED_UP) and not self._runs_a_task() and self._is_needed():
            self._say(["keep"])
            return
        self.is_exiting = True
        if self.shared is not None:
            self.shared.close()
        elif self.host is not None:
            self.host.stop()
        if self._tasks is not None:
            # Nobody waits for what a task still computes. Its own clean-up has a moment.
            end = threading.Timer(TASK_EXIT_GRACE, os._exit, (0,))
            end.daemon = True
            end.start()

    def _runs_a_task(self) -> bool:
        return self._tasks is not None and self._tasks.is_running

    def _is_needed(self) -> bool:
        """Whether others need what this process owns, or it waits for tasks of its own."""
        return self.process.objects.is_needed() or self.process.tasks.has_work()

    def _bind_tcp(self) -> None:
        address = self.process.post.bind_tcp(self.process.post.host)
        self._say(["up", list(address)])

    def _blocking(self, is_blocked: bool) -> None:  # noqa: FBT001 - a callback
        if self._tasks is not None and is_blocked:
            self._tasks.hand_back()
        self._is_blocked = is_blocked
        self.process.tell(Blocked(is_blocked, is_blocked and self.process.lends_all))

    def _broker_moved(self) -> None:
        if self._is_blocked:
            self.process.tell(Blocked(True, self.process.lends_all))

    # -- the main thread -----------------------------------------------------------------------

    def run(self) -> int:
        """Do what is ordered until the end; return the exit code."""
        order = self.orders.get()
        try:
            if order[0] == "actors":
                self._run_shared(order, order[1])
            elif order[0] == "actor" and order[3].get("isolation") == "shared":
                self._run_shared(order, order[3])
            elif order[0] == "actor":
                self._run_actor(*order[1:4])
            elif order[0] == "lease":
                self._run_tasks(order)
        finally:
            self.process.flush()
            self.process.close(1.0)
        return 0

    def _set_job(self, job: bytes, shape: dict[str, Any]) -> None:
        self.process.job = job
        self.process.namespace = shape.get("namespace") or self.process.namespace
        self.process.session.update(shape.get("session") or {})
        adopt_session(self.process.session)
        self.process.session["group"] = shape.get("group")
        self.process.session["runtime_env"] = shape.get("env") or {}
        self._show_gpus(shape)
        self._assigned.tell(shape)
        if self.process.running is not None:
            self.process.running.spec = shape

    def _show_gpus(self, spec: dict[str, Any]) -> None:
        """Have what runs here see the GPUs it was given, under the names that CUDA has for them."""
        numbers = spec.get("gpu_ids") or ()
        if numbers or self._had_gpus:
            self._had_gpus = True
            spec["gpu_ids"] = use_gpus(os.environ, self._node_sees, numbers)

    def _run_tasks(self, order: list[Any]) -> None:
        process = self.process
        execution = process.running = Execution(process, None, "")
        self._set_job(order[2], order[3])
        name_output(execution.printing)
        signal.signal(CANCEL_SIGNAL, execution.on_cancel_signal)
        host = MainHost(process, execution, 0)
        host.is_task_host = True
        host.told_of_lease(order[1])
        with self._orders_lock:
            self._tasks = self.host = host
            # The first lease may have been given back unused, and the next be here already.
            while not self.orders.empty():
                late = self.orders.get()
                if late[0] == "lease":
                    self._task_order(late)
        if self.is_exiting:  # told so before there was a host to tell
            host.stop()
        process.callee.adopt(process.id, host)
        host.serve()

    # -- actors --------------------------------------------------------------------------------

    @staticmethod
    def _host_shared(shared: Any, order: list[Any]) -> None:
        if order[0] == "actors":
            shared.create_many(*order[1:3])
        else:
            shared.create(*order[1:4])

    def _run_shared(self, order: list[Any], spec: dict[str, Any]) -> None:
        from zactor.runtime.hosting.shared import SharedHost

        self.process.job = spec["job"]
        self.process.namespace = spec.get("namespace") or ""
        self.process.session.update(spec.get("options", {}).get("session") or {})
        adopt_session(self.process.session)
        self.process.session["group"] = spec.get("group")
        self.process.session["runtime_env"] = spec.get("env") or {}
        shared = SharedHost(self.process, self._say)
        with self._orders_lock:
            self._host_shared(shared, order)
            while not self.orders.empty():
                later = self.orders.get()
                if later[0] == "exit":
                    shared.close()
                elif later[0] in ("actor", "actors"):
                    self._host_shared(shared, later)
            self.shared = shared
        for actor, life in list(self._stopped):
            shared.stop(actor, life)
        shared.serve()

    def _run_actor(self, actor: bytes, life: int, spec: dict[str, Any]) -> None:
        from zactor.runtime.hosting.construction import construct, make_host

        process = self.process
        process.job = spec["job"]
        process.namespace = spec.get("namespace") or ""
        process.session.update(spec.get("options", {}).get("session") or {})
        adopt_session(process.session)
        process.session["group"] = spec.get("group")
        process.session["runtime_env"] = spec.get("env") or {}
        process.identity = Identity(caller_id(actor, life))
        self._show_gpus(spec)
        self.actor = (actor, life)
        execution = Execution(process, None, spec.get("class_name") or "Actor")
        execution.actor_id = actor.hex()
        process.running = execution
        execution.spec = spec
        self._assigned.tell(spec)
        host = self.host = make_host(process, execution, life, spec)
        process.callee.adopt(actor, host)
        if (actor, life) in self._stopped:
            host.stop()
        signal.signal(CANCEL_SIGNAL, execution.on_cancel_signal)
        try:
            construct(process, execution, host, spec)
        except StopServing:
            self._exited("exited")
            return
        except Exception as error:  # noqa: BLE001 - the user's constructor
            self._say(["failed", actor, life, shown_constructor_error(error, execution)])
            self.orders.get()  # "exit"
            return
        execution.actor_repr = repr_of(execution.instance)
        if execution.actor_repr and " object at 0x" not in execution.actor_repr:
            say_name(execution.actor_repr)
        self._say(["ready", actor, life, execution.actor_repr])
        host.serve()
        self._end_actor(host)

    def _end_actor(self, host: Any) -> None:
        from zactor.runtime.hosting.construction import run_shutdown_hook

        assert self.actor is not None
        actor, life = self.actor
        ending = getattr(host, "ending", None)
        # What ends because its node stops may live again elsewhere: its callers ask where.
        goes_on = self.is_exiting and not ending
        self.process.callee.refuse(actor, life, is_dead=not goes_on)
        if ending != "exit_actor":
            self._say(["stopping", actor, life])
            run_shutdown_hook(host.execution.instance)
        self.process.flush()
        self._exited(ending or "stopped")

    def _exited(self, text: str) -> None:
        assert self.actor is not None
        cause = exit_cause(text)
        # Replies first: the death notice may overtake what has not left this process.
        self.process.flush()
        self.process.post.settle_links(1.0)
        self._say(["exited", *self.actor, cause])

    def _end_order(self, what: str, actor: bytes, life: int) -> None:
        """End an actor: in order, once its queue is empty, or (only a shared one) now."""
        self._stopped.add((actor, life))  # it may not have begun
        if self.shared is not None:
            self._stopped.clear()
            (self.shared.stop if what == "stop" else self.shared.kill)(actor, life)
        elif self.actor == (actor, life) and self.host is not None:
            self.host.stop()


EXIT_TEXT = {
    "exit_actor": "ended itself with exit_actor()",
    "exited": "ended itself with exit_actor()",
    "terminated": "was stopped with __zactor_terminate__",
    "stopped": "was stopped in order: its last handle is gone",
}


def exit_cause(why: str) -> dict[str, Any]:
    """Return the cause of death of an actor that has ended in order."""
    kind = "stopped" if why == "stopped" else "exited"
    return {"kind": kind, "code": 0, "text": EXIT_TEXT.get(why, why)}


def constructor_error(error: BaseException, execution: Execution) -> list[Any]:
    """Return the wire form of what a constructor raised."""
    payload, _, _ = pack_exception(
        error, f"{execution.label}.__init__", pid=os.getpid(), actor_id=execution.actor_id
    )
    return ["constructor", str(error), {"exception": payload}]


def shown_constructor_error(error: BaseException, execution: Execution) -> list[Any]:
    """Print why there is no actor, since it may be long until a caller is told; return the wire form."""
    wire = constructor_error(error, execution)
    text = describe(wire[2]["exception"])[1]
    try:
        sys.stderr.write(
            "Exception raised in creation task: The actor died because of an error raised in its "
            f"creation task, {text}\n"
        )
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # closed: nobody reads it
    return wire


def adopt_session(session: dict[str, Any]) -> None:
    """Find modules where the job's driver does, behind where this machine does; log as it wants."""
    for path in session.get("sys_path") or ():
        if path not in sys.path:
            sys.path.append(path)
    if session.get("logging"):
        from zactor.runtime.insight.records import set_up

        set_up(session["logging"])


def repr_of(instance: Any) -> str:
    """Return what the actor calls itself, if it does; "" otherwise."""
    if "__repr__" not in {name for cls in type(instance).__mro__[:-1] for name in vars(cls)}:
        return ""
    try:
        return str(repr(instance))[:200]
    except Exception:  # noqa: BLE001 - the user's __repr__
        return ""


def _keys(boot: dict[str, Any]) -> Any:
    keys = boot.get("keys")
    if not keys:
        return None
    from zactor.transport.curve import Keys

    return Keys(*keys)


def main(control: socket.socket, progress_fd: int, boot: dict[str, Any]) -> int:
    """Run a worker. Called by the fork server in a fresh process, on its main thread."""
    _die_first()
    worker = Worker(control, progress_fd, boot)
    worker.start()
    return worker.run()


def rehearse(boot: dict[str, Any]) -> None:
    """Become a worker and stop at once. Called by the fork server, for what is then made already."""
    import socket

    control, node = socket.socketpair()
    progress = os.memfd_create("zactor-rehearsal")
    os.ftruncate(progress, PAGE_SIZE)
    with control, node:
        try:
            boot = {**boot, "process": os.urandom(12), "broker": boot["node"]}
            Worker(control, progress, boot).process.close(0.0)
        finally:
            os.close(progress)
            processes.set_current(None)


def _die_first() -> None:
    """Have the kernel, when memory runs out, end workers before nodes, brokers and drivers."""
    try:
        score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(score, b"1000")
        os.close(score)
    except OSError:
        pass  # where it may not be said
