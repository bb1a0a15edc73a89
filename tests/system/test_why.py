"""What a result waits for is said, on programs that really hang."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import zactor
from tests.system.waiting import wait_for
from zactor.api.why import Why

pytestmark = pytest.mark.system


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[str]:
    """Give a path; what waits for it goes on at the end of the test."""
    path = tmp_path / "gate"
    yield str(path)
    path.touch()


def wait_at(gate: str) -> None:
    while not Path(gate).exists():
        time.sleep(0.01)


@zactor.remote
class Slow:
    def work(self, gate: str) -> int:
        wait_at(gate)
        return 1

    def answer(self, *given: Any) -> int:
        return 2

    def search(self, letters: int) -> None:
        import re

        re.match(
            "(a+)+b", "a" * letters
        )  # twice the time a letter, and nobody else runs Python


@zactor.remote
class Asker:
    def __init__(self, other: Any = None) -> None:
        self.other = other

    def ask(self, gate: str) -> int:
        return zactor.get(self.other.work.remote(gate))

    def ask_through(self, gate: str) -> int:
        return zactor.get(self.other.ask.remote(gate))

    def ask_one_of(self, gate: str) -> int:
        ready, _ = zactor.wait([self.other.work.remote(gate), self.other.answer.remote()])
        return len(ready)


@zactor.remote
class Gentle:
    def __init__(self, other: Any) -> None:
        self.other = other

    async def ask(self, gate: str) -> Any:
        import asyncio

        return await asyncio.gather(self.other.work.remote(gate), self.other.answer.remote())


@zactor.remote
def task(gate: str) -> int:
    wait_at(gate)
    return 3


def chain_with(ref: Any, kind: str, text: str = "") -> Why:
    """Return the chain once it ends with a cause of that kind: a hang takes a moment to come about."""
    return _chain_when(ref, lambda said: said.chain[-1].kind == kind and text in str(said))


def chain_of(ref: Any, expected: list[str]) -> Why:
    """Return the chain once it is of exactly these kinds."""
    return _chain_when(ref, lambda said: kinds(said) == expected)


def _chain_when(ref: Any, is_expected: Callable[[Why], bool]) -> Why:
    def found() -> Why | None:
        said = zactor.why(ref)
        return said if is_expected(said) else None

    try:
        said: Why = wait_for(found, 10)
    except TimeoutError:
        raise AssertionError(f"not as expected:\n{zactor.why(ref)}") from None
    return said


def commanded(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zactor", *argv],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def kinds(said: Any) -> list[str]:
    return [each.kind for each in said.chain]


def test_a_finished_call_is_ready(cluster: None) -> None:
    ref = Slow.remote().answer.remote()
    zactor.get(ref)
    said = zactor.why(ref)
    assert said.is_ready
    assert kinds(said) == ["ready"]
    assert zactor.why(zactor.put(1)).is_ready


def test_a_slow_method_is_named_with_its_line(cluster: None, gate: str) -> None:
    ref = Slow.remote().work.remote(gate)
    said = chain_with(ref, "running")
    assert kinds(said) == ["running"]
    (running,) = said.chain
    assert "Slow.work()" in running.text
    assert "test_why.py:" in running.fields["place"]
    assert "in wait_at" in running.fields["place"]
    assert running.fields["seconds"] >= 0


def test_what_is_queued_names_the_call_before_it(cluster: None, gate: str) -> None:
    slow = Slow.remote()
    first = slow.work.remote(gate)
    rest = [slow.answer.remote() for _ in range(3)]
    said = chain_with(rest[-1], "running")
    assert kinds(said) == ["queued", "running"]
    assert "Slow.answer()" in said.chain[0].text
    assert "behind Slow.work() and 2 more" in said.chain[0].text
    del first


def test_a_chain_of_actors_is_followed(cluster: None, gate: str) -> None:
    inner = Asker.remote(Slow.options(name="the-last").remote())
    outer = Asker.remote(inner)
    ref = outer.ask_through.remote(gate)
    said = chain_with(ref, "running", "Slow.work()")
    assert kinds(said) == ["running", "waits", "running", "waits", "running"]
    assert "in ask_through" in said.chain[0].fields["place"]
    assert "Asker.ask()" in said.chain[1].text
    assert "in ask" in said.chain[2].fields["place"]
    assert "'the-last'" in said.chain[3].text
    assert str(said).splitlines()[4].startswith("        Slow.work() has run for")


def test_a_wait_for_some_and_an_await_are_followed(cluster: None, gate: str) -> None:
    for asker, method in ((Asker, "ask_one_of"), (Gentle, "ask")):
        actor = asker.remote(Slow.remote())  # type: ignore[union-attr]
        said = chain_with(getattr(actor, method).remote(gate), "running", "Slow.work()")
        # The last call may have had to wait for its actor's place when it was looked at.
        assert [kind for kind in kinds(said) if kind != "held"] == [
            "running",
            "waits",
            "running",
        ]


def test_missing_resources_are_named_with_the_nodes(cluster: None) -> None:
    actor = Slow.options(num_cpus=99).remote()
    said = chain_with(actor.answer.remote(), "resource")
    assert kinds(said) == ["held", "pending", "resource"]
    assert "it needs 99 CPU: node " in said.chain[-1].text
    assert list(said.chain[-1].fields["missing"]) == ["CPU"]
    zactor.kill(actor)


def test_an_argument_that_is_not_ready_is_followed(cluster: None, gate: str) -> None:
    slow, quick = Slow.remote(), Slow.remote()
    ref = quick.answer.remote(slow.work.remote(gate))
    behind = quick.answer.remote()
    chain_of(ref, ["argument", "running"])
    chain_of(behind, ["held", "argument", "running"])


def test_a_constructor_that_hangs_is_named(cluster: None, gate: str) -> None:
    @zactor.remote
    class Late:
        def __init__(self, gate: str) -> None:
            while not Path(gate).exists():
                time.sleep(0.01)

        def answer(self) -> int:
            return 1

    said = chain_with(Late.remote(gate).answer.remote(), "constructor")
    assert "in __init__" in said.chain[-1].fields["place"]


def test_a_task_says_what_it_runs_or_which_worker_it_waits_for(
    cluster: None, gate: str
) -> None:
    whole = task.options(num_cpus=4)
    first = whole.remote(gate)
    said = chain_with(first, "running", "in wait_at")
    assert "task task()" in said.chain[0].text
    second = whole.remote(gate)
    said = chain_with(second, "running")
    assert kinds(said) == ["worker", "resource", "running"]
    assert "it needs 4 CPU" in said.chain[1].text
    Path(gate).touch()
    assert zactor.get([first, second]) == [3, 3]


def test_a_borrowed_reference_is_asked_of_its_owner(cluster: None, gate: str) -> None:
    @zactor.remote
    class Holder:
        def start(self, slow: Any, gate: str) -> Any:
            return [slow.work.remote(gate)]

    holder = Holder.remote()
    (ref,) = zactor.get(holder.start.remote(Slow.remote(), gate))
    chain_of(ref, ["borrowed", "running"])


def test_a_circle_is_told(cluster: None) -> None:
    @zactor.remote
    class Peer:
        def meet(self, other: Any) -> None:
            self.other = other

        def ask(self) -> Any:
            # With a timeout, so that nobody raises for it.
            return zactor.get(self.other.ask.remote(), timeout=5)

    first, second = Peer.remote(), Peer.remote()
    zactor.get([first.meet.remote(second), second.meet.remote(first)])
    ref = first.ask.remote()
    assert "wait for each other" in str(chain_with(ref, "deadlock"))
    zactor.kill(first)
    zactor.kill(second)


def test_a_shared_actor_says_what_it_runs(cluster: None, gate: str) -> None:
    actor = Slow.options(isolation="shared").remote()
    first, second = actor.work.remote(gate), actor.answer.remote()
    chain_of(first, ["running"])
    chain_of(second, ["queued", "running"])

    neighbour = Slow.options(isolation="shared").remote()
    third = neighbour.answer.remote()
    said = chain_with(third, "running", "in the process that they share")
    assert neighbour._actor_id.hex()[:12] in said.chain[0].text
    assert neighbour._actor_id.hex()[:12] not in said.chain[1].text
    assert actor._actor_id.hex()[:12] in said.chain[1].text


def test_a_method_that_blocks_an_event_loop_is_named(cluster: None, gate: str) -> None:
    @zactor.remote
    class Blocked:
        async def block(self, gate: str) -> None:
            wait_at(gate)

        async def answer(self) -> int:
            return 1

    actor = Blocked.remote()
    zactor.get(actor.answer.remote())
    first, second = actor.block.remote(gate), actor.answer.remote()
    assert "in wait_at" in str(chain_with(first, "running", "in wait_at"))
    said = chain_with(second, "running", "in wait_at")
    assert kinds(said) == ["queued", "running"]


def test_threads_say_which_calls_take_the_places(cluster: None, gate: str) -> None:
    actor = Slow.options(max_concurrency=2).remote()
    refs = [actor.work.remote(gate) for _ in range(2)]
    third = actor.answer.remote()
    chain_of(refs[1], ["running"])
    chain_of(third, ["queued", "running"])


def test_code_that_holds_the_interpreter_is_seen_through_the_node(cluster: None) -> None:
    actor = Slow.options(name="searching").remote()
    zactor.get(actor.answer.remote())
    ref = actor.search.remote(33)
    chain_with(ref, "running", "in search")
    begun = time.monotonic()
    said = zactor.why(ref)
    assert "code that holds the interpreter" in said.chain[-1].text
    assert time.monotonic() - begun < 3

    done = commanded("stack", "searching")
    assert "in search" in done.stdout, done.stderr
    assert "in search" in commanded("why", "searching").stdout
    zactor.kill(actor)


def test_calls_beyond_the_credit_are_told(cluster: None, gate: str) -> None:
    actor = Slow.remote()
    first = actor.work.remote(gate)
    refs = [actor.answer.remote() for _ in range(17_000)]
    said = chain_with(refs[-1], "running")
    assert kinds(said) == ["credit", "running"]
    assert "Slow.work()" in said.chain[-1].text
    Path(gate).touch()
    zactor.get([first, *refs])


def test_the_command_follows_actors_and_references(cluster: None, gate: str) -> None:
    asker = Asker.options(name="asker").remote(Slow.remote())
    ref = asker.ask.remote(gate)
    chain_with(ref, "running", "Slow.work()")
    done = commanded("why", "asker")
    assert done.returncode == 0, done.stderr
    assert "Asker 'asker' is alive" in done.stdout
    assert "Slow.work() has run for" in done.stdout
    rows = json.loads(commanded("why", ref.hex(), "--json").stdout)
    assert [row["kind"] for row in rows] == ["running", "waits", "running"]
    inner = commanded("why", rows[1]["object"])
    assert inner.stdout.startswith("Slow.work() has run for"), inner.stderr
    assert commanded("why", "ab" * 28).returncode == 4


def test_logs_are_followed(cluster: None) -> None:
    @zactor.remote
    class Talker:
        def say(self, text: str) -> None:
            print(text, flush=True)

    talker = Talker.options(name="talker").remote()
    zactor.get(talker.say.remote("first"))
    process = subprocess.Popen(
        [sys.executable, "-m", "zactor", "logs", "talker", "-f"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        zactor.get(talker.say.remote("second"))
        assert process.stdout.readline() == "second\n"
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_why_refuses_what_is_no_reference(cluster: None) -> None:
    with pytest.raises(TypeError, match="ObjectRef"):
        zactor.why(1)
    with pytest.raises(ValueError, match="timeout"):
        zactor.why(zactor.put(1), timeout=0)
