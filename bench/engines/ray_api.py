"""zactor and Ray: one code for both, since zactor's public names are Ray's.

Sessions: `plain` is `init()` with nothing given. `resources` adds the custom resource that the
placement group row asks for. `client` is a driver that joins a cluster it did not start.
`tcp` and `relay` force zactor off its ipc path.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import rows
from bench.engines import versions_of
from bench.work import CannotDo, Row, Setting, Work

PATIENCE = 20.0  # seconds for a daemon to start


class RayApi:
    """An engine that is a module with Ray's public names."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.has_head = False  # a cluster of Ray's that this engine started as a daemon
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.environment: dict[str, str | None] = {}  # what `stop` puts back

    def versions(self) -> dict[str, str]:
        """See Engine."""
        if self.name == "ray":
            return versions_of("ray")
        return {"zactor": _zactor_version()}

    def _load(self) -> Any:
        module = importlib.import_module(self.name)
        importlib.import_module(f"{self.name}.util")
        return module

    def api(self, row: Row) -> Any:
        """Return the module, or for rows that time the import a way to get it."""
        return self._load if row.session == "none" else self._load()

    def work(self, row: str) -> Work:
        """See Engine."""
        works = rows.ray_api_works()
        if row not in works:
            raise CannotDo("not a row for an actor library")
        return works[row]

    def start(self, session: str, setting: Setting) -> None:
        """See Engine."""
        api = self._load()
        if session == "plain":
            api.init(**self._always_new())
        elif session == "resources":
            api.init(resources={"custom": 100}, **self._always_new())
        elif session == "client":
            self._join(api, setting)
        elif self.name == "ray":
            raise CannotDo("no choice of transport")
        elif session == "tcp":
            # Who does not share the directory of sockets counts as another machine.
            self._join(api, setting, {"ZACTOR_TMPDIR": str(setting.folder / "elsewhere")})
        else:
            # Read by `init` here, and inherited by the cluster that it starts.
            self._set("ZACTOR_TRANSPORT", "relay")
            api.init()

    def _set(self, name: str, value: str) -> None:
        self.environment[name] = os.environ.get(name)
        os.environ[name] = value

    def _always_new(self) -> dict[str, str]:
        # Ray would first look for a cluster that somebody else left, and wait for a dead one.
        return {"address": "local"} if self.name == "ray" else {}

    def _join(
        self, api: Any, setting: Setting, environment: dict[str, str] | None = None
    ) -> None:
        if self.name == "ray":
            _require_grpc()
            ray = str(Path(sys.executable).with_name("ray"))
            self.has_head = True
            _run(
                [
                    ray,
                    "start",
                    "--head",
                    "--port=26379",
                    "--ray-client-server-port=26380",
                    "--disable-usage-stats",
                ]
            )
            api.init("ray://127.0.0.1:26380")
            return
        # Never where another session had its cluster file: that names a broker which is gone.
        file = Path(tempfile.mkdtemp(prefix="cluster-", dir=setting.folder)) / "cluster"
        self._daemon(["broker", "--file", str(file)], environment)
        _wait_for(file, self.daemons[-1])
        self._daemon(["node", "--join", str(file)], environment)
        api.init(address=str(file))
        self._await_node(api)

    def _await_node(self, api: Any) -> None:
        # Or the first row would measure, and warn of, how long a node takes to start.
        node = self.daemons[-1]
        deadline = time.monotonic() + PATIENCE
        while not any(each["Alive"] for each in api.nodes()):
            if node.poll() is not None:
                raise RuntimeError(f"the node ended at once, with status {node.returncode}")
            if time.monotonic() > deadline:
                raise TimeoutError("the node has not joined")
            time.sleep(0.01)

    def _daemon(self, arguments: list[str], environment: dict[str, str] | None) -> None:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "zactor", *arguments],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
        )
        self.daemons.append(daemon)

    def stop(self) -> None:
        """See Engine."""
        self._load().shutdown()
        for daemon in self.daemons:
            daemon.terminate()
        for daemon in self.daemons:
            daemon.wait(10)
        if self.has_head:
            self.has_head = False
            _run([str(Path(sys.executable).with_name("ray")), "stop"])
        self.daemons.clear()
        for name, value in self.environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self.environment.clear()


def _zactor_version() -> str:
    # The checkout beside this folder is what is measured, installed or not.
    root = Path(__file__).resolve().parents[2]
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return versions_of("zactor")["zactor"]
    return done.stdout.strip()


def _require_grpc() -> None:
    try:
        importlib.import_module("grpc")
    except ImportError:
        raise CannotDo("needs ray[client]") from None


def _run(command: list[str]) -> None:
    subprocess.run(
        command,
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        env=os.environ,
    )


def _wait_for(file: Path, writer: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not file.exists():
        if writer.poll() is not None:
            raise RuntimeError(f"the broker ended at once, with status {writer.returncode}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{file} was not written")
        time.sleep(0.01)


def make(name: str) -> RayApi:
    """Return the engine."""
    return RayApi(name)
