"""Raw pyzmq: the same exchange with nothing around it. What the transport could give at most.

Each call is a msgpack'd `(n, method, args)` from a DEALER to a ROUTER and each reply a msgpack'd
`(n, status, value)` back. `pyzmq` sends one message per call; `pyzmq x32` gathers up to 32 calls
to one peer in a message, and is measured only where several calls are outstanding. No identity,
no order across a lost link, no resend, no references, no errors.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench import proc
from bench.engines import Simple, free_port
from bench.rows.calls import CALLERS, MANY, PROCESS_ACTORS, from_callers, over
from bench.rows.data import SIZES
from bench.rows.latency import behind, offered_load
from bench.rows.network import BULK
from bench.rows.startup import REPLIED
from bench.work import GIGABYTE, Measure, Rate, Setting, Work

Works = Iterator[Rate | Measure]

CALL = b"m"
SLOW = b"slow"
BULK_FRAME = 2**20
_numbers = itertools.count()


def endpoint(setting: Setting) -> str:
    """Return an ipc endpoint nobody uses."""
    return f"ipc://{setting.folder}/{os.getpid()}-{next(_numbers)}"


# -- processes ---------------------------------------------------------------------------------


class Processes:
    """Forked processes. No ZeroMQ context may exist while they are started."""

    def __init__(self) -> None:
        self.pids: list[int] = []

    def start(self, body: Callable[..., None], *arguments: Any) -> None:
        """Run `body` in a process of its own."""
        pid = os.fork()
        if pid == 0:
            try:
                body(*arguments)
            finally:
                os._exit(0)
        self.pids.append(pid)

    def end(self) -> None:
        """Kill them all."""
        proc.send(self.pids, signal.SIGKILL)
        for pid in self.pids:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self.pids.clear()


def _socket(kind: str, *, bind: str = "", connect: str = "", curve: Any = None) -> Any:
    import zmq

    context = zmq.Context.instance()
    context.max_sockets = max(context.max_sockets, 65536)
    socket = context.socket(getattr(zmq, kind))
    socket.set_hwm(0)
    socket.linger = 0
    socket.reconnect_ivl = 1  # a server that is not there yet would otherwise cost 100 ms
    if curve is not None:
        public, secret = curve
        socket.curve_publickey, socket.curve_secretkey = public, secret
        if bind:
            socket.curve_server = True
        else:
            socket.curve_serverkey = public
    if bind:
        socket.bind(bind)
    if connect:
        socket.connect(connect)
    return socket


def _end_context(*sockets: Any) -> None:
    import zmq

    for socket in sockets:
        socket.close(0)
    zmq.Context.instance().term()


def echo(at: str, curve: Any = None) -> None:
    """Answer calls, one message each or many in a message, as they come."""
    import msgpack

    pack, unpack = msgpack.packb, msgpack.unpackb
    inbox = _socket("ROUTER", bind=at, curve=curve)
    receive, send = inbox.recv_multipart, inbox.send_multipart
    while True:
        sender, message, *frames = receive()
        if frames:
            n, _, _ = unpack(message)
            send((sender, pack((n, 0, frames[0][0]))))
            continue
        call = unpack(message)
        if type(call[0]) is list:
            send((sender, pack([(n, 0, b"ok") for n, _, _ in call])))
            continue
        if call[1] == SLOW:
            time.sleep(0.05)
        send((sender, pack((call[0], 0, b"ok"))))


def echo_to_inbox(at: str, caller: str) -> None:
    """Answer calls to the caller's own inbox, as many actors with one caller do."""
    import msgpack

    pack, unpack = msgpack.packb, msgpack.unpackb
    inbox = _socket("ROUTER", bind=at)
    outbox = _socket("DEALER", connect=caller)
    outbox.send(pack("hello"))
    receive, send = inbox.recv_multipart, outbox.send
    while True:
        call = unpack(receive()[1])
        if type(call[0]) is list:
            send(pack([(n, 0, b"ok") for n, _, _ in call]))
        else:
            send(pack((call[0], 0, b"ok")))


def hop(at: str) -> None:
    """Pass messages on by the destination they name."""
    router = _socket("ROUTER", bind=at)
    while True:
        source, destination, message = router.recv_multipart()
        if destination:
            router.send_multipart((destination, source, message))


def echo_behind_hop(at: str) -> None:
    """Answer calls that come through `hop`."""
    import msgpack

    socket = _socket("DEALER")
    socket.routing_id = b"actor"
    socket.connect(at)
    socket.send_multipart((b"", b"hello"))
    while True:
        source, message = socket.recv_multipart()
        call = msgpack.unpackb(message)
        if type(call[0]) is list:
            reply = msgpack.packb([(n, 0, b"ok") for n, _, _ in call])
        else:
            reply = msgpack.packb((call[0], 0, b"ok"))
        socket.send_multipart((source, reply))


def client(at: str, servers: list[str], gather: int) -> None:
    """On each message, have that many calls outstanding to each server, then answer."""
    import msgpack

    inbox = _socket("ROUTER", bind=at)
    outboxes = [_socket("DEALER", connect=server) for server in servers]
    while True:
        sender, message = inbox.recv_multipart()
        calls = msgpack.unpackb(message)
        for outbox in outboxes:
            submit(outbox.send, calls, gather)
        for outbox in outboxes:
            collect(outbox.recv, calls, gather)
        inbox.send_multipart((sender, b"done"))


def payload(at: str, curve: Any) -> None:
    """Answer each message with `BULK` bytes in frames of 1 MiB."""
    inbox = _socket("ROUTER", bind=at, curve=curve)
    piece = bytes(BULK_FRAME)
    while True:
        sender, _ = inbox.recv_multipart()
        for _ in range(BULK // BULK_FRAME):
            inbox.send_multipart((sender, piece), copy=False)


def submit(
    send: Callable[[bytes], object], calls: int, gather: int, argument: tuple = ()
) -> None:
    """Send calls, `gather` to a message."""
    import msgpack

    pack = msgpack.packb
    if gather == 1:
        for n in range(calls):
            send(pack((n, CALL, argument)))
        return
    for first in range(0, calls, gather):
        last = min(first + gather, calls)
        send(pack([(n, CALL, argument) for n in range(first, last)]))


def collect(receive: Callable[[], bytes], calls: int, gather: int) -> None:
    """Receive the replies to `submit`."""
    import msgpack

    unpack = msgpack.unpackb
    for _ in range(-(-calls // gather)):
        unpack(receive())


# -- rows --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _one_server(setting: Setting, curve: Any = None) -> Iterator[Any]:
    at = f"tcp://127.0.0.1:{free_port()}" if curve else endpoint(setting)
    processes = Processes()
    processes.start(echo, at, curve)
    socket = _socket("DEALER", connect=at, curve=curve)
    try:
        submit(socket.send, 1, 1)
        collect(socket.recv, 1, 1)
        yield socket
    finally:
        processes.end()
        _end_context(socket)


def _curve() -> Any:
    import zmq

    return zmq.curve_keypair()


def calls_sync(_api: Any, setting: Setting, *, curve: bool = False) -> Works:
    import msgpack

    pack, unpack = msgpack.packb, msgpack.unpackb
    with _one_server(setting, _curve() if curve else None) as socket:
        send, receive = socket.send, socket.recv

        def many(rounds: int) -> None:
            for n in range(rounds):
                send(pack((n, CALL, ())))
                unpack(receive())

        yield Rate(many)


def calls_async(_api: Any, setting: Setting, *, gather: int, curve: bool = False) -> Works:
    with _one_server(setting, _curve() if curve else None) as socket:

        def once() -> None:
            submit(socket.send, MANY, gather)
            collect(socket.recv, MANY, gather)

        yield Rate.each(once, MANY)


def calls_with_number(_api: Any, setting: Setting, *, gather: int) -> Works:
    with _one_server(setting) as socket:

        def once() -> None:
            submit(socket.send, MANY, gather, (0,))
            collect(socket.recv, MANY, gather)

        yield Rate.each(once, MANY)


def clients(
    _api: Any,
    setting: Setting,
    *,
    gather: int,
    callers: int,
    servers: int,
    calls: tuple[int, int],
    together: bool = True,
) -> Works:
    """Clients that each have calls outstanding to all servers, or (not together) to one each."""
    n = setting.pick(*calls)
    processes = Processes()
    at = [endpoint(setting) for _ in range(servers)]
    for each in at:
        processes.start(echo, each)
    inboxes = [endpoint(setting) for _ in range(callers)]
    for i, inbox in enumerate(inboxes):
        processes.start(client, inbox, at if together else [at[i % servers]], gather)
    outboxes = [_socket("DEALER", connect=inbox) for inbox in inboxes]

    def once(number: int = n) -> None:
        for outbox in outboxes:
            outbox.send(_packed(number))
        for outbox in outboxes:
            outbox.recv()

    once(1)
    yield Rate.each(once, n * callers * (servers if together else 1))
    processes.end()
    _end_context(*outboxes)


def _packed(number: int) -> bytes:
    import msgpack

    return msgpack.packb(number)


def fan_out(_api: Any, setting: Setting, *, gather: int, n: int) -> Works:
    """1,000 calls outstanding over n processes, replies to one inbox."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    processes = Processes()
    mine = endpoint(setting)
    at = [endpoint(setting) for _ in range(n)]
    for each in at:
        processes.start(echo_to_inbox, each, mine)
    inbox = _socket("ROUTER", bind=mine)
    outboxes = [_socket("DEALER", connect=each) for each in at]
    for _ in outboxes:
        inbox.recv_multipart()
    per_peer = -(-MANY // n)
    replies = functools.partial(_last_frame, inbox)

    def once() -> None:
        if gather == 1:
            for k in range(MANY):
                submit(outboxes[k % n].send, 1, 1)
        else:
            for outbox in outboxes[:MANY]:
                submit(outbox.send, per_peer, gather)
        messages = MANY if gather == 1 else min(n, MANY) * -(-per_peer // gather)
        collect(replies, messages, 1)

    yield Rate.each(once, MANY if gather == 1 else min(n, MANY) * per_peer)
    processes.end()
    _end_context(inbox, *outboxes)


def _last_frame(socket: Any) -> bytes:
    return socket.recv_multipart()[-1]


def relayed(_api: Any, setting: Setting, *, gather: int, calls: int) -> Works:
    at = endpoint(setting)
    processes = Processes()
    processes.start(hop, at)
    processes.start(echo_behind_hop, at)
    socket = _socket("DEALER", connect=at)

    def send(message: bytes) -> None:
        socket.send_multipart((b"actor", message))

    receive = functools.partial(_last_frame, socket)
    socket.rcvtimeo = 50
    with contextlib.suppress(Exception):
        while True:  # until the actor is known to the hop, what is sent to it is dropped
            submit(send, 1, 1)
            with contextlib.suppress(_again()):
                receive()
                break
    with contextlib.suppress(_again()):
        while True:
            receive()
    socket.rcvtimeo = -1

    def once() -> None:
        submit(send, calls, gather)
        collect(receive, calls, gather)

    yield Rate.each(once, calls)
    processes.end()
    _end_context(socket)


def _again() -> type[Exception]:
    import zmq

    return zmq.Again


def argument(_api: Any, setting: Setting, *, size: int, outstanding: int) -> Works:
    import msgpack
    import numpy as np

    array = np.ones(size, dtype=np.uint8)
    with _one_server(setting) as socket:

        def once() -> None:
            for n in range(outstanding):
                socket.send_multipart((msgpack.packb((n, CALL, None)), array))
            collect(socket.recv, outstanding, 1)

        yield Rate.each(once, outstanding)


def bulk(_api: Any, setting: Setting, *, curve: bool) -> Works:
    keys = _curve() if curve else None
    at = f"tcp://127.0.0.1:{free_port()}" if curve else endpoint(setting)
    processes = Processes()
    processes.start(payload, at, keys)
    socket = _socket("DEALER", connect=at, curve=keys)

    def once() -> None:
        socket.send(b"more")
        for _ in range(BULK // BULK_FRAME):
            socket.recv(copy=False)

    yield Rate.each(once, BULK / GIGABYTE)
    processes.end()
    _end_context(socket)


def half_load(_api: Any, setting: Setting) -> Works:
    import msgpack

    with _one_server(setting) as socket:
        count = itertools.count()

        def call() -> int:
            n = next(count)
            socket.send(msgpack.packb((n, CALL, ())))
            return n

        # Whole milliseconds would round a wait for the next due call up: look again until then.
        def ready(_: int, seconds: float) -> bool:
            return bool(socket.poll(int(seconds * 1000)))

        yield Measure(
            lambda: offered_load(
                call, ready, lambda _: msgpack.unpackb(socket.recv()), setting.seconds
            )
        )


def slow_behind(_api: Any, setting: Setting) -> Works:
    import msgpack

    with _one_server(setting) as socket:
        fast, slow = msgpack.packb((0, CALL, ())), msgpack.packb((1, SLOW, ()))
        rounds = setting.pick(40, 5)
        yield Measure(
            lambda: behind(
                lambda: socket.send(fast),
                lambda: socket.send(slow),
                lambda _: msgpack.unpackb(socket.recv()),
                rounds,
            )
        )


def chain(_api: Any, setting: Setting) -> Works:
    """Eight processes, each of which calls the next one before it answers."""
    processes = Processes()
    at = [endpoint(setting) for _ in range(8)]
    for i, each in enumerate(at):
        processes.start(_link, each, at[i + 1] if i < 7 else "")
    socket = _socket("DEALER", connect=at[0])

    def once() -> None:
        submit(socket.send, 1, 1)
        collect(socket.recv, 1, 1)

    once()
    yield Rate.each(once)
    processes.end()
    _end_context(socket)


def _link(at: str, following: str) -> None:
    import msgpack

    inbox = _socket("ROUTER", bind=at)
    outbox = _socket("DEALER", connect=following) if following else None
    while True:
        sender, message = inbox.recv_multipart()
        call = msgpack.unpackb(message)
        if outbox is not None:
            outbox.send(message)
            msgpack.unpackb(outbox.recv())
        inbox.send_multipart((sender, msgpack.packb((call[0], 0, b"ok"))))


def start_to_first_call(_api: Any, setting: Setting) -> Works:
    with _one_server(setting):
        yield REPLIED


def created(_api: Any, setting: Setting, *, n: int, rate: bool) -> Works:
    def once() -> float:
        start = time.perf_counter()
        rounds = fan_out(None, setting, gather=1, n=n)
        next(rounds)  # every process has said hello
        elapsed = time.perf_counter() - start
        next(rounds, None)
        return n / elapsed if rate else elapsed

    yield Measure(once)


def memory(_api: Any, setting: Setting, *, n: int) -> Works:
    def once() -> float:
        before = proc.pss(proc.find(setting.token))
        rounds = fan_out(None, setting, gather=1, n=n)
        next(rounds)
        after = proc.pss(proc.find(setting.token))
        next(rounds, None)
        return (after - before) / n / 2**20

    yield Measure(once)


_part = functools.partial


def _gathered(gather: int) -> dict[str, Work]:
    half = max(1, (os.cpu_count() or 2) // 2)
    to_n = _part(clients, gather=gather, callers=1, servers=half, calls=(5000, 1000))
    n_to_n = _part(clients, gather=gather, callers=4, servers=half, calls=(5000, 1000))
    works: dict[str, Work] = {
        "single client tasks async": _part(calls_async, gather=gather),
        "multi client tasks async": _part(
            clients, gather=gather, callers=4, servers=2, calls=(5000, 500)
        ),
        "1:1 actor calls async": _part(calls_async, gather=gather),
        "1:1 actor calls concurrent": _part(calls_async, gather=gather),
        "1:1 async-actor calls async": _part(calls_async, gather=gather),
        "1:1 async-actor calls with args async": _part(calls_with_number, gather=gather),
        "1:n actor calls async": to_n,
        "1:n async-actor calls async": to_n,
        "n:n actor calls async": n_to_n,
        "n:n async-actor calls async": n_to_n,
        "n:n actor calls with arg async": _part(
            clients,
            gather=gather,
            callers=half,
            servers=half,
            calls=(1000, 1000),
            together=False,
        ),
        "client: 1:1 actor calls async": _part(calls_async, gather=gather),
        "calls over ipc, async": _part(calls_async, gather=gather),
        "calls over tcp+CURVE, async": _part(calls_async, gather=gather, curve=True),
        "relayed calls, async": _part(relayed, gather=gather, calls=MANY),
    }
    for n in PROCESS_ACTORS:
        works[over(n)] = _part(fan_out, gather=gather, n=n)
    for n in CALLERS:
        works[from_callers(n)] = _part(
            clients, gather=gather, callers=n, servers=1, calls=(1000, 200)
        )
    return works


def _plain() -> dict[str, Work]:
    works: dict[str, Work] = {
        **_gathered(1),
        "single client tasks sync": calls_sync,
        "1:1 actor calls sync": calls_sync,
        "1:1 async-actor calls sync": calls_sync,
        "client: 1:1 actor calls sync": calls_sync,
        "latency at half load": half_load,
        "reply with a slow method behind": slow_behind,
        "reference through 8 actors": chain,
        "start to first call": start_to_first_call,
        "actor creation, process": _part(created, n=50, rate=True),
        "calls over ipc, sync": calls_sync,
        "calls over tcp+CURVE, sync": _part(calls_sync, curve=True),
        "bulk over ipc": _part(bulk, curve=False),
        "bulk over tcp+CURVE": _part(bulk, curve=True),
        "relayed calls, sync": _part(relayed, gather=1, calls=1),
    }
    for n in (20, 1000):
        works[f"{n:,} actors created and called"] = _part(created, n=n, rate=False)
    for n in (10, 100, 1000):
        works[f"PSS per actor at {n:,}"] = _part(memory, n=n)
    for label, (size, outstanding) in SIZES.items():
        works[f"calls with {label} of numpy"] = _part(
            argument, size=size, outstanding=outstanding
        )
    return works


class _Pyzmq(Simple):
    def start(self, session: str, setting: Setting) -> None:
        import msgpack  # noqa: F401
        import zmq  # noqa: F401


def make(name: str) -> Simple:
    """Return the engine."""
    if name == "pyzmq":
        return _Pyzmq(
            ("pyzmq", "msgpack"), _plain(), "nothing in a transport corresponds to it"
        )
    return _Pyzmq(("pyzmq", "msgpack"), _gathered(32), "nothing to gather")
