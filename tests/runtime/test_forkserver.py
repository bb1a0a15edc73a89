"""The fork server and the spawner, with real processes."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.runtime.driven_loop import DrivenLoop
from zactor.config import Config
from zactor.runtime.nodes.lane import LaneClosedError
from zactor.runtime.nodes.spawn import Spawner, Status, WorkerProcess

pytestmark = pytest.mark.system
HERE = str(Path(__file__).parent)


class Starts:
    """A spawner, and what its callbacks said."""

    def __init__(self, **setup: Any) -> None:
        self.loop = DrivenLoop()
        self.started: list[WorkerProcess] = []
        self.exited: dict[bytes, Status] = {}
        self.failed: dict[bytes, list[Any]] = {}
        self.warnings: list[str] = []
        self.workers: list[WorkerProcess] = []
        self.heard: dict[bytes, list[list[Any]]] = {}
        self.spawner = Spawner(
            self.loop,
            Config(),
            {"entry": "fake_worker:main", "sys_path": [HERE], "boot": {"shared": 1}, **setup},
            started=self.started.append,
            exited=self._exited,
            failed=lambda worker, error: self.failed.__setitem__(worker.process, error),
            warn=self.warnings.append,
        )

    def _exited(self, worker: WorkerProcess, status: Status) -> None:
        self.exited[worker.process] = status

    def start(self, key: str = "", **environment: Any) -> WorkerProcess:
        process = len(self.workers).to_bytes(12, "big")
        worker = self.spawner.start(process, key, environment, {"own": 2})
        self.workers.append(worker)
        return worker

    def up(self, key: str = "", **environment: Any) -> WorkerProcess:
        worker = self.start(key, **environment)
        self.hear(worker, "up")
        return worker

    def hear(self, worker: WorkerProcess, word: str) -> Any:
        heard = self.heard.setdefault(worker.process, [])

        def said() -> bool:
            if worker.lane is not None:
                try:
                    heard.extend(worker.lane.receive())
                except LaneClosedError:
                    pass
            return any(message[0] == word for message in heard)

        self.loop.until(said)
        message = next(message for message in heard if message[0] == word)
        heard.remove(message)
        return message[1]

    def ended(self, worker: WorkerProcess) -> Status:
        self.loop.until(lambda: worker.process in self.exited)
        return self.exited[worker.process]

    def ask(self, worker: WorkerProcess) -> dict[str, Any]:
        worker.send(["tell"])
        return self.hear(worker, "told")

    def close(self) -> None:
        for worker in self.workers:
            worker.kill(signal.SIGKILL)
        self.loop.until(
            lambda: all(
                w.process in self.exited or w.process in self.failed for w in self.workers
            )
        )
        pids = self.spawner.pids()
        self.spawner.close()
        for worker in self.workers:
            worker.close()
        self.loop.close()
        for pid in [*pids, *(w.pid for w in self.workers if w.pid)]:
            assert is_gone(pid), pid


@pytest.fixture
def starts() -> Iterator[Starts]:
    found = Starts()
    yield found
    found.close()


def is_gone(pid: int, seconds: float = 5.0) -> bool:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)


def test_a_worker_is_a_session_leader_with_nothing_of_its_server(
    starts: Starts,
) -> None:  # F2 F3
    worker = starts.up()
    starts.up()
    told = starts.ask(worker)

    assert told["pid"] == told["sid"] == worker.pid
    assert told["boot"]["process"] == worker.process
    assert (told["boot"]["shared"], told["boot"]["own"]) == (1, 2)
    assert told["threads"] == 1
    links = told["fds"]
    assert links[0] == "/dev/null"
    assert all(link.startswith("pipe:") for link in links[1:3])
    rest = [link.split(":")[0] for link in links[3:]]
    assert sorted(rest) == ["/memfd", "anon_inode", "socket"], links


def test_siblings_draw_different_random_numbers(starts: Starts) -> None:
    assert starts.ask(starts.up())["random"] != starts.ask(starts.up())["random"]


@pytest.mark.parametrize(
    ("do", "status"),
    [
        (lambda w: w.send(["return", 0]), Status("exit", 0)),
        (lambda w: w.send(["return", 7]), Status("exit", 7)),
        (lambda w: w.kill(signal.SIGSEGV), Status("signal", signal.SIGSEGV)),
        (lambda w: w.kill(signal.SIGKILL), Status("signal", signal.SIGKILL)),
    ],
)
def test_how_a_worker_ended_is_told(starts: Starts, do: Any, status: Status) -> None:
    worker = starts.up()
    do(worker)
    assert starts.ended(worker) == status


def test_a_worker_killed_before_it_was_forked_still_ends(starts: Starts) -> None:  # W1
    worker = starts.start()
    worker.kill(signal.SIGKILL)
    assert starts.ended(worker) == Status("signal", signal.SIGKILL)


def test_output_and_progress_reach_the_node(starts: Starts) -> None:
    worker = starts.up()
    worker.send(["print", "hello"])
    worker.send(["progress", [[b"c" * 16, 3, 4, 5]]])
    worker.send(["tell"])
    starts.hear(worker, "told")

    assert os.read(worker.stdout, 100) == b"hello\n"  # line buffered
    assert worker.progress() == [[b"c" * 16, 3, 4, 5]]


def test_a_killed_fork_server_is_replaced_and_its_workers_go_on(starts: Starts) -> None:  # W3
    worker = starts.up()
    (first,) = starts.spawner.pids()
    os.kill(first, signal.SIGKILL)
    starts.loop.until(lambda: starts.spawner.pids() not in ([first], []))

    assert starts.ask(worker)["pid"] == worker.pid
    other = starts.up()
    assert starts.ask(other)["ppid"] == starts.spawner.pids()[0]
    worker.send(["return", 5])
    assert starts.ended(worker) in (Status("exit", 5), Status("unknown", -1))


def test_starts_under_way_fail_or_succeed_when_the_server_is_killed(
    starts: Starts,
) -> None:  # W1
    starts.up()
    workers = [starts.start() for _ in range(60)]
    starts.loop.wait(0.01)
    os.kill(starts.spawner.pids()[0], signal.SIGKILL)
    starts.loop.until(lambda: all(w.pid or w.process in starts.failed for w in workers))

    assert any(w.pid for w in workers)
    assert all(error[0] == "spawn" for error in starts.failed.values())


def test_what_a_worker_left_running_dies_with_it(starts: Starts) -> None:  # F3
    worker = starts.up()
    worker.send(["child", 60])
    child = starts.hear(worker, "told")
    worker.kill(signal.SIGKILL)
    starts.ended(worker)
    assert is_gone(child)


def test_an_environment_of_its_own(starts: Starts, tmp_path: Path) -> None:
    (tmp_path / "only_here.py").write_text("import os; seen = os.environ['TEST_A']\n")
    environment = {
        "env_vars": {"TEST_A": "1"}, "working_dir": str(tmp_path), "preload": ["only_here"],
    }  # fmt: skip
    told = starts.ask(starts.up("a", **environment))
    plain = starts.ask(starts.up())

    assert told["env"] == {"TEST_A": "1"}
    assert told["cwd"] == str(tmp_path)
    assert plain["env"] == {}
    assert told["ppid"] != plain["ppid"]


@pytest.mark.parametrize(
    "environment", [{"preload": ["no_such_module"]}, {"working_dir": "/no/such/directory"}]
)
def test_an_environment_that_cannot_be_made_fails_its_workers(
    starts: Starts, environment: dict[str, Any]
) -> None:
    worker = starts.start("bad", **environment)
    starts.loop.until(lambda: worker.process in starts.failed)
    kind, text, _ = starts.failed[worker.process]
    assert kind == "environment"
    assert "no_such_module" in text or "/no/such/directory" in text


@pytest.mark.slow
def test_a_preload_that_starts_threads_warns_and_is_executed_instead(
    starts: Starts,
) -> None:  # F4
    worker = starts.up("threads", preload=["threaded_preload"])
    told = starts.ask(worker)

    assert told["sid"] == worker.pid
    assert told["threads"] == 2
    assert any("of-the-preload" in warning for warning in starts.warnings)
    worker.send(["return", 4])
    assert starts.ended(worker) == Status("exit", 4)


@pytest.mark.slow
def test_a_preload_whose_threads_survive_a_fork_is_forked(starts: Starts) -> None:  # F4
    worker = starts.up("numpy", preload=["numpy"], env_vars={"OPENBLAS_NUM_THREADS": "2"})
    assert starts.ask(worker)["threads"] == 1
    assert starts.warnings == []


def test_stacks_are_dumped_while_the_worker_never_lets_go(starts: Starts) -> None:
    worker = starts.up()
    worker.send(["spin"])

    def dumped() -> bool:
        worker.request_stack()
        starts.loop.until(lambda: "in main" in worker.read_stack())
        return "in obey" in worker.read_stack()

    starts.loop.until(dumped)
    assert worker.read_stack().count("in obey") == 1


def test_a_worker_that_has_not_got_to_its_dump_is_known(starts: Starts) -> None:
    worker = starts.up()
    os.kill(worker.pid, signal.SIGSTOP)
    worker.request_stack()
    assert worker.is_dumping()
    assert worker.read_stack() == ""
    os.kill(worker.pid, signal.SIGCONT)
    starts.loop.until(lambda: not worker.is_dumping())
    assert "in main" in worker.read_stack()
    os.kill(worker.pid, signal.SIGKILL)
    starts.ended(worker)
    assert not worker.is_dumping()


def test_a_fork_server_is_retired_when_there_are_too_many(starts: Starts) -> None:
    starts.spawner._config = Config(fork_servers=2)
    workers = [starts.up(str(n), env_vars={"TEST_A": str(n)}) for n in range(3)]
    starts.up()
    for worker in workers:
        assert starts.ask(worker)["pid"] == worker.pid
        worker.send(["return", 6])
        assert starts.ended(worker) == Status("exit", 6)
    starts.loop.until(lambda: len(starts.spawner.pids()) == 2)


NODE = """
import os, sys
sys.path[:0] = [{root!r}, {here!r}]
from tests.runtime.test_forkserver import Starts
starts = Starts()
worker = starts.up()
spinning = starts.up()
spinning.send(["spin"])
starts.spawner.pids()
print(worker.pid, spinning.pid, *starts.spawner.pids(), flush=True)
starts.loop.until(lambda: False, 60)
"""


@pytest.mark.slow
def test_everything_dies_with_its_node(tmp_path: Path) -> None:  # F1
    program = NODE.format(root=str(Path(HERE).parent.parent), here=HERE)
    node = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert node.stdout
    pids = [int(word) for word in node.stdout.readline().split()]
    assert len(pids) == 3
    node.kill()
    node.wait()
    node.stdout.close()
    assert all(is_gone(pid) for pid in pids)


class NodeByHand:
    """A fork server, the end of its lane, and a process that passes for its node."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["sleep", "60"])
        self.lane, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.server = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        setup = {"entry": "fake_worker:main", "sys_path": [HERE]}
        pidfd = os.pidfd_open(self.process.pid)
        self.tell(["setup", setup], [pidfd, 2])
        os.close(pidfd)
        assert self.hear()[0] == "ready"

    def tell(self, message: list[Any], fds: list[int]) -> None:
        socket.send_fds(self.lane, [msgpack.packb(message)], fds)

    def hear(self) -> list[Any]:
        body, fds, _, _ = socket.recv_fds(self.lane, 1 << 16, 1)
        for fd in fds:
            os.close(fd)
        message: list[Any] = msgpack.unpackb(body)
        return message

    def fork(self, number: int) -> WorkerProcess:
        worker = WorkerProcess(bytes(12), "", {"process": bytes(12)})
        ends = worker.open_ends()
        self.tell(["fork", number, worker.boot], ends)
        for end in ends:
            os.close(end)
        return worker

    def close(self) -> None:
        self.lane.close()
        for process in (self.process, self.server):
            process.kill()
            process.wait()


SERVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3, inheritable=False)
from zactor.runtime.nodes.forkserver import main
main()
"""


@pytest.fixture
def node() -> Iterator[NodeByHand]:
    made = NodeByHand()
    yield made
    made.close()


@pytest.mark.parametrize("is_answer_unread", [True, False])
def test_a_lane_that_breaks_before_the_death_is_seen_costs_no_worker_its_end(  # F1
    node: NodeByHand, is_answer_unread: bool
) -> None:
    """The kernel closes the sockets of a dying node before it says that the node is dead."""
    spinning = node.fork(1)
    started = node.hear()
    spinning.send(["spin"])
    if is_answer_unread:
        node.fork(2).close()
        select.select([node.lane], [], [], 10)
        node.lane.close()  # the server's next read is a reset
    else:
        os.kill(node.server.pid, signal.SIGSTOP)
        node.fork(2).close()
        node.lane.close()  # its next answer meets a broken pipe
        os.kill(node.server.pid, signal.SIGCONT)
    is_gone(node.server.pid, 0.3)  # or it has seen all of that by then
    node.process.kill()
    node.process.wait()
    is_over = is_gone(started[2])
    spinning.close()
    if not is_over:
        os.kill(started[2], signal.SIGKILL)
    assert is_over
    assert node.server.wait(10) == 0


def test_a_lane_refuses_garbage() -> None:
    from zactor.runtime.nodes.lane import Lane

    for garbage in (b"\xff\xff\xff\xff", b"\0\0\0\1\xc1", b"\0\0\0\1\x01"):
        lane, end = Lane.pair()
        end.sendall(garbage)
        with pytest.raises(LaneClosedError):
            lane.receive()
        lane.close()
        end.close()


def test_a_lane_keeps_what_the_socket_does_not_take() -> None:  # L1 L2
    from zactor.runtime.nodes.lane import Lane

    lane, end = Lane.pair()
    other = Lane(end)
    for number in range(50):
        lane.send(["m", number, b"x" * 50_000])
    assert lane.is_pending
    got: list[Any] = []
    while len(got) < 50:
        got += [message[1] for message in other.receive()]
        lane.flush()
    assert got == list(range(50))
    lane.close()
    other.close()
    assert socket is not None
