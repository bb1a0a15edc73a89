"""The post office: who is let in, what garbage does, and what becomes of links and their sockets."""

from __future__ import annotations

import os
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import zmq

from tests.runtime.ends import End, until
from tests.transport.side import Side
from zactor.runtime.links.peer import UP
from zactor.transport.curve import make_keys
from zactor.wire import codec
from zactor.wire.messages import Answer, Query, ReleaseActor

RANDOM = os.urandom


@pytest.fixture
def make(tmp_path: Any) -> Iterator[Any]:
    made: list[End] = []

    def end(name: str = "end", **options: Any) -> End:
        made.append(End(tmp_path, name, **options))
        return made[-1]

    yield end
    for each in made:
        each.close()


def answering(end: End) -> End:
    """Have an end answer queries with what they ask."""
    end.post.on(Query, lambda peer, address, m: end.post.answer(address, m.request, m.what))
    return end


def ask(end: End, other: End, what: str = "x") -> Any:
    return end.post.request(other.address, Query(0, what, {})).result(10)


def raw(end: End) -> Any:
    """Return a connection of a stranger to an inbox."""
    kind, _, place = (end.address.tcp or end.address.ipc).partition("://")
    if kind == "ipc":
        made = socket.socket(socket.AF_UNIX)
        made.connect(place)
    else:
        host, port = place.rsplit(":", 1)
        made = socket.create_connection((host, int(port)))
    made.settimeout(0.02)
    return made


def memory() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


GREETING = b"\xff" + b"\0" * 8 + b"\x7f\x03\0NULL" + b"\0" * 48
READY = b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"
STRANGERS = {
    "nothing": [b""],
    "random": [RANDOM(1_000)],
    "zmtp 1": [b"\x01\x00", b"\x05\x00hello"],
    "zmtp 2": [b"\xff" + b"\0" * 8 + b"\x7f\x01\x05\0\0", b"\x00\x05hello"],
    "half a greeting": [GREETING[:40]],
    "half a frame": [GREETING, READY, b"\x00\x64" + b"x" * 10],
    "a frame of a gigabyte": [
        GREETING,
        READY,
        b"\x02" + (1 << 30).to_bytes(8, "big") + b"x" * 65_536,
    ],
    "a frame of 2**63": [GREETING, READY, b"\x02" + b"\x7f" + b"\xff" * 7 + b"x" * 65_536],
    "commands": [GREETING, READY, b"\x04\x05\x04PING", b"\x04\x03\x02XY"],
    "unknown mechanism": [GREETING[:12] + b"SECRET" + GREETING[18:]],
}


@pytest.mark.parametrize("network", ["ipc", "tcp"])
def test_strangers_are_refused_and_the_process_goes_on(make: Any, network: str) -> None:
    keys = make_keys()
    end, friend = answering(make("end", keys=keys)), make("friend", keys=keys)
    if network == "tcp":
        bind(end)
    assert ask(friend, end) == "x"
    before = memory()
    for _ in range(3):
        for messages in STRANGERS.values():
            with raw(end) as stranger:
                try:
                    for message in messages:
                        stranger.sendall(message)
                    stranger.recv(1_000)
                except OSError:
                    pass
    assert ask(friend, end, "still") == "still"
    assert memory() - before < 32 << 20


HALF_OPEN = {
    "nothing": b"",
    "half a greeting": GREETING[:20],
    "the head of a huge frame": GREETING
    + READY
    + b"\2"
    + (200 << 20).to_bytes(8, "big")
    + b"x",
}


@pytest.mark.slow
@pytest.mark.parametrize("said", HALF_OPEN)
@pytest.mark.parametrize("network", ["ipc", "tcp"])
def test_hundreds_that_say_half_of_something_and_stay_hinder_nobody(
    make: Any, network: str, said: str
) -> None:
    keys = make_keys()
    end, friend = answering(make("end", keys=keys)), make("friend", keys=keys)
    if network == "tcp":
        bind(end)
    assert ask(friend, end) == "x"
    before, open_before = memory(), len(os.listdir("/proc/self/fd"))
    strangers = [raw(end) for _ in range(400)]
    try:
        for stranger in strangers:
            stranger.sendall(HALF_OPEN[said])
        assert ask(friend, end, "still") == "still"
        assert memory() - before < 32 << 20
    finally:
        for stranger in strangers:
            stranger.close()
    until(lambda: len(os.listdir("/proc/self/fd")) <= open_before + 2)  # none is kept for them
    assert ask(friend, end, "and after") == "and after"


def bind(end: End) -> None:
    done = threading.Event()
    end.post.call_later(0, lambda: (end.post.bind_tcp("127.0.0.1"), done.set()))  # type: ignore[func-returns-value]
    assert done.wait(10)


def test_what_arrives_while_a_process_answers_over_its_inbox_is_taken(make: Any) -> None:
    keys = make_keys()
    end, friend = make("end", keys=keys), make("friend", keys=keys)
    heard: list[str] = []
    end.post.on(Query, lambda peer, address, message: heard.append(message.what))
    bind(end)
    address = end.address._replace(machine=b"there", ipc="")
    friend.post.peer(address).is_returning = True
    friend.post.send(address, Query(0, "first", {}))
    until(lambda: heard and friend.post.peers[end.post.process_id].was_welcome)
    end.reception.stop()  # this test is its receiving thread
    end.post.drain()
    friend.post.send(address, Query(0, "second", {}))
    assert select.select([end.post.tcp_inbox.socket.fd], [], [], 10)[0]
    threading.Event().wait(
        0.02
    )  # libzmq looks at what has come when it sends, once a millisecond
    peer = end.post.peers[friend.post.process_id]
    with peer.lock:
        assert peer.route
        end.post.send_raw(peer, codec.ACK, None)
    if end.post.is_due():
        end.post.tick(end.post.now())
    end.post.drain()
    assert heard == ["first", "second"]


def test_only_the_clusters_key_is_admitted_over_tcp(make: Any) -> None:
    keys = make_keys()
    end = make("end", keys=keys)
    bind(end)
    context = zmq.Context()

    def connect(server: bytes, public: bytes, secret: bytes) -> Any:
        made = context.socket(zmq.DEALER)
        made.linger = 0
        if server:
            made.curve_serverkey, made.curve_publickey, made.curve_secretkey = (
                server,
                public,
                secret,
            )
        made.connect(end.address.tcp)
        made.send(b"garbage")
        return made

    others = make_keys()
    strangers = [
        connect(keys.server_public, others.client_public, others.client_secret),
        connect(others.server_public, keys.client_public, keys.client_secret),
        connect(b"", b"", b""),
    ]
    until(lambda: end.post.counted()["strangers"] >= 1)
    threading.Event().wait(0.2)
    assert end.post.counters["refused"] == 0  # none of what they sent has come in
    friend = connect(keys.server_public, keys.client_public, keys.client_secret)
    until(lambda: end.post.counters["refused"] == 1)
    for each in (*strangers, friend):
        each.close(0)
    context.term()


def test_a_port_that_is_taken_is_an_error_that_says_so(make: Any) -> None:
    end = make("end", keys=make_keys())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said: list[Any] = []

        def bind_there() -> None:
            try:
                end.post.bind_tcp("127.0.0.1", taken.getsockname()[1])
            except OSError as error:
                said.append(error)

        end.post.call_later(0, bind_there)
        until(lambda: said)
    assert "address already in use" in str(said[0])


def test_garbage_in_messages_is_counted_and_nothing_else(make: Any, capfd: Any) -> None:
    end, friend = answering(make("end")), make("friend")
    assert ask(friend, end) == "x"
    context = zmq.Context()
    stranger = context.socket(zmq.DEALER)
    stranger.connect(end.address.ipc)
    source = friend.post.process_id
    peer = end.post.peers[source]
    sent = 0
    before = memory()

    def send(*frames: bytes) -> None:
        nonlocal sent
        sent += 1
        stranger.send_multipart(frames)

    def envelope(kind: Any, body: Any, *, seq: int = 0, ack: int = 0, to: bytes = b"") -> bytes:
        return codec.pack(
            (codec.VERSION, kind, source, to or end.post.process_id, seq, ack, body)
        )

    for _ in range(300):
        send(RANDOM(50))
        send(b"")
        send(RANDOM(10), *[RANDOM(10)] * 5)
        send(envelope(codec.ACK, None, ack=10**9))  # acknowledges what was never sent
        send(envelope(999, None))
        send(envelope(codec.HELLO, None))
        send(envelope(codec.HELLO, {"address": [1, 2], "received": "x", "python": 3}))
        send(
            envelope(
                codec.HELLO, {"address": [source, 1, 2, 3, 4], "received": 0, "python": [3, 11]}
            )
        )
        send(envelope(codec.WELCOME, []))
        send(envelope(codec.CALLS, [[0, 1, 1, 1, [0, None]]]))  # a channel that was not defined
        send(envelope(codec.CALLS, [[None]]))
        send(envelope(codec.REPLIES, [[0, [1, 0, 0]]]))
        send(envelope(codec.CANCEL, 5))
        send(envelope(codec.REFUSED, 5))
        send(envelope(16, [1]))
        send(envelope(5, None, to=b"somebodyelse"))
    handled = end.post.counters
    until(lambda: handled["refused"] + handled["wrong_destination"] >= sent - 300 * 2)
    assert ask(friend, end, "still") == "still"
    assert peer.state == UP
    assert memory() - before < 32 << 20
    assert "internal error" not in capfd.readouterr().err
    stranger.close(0)
    context.term()


def test_a_link_over_which_a_message_is_missing_is_repaired(make: Any) -> None:
    """Past a gap nothing is taken; it is asked for once, not for each message past it."""
    end, friend = answering(make("end")), make("friend")
    assert ask(friend, end) == "x"
    peer = friend.post.peers[end.post.process_id]
    with peer.lock:
        wire, asked = peer.wire, []
        send = wire.send
        peer.wire = type("Losing", (), {"send": lambda self, *a: True})()
        futures = [friend.post.request(end.address, Query(0, str(k), {})) for k in range(2)]
        peer.wire = wire
    futures += [friend.post.request(end.address, Query(0, str(k), {})) for k in range(2, 300)]
    assert [future.result(10) for future in futures] == [str(k) for k in range(300)]
    assert end.post.counters["gaps"] >= 1
    del asked, send


def test_a_wire_version_that_differs_is_refused_in_its_own_version(
    make: Any, tmp_path: Any
) -> None:
    end, later = make("end"), Side()
    later.listen(f"{tmp_path}/later")
    source = b"later" + bytes(7)
    address = [source, b"", b"here", f"ipc://{tmp_path}/later", ""]
    hello = (99, codec.HELLO, source, end.post.process_id, 0, 0, {"address": address, "new": 1})
    later.connect(end.address.ipc.removeprefix("ipc://")).send(codec.pack(hello), ())
    later.until(lambda: later.heard)
    refusal = msgpack.unpackb(later.heard[0][0])
    assert refusal[:4] == [99, codec.REFUSED, end.post.process_id, source]
    assert "wire version 99" in refusal[6]["reason"]
    later.close()


def test_another_python_is_refused_with_the_reason(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, other = answering(make("end")), make("other")
    hello = other.post.greetings.greeting

    def lying(peer: Any) -> Any:
        return {**hello(peer), "python": [2, 7, 18]}

    monkeypatch.setattr(other.post.greetings, "greeting", lying)
    lost = threading.Event()
    other.post.on_lost(lambda peer: lost.set())
    other.post.request(end.address, Query(0, "x", {}))
    assert lost.wait(10)
    peer = other.post.peers[end.post.process_id]
    assert peer.is_refused
    assert "Python 2.7" in peer.reason


def test_who_listens_where_another_did_refuses(make: Any) -> None:
    end, other = answering(make("end")), make("other")
    wrong = end.address._replace(process=b"somebodyelse")
    lost = threading.Event()
    other.post.on_lost(lambda peer: lost.set())
    other.post.request(wrong, Query(0, "x", {}))
    assert lost.wait(10)
    assert "another process" in other.post.peers[b"somebodyelse"].reason
    assert end.post.counters["wrong_destination"] >= 1


def test_who_listens_where_another_did_is_not_taken_for_its_own_successor(make: Any) -> None:
    end = make("alone")
    moved: list[Any] = []
    lost: list[str] = []
    end.post.on_moved = lambda peer, address: moved.append(address)
    end.post.on_lost(lambda peer: lost.append(peer.reason))
    end.post.send(end.address._replace(process=b"g" * 12), ReleaseActor(b"a" * 12))
    until(lambda: lost)
    assert lost[0] == "another process listens at this address now"
    assert moved == []


def test_nobody_there_is_known_at_once_and_told(make: Any, tmp_path: Any) -> None:
    end = make("end")
    lost = threading.Event()
    end.post.on_lost(lambda peer: lost.set())
    gone = end.address._replace(process=b"gone" * 3, ipc=f"ipc://{tmp_path}/gone")
    future = end.post.request(gone, Query(0, "x", {}))
    assert lost.wait(1)
    end.post.forget(b"gone" * 3)
    with pytest.raises(Exception, match="dead"):
        future.result(1)
    end.post.send(gone, Answer(1, True, None))  # a dead one's address may still be around


def test_a_link_that_was_forgotten_begins_anew(make: Any) -> None:
    end, friend = answering(make("end")), make("friend")
    assert [ask(friend, end, str(k)) for k in range(3)] == ["0", "1", "2"]
    done = threading.Event()
    end.post.call_later(0, lambda: (end.post.forget(friend.post.process_id), done.set()))  # type: ignore[func-returns-value]
    assert done.wait(10)
    peer = friend.post.peers[end.post.process_id]
    with peer.lock:
        peer.broken()
    assert ask(friend, end, "again") == "again"
    assert peer.link.received <= 2


def test_an_answer_that_no_request_waits_for_is_dropped(make: Any) -> None:
    end, friend = answering(make("end")), make("friend")
    end.post.send(friend.address, Answer(77, True, "?"))
    assert ask(friend, end) == "x"
    end.post.send(end.address, Query(0, "to itself", {}))
    until(lambda: not end.post._loopback)


def test_acknowledgements_come_though_nothing_else_does(make: Any) -> None:
    end, friend = make("end"), make("friend")
    heard = []
    end.post.on(Query, lambda peer, address, m: heard.append(m.what))
    for k in range(500):
        friend.post.send(end.address, Query(0, str(k), {}))
    peer = friend.post
    until(lambda: len(heard) == 500)
    until(lambda: not peer.peers[end.post.process_id].link.unacked)
    started = time.monotonic()
    friend.post.settle_links(5)
    assert time.monotonic() - started < 1


def test_idle_connections_are_closed_and_made_again(make: Any) -> None:
    end = make("end")
    end.post.connections.most = 8
    others = [answering(make(f"o{k}")) for k in range(30)]
    for _ in range(3):
        for k, other in enumerate(others):
            assert ask(end, other, str(k)) == str(k)
        until(lambda: len(end.post.connections._open) <= 8)
    # One that is being closed is not counted as open any more, and for a moment still as up.
    until(lambda: sum(peer.state == UP for peer in end.post.peers.values()) <= 8)
    futures = [end.post.request(other.address, Query(0, "all", {})) for other in others]
    assert [future.result(10) for future in futures] == ["all"] * 30
