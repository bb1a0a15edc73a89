"""The broker's shell over real links: what arrives is answered, what is due happens."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.runtime.driven_loop import DrivenLoop
from zactor.config import Config
from zactor.core.state import Change, MemoryState
from zactor.runtime.broker import start_broker
from zactor.runtime.links.gate import GatedPost
from zactor.store.state import SqliteState
from zactor.transport.context import close_context
from zactor.wire import messages as m

INFO = {"id": b"c" * 12, "session": "/tmp/session"}


@pytest.fixture
def loop():
    return DrivenLoop()


@pytest.fixture
def posts(tmp_path, loop, monkeypatch):
    """Make posts; the first, the broker's, is driven by the loop."""
    made = []
    # They share this process's context, which goes when the last of them is closed.
    monkeypatch.setattr("zactor.runtime.links.post.close_context", lambda: None)

    def make():
        post = GatedPost(os.urandom(12), str(tmp_path), machine=b"m")
        made.append(post)
        if len(made) == 1:
            loop.drive(post)
        return post

    yield make
    for post in made:
        post.close(linger=0)
    close_context()


class Client:
    """A process that the test plays, driven by hand between the broker's turns."""

    def __init__(self, post, loop, broker):
        self.post = post
        self.loop = loop
        self.broker = broker
        self.heard = []
        for kind in (
            m.ActorChanged,
            m.StartActor,
            m.StopActor,
            m.JobEnded,
            m.ProcessDied,
            m.StartLease,
        ):
            post.on(kind, lambda peer, address, message: self.heard.append(message))

    def turn(self):
        self.post.drain()
        if self.post.is_due():
            self.post.tick(self.loop.now())

    def until(self, condition):
        def check():
            self.turn()
            return condition()

        self.loop.until(check)

    def ask(self, message):
        future = self.post.request(self.broker, message)
        self.until(future.done)
        return future.result()

    def take(self, kind):
        found = []

        def check():
            found[:] = [message for message in self.heard if isinstance(message, kind)]
            return found

        self.until(check)
        self.heard = [message for message in self.heard if not isinstance(message, kind)]
        return found


@pytest.fixture
def start(loop, posts):
    brokers = []

    def start_one(**more):
        post = posts()
        broker = start_broker(loop, post, Config(debug=True), INFO, **more)
        brokers.append(broker)
        return post.address

    yield start_one
    for broker in brokers:
        broker.close()


def attach(client):
    return client.ask(m.Attach(0, "driver", list(client.post.address), "", {"pid": 1}))


def test_a_driver_and_a_node_meet_at_the_broker(start, loop, posts):
    broker = start(state=MemoryState())
    driver, node = Client(posts(), loop, broker), Client(posts(), loop, broker)
    entry = {"id": b"n" * 12, "address": list(node.post.address), "resources": {"CPU": 1}}
    answer = node.ask(m.NodeUp(0, entry, []))
    assert answer["lease"] == Config().lease
    assert answer["cluster"]["id"] == INFO["id"]
    session = attach(driver)
    assert session["node"] == b"n" * 12
    spec = {
        "id": b"a" * 12, "job": session["job"], "owner": driver.post.process_id,
        "class_key": b"k", "placing": {"CPU": 1},
    }  # fmt: skip
    assert driver.ask(m.CreateActor(0, spec))["state"] == "STARTING"
    (begin,) = node.take(m.StartActor)
    node.post.send(broker, m.ActorUp(begin.actor, begin.life, list(node.post.address), 1))
    node.post.send(broker, m.ActorReady(begin.actor, begin.life, ""))
    states = []
    while "ALIVE" not in states:
        states += [change.entry["state"] for change in driver.take(m.ActorChanged)]
    assert driver.ask(m.Detach(0)) is True
    assert node.take(m.StopActor)
    assert node.take(m.JobEnded)


def test_what_is_due_happens_without_a_message(start, loop, posts):
    broker = start(unknown_grace=0.05)
    driver = Client(posts(), loop, broker)
    attach(driver)
    assert driver.ask(m.WatchProcess(0, b"never heard ")) is None
    assert driver.take(m.ProcessDied)[0].process == b"never heard "


def test_a_broker_goes_on_where_another_was_on_the_same_file(start, loop, posts, tmp_path):
    first = start(state=SqliteState(tmp_path / "state"))
    driver = Client(posts(), loop, first)
    job = attach(driver)["job"]
    other = DrivenLoop()
    again = posts()
    other.drive(again)
    broker = start_broker(other, again, Config(), INFO, state=SqliteState(tmp_path / "state"))
    assert broker.machine.stats()[:2] == (2, broker.machine.stats().revision)
    assert broker.machine.stats().jobs == 1
    assert job == b"\0\0\0\1"
    broker.close()


def test_a_broker_whose_state_somebody_else_has_written_to_ends(loop, posts):
    state = MemoryState()
    post = posts()
    broker = start_broker(loop, post, Config(), INFO, state=state)
    driver = Client(posts(), loop, post.address)
    state.transact([Change(b"meta/term", 2)])
    driver.post.request(post.address, m.Attach(0, "driver", list(driver.post.address), "", {}))
    driver.until(lambda: loop._stopped)
    broker.machine.close()


def test_a_node_process_of_this_machine_is_watched_by_its_pid(start, loop, posts):
    broker = start()
    node = Client(posts(), loop, broker)
    driver = Client(posts(), loop, broker)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    entry = {"id": b"n" * 12, "address": list(node.post.address), "pid": child.pid}
    node.ask(m.NodeUp(0, entry, []))
    attach(driver)
    assert driver.ask(m.WatchProcess(0, node.post.process_id)) is None
    child.communicate()
    assert driver.take(m.ProcessDied)[0].process == node.post.process_id


def test_a_broker_that_has_retired_hears_nothing(loop, posts):
    broker = start_broker(loop, posts(), Config(), INFO)
    post = posts()
    broker.retire()
    broker._received(post.process_id, post.address, m.ListNames(1, None))
    broker._step()
    assert broker.machine.stats().messages == 0
    broker.close()


class Overlooked(MemoryState):
    """Tells, before each transaction, who wants to know."""

    def __init__(self):
        super().__init__()
        self.before = lambda: None

    def transact(self, *args, **more):
        self.before()
        return super().transact(*args, **more)


def actor_of(session, driver, number):
    return {
        "id": number.to_bytes(12, "big"), "job": session["job"],
        "owner": driver.post.process_id, "class_key": b"k", "placing": {"CPU": 1},
    }  # fmt: skip


@pytest.fixture
def overlooked(loop, posts):
    """A broker, its state, and a driver whose messages are all acknowledged."""
    post, state = posts(), Overlooked()
    broker = start_broker(loop, post, Config(debug=True), INFO, state=state)
    driver = Client(posts(), loop, post.address)
    session = attach(driver)
    sent = driver.post.peers[post.process_id].link
    driver.until(lambda: not sent.unacked)

    def create(count):
        for number in range(1, count + 1):
            spec = actor_of(session, driver, number)
            driver.post.request(post.address, m.CreateActor(0, spec))

    yield post.peers[driver.post.process_id], state, driver, create
    state.before = lambda: None
    driver.until(lambda: not sent.unacked)
    broker.close()


def test_nothing_is_acknowledged_before_it_is_written(overlooked, loop):
    peer, state, driver, create = overlooked
    before, told = peer.link.told, []
    state.before = lambda: told.append(peer.link.told)
    create(200)  # more than are acknowledged at once otherwise, and less than a turn takes
    driver.until(lambda: told)
    assert told[0] == before
    driver.until(lambda: peer.link.told == before + 200)


def test_a_greeting_says_only_what_is_written(overlooked, loop):
    peer, state, driver, create = overlooked
    written = [peer.link.received]
    state.before = lambda: written.append(peer.link.received)
    create(30)
    deadline = loop.now() + 10.0
    while peer.link.received < written[0] + 30:  # handled, and the turn is not over
        assert loop.now() < deadline
        driver.turn()
        peer.post.drain()
    assert len(written) == 1
    assert peer.post.greetings.greeting(peer)["received"] == written[-1] == written[0] + 30
