"""Strangers at the door: what listens where, who gets in, and what nonsense costs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

import zactor
from tests.system.daemons import PATIENCE, Machines, query, wait_until
from tests.system.strangers import (
    MESSAGES,
    RAW,
    Strangers,
    handshake,
    ipc_endpoints,
    resident,
    talk,
    tcp_endpoints,
)
from zactor.runtime.current import current
from zactor.runtime.joining import read_cluster_file
from zactor.transport.limits import MAX_MESSAGE

pytestmark = [pytest.mark.system, pytest.mark.slow]


@zactor.remote
class Echo:
    def say(self, value: object) -> object:
        return value

    def pass_on(self, other: Any, value: object) -> object:
        return zactor.get(other.say.remote(value), timeout=PATIENCE)


def test_only_daemons_listen_and_only_at_the_loopback_unless_told(world: Machines) -> None:
    broker = world.broker()
    node = world.node()
    world.init()
    assert zactor.get(Echo.remote().say.remote(1), timeout=PATIENCE) == 1
    found = tcp_endpoints()
    assert set(found) == {broker.pid, node.pid}
    for endpoints in found.values():
        assert all(each.startswith("tcp://127.0.0.1:") for each in endpoints)


def test_an_embedded_cluster_listens_nowhere(own_cluster: object) -> None:
    zactor.init(num_cpus=1)
    assert zactor.get(Echo.remote().say.remote(1), timeout=PATIENCE) == 1
    assert tcp_endpoints() == {}


def test_what_is_on_disk_is_the_owners_alone(world: Machines) -> None:
    world.broker()
    world.node()
    world.init()
    zactor.get(Echo.remote().say.remote(1), timeout=PATIENCE)
    base = Path(os.environ["ZACTOR_TMPDIR"])
    for path in (base, *base.glob("????????"), *base.glob("????????/logs")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
    for path in (Path(world.file), Path(world.state), *base.glob("????????/cluster")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.fixture
def strangers() -> Iterator[Strangers]:
    made = Strangers()
    yield made
    made.close()


@pytest.fixture
def meeting(world: Machines) -> list[Any]:
    """Two machines whose workers and program speak to each other: everybody listens at tcp."""
    world.broker()
    world.node("--resources", "a=1", cpus=1)
    world.node("--resources", "b=1", cpus=1, machine="far")
    world.init()
    echoes = [Echo.options(resources={name: 1}).remote() for name in "ab"]
    answers_all(echoes)
    return echoes


def answers_all(echoes: list[Any]) -> None:
    assert zactor.get([each.say.remote(2) for each in echoes], timeout=PATIENCE) == [2, 2]
    for one, other in (echoes, echoes[::-1]):
        assert zactor.get(one.pass_on.remote(other, 3), timeout=PATIENCE) == 3


def test_who_has_not_the_clusters_key_is_refused_and_not_heard_at_every_tcp_socket(
    world: Machines, meeting: list[Any], strangers: Strangers
) -> None:
    process = current()
    assert process is not None
    refused_here = process.post.counters["refused"]
    keys = read_cluster_file(world.file).keys
    endpoints = tcp_endpoints()
    assert len(endpoints) == 6, "broker, nodes, workers, this program"
    for listening in endpoints.values():
        for endpoint in listening:
            refused = {
                "plain": strangers.dealer(),
                # Knows the server's public key, which is no secret, but is on no list.
                "a stranger": strangers.dealer(keys.server_public, *zmq.curve_keypair()),
                "one of another cluster": strangers.dealer(
                    zmq.curve_keypair()[0], keys.client_public, keys.client_secret
                ),
            }
            for who, dealer in refused.items():
                # What it says would be counted, if it were ever looked at.
                end = handshake(dealer, endpoint, said=b"\xc1")
                assert end != zmq.EVENT_HANDSHAKE_SUCCEEDED, who
            friend = strangers.dealer(
                keys.server_public, keys.client_public, keys.client_secret
            )
            assert handshake(friend, endpoint) == zmq.EVENT_HANDSHAKE_SUCCEEDED
    answers_all(meeting)
    assert process.post.counted()["strangers"] >= 1  # the others do not get as far as that
    assert process.post.counters["refused"] == refused_here
    # A server's own key and no list: as many as there are daemons, at the least.
    assert query("status")["links"]["strangers"] >= 1
    wait_until(lambda: all(node["load"]["links"]["strangers"] >= 1 for node in query("nodes")))


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_nonsense_is_refused_at_every_socket_and_memory_stays_flat(
    world: Machines, meeting: list[Any], strangers: Strangers, transport: str
) -> None:
    endpoints = tcp_endpoints() if transport == "tcp" else ipc_endpoints()
    assert len(endpoints) >= 6, "broker, nodes, workers, this program"
    before = {pid: resident(pid) for pid in endpoints}
    keys = read_cluster_file(world.file).keys
    process = current()
    assert process is not None
    refused = process.post.counters["refused"]
    rounds = 20
    for listening in endpoints.values():
        for endpoint in listening:
            for _ in range(rounds):
                for said in RAW.values():
                    talk(endpoint, said)
            # One who has the keys, or may enter the directory, and speaks nonsense.
            friend = (
                strangers.dealer(keys.server_public, keys.client_public, keys.client_secret)
                if transport == "tcp"
                else strangers.dealer()
            )
            friend.connect(endpoint)
            for _ in range(rounds):
                for message in MESSAGES:
                    friend.send_multipart(message)
    answers_all(meeting)
    wait_until(
        lambda: all(resident(pid) - size < 32 << 20 for pid, size in before.items()),
        what="memory is flat",
    )
    wait_until(
        lambda: process.post.counters["refused"] >= refused + rounds * len(MESSAGES),
        what="each is counted",
    )
    log = world.log()
    assert "Traceback" not in log
    assert "a bug in zactor" not in log
    assert zactor.get(Echo.remote().say.remote(3), timeout=PATIENCE) == 3


def test_more_than_a_message_may_have_is_not_read(
    world: Machines, strangers: Strangers
) -> None:
    """Not even of one who is let in: the connection ends where the length is read."""
    broker = world.broker()
    content = read_cluster_file(world.file)
    before = resident(broker.pid)
    friend = strangers.dealer()
    friend.connect(content.broker.ipc)
    monitor = friend.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    friend.send(bytes(MAX_MESSAGE + 1))
    is_over = monitor.poll(PATIENCE * 1000)
    friend.disable_monitor()  # before its other end is closed: it says good-bye there
    monitor.close(0)
    assert is_over
    assert resident(broker.pid) - before < 32 << 20
    assert broker.process.poll() is None


def test_a_directory_that_others_can_enter_is_not_used(
    world: Machines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shared = tmp_path / "z"
    shared.mkdir()
    shared.chmod(0o755)
    monkeypatch.setenv("ZACTOR_TMPDIR", str(shared))
    with pytest.raises((ConnectionError, OSError), match="mode 0700"):
        zactor.init(num_cpus=1)
