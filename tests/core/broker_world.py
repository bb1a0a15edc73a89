"""A small world around a broker machine: time, ids, processes, and what each was sent."""

from __future__ import annotations

from collections import deque
from typing import Any

from zactor.core.broker import BrokerMachine, Report, Watch
from zactor.core.broker_config import BrokerConfig
from zactor.core.state import MemoryState
from zactor.wire import messages as m
from zactor.wire.messages import Address

Message = Any


class CountingIds:
    def __init__(self) -> None:
        self.last = 0

    def new_id(self) -> bytes:
        self.last += 1
        return b"i" + self.last.to_bytes(11, "big")


def pid_of(kind: str, number: int) -> bytes:
    """A process (or actor, or node) id that says what it is of."""
    return kind.encode()[:4].ljust(4, b"_") + number.to_bytes(8, "big")


def address_of(process: bytes, node: bytes = b"", machine: bytes = b"m1") -> Address:
    return Address(process, node, machine, f"ipc:///tmp/{process.hex()}", "")


class Worker:
    def __init__(self, process: bytes, node: FakeNode) -> None:
        self.process = process
        self.node = node
        self.actors: dict[bytes, int] = {}
        self.is_ready: dict[bytes, bool] = {}
        self.lease = 0
        self.shape: dict[str, Any] = {}

    @property
    def address(self) -> Address:
        return address_of(self.process, self.node.id, self.node.machine)

    def row(self) -> dict[str, Any]:
        actors = [[a, life, self.is_ready.get(a, False), ""] for a, life in self.actors.items()]
        return {
            "process": self.process, "address": list(self.address), "pid": 7, "job": b"",
            "actors": actors, "lease": self.lease, "shape": self.shape,
        }  # fmt: skip


class FakeNode:
    """A node that answers when told to: it keeps what it was asked for in `todo`."""

    def __init__(self, world: World, number: int, machine: bytes, **resources: float) -> None:
        self.world = world
        self.id = pid_of("node", number)
        self.process = pid_of("nprc", number)
        self.machine = machine
        self.resources = resources
        self.todo: deque[Message] = deque()
        self.workers: dict[bytes, Worker] = {}
        self.idle: list[Worker] = []
        self.stopped = ""

    def entry(self, labels: dict[str, str] | None = None) -> dict[str, Any]:
        return {
            "id": self.id, "address": list(address_of(self.process, self.id, self.machine)),
            "hostname": "h", "pid": 1, "resources": self.resources, "labels": labels or {},
        }  # fmt: skip

    def say(self, message: Message) -> None:
        self.world.receive(
            self.process, message, address_of(self.process, self.id, self.machine)
        )

    def attach(self, labels: dict[str, str] | None = None) -> None:
        rows = [worker.row() for worker in self.workers.values()]
        for task in self.todo:
            if isinstance(task, m.StartActor):
                rows.append({"process": b"", "actors": [[task.actor, task.life, False, ""]]})
            if isinstance(task, m.StartLease):
                rows.append({"process": b"", "lease": task.lease, "shape": task.shape})
        self.say(m.NodeUp(self.world.number(), self.entry(labels), rows))

    def take(self, message: Message) -> None:
        """What the broker sent arrives."""
        if isinstance(message, (m.StartActor, m.StartLease, m.StopActor, m.EndLease)):
            self.todo.append(message)
        elif isinstance(message, m.StopNode):
            self.stopped = message.reason
        elif isinstance(message, m.Answer) and not message.ok:
            if message.value[0] == "NodeUnknown":
                self.attach()

    def work(self, count: int = 10_000) -> None:
        """Do up to `count` of what is to be done, all in success."""
        while self.todo and count:
            count -= 1
            task = self.todo.popleft()
            if isinstance(task, m.StartActor):
                self.start_actor(task)
            elif isinstance(task, m.StartLease):
                self.start_lease(task)
            elif isinstance(task, m.StopActor):
                self.stop_actor(task)
            else:
                self.end_lease(task)

    def new_worker(self) -> Worker:
        worker = Worker(self.world.new_process(), self)
        self.workers[worker.process] = worker
        return worker

    def start_actor(self, task: m.StartActor) -> Worker:
        worker = self.new_worker()
        worker.actors[task.actor] = task.life
        self.say(m.ActorUp(task.actor, task.life, list(worker.address), 7))
        worker.is_ready[task.actor] = True
        self.say(m.ActorReady(task.actor, task.life, ""))
        return worker

    def start_lease(self, task: m.StartLease) -> Worker:
        worker = self.idle.pop() if self.idle else self.new_worker()
        worker.lease, worker.shape = task.lease, task.shape
        self.say(m.WorkerLeased(task.lease, list(worker.address), 7))
        return worker

    def stop_actor(self, task: m.StopActor) -> None:
        for worker in list(self.workers.values()):
            if worker.actors.get(task.actor) == task.life:
                self.kill(worker, "killed")
                return
        self.say(m.ActorExited(task.actor, task.life, {"kind": "exited"}, []))

    def end_lease(self, task: m.EndLease) -> None:
        for worker in list(self.workers.values()):
            if worker.lease == task.lease:
                if task.reusable:
                    worker.lease = 0
                    self.idle.append(worker)
                else:
                    self.kill(worker, "killed")
                return

    def kill(self, worker: Worker, kind: str = "signal", progress: Any = ()) -> None:
        """The worker is dead, and the node sees it."""
        del self.workers[worker.process]
        if worker in self.idle:
            self.idle.remove(worker)
        actors = [[a, life] for a, life in worker.actors.items()]
        cause = {"kind": kind, "code": 9, "text": ""}
        self.say(m.WorkerDied(worker.process, actors, worker.lease, cause, list(progress)))


class Client:
    """A driver, or whoever else asks."""

    def __init__(self, world: World, process: bytes, node: bytes = b"") -> None:
        self.world = world
        self.process = process
        self.node = node
        self.inbox: list[Message] = []
        self.job = b""

    def say(self, message: Message) -> None:
        self.world.receive(self.process, message, address_of(self.process, self.node))

    def ask(self, kind: type, *fields: Any) -> m.Answer:
        """Send a request and return its answer, which must be there at once."""
        number = self.world.number()
        self.say(kind(number, *fields))
        answers = [a for a in self.inbox if isinstance(a, m.Answer) and a.request == number]
        assert len(answers) == 1, f"{kind.__name__}: {answers}"
        self.inbox.remove(answers[0])
        return answers[0]

    def get(self, kind: type, *fields: Any) -> Any:
        answer = self.ask(kind, *fields)
        assert answer.ok, answer
        return answer.value

    def refusal(self, kind: type, *fields: Any) -> str:
        answer = self.ask(kind, *fields)
        assert not answer.ok, answer
        return str(answer.value[0])

    def taken(self, kind: type) -> list[Any]:
        """Take the messages of one kind out of the inbox."""
        found = [message for message in self.inbox if isinstance(message, kind)]
        self.inbox = [message for message in self.inbox if not isinstance(message, kind)]
        return found

    def attach(self, namespace: str = "", **metadata: Any) -> Client:
        address = list(address_of(self.process, self.node))
        self.job = self.get(m.Attach, "driver", address, namespace, metadata)["job"]
        return self

    def spec(self, **more: Any) -> dict[str, Any]:
        return {
            "id": self.world.ids.new_id(), "job": self.job, "owner": self.process,
            "class_key": b"k", "class_name": "C", "placing": {"CPU": 1}, **more,
        }  # fmt: skip

    def create(self, **more: Any) -> dict[str, Any]:
        entry: dict[str, Any] = self.get(m.CreateActor, self.spec(**more))
        return entry

    def entry(self, actor: bytes) -> dict[str, Any]:
        found: dict[str, Any] = self.get(m.WatchActor, actor, False)
        return found

    def demand(self, count: int, key: bytes = b"d", **shape: Any) -> None:
        shape.setdefault("resources", {"CPU": 1})
        self.say(m.Demand(key, {"job": self.job, **shape}, count))


class World:
    def __init__(self, state: Any = None, **config: Any) -> None:
        self.state = state if state is not None else MemoryState()
        self.config = BrokerConfig(**config)
        self.ids = CountingIds()
        self.now = 100.0
        self.nodes: dict[bytes, FakeNode] = {}  # by process
        self.clients: dict[bytes, Client] = {}
        self.reports: list[Report] = []
        self.watched: list[Watch] = []
        self._number = 0
        self._processes = 0
        self.machine = BrokerMachine(self.state, self.ids, self.config)
        self.machine.start(self.now)
        self.deliver()

    def number(self) -> int:
        self._number += 1
        return self._number

    def new_process(self) -> bytes:
        self._processes += 1
        return pid_of("proc", self._processes)

    def node(
        self, number: int = 1, machine: bytes = b"m1", labels: Any = None, **resources: float
    ) -> FakeNode:
        node = FakeNode(self, number, machine, **(resources or {"CPU": 4}))
        self.nodes[node.process] = node
        node.attach(labels)
        return node

    def client(self, process: bytes | None = None, node: bytes = b"") -> Client:
        client = Client(self, process or self.new_process(), node)
        self.clients[client.process] = client
        return client

    def driver(self, **more: Any) -> Client:
        return self.client().attach(**more)

    def in_worker(self, worker: Worker, job: bytes) -> Client:
        """The client inside a worker."""
        client = self.clients.get(worker.process) or self.client(worker.process, worker.node.id)
        client.job = job
        return client

    def receive(self, process: bytes, message: Message, address: Address) -> None:
        self.machine.receive(process, address, message, self.now)
        self.deliver()

    def deliver(self) -> None:
        for effect in self.machine.drain():
            if isinstance(effect, Report):
                self.reports.append(effect)
            elif isinstance(effect, Watch):
                self.watched.append(effect)
            elif effect.to.process in self.nodes:
                self.nodes[effect.to.process].take(effect.message)
            elif effect.to.process in self.clients:
                self.clients[effect.to.process].inbox.append(effect.message)
        self.machine.check()

    def lose(self, process: bytes) -> None:
        self.machine.lost(process, self.now)
        self.deliver()

    def advance(self, seconds: float) -> None:
        """Let time pass, from deadline to deadline; living nodes renew."""
        end = self.now + seconds
        while True:
            deadline = self.machine.next_deadline()
            step = min(end, self.now + 2.0)
            self.now = max(self.now, min(step, deadline) if deadline is not None else step)
            for node in self.nodes.values():
                if not node.stopped:
                    node.say(m.Renew(self.number(), {}))
            self.machine.tick(self.now)
            self.deliver()
            if self.now >= end:
                return

    def advance_silently(self, seconds: float) -> None:
        """Let time pass; nobody renews."""
        end = self.now + seconds
        while (deadline := self.machine.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.machine.tick(self.now)
            self.deliver()
        self.now = end

    def stand_still(self, seconds: float) -> None:
        """Let time pass in which nobody runs, the broker neither: what is due is late."""
        self.now += seconds
        self.machine.tick(self.now)
        self.deliver()

    def work(self) -> None:
        """Let every node do all it was asked."""
        while any(node.todo for node in self.nodes.values()):
            for node in list(self.nodes.values()):
                node.work()

    def restart(self) -> None:
        """The broker is killed and started again on its state."""
        self.machine = BrokerMachine(self.state, self.ids, self.config)
        self.machine.start(self.now)
        self.deliver()
