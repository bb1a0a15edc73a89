"""The harness's side of one engine's process: commands, freezing, placement, ending.

A frozen engine is stopped with SIGSTOP, every process of it, so that what it does when idle is
not charged to the engine being measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, Any

from bench import proc
from bench.work import BUSY_NEIGHBOUR, ONE_CORE, ONE_CORE_EACH, CannotDo

ROOT = Path(__file__).resolve().parents[1]


def compile_ours(python: str) -> None:
    """Compile zactor as pip does what it installs, and has done with the other engines.

    From a source tree each start would compile it anew where PYTHONDONTWRITEBYTECODE is set.
    """
    command = [python, "-m", "compileall", "-q", str(ROOT / "zactor")]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL)


class RowFailed(Exception):  # noqa: N818 - a result
    """The engine could not finish what it was told to do."""


class Remote:
    """An engine's process, seen from outside."""

    def __init__(self, engine: str, python: str, folder: Path) -> None:
        self.engine = engine
        self.python = python
        self.folder = folder
        self.token = secrets.token_hex(8)
        self.is_frozen = False
        self.log = folder / f"{engine.replace(' ', '-')}-{self.token}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._commands: IO[str] | None = None
        self._answers = -1
        self._pending = b""

    def start(self) -> None:
        """Start the process. It has imported nothing of its engine yet."""
        their_commands, our_commands = os.pipe()
        our_answers, their_answers = os.pipe()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self.python,
                    "-m",
                    "bench.host",
                    self.engine,
                    "--commands",
                    str(their_commands),
                    "--answers",
                    str(their_answers),
                ],
                pass_fds=(their_commands, their_answers),
                start_new_session=True,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(self.token),
            )
        os.close(their_commands)
        os.close(their_answers)
        self._commands = os.fdopen(our_commands, "w")
        self._answers = our_answers

    @property
    def is_running(self) -> bool:
        """Whether the process has been started and lives."""
        return self._process is not None and self._process.poll() is None

    def ask(self, do: str, *, patience: float, **fields: Any) -> dict[str, Any]:
        """Have a command done.

        Raises:
            CannotDo: The engine has no way to do it.
            RowFailed: It raised, died, or was not done after `patience` seconds.
        """
        assert self._commands is not None
        try:
            print(json.dumps({"do": do, **fields}), file=self._commands, flush=True)
        except BrokenPipeError:
            raise RowFailed("the engine's process has ended") from None
        answer = json.loads(self._read_line(do, patience))
        if "cannot" in answer:
            raise CannotDo(answer["cannot"])
        if "failed" in answer:
            raise RowFailed(answer["failed"])
        return answer

    def _read_line(self, do: str, patience: float) -> bytes:
        # Forked children can hold the pipe open, so the end of the host is asked for, not awaited.
        deadline = time.monotonic() + patience
        while b"\n" not in self._pending:
            if select.select([self._answers], [], [], 0.2)[0]:
                data = os.read(self._answers, 65536)
                if not data:
                    raise RowFailed(f"the engine's process ended during {do!r}")
                self._pending += data
            elif not self.is_running:
                raise RowFailed(f"the engine's process ended during {do!r}")
            elif time.monotonic() > deadline:
                raise RowFailed(f"{do!r} was not done after {patience:.0f} s")
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def freeze(self) -> None:
        """Stop every process of the engine."""
        if self.is_running and not self.is_frozen:
            proc.send(proc.find(self.token), signal.SIGSTOP)
            self.is_frozen = True

    def thaw(self) -> None:
        """Let them run again."""
        if self.is_frozen:
            proc.send(proc.find(self.token), signal.SIGCONT)
            self.is_frozen = False

    def place(self, placement: str, cpus: list[int]) -> None:
        """Pin the engine's processes; raise CannotDo if it has too few, or the machine."""
        pids = proc.find(self.token)
        if placement in (ONE_CORE, BUSY_NEIGHBOUR):
            proc.pin(pids, cpus[:1])
        elif placement == ONE_CORE_EACH:
            assert self._process is not None
            others = [pid for pid in pids if pid != self._process.pid]
            if not others:
                raise CannotDo("one process")
            if len(cpus) < 2:
                raise CannotDo("this machine has one core")
            proc.pin([self._process.pid], cpus[:1])
            proc.pin(others, cpus[1:2])
        else:
            proc.pin(pids, cpus)

    def end(self, *, kindly: bool = True) -> int:
        """Stop the engine; return how many of its processes had to be killed after that."""
        if self._process is None:
            return 0
        self.thaw()
        if kindly and self.is_running:
            with contextlib.suppress(CannotDo, RowFailed):
                self.ask("stop", patience=20.0)
        with contextlib.suppress(OSError):
            if self._commands is not None:
                self._commands.close()
        if kindly:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        left = proc.sweep(self.token)
        self._process.wait()
        os.close(self._answers)
        self._process = None
        return left if kindly else 0

    def tail(self, lines: int = 15) -> str:
        """Return the last lines the engine printed."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _environment(token: str) -> dict[str, str]:
    # Engines start clusters of their own, whatever the user's shell says.
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("ZACTOR_ADDRESS", "RAY_ADDRESS")
    }
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**inherited, proc.TOKEN: token, "PYTHONPATH": path}


class Neighbour:
    """A process that keeps one core busy."""

    def __init__(self, cpu: int, python: str) -> None:
        self._process = subprocess.Popen(
            [python, "-c", "while True: pass"], start_new_session=True
        )
        os.sched_setaffinity(self._process.pid, {cpu})

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
