"""Calls come in on one thread while another one replies: what both change stands under a lock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from zactor.core.intake import Intake
from zactor.runtime.hosting.callee import Callee
from zactor.wire import batches

CALLER, ACTOR = b"c" * 16, b"a" * 12


class Host:
    life = 1
    id = ACTOR

    def put(self, run: tuple[Any, ...]) -> None:
        pass


def test_replies_are_kept_and_dropped_by_one_thread_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    post: Any = SimpleNamespace(on_kind=lambda *_: None)
    peer: Any = SimpleNamespace(channels=[], replies=[], id=b"p")
    callee = Callee(post)
    callee.hosts[ACTOR] = Host()
    locked: dict[str, bool] = {}
    for name in ("keep", "settled_below"):
        inner = getattr(Intake, name)

        def watched(intake: Intake, given: Any, name: str = name, inner: Any = inner) -> None:
            locked[name] = callee.lock._is_owned()
            inner(intake, given)

        monkeypatch.setattr(Intake, name, watched)
    callee.calls_received(peer, [[[CALLER, ACTOR, 1, 1, 1], 1, 1, 1, [3, None] * 4]], ())
    [intake] = peer.channels
    callee.reply(intake, 1, batches.NATIVE, None)
    callee.gather(intake, [2, batches.NATIVE, None])
    assert intake.kept_replies == 2
    callee.calls_received(peer, [[0, 5, 5, 3, [3, None]]], ())
    assert intake.kept_replies == 0
    assert locked == {"keep": True, "settled_below": True}
