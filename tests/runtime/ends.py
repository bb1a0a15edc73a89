"""Two ends of a link in one process, for tests: posts, who receives for them, and a simple callee.

An `End` has what a driver or worker has for the data plane, a `Host` runs calls like a plain actor,
without classes or pickles. Nothing here is zactor's API: it is the thin caller by which links, streams
and replies are tried by themselves.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from zactor.core.calls import Result, Stream
from zactor.ids import caller_id
from zactor.runtime.calls.caller import Caller
from zactor.runtime.hosting.callee import Callee
from zactor.runtime.links.post import Post
from zactor.runtime.links.reception import Reception, Waiter
from zactor.testing.proxy import Proxy
from zactor.wire import batches
from zactor.wire.messages import Address

UNIT = float(os.environ.get("ZACTOR_TEST_UNIT", "1"))
ACTOR = b"actor" + b"-" * 7
_made = itertools.count()


def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait until the condition holds; return what it said."""
    deadline = time.monotonic() + seconds * UNIT
    pause = threading.Event()
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError("it did not come to be in time")
        pause.wait(0.002)
    return found


def process_id(name: str) -> bytes:
    return name.encode().ljust(8, b"-")[:8] + next(_made).to_bytes(4, "big")


class End:
    """A process, as far as links know. Close it at the end of the test."""

    def __init__(self, directory: Any, name: str, **options: Any) -> None:
        self.post = Post(process_id(name), str(directory), machine=b"here", **options)
        self.caller = Caller(self.post, lambda: self.reception.gathered())
        self.callee = Callee(self.post)
        self.reception = Reception(self.post, self.flush)
        self.numbers = itertools.count(1)
        self.hosts: list[Host] = []

    @property
    def address(self) -> Address:
        return self.post.address

    def flush(self) -> None:
        self.caller.flush()
        self.callee.flush()

    def behind(self, proxy: Proxy) -> Address:
        """Advertise the proxy's endpoint as the own one; return the address with it."""
        field = proxy.endpoint[:3]
        self.post.address = self.post.address._replace(**{field: proxy.endpoint})
        return self.post.address

    # -- as a callee ---------------------------------------------------------------------------

    def host(self, *functions: Callable[..., Any], actor: bytes = ACTOR) -> Host:
        made = Host(self, functions)
        self.callee.adopt(actor, made)
        self.hosts.append(made)
        return made

    # -- as a caller ---------------------------------------------------------------------------

    def stream(self, to: Address, *, actor: bytes = ACTOR, life: int = 1) -> Stream:
        stream = Stream(caller_id(self.post.process_id, 0), actor, 0, self.numbers)
        self.caller.make_way(stream, self.caller.outgoing(to), life)
        return stream

    def call(
        self, stream: Stream, method: int = 0, payload: Any = None, frames: Any = None
    ) -> Result:
        """Submit a call, the way `.remote()` does."""
        result = Result(stream, next(stream.numbers), method, payload, None, 0)
        result.frames = frames
        if not stream.is_open:
            self.caller.hold(result)
        else:
            outgoing = stream.outgoing
            outgoing.gathered.append(result)
            if outgoing.sent == outgoing.settled or len(outgoing.gathered) >= 64 or frames:
                outgoing.flush()
            elif not outgoing.is_gathering:
                outgoing.start_gathering()
        return result

    def get(self, results: list[Result], timeout: float = 30.0) -> list[Any]:
        """Wait for all results; return their values."""
        pending = [result for result in results if not result.state]
        waiter = Waiter(len(pending))
        for result in pending:
            result.add_waiter(waiter)
        self.flush()
        assert self.reception.wait(waiter, time.monotonic() + timeout * UNIT), "not all came"
        return [result.value for result in results]

    def close(self) -> None:
        for host in self.hosts:
            host.close()
        self.reception.stop()
        self.post.close(0.0)


class Host:
    """Runs calls one at a time on a thread of its own; `ran` has what it ran, in order."""

    life = 1

    def __init__(self, end: End, functions: Any) -> None:
        self.end = end
        self.functions = functions
        self.ran: list[tuple[int, int]] = []  # (seq, method)
        self.runs: deque[Any] = deque()
        self._waiter: Waiter | None = None
        self._stops = False
        self._thread = threading.Thread(target=self._serve, name="host", daemon=True)
        self._thread.start()

    def put(self, run: Any) -> None:
        self.runs.append(run)
        waiter = self._waiter
        if waiter is not None:
            waiter.is_done = True
            waiter.wake()

    def cancel(self, intake: Any, seq: int, flags: int) -> None:
        intake.cancel(seq)

    def _serve(self) -> None:
        while not self._stops:
            waiter = self._waiter = Waiter()
            if not self.runs and not self._stops:
                try:
                    self.end.reception.wait(waiter)
                except Exception:
                    return
            self._waiter = None
            while self.runs:
                self._run(*self.runs.popleft())
            self.end.callee.flush()

    def _run(
        self, intake: Any, seq: int, number: int, calls: Any, frames: Any, parent: Any
    ) -> None:
        reply = self.end.callee.reply
        pairs = iter(calls)
        for method, payload in zip(pairs, pairs, strict=True):
            self.ran.append((seq, method))
            if method == batches.VOID:
                intake.unfinished -= 1
            else:
                buffers = (
                    frames
                    if type(payload) is list and payload[1].get(batches.X_FRAMES)
                    else None
                )
                status, value = (
                    0,
                    self.functions[method](payload, *([buffers] if buffers else [])),
                )
                if isinstance(value, tuple):  # a value with frames
                    self.end.callee.reply_with_frames(intake, seq, 1, *value)
                else:
                    reply(intake, seq, status, value)
            seq += 1

    def close(self) -> None:
        self._stops = True
        waiter = self._waiter
        if waiter is not None:
            waiter.is_done = True
            waiter.wake()
        self._thread.join(5)
