"""Tests of how the benchmark starts zactor: each session is one of its own, and as it says."""

import os

import pytest

import zactor
from bench.engines.ray_api import RayApi
from bench.work import CannotDo, Setting
from zactor.runtime.current import current

pytestmark = [pytest.mark.system, pytest.mark.slow]


@zactor.remote
def one():
    return 1


@zactor.remote(num_cpus=0)
class Actor:
    def one(self):
        return 1


@pytest.fixture
def engine(tmp_path):
    made = RayApi("zactor")
    yield made
    made.stop()


def links_used():
    return [peer for peer in current().post.peers.values() if peer.is_relayed]


def test_a_session_is_not_misled_by_the_cluster_file_of_the_one_before(engine, tmp_path):
    setting = Setting(folder=tmp_path)
    for session in ("tcp", "client", "client"):
        engine.start(session, setting)
        assert zactor.get(one.remote()) == 1
        engine.stop()


def test_the_relay_is_forced_for_its_session_alone(engine, tmp_path):
    setting = Setting(folder=tmp_path)
    engine.start("relay", setting)
    actor = Actor.remote()
    assert zactor.get(actor.one.remote()) == 1
    assert links_used()
    engine.stop()
    assert "ZACTOR_TRANSPORT" not in os.environ

    engine.start("plain", setting)
    actor = Actor.remote()
    assert zactor.get(actor.one.remote()) == 1
    assert not links_used()


def test_ray_has_no_choice_of_transport(engine, tmp_path, monkeypatch):
    ray = RayApi("ray")
    monkeypatch.setattr(ray, "_load", lambda: zactor)
    with pytest.raises(CannotDo, match="no choice of transport"):
        ray.start("relay", Setting(folder=tmp_path))
