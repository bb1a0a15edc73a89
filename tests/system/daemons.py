"""Real brokers, nodes and programs for the tests of this directory, on one machine or "several".

A machine is a directory of its own for sockets and one for segments: processes that do not share
those take each other for distant, and speak over tcp. What is started is killed at the end, and
the directories of segments must be empty by then.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zactor
from tests.conftest import UNIT, _python_path, marked_processes, settled
from zactor.config import Config
from zactor.runtime.current import current
from zactor.runtime.session import sweep
from zactor.wire.messages import Query

PATIENCE = 8.0 * UNIT
# Twice what a starved node has been seen to need: on a busy machine nobody runs for a second or two.
FAST = {"ZACTOR_LEASE": "3", "ZACTOR_RENEW": "0.3"}


def wait_until(condition: Callable[[], Any], timeout: float = PATIENCE, what: str = "") -> Any:
    """Return what the condition returns, once that is true; fail if it never is."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        select.select([], [], [], 0.01)
    return found


def query(what: str, **args: Any) -> Any:
    """Ask the broker, as the command line does."""
    process = current()
    assert process is not None
    return process.ask(Query(0, what, args), timeout=PATIENCE)


def cpus(which: str = "available") -> float:
    """How many CPUs the cluster has, or has free."""
    found: float = query("resources")[which].get("CPU", 0)
    return found


def marked() -> list[int]:
    """The pids of all that this run has started."""
    return list(marked_processes())


class Daemon:
    """A process that was started, and the first line that it printed."""

    def __init__(self, process: subprocess.Popen[str], line: str) -> None:
        self.process = process
        self.line = line

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def node_id(self) -> str:
        return self.line.split()[1]

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE)


class Machines:
    """Everything that one test starts."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="m-", dir=os.environ["ZACTOR_TMPDIR"]))
        self.file = str(self.base / "cluster")
        self.state = str(self.base / "state")
        self.settings = dict(FAST)
        self.shm: dict[str, Path] = {}
        self.daemons: list[Daemon] = []

    def environ(self, machine: str = "", **more: str) -> dict[str, str]:
        """The environment of processes of a machine; "" is the one that the test runs on."""
        found = {**os.environ, "PYTHONPATH": _python_path(), **self.settings, **more}
        if machine:
            directory = self.base / machine
            directory.mkdir(mode=0o700, exist_ok=True)
            if machine not in self.shm:
                name = f"zt-{os.getpid()}-{self.base.name}-{machine}"
                self.shm[machine] = Path("/dev/shm", name)
                self.shm[machine].mkdir(mode=0o700)
            found["ZACTOR_TMPDIR"] = str(directory)
            found["ZACTOR_SHM_DIR"] = str(self.shm[machine])
        return found

    def run(
        self, *argv: str, machine: str = "", prefix: tuple[str, ...] = (), **env: str
    ) -> Daemon:
        """Start a process, and wait for its first line."""
        with open(self.base / "log", "a") as log:
            process = subprocess.Popen(
                [*prefix, sys.executable, *argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environ(machine, **env),
                start_new_session=True,
            )
        daemon = Daemon(process, "")
        self.daemons.append(daemon)
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 20 * UNIT)
        daemon.line = process.stdout.readline().strip() if ready else ""
        if not daemon.line:
            process.kill()
            process.wait()
            raise AssertionError(f"{argv} said nothing; all said:\n{self.log()}")
        return daemon

    def broker(self, *argv: str, machine: str = "", **more: Any) -> Daemon:
        """Start a broker that keeps its state."""
        given = ("broker", "--file", self.file, "--state", self.state, *argv)
        return self.run("-m", "zactor", *given, machine=machine, **more)

    def node(self, *argv: str, cpus: int = 2, machine: str = "", **more: Any) -> Daemon:
        """Start a node."""
        given = ("node", "--join", self.file, "--num-cpus", str(cpus), *argv)
        return self.run("-m", "zactor", *given, machine=machine, **more)

    def program(self, source: str, *, machine: str = "", **more: Any) -> Daemon:
        """Start a program; it must print a line once it is where the test wants it."""
        path = self.base / f"program{len(self.daemons)}.py"
        path.write_text(source)
        return self.run(str(path), self.file, machine=machine, **more)

    def init(self, **options: Any) -> None:
        """Open the test's own session."""
        zactor.init(self.file, **options)

    def log(self) -> str:
        said = [self.base / "log"]
        for base in (
            Path(os.environ["ZACTOR_TMPDIR"]),
            *(self.base / name for name in self.shm),
        ):
            said += base.glob("*/logs/*")
        return "\n".join(f"-- {path.name}\n{path.read_text()[-3000:]}" for path in said)

    def close(self) -> None:
        """End everything, by force, and clean up as a new start would."""
        if zactor.is_initialized():
            zactor.shutdown()
        for daemon in reversed(self.daemons):
            with contextlib.suppress(ProcessLookupError):
                daemon.process.send_signal(signal.SIGCONT)
                daemon.process.kill()
            daemon.process.wait()
            if daemon.process.stdout is not None:
                daemon.process.stdout.close()
        self.sweep()
        shutil.rmtree(self.base, ignore_errors=True)
        for directory in self.shm.values():
            left = settled(functools.partial(os.listdir, directory))
            assert not left, f"left in {directory}: {left}"
            directory.rmdir()

    def sweep(self) -> None:
        """Do what every start does first: remove what dead clusters left."""
        wait_until(lambda: not self._held(), what="workers end with their node")
        sweep(Config.from_environment())
        for machine, shm in self.shm.items():
            found = Config()._replace(tmpdir=str(self.base / machine), shm_dir=str(shm))
            sweep(found)

    def sweep_machine(self, machine: str) -> None:
        """Remove what is left on a machine on which all was killed."""
        if machine:
            shm = str(self.shm[machine])
            config = Config()._replace(tmpdir=str(self.base / machine), shm_dir=shm)
            wait_until(lambda: sweep(config) or not os.listdir(shm))

    def _held(self) -> bool:
        return any("zactor" in command for command in marked_processes().values())


@contextlib.contextmanager
def machines() -> Iterator[Machines]:
    """Give a fresh set of machines."""
    made = Machines()
    try:
        yield made
    finally:
        if made.daemons:
            sys.stderr.write(made.log())  # shown if the test has failed
        made.close()
