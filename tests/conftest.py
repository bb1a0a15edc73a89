"""What every test gets: leak checks, and clusters that are taken down.

A test fails if it leaves a thread, a child process or an open session behind. A module fails
if, at its end, anything that it started is still there: processes (found by a mark in their
environment, however far they were re-parented), shared-memory segments, session directories.

Does not test anything itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from zmq.utils.garbage import GarbageCollectorThread as PyzmqThread

ROOT = Path(__file__).resolve().parent.parent
# Workers import what tests import. Last: the zactor that is installed comes first.
if (_root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.append(_root)

MARK = f"ZACTOR_TEST_MARK={uuid.uuid4().hex}"
SHM = Path("/dev/shm")  # until this run has a directory of its own there

# What was stopped gets this long to disappear. One unit, so that slow machines scale it.
UNIT = float(os.environ.get("ZACTOR_TEST_UNIT", "1"))
GRACE = 5.0 * UNIT


def pytest_configure(config: pytest.Config) -> None:
    """Mark this process and its descendants, and give them a directory of their own."""
    name, _, value = MARK.partition("=")
    os.environ[name] = value
    # Short, since paths of Unix sockets are limited to 107 bytes.
    os.environ["ZACTOR_TMPDIR"] = tempfile.mkdtemp(prefix="zt-", dir="/tmp")
    # Segments, too: what other runs on this machine have at a time is none of this one's leaks.
    os.environ["ZACTOR_SHM_DIR"] = tempfile.mkdtemp(prefix="zt-", dir=SHM)
    os.environ.pop("ZACTOR_ADDRESS", None)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the directories."""
    for name in ("ZACTOR_TMPDIR", "ZACTOR_SHM_DIR"):
        if directory := os.environ.pop(name, ""):
            shutil.rmtree(directory, ignore_errors=True)


# -- what there is ------------------------------------------------------------------------------


def marked_processes() -> dict[int, str]:
    """Return pid and command line of every descendant of this test run."""
    found = {}
    mark = MARK.encode()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):  # it ended meanwhile
            environ = Path(entry.path, "environ").read_bytes()
            if mark in environ.split(b"\0"):
                command = Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[int(entry.name)] = command.strip()
    return found


def direct_children() -> set[int]:
    """Return the pids of this process's children, those not yet reaped among them."""
    children: set[int] = set()
    for task in os.scandir("/proc/self/task"):
        with suppress(OSError):
            children.update(int(pid) for pid in Path(task.path, "children").read_text().split())
    return children


def segments() -> set[str]:
    """Return the names of this run's shared-memory segments."""
    return set(os.listdir(os.environ["ZACTOR_SHM_DIR"]))


def session_dirs() -> set[str]:
    """Return the session directories below this run's own directory."""
    top = Path(os.environ["ZACTOR_TMPDIR"])
    return {str(path) for path in top.rglob("*") if path.is_dir()}


def is_initialized() -> bool:
    """Tell whether this process has a session open, without importing zactor for it."""
    check = getattr(sys.modules.get("zactor"), "is_initialized", None)
    return bool(check and check())


def settled(left: Callable[[], Any]) -> Any:
    """Return what is still left when the grace is over, or as soon as nothing is."""
    deadline = time.monotonic() + GRACE
    pause = threading.Event()
    while (found := left()) and time.monotonic() < deadline:
        pause.wait(0.02)
    return found


# -- the checks ---------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    """Fail a test that leaves a thread, a child process or a session."""
    has_cluster = is_initialized()  # of the module: fixtures of wider scope come first
    threads = set(threading.enumerate())
    children = direct_children()
    yield
    if is_initialized() and not has_cluster:
        sys.modules["zactor"].shutdown()
        pytest.fail("the test left a session open: no zactor.shutdown()")

    def new_threads() -> list[str]:
        return [
            thread.name
            for thread in threading.enumerate()
            if thread not in threads
            and not (has_cluster and thread.name.startswith("zactor"))
            and type(thread) is not PyzmqThread  # one a process, for ever: frees large frames
        ]

    if left := settled(new_threads):
        pytest.fail(f"the test left threads: {left}")
    if left := settled(lambda: direct_children() - children):
        pytest.fail(f"the test left child processes: {left}")


@pytest.fixture(autouse=True, scope="module")
def module_leaves_nothing() -> Iterator[None]:
    """Fail a module that leaves processes, segments or session directories."""
    processes = set(marked_processes())
    before = segments()
    dirs = session_dirs()
    yield
    if is_initialized():
        sys.modules["zactor"].shutdown()
        pytest.fail("the module left a session open: no zactor.shutdown()")

    def new_processes() -> dict[int, str]:
        return {pid: cmd for pid, cmd in marked_processes().items() if pid not in processes}

    left: list[str] = []
    if running := settled(new_processes):
        left += [f"process {pid}: {command}" for pid, command in running.items()]
        for pid in running:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    left += sorted(settled(lambda: segments() - before))
    left += sorted(settled(lambda: session_dirs() - dirs))
    for path in session_dirs() - dirs:
        shutil.rmtree(path, ignore_errors=True)
    if left:
        pytest.fail("the module left: " + "; ".join(left))


# -- clusters and programs ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Run the module's tests on one embedded cluster with 4 CPUs; give `init`'s context."""
    import zactor

    context = zactor.init(num_cpus=4)
    yield context
    zactor.shutdown()


@pytest.fixture
def own_cluster() -> Iterator[Callable[..., Any]]:
    """Give `zactor.init`, and shut down at the end whatever it started."""
    import zactor

    try:
        yield zactor.init
    finally:
        if zactor.is_initialized():
            zactor.shutdown()


class Program:
    """Runs Python programs in processes of their own and keeps none of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(
        self, *argv: str, source: str = "", timeout: float = 50.0, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `python argv...`, or the given source with these arguments, to its end.

        The source goes to a file, so that tracebacks have lines to show. A program that does
        not end in time is killed with its process group, and fails the test.
        """
        if source:
            path = self.directory / f"program_{uuid.uuid4().hex[:8]}.py"
            path.write_text(source)
            argv = (str(path), *argv)
        process = subprocess.Popen(
            [sys.executable, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": _python_path(), **env},
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=timeout * UNIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            pytest.fail(f"not done after {timeout} s\n-- stdout\n{out}\n-- stderr\n{err}")
        return subprocess.CompletedProcess(argv, process.returncode, out, err)


def _python_path() -> str:
    # The zactor that the tests import, wherever that comes from; after it these tests themselves.
    import zactor

    assert zactor.__file__ is not None
    package = str(Path(zactor.__file__).resolve().parent.parent)
    tests = str(Path(__file__).resolve().parent.parent)
    if package == tests:
        tests = ""
    return os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", ""), tests]))


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Give a runner of Python programs in processes of their own."""
    return Program(tmp_path)
