"""Calls made after a kill: none of them runs, however fast it leaves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import zactor

pytestmark = pytest.mark.system


@zactor.remote(num_cpus=0)
class Noting:
    def note(self, path: str) -> int:
        Path(path).touch()
        return os.getpid()


def test_a_call_after_a_kill_never_runs(cluster: Any, tmp_path: Path) -> None:
    for attempt in range(30):
        path = tmp_path / str(attempt)
        actor = Noting.remote()
        zactor.get(actor.note.remote(str(tmp_path / "before")), timeout=30)
        zactor.kill(actor)
        with pytest.raises(zactor.exceptions.ActorDiedError) as caught:
            zactor.get(actor.note.remote(str(path)), timeout=30)
        assert caught.value.executed == "no"
        assert not path.exists()


def test_what_was_sent_before_a_kill_has_one_outcome(cluster: Any, tmp_path: Path) -> None:
    actor = Noting.remote()
    refs = [actor.note.remote(str(tmp_path / "x")) for _ in range(500)]
    zactor.kill(actor)
    refs += [actor.note.remote(str(tmp_path / "x")) for _ in range(20)]
    done = 0
    for ref in refs:
        try:
            zactor.get(ref, timeout=30)
        except zactor.exceptions.ActorDiedError as error:
            assert error.executed in ("no", "yes", "unknown")
        else:
            done += 1
    assert done <= 500
