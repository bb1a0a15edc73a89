"""Where an interrupt is raised, and where it is put off."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from zactor.runtime.links import interrupts


def may() -> bool:
    return interrupts.may_raise(sys._getframe(1))


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    marks = interrupts._protected, interrupts._interruptible, interrupts._entries
    kept = [set(mark) for mark in marks]
    redeliver, handler = interrupts.redeliver, signal.getsignal(signal.SIGINT)
    yield
    for mark, before in zip(marks, kept, strict=True):
        mark.clear()
        mark.update(before)
    interrupts.forget()
    interrupts.redeliver = redeliver
    signal.signal(signal.SIGINT, handler)


def test_user_code_is_interrupted_at_once() -> None:
    assert may()


def test_what_is_protected_is_not_left_midway_however_deep() -> None:
    def helper() -> bool:
        return may()

    def section() -> tuple[bool, bool]:
        return may(), helper()

    interrupts.protected(section)
    assert section() == (False, False)


def test_what_only_sleeps_is_left_though_a_section_called_it() -> None:
    @interrupts.interruptible
    def sleep() -> bool:
        return may()

    def section() -> bool:
        return sleep()

    interrupts.protected(section)
    assert section()


def test_what_runs_user_code_is_protected_itself() -> None:
    def user() -> bool:
        return may()

    @interrupts.enters_user_code
    def host() -> tuple[bool, bool]:
        return may(), user()

    def section() -> tuple[bool, bool]:
        return host()

    interrupts.protected(section)
    assert section() == (False, True)


def test_whole_modules_are_protected() -> None:
    from zactor.runtime.calls import caller
    from zactor.runtime.links import post, reception

    for module in (caller, post, reception):
        assert module.__file__ in interrupts._protected_files


def test_an_interrupt_that_was_put_off_comes_again_once() -> None:
    asked: list[int] = []
    interrupts.redeliver = lambda: asked.append(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts.install()

    def section() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    interrupts.protected(section)
    section()
    assert asked == [1, 1]
    assert interrupts.is_waiting()
    with pytest.raises(KeyboardInterrupt):
        interrupts.give_way()
    assert not interrupts.is_waiting()
    interrupts.deliver()  # there is nothing any more
    interrupts.uninstall()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_users_is_left_alone() -> None:
    def mine(*_: Any) -> None: ...

    signal.signal(signal.SIGINT, mine)
    interrupts.install()
    assert signal.getsignal(signal.SIGINT) is mine
    interrupts.uninstall()
    assert signal.getsignal(signal.SIGINT) is mine


def test_other_threads_have_no_say_in_it() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for what in (interrupts.install, interrupts.uninstall, interrupts.give_way):
        thread = threading.Thread(target=what)
        thread.start()
        thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_asyncio_run_cancels_its_main_task_as_it_does_without_us() -> None:
    seen: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().call_later(
            0.01, signal.pthread_kill, threading.get_ident(), signal.SIGINT
        )
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(0)
            seen.append("cleaned up")
            raise

    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts.install()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert seen == ["cancelled", "cleaned up"]


def test_a_second_interrupt_ends_asyncio_run_at_once() -> None:
    async def main() -> None:
        ident, loop = threading.get_ident(), asyncio.get_running_loop()
        loop.call_later(0.01, signal.pthread_kill, ident, signal.SIGINT)
        loop.call_later(0.02, signal.pthread_kill, ident, signal.SIGINT)
        with contextlib.suppress(asyncio.CancelledError):  # it does not want to end
            await asyncio.sleep(30)
        await asyncio.sleep(30)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts.install()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
