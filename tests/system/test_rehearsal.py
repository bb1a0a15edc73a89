"""The fork server is a worker for a moment, and nothing of that is left."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

import zactor
from tests.system.waiting import wait_for

pytestmark = pytest.mark.system


@zactor.remote(num_cpus=0)
class Actor:
    def look(self) -> dict[str, Any]:
        from zactor.runtime.nodes import heap

        return {
            "pid": os.getpid(),
            "server": os.getppid(),
            "rehearsed": bool(heap._fillers),
            "threads": sorted(thread.name for thread in threading.enumerate()),
        }


def test_a_worker_after_the_rehearsal_finds_one_thread_no_socket_and_no_runtime_but_its_own() -> (
    None
):
    with zactor.init() as context:
        session = context["session_dir"]
        actors = [Actor.remote()]
        seen = [zactor.get(actors[0].look.remote())]

        def has_rehearsed() -> bool:
            actors.append(Actor.remote())
            seen.append(zactor.get(actors[-1].look.remote()))
            return bool(seen[-1]["rehearsed"])

        wait_for(has_rehearsed)
        last = seen[-1]
        assert len(os.listdir(f"/proc/{last['server']}/task")) == 1  # F4
        assert last["threads"] == seen[0]["threads"]

        def sockets() -> int:
            return sum(len(name) == 24 for name in os.listdir(session))

        children = Path(f"/proc/{last['server']}/task/{last['server']}/children")

        def processes() -> int:
            return len(children.read_text().split()) + 2  # the program's own, and the cluster's

        wait_for(lambda: sockets() == processes())
