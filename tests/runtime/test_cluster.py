"""The embedded cluster's process, with a broker that only listens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.test_forkserver import HERE, is_gone
from zactor.config import Config
from zactor.runtime.launching import Launched, LaunchError, launch
from zactor.runtime.session import find_broker, sweep

pytestmark = [pytest.mark.system, pytest.mark.slow]


def start(tmp_path: Path, **extra: Any) -> Launched:
    (tmp_path / "shm").mkdir(exist_ok=True)
    settings = {
        "tmpdir": str(tmp_path / "z"),
        "shm_dir": str(tmp_path / "shm"),
        "spare_workers": 2,
    }
    extra = {"broker": "fake_broker:start", "entry_point": "fake_worker:main", **extra}
    sys.path.insert(0, HERE)
    try:
        return launch(settings=settings, **extra)
    finally:
        sys.path.remove(HERE)


def family(pid: int) -> list[int]:
    """The fork server and the workers of a cluster."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        servers = [int(word) for word in file.read().split()]
    found = []
    for server in servers:
        with open(f"/proc/{server}/task/{server}/children") as file:
            found += [server, *(int(word) for word in file.read().split())]
    return found


def await_family(pid: int, size: int) -> list[int]:
    deadline = time.monotonic() + 10
    while len(found := family(pid)) < size:
        assert time.monotonic() < deadline
        os.sched_yield()
    return found


def config(tmp_path: Path) -> Config:
    return Config(tmpdir=str(tmp_path / "z"), shm_dir=str(tmp_path / "shm"))


def test_a_cluster_comes_up_is_found_and_ends_without_a_trace(tmp_path: Path) -> None:
    cluster = start(tmp_path)
    pids = await_family(cluster.pid, 3)
    assert os.getsid(cluster.pid) == cluster.pid  # C2
    assert find_broker(config(tmp_path)) == list(cluster.broker)
    os.kill(cluster.pid, signal.SIGINT)
    cluster.stop()
    assert all(is_gone(pid) for pid in [cluster.pid, *pids])
    assert sorted(os.listdir(tmp_path / "z")) == ["latest", "machine"]


def test_a_killed_cluster_takes_its_workers_and_is_swept_by_the_next(tmp_path: Path) -> None:
    cluster = start(tmp_path)
    pids = await_family(cluster.pid, 3)
    Path(tmp_path, "shm", f"zactor-{cluster.cluster.hex()[:8]}-x").touch()
    os.kill(cluster.pid, signal.SIGKILL)
    assert all(is_gone(pid) for pid in [cluster.pid, *pids])
    cluster.stop()
    assert os.path.isdir(cluster.session)
    assert sweep(config(tmp_path)) == [os.path.basename(cluster.session)]
    assert os.listdir(tmp_path / "shm") == []


DRIVER = """
import os, signal, sys
sys.path[:0] = [{root!r}]
from pathlib import Path
from tests.runtime.test_cluster import await_family, start
cluster = start(Path({tmp!r}))
Path({tmp!r}, "shm", "zactor-" + cluster.cluster.hex()[:8] + "-x").touch()
child = os.fork()  # holds every descriptor of the driver open
if not child:
    signal.pause()
print(child, cluster.pid, *await_family(cluster.pid, 3), flush=True)
signal.pause()
"""


def test_a_cluster_dies_with_its_driver_though_a_child_holds_its_pipes(
    tmp_path: Path,
) -> None:  # C1
    root = str(Path(HERE).parent.parent)
    program = DRIVER.format(root=root, tmp=str(tmp_path))
    driver = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout
    child, *pids = (int(word) for word in driver.stdout.readline().split())
    try:
        driver.kill()
        driver.wait()
        assert all(is_gone(pid) for pid in pids)
        assert sorted(os.listdir(tmp_path / "z")) == ["latest", "machine"]
        assert os.listdir(tmp_path / "shm") == []
    finally:
        os.kill(child, signal.SIGKILL)
        driver.stdout.close()


def test_what_keeps_a_cluster_from_starting_is_told(tmp_path: Path) -> None:
    (tmp_path / "z").mkdir(mode=0o755)
    (tmp_path / "z").chmod(0o755)
    with pytest.raises(LaunchError, match="ZACTOR_TMPDIR"):
        start(tmp_path)
