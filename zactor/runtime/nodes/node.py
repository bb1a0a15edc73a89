"""The node's shell: processes, lanes, pipes and the clock around `core.node`.

It carries events to the machine and puts the machine's effects into effect, and it answers what
needs no decision: stacks, logs, and the death of drivers on its machine. It runs on the loop's
thread and starts none.

The machine's shared-memory store is driven by `runtime.nodes.node_store`; it is told of every process that
died here.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from zactor.core.node import NodeMachine
from zactor.core.node_effects import (
    DropJob,
    Effect,
    End,
    Kill,
    NodeLimits,
    Report,
    SetLabel,
    Spawn,
    ToBroker,
    ToWorker,
)
from zactor.named import NamedTuple
from zactor.runtime.insight.stacks import StackDumps
from zactor.runtime.insight.surveys import Surveys
from zactor.runtime.links.relay import Relay
from zactor.runtime.links.routing import Routing
from zactor.runtime.links.succession import hand_over
from zactor.runtime.machine import MemoryPressure, cpu_count
from zactor.runtime.nodes.lane import LaneClosedError
from zactor.runtime.nodes.node_definitions import NodeDefinitions
from zactor.runtime.nodes.output import Line, Output
from zactor.runtime.nodes.spawn import Spawner, Status, WorkerProcess
from zactor.wire import messages
from zactor.wire.messages import (
    Address,
    Answer,
    BindNetwork,
    DrainNode,
    EndLease,
    JobEnded,
    NodeUp,
    Notice,
    ProcessDied,
    Query,
    ReadLog,
    Renew,
    StackDump,
    StartActor,
    StartActors,
    StartLease,
    StopActor,
    StopNode,
    Survey,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from zactor.config import Config
    from zactor.runtime.links.loop import Loop
    from zactor.runtime.links.peer import Peer
    from zactor.runtime.links.post import Post
    from zactor.runtime.nodes.node_store import NodeStore
    from zactor.runtime.nodes.storage import StorageShell
    from zactor.runtime.session import Session

FROM_BROKER = (
    StartActor,
    StartActors,
    StopActor,
    BindNetwork,
    StartLease,
    EndLease,
    JobEnded,
    StopNode,
)

JOIN_PATIENCE = 3.0  # seconds within which the broker of a new node may come back
ATTACH_AGAIN = 0.5  # seconds between attempts to reach a broker
SWEEP_DELAY = 0.5  # seconds from a node's death until what it has left is removed
LANE_RETRY = 0.002  # until what a full lane did not take is tried again
_SPARE_LIMIT = 4
MOST_NOTICES = 20


class NodeSetup(NamedTuple):
    """What a node is told of itself."""

    entry: dict[str, Any]  # for `NodeUp`, without id and address
    broker: Address
    boot: dict[str, Any]  # what each worker is told beside what only the node knows
    sys_path: Sequence[str] = ()
    preload: Sequence[str] = ()
    entry_point: str = ""  # of workers; "" is the usual one


class RandomIds:
    """Fresh ids from the system."""

    def new_id(self) -> bytes:
        """Return 12 random bytes."""
        return os.urandom(12)


class Node:
    """One node, on a loop and a post that it may share with a broker."""

    def __init__(
        self,
        loop: Loop,
        post: Post,
        config: Config,
        session: Session,
        setup: NodeSetup,
        *,
        storage: StorageShell | None = None,
        ended: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        """Prepare; nothing is started before `open`.

        Args:
            loop: Runs everything here.
            post: Whose address is the node's.
            config: Limits and intervals.
            session: Where logs and sockets are.
            setup: See there.
            storage: The machine's shared-memory store, if it has one.
            ended: Called when the node has stopped in order, with the reason.
            warn: Takes what a human should know.
        """
        self._loop = loop
        self._post = post
        self._config = config
        self._session = session
        self._setup = setup
        self._ended = ended
        self._warn = warn
        self.id = post.address.node
        self.broker = setup.broker
        self.find_broker: Callable[[], Address | None] = lambda: (
            None
        )  # for one that was replaced
        spare = config.spare_workers
        limits = NodeLimits(
            spare_workers=min(_SPARE_LIMIT, int(cpu_count())) if spare < 0 else spare,
            idle_workers=config.idle_workers,
            idle_worker=config.idle_worker,
            shutdown_hook=config.shutdown_hook,
            exit_grace=config.exit_grace,
            start_timeout=config.start_timeout,
        )
        self._machine = NodeMachine(RandomIds(), limits)
        self._pressure = MemoryPressure()
        self._workers: dict[bytes, WorkerProcess] = {}
        self._up: set[bytes] = (
            set()
        )  # workers that have said "up": they can be asked for stacks
        self._labels: dict[bytes, str] = {}
        self._drivers: dict[bytes, int] = {}  # driver process -> its pidfd
        self._routes: dict[
            bytes, Address | None
        ] = {}  # job -> its driver; None: being asked for
        self._unrouted: dict[bytes, list[Line]] = {}
        self._pending_lanes: list[WorkerProcess] = []
        self._since = loop.now()
        self._stacks = StackDumps(loop)
        self._definitions = NodeDefinitions(post, lambda: self.broker, self._told)
        self._timer_at: float | None = None
        self._notices: dict[str, None] = {}  # what users should know of this node
        self._is_attached = False
        self._attachment = 0  # the how-manieth: what belongs to an earlier one is void
        self._is_closed = False
        if setup.broker.process != post.process_id:
            host = setup.boot.get("host") or ""
            Routing(
                post, broker=lambda: self.broker, node=lambda: post.address,
                transport=config.transport, host=host,
            )  # fmt: skip
            Relay(post)
            post.on_moved = self._peer_moved
        self.output = Output(loop, config, session.logs, self.id, self._route)
        self.spawner = Spawner(
            loop, config, self._spawner_setup(),
            started=self._started, exited=self._exited, failed=self._failed, warn=self._tell_users,
        )  # fmt: skip
        self._effects: dict[type, Callable[[Any], None]] = {
            Spawn: self._spawn,
            ToWorker: self._to_worker,
            Kill: lambda effect: self._workers[effect.process].kill(effect.signal),
            ToBroker: lambda effect: self._post.send(self.broker, effect.message),
            SetLabel: self._set_label,
            DropJob: self._drop_job,
            Report: lambda effect: self._warn(effect.text),
            End: lambda effect: self._ended(effect.reason),
        }
        for kind in FROM_BROKER:
            post.on(kind, self._from_broker)
        self._surveys = Surveys(loop, post, self._surveyed, self._send)
        self._surveys.of_node = {
            "logs": lambda _address, _args: self.output.list_logs(),
            "output": self._send_output,
        }
        post.on(Survey, self._surveys.asked)
        post.on(StackDump, self._stack_dump)
        post.on(ReadLog, self._read_log)
        if hasattr(messages, "WatchDriver"):
            post.on(messages.WatchDriver, self._watch_driver)
        self._store: NodeStore | None = None
        if storage is not None:
            from zactor.runtime.nodes.node_store import NodeStore

            self._store = NodeStore(
                loop, post, storage, is_here=self._is_here, broker=lambda: self.broker
            )
        post.on_lost(self._lost)

    def _spawner_setup(self) -> dict[str, Any]:
        setup: dict[str, Any] = {
            "boot": {
                "directory": self._session.path,
                "segments": self._config.shm_dir,
                "machine": self._post.address.machine,
                "node": list(self._post.address),
                "session": {
                    "cluster": self._session.cluster,
                    "directory": self._session.path,
                    "node": self.id,
                },
                **self._setup.boot,
            },
            "sys_path": list(self._setup.sys_path),
            "preload": list(self._setup.preload),
        }
        if self._setup.entry_point:
            setup["entry"] = self._setup.entry_point
        return setup

    def open(self, fork_server: tuple[socket.socket, int] | None = None) -> None:
        """Join the cluster, and have the first workers started.

        `fork_server` is one that was forked before this process had threads.
        """
        if fork_server is not None:
            self.spawner.adopt("", {}, *fork_server)
        self._attach()
        self._machine.open(self._loop.now())
        self._step()

    def leave(self, reason: str) -> None:
        """Leave the cluster, which goes on: what ends here is placed elsewhere, not here again."""
        if self.has_joined:
            # Nobody waits for the answer: what matters is that it is read before the deaths are.
            self._post.request(self.broker, DrainNode(0, self.id))
        self.stop(reason)

    def stop(self, reason: str, *, with_actors: bool = False) -> None:
        """End in order: `ended` is called when the last worker is dead.

        `with_actors`: actors are killed, as the end of their job would do.
        """
        if with_actors:
            self._machine.kill_actors("its cluster was ended", self._loop.now())
        self._machine.receive(self.broker.process, StopNode(reason), self._loop.now())
        self._step()

    def kill_workers(self) -> list[int]:
        """Kill every worker now; return pidfds to await their deaths with.

        Their fork servers, which kill what the workers have left running, die with this process.
        """
        pidfds = []
        for worker in self._workers.values():
            worker.kill(signal.SIGKILL)
            if worker.pidfd >= 0:
                pidfds.append(os.dup(worker.pidfd))
        return pidfds

    def close(self) -> None:
        """Release what is held. Workers are dead by now, or go on without this node's ears."""
        if self._is_closed:
            return
        self._is_closed = True
        self.output.finish()
        self.spawner.close()
        for worker in self._workers.values():
            worker.close()
        for pidfd in self._drivers.values():
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
        if self._store is not None:
            self._store.close()

    # The broker.

    def _attach(self) -> None:
        self._is_attached = False
        self._attachment += 1
        entry = {**self._setup.entry, "id": self.id, "address": list(self._post.address)}
        future = self._post.request(
            self.broker, NodeUp(0, entry, self._machine.describe_workers())
        )
        future.add_done_callback(partial(self._attached, self._attachment))

    def _attached(self, attachment: int, future: Future[Any]) -> None:
        if attachment != self._attachment or self._is_closed:
            return
        error = future.exception()
        if error is not None:
            self._warn(f"the broker refused this node: {error}")
            if not self.has_joined:
                self._ended(f"the broker refused it: {error}")
                return
            self._loop.call_later(ATTACH_AGAIN, self._attach)
            return
        answer = future.result()
        if self.has_joined and answer.get("is_new"):
            # It was declared lost meanwhile: all that ran here has been replaced, and others have
            # forgotten their links to this process. Only another process can begin anew.
            self._warn("the broker had declared this node lost; it starts afresh")
            self.wants_fresh_start = True
            self.stop("it had been declared lost")
            return
        self._is_attached = True
        for text in self._notices:
            self._post.send(self.broker, Notice(text))
        if not self.has_joined:
            self.has_joined = True
            if self.on_joined is not None:
                self.on_joined()
        self._loop.call_later(
            answer["renew"], partial(self._renew, attachment, answer["renew"])
        )

    def _tell_users(self, text: str) -> None:
        """Have drivers show it, also those that come later."""
        self._warn(text)
        if len(self._notices) < MOST_NOTICES:
            self._notices[text] = None
            if self._is_attached:
                self._post.send(self.broker, Notice(text))

    has_joined = False
    wants_fresh_start = False
    on_joined: Callable[[], None] | None = None

    def _renew(self, attachment: int, interval: float) -> None:
        if self._is_closed or attachment != self._attachment:
            return
        future = self._post.request(self.broker, Renew(0, self.load()))
        future.add_done_callback(partial(self._renewed, attachment))
        self._loop.call_later(interval, partial(self._renew, attachment, interval))

    def _renewed(self, attachment: int, future: Future[Any]) -> None:
        if future.exception() is not None and attachment == self._attachment:
            self._attach()  # it does not know this node

    def _lost(self, peer: Peer) -> None:
        if peer.id != self.broker.process:
            return
        self._machine.lost(peer.id, self._loop.now())
        if not self.has_joined and (
            peer.is_refused or self._loop.now() > self._since + JOIN_PATIENCE
        ):
            self._ended(f"the broker cannot be reached: {peer.reason}")
            return
        found = self.find_broker()
        if found is not None and found.process != self.broker.process:
            self._follow(found)

    def _peer_moved(self, peer: Peer, successor: Address) -> bool:
        """Another process answers where `peer` was: fine if that is the broker, started again."""
        if successor.process == self.broker.process:
            return True
        if peer.id != self.broker.process:
            return False
        if peer.is_remote and self.broker.tcp:
            successor = successor._replace(tcp=self.broker.tcp)
        self._follow(successor)
        return True

    def _follow(self, broker: Address) -> None:
        """The broker was started again, as another process: attach there."""
        self._warn(f"the broker was started again; attaching to it ({broker.process.hex()})")
        old, self.broker = self.broker, broker
        hand_over(self._post, old.process, broker)
        # What was reported and may not have been heard goes first, then how things stand.
        self._is_attached = False
        for worker in self._workers.values():
            worker.send(["broker", list(broker)])
        self._attach()
        if self._store is not None:
            self._store.broker_moved()
        if self.on_broker_moved is not None:
            self.on_broker_moved(broker)

    on_broker_moved: Callable[[Address], None] | None = None

    def load(self) -> dict[str, Any]:
        """Return what the node is burdened with."""
        load: dict[str, Any] = {
            **self._machine.stats()._asdict(),
            "loadavg": os.getloadavg()[0],
            "links": self._post.counted(),
        }
        if self._store is not None:
            load["store"] = self._store.load()
        return load

    def _from_broker(self, peer: bytes, address: Address, message: Any) -> None:  # noqa: ARG002
        if peer == self.broker.process:
            self._definitions.receive(message)
        else:
            self._warn(f"{type(message).__name__} from {peer.hex()}, which is not the broker")

    def _told(self, message: Any) -> None:
        self._machine.receive(self.broker.process, message, self._loop.now())
        self._step()

    # The machine.

    def _step(self) -> None:
        effects: list[Effect] = self._machine.drain()
        for effect in effects:
            self._effects[type(effect)](effect)
        if self._config.debug:
            self._machine.check()
        due = self._machine.next_deadline()
        if due is not None and (self._timer_at is None or due < self._timer_at):
            self._timer_at = due
            self._loop.call_later(max(0.0, due - self._loop.now()), partial(self._tick, due))

    def _tick(self, due: float) -> None:
        if self._is_closed:
            return
        if self._timer_at == due:
            self._timer_at = None
        self._machine.tick(self._loop.now())
        self._step()

    def _spawn(self, effect: Spawn) -> None:
        self._workers[effect.process] = self.spawner.start(
            effect.process, effect.env, effect.environment, {"broker": list(self.broker)}
        )

    def _to_worker(self, effect: ToWorker) -> None:
        self._send(self._workers[effect.process], effect.message)

    def _send(self, worker: WorkerProcess, message: list[Any]) -> None:
        worker.send(message)
        if worker.lane is not None and worker.lane.is_pending:
            if not self._pending_lanes:
                self._loop.call_later(LANE_RETRY, self._flush_lanes)
            self._pending_lanes.append(worker)

    def _flush_lanes(self) -> None:
        pending, self._pending_lanes = self._pending_lanes, []
        for worker in dict.fromkeys(pending):
            if self._workers.get(worker.process) is not worker or worker.lane is None:
                continue
            try:
                worker.lane.flush()
            except LaneClosedError:
                continue
            if worker.lane.is_pending:
                self._pending_lanes.append(worker)
        if self._pending_lanes:
            self._loop.call_later(LANE_RETRY, self._flush_lanes)

    def _set_label(self, effect: SetLabel) -> None:
        self._labels[effect.process] = effect.label
        self.output.label(effect.process, effect.label, effect.job)

    def _drop_job(self, effect: DropJob) -> None:
        self.output.drop_job(effect.job)
        self._routes.pop(effect.job, None)
        self._unrouted.pop(effect.job, None)

    # Workers.

    def _started(self, worker: WorkerProcess) -> None:
        assert worker.lane is not None
        self._loop.add_reader(worker.lane.fileno(), partial(self._lane_readable, worker))
        self.output.open(worker)
        self._machine.worker_started(worker.process, worker.pid, self._loop.now())
        if worker.lane.is_pending:
            self._pending_lanes.append(worker)
            self._flush_lanes()
        self._step()

    def _lane_readable(self, worker: WorkerProcess) -> None:
        self._listen(worker)

    def _listen(self, worker: WorkerProcess) -> bool:
        """Take what a worker says; return whether there was anything."""
        assert worker.lane is not None
        try:
            heard = worker.lane.receive()
        except LaneClosedError:
            self._loop.remove_reader(worker.lane.fileno())
            return False  # its pidfd will say whether it is dead
        for message in heard:
            if message[0] == "surveyed":
                self._surveys.answered(worker, message[1:])
                continue
            if message[0] == "up":
                self._up.add(worker.process)
            is_last = message[0] == "exited" and len(message) < 5
            progress = worker.progress() if is_last else []
            now = self._loop.now()
            self._machine.worker_said(worker.process, message, now, progress)
        self._step()
        return bool(heard)

    def _exited(self, worker: WorkerProcess, status: Status) -> None:
        process = worker.process
        while self._listen(worker):
            pass  # what it said before it died comes first
        assert worker.lane is not None
        self._loop.remove_reader(worker.lane.fileno())
        self.output.close(process)
        is_killed = status == Status("signal", signal.SIGKILL)
        self._machine.worker_died(
            process, status.kind, status.code,
            oom=is_killed and self._pressure.has_killed(),
            progress=worker.progress(), now=self._loop.now(), is_whole=worker.is_progress_whole(),
        )  # fmt: skip
        self._forget(worker)
        self._step()

    def _failed(self, worker: WorkerProcess, error: list[Any]) -> None:
        self._machine.worker_failed(worker.process, error, self._loop.now())
        self._forget(worker)
        self._step()

    def _forget(self, worker: WorkerProcess) -> None:
        process = worker.process
        worker.close()
        del self._workers[process]
        self._up.discard(process)
        self._labels.pop(process, None)
        self._surveys.worker_died(process)
        self._buried(process)

    def _is_here(self, process: bytes) -> bool:
        return process in self._workers or process in self._drivers

    def _buried(self, process: bytes) -> None:
        """A process of this machine is dead: nothing of it is left behind."""
        with suppress(OSError):  # it has unlinked its socket, or made none
            os.unlink(os.path.join(self._session.path, process.hex()))
        self._post.forget(process)
        if self._store is not None:
            self._store.process_died(process)

    # Output.

    def _send_output(self, driver: Address, args: dict[str, Any]) -> list[Any]:
        """A driver is about to leave: it is sent what its workers have printed."""
        job = args.get("job")
        if isinstance(job, bytes):
            if self._routes.get(job) is None:
                self._routes[job] = driver
                waiting = self._unrouted.pop(job, [])
                if waiting:
                    self._post.send(driver, messages.Output(waiting))
            self.output.flush_job(job)
        return []

    def _route(self, job: bytes, lines: list[Line]) -> None:
        driver = self._routes.get(job)
        if driver is not None:
            self._post.send(driver, messages.Output(lines))
            return
        waiting = self._unrouted.setdefault(job, [])
        waiting += lines
        if job not in self._routes:
            self._routes[job] = None
            query = Query(0, "jobs", {"job": job})
            future = self._post.request(self.broker, query)
            future.add_done_callback(partial(self._routed, job))

    def _routed(self, job: bytes, future: Future[Any]) -> None:
        waiting = self._unrouted.pop(job, [])
        rows = [] if future.exception() is not None else future.result()
        for row in rows:
            driver = self._driver_of(row) if row.get("job_id") == job.hex() else None
            if not row.get("log_to_driver", True):
                self.output.drop_job(job)  # it is not shown, and need not be sent
                return
            if driver is not None:
                self._routes[job] = driver
                if waiting:
                    self._post.send(driver, messages.Output(waiting))
                return
        self._routes.pop(job, None)  # asked again with the next lines; these are only logged

    def _driver_of(self, row: dict[str, Any]) -> Address | None:
        if row.get("address"):
            return Address(*row["address"])
        # Embedded, the broker's link to the driver is ours too.
        peer = self._post.peers.get(bytes.fromhex(row.get("driver_id") or ""))
        return peer.address if peer is not None else None

    # Drivers.

    def _watch_driver(self, peer: bytes, address: Address, message: Any) -> None:  # noqa: ARG002
        self.watch_driver(message.process, message.pid)

    def watch_driver(self, process: bytes, pid: int) -> None:
        """Tell the broker when the process is dead; at once if there is no such pid."""
        if process in self._drivers:
            return
        try:
            pidfd = os.pidfd_open(pid)
        except (ProcessLookupError, ValueError):
            self._driver_died(process)
            return
        self._drivers[process] = pidfd
        self._loop.add_reader(pidfd, partial(self._driver_died, process))

    def _driver_died(self, process: bytes) -> None:
        pidfd = self._drivers.pop(process, None)
        if pidfd is not None:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
        cause = {"kind": "exit", "code": 0, "text": "its process has ended"}
        self._post.send(self.broker, ProcessDied(process, cause))
        self._buried(process)
        # If it was another node, its workers end with it, and then what they have made goes too.
        self._loop.call_later(SWEEP_DELAY, partial(self._session.sweep_node, process))

    # Stacks, logs and surveys.

    def _surveyed(self) -> dict[WorkerProcess, str]:
        """Return the workers that have work, and their labels: the others have called nothing."""
        found = {}
        for process, label in self._labels.items():
            if process in self._up:
                found[self._workers[process]] = label
        return found

    def _read_log(self, peer: bytes, address: Address, message: ReadLog) -> None:  # noqa: ARG002
        try:
            text = self.output.read_log(*message[1:])
            self._post.answer(address, message.request, text)
        except (LookupError, TypeError) as error:
            self._post.send(
                address, Answer(message.request, False, ["ZactorSystemError", str(error), {}])
            )

    def _stack_dump(self, peer: bytes, address: Address, message: StackDump) -> None:  # noqa: ARG002
        def wanted() -> list[WorkerProcess]:
            processes = [message.process] if message.process else list(self._workers)
            return [self._workers[process] for process in processes if process in self._up]

        def done(stacks: list[tuple[WorkerProcess, str]]) -> None:
            rows = [
                {
                    "process": worker.process,
                    "pid": worker.pid,
                    "label": self._labels.get(worker.process, ""),
                    "stack": stack,
                }
                for worker, stack in stacks
            ]
            self._post.answer(address, message.request, rows)

        self._stacks.request(wanted, done)
