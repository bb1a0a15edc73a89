"""Workers' output: lines, logs, folding, back-pressure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.driven_loop import DrivenLoop
from zactor.config import Config
from zactor.runtime.insight.origins import mark
from zactor.runtime.nodes.output import (
    LINE_LIMIT,
    PARTIAL_AFTER,
    LogFile,
    Output,
)
from zactor.runtime.nodes.spawn import WorkerProcess

JOB = b"job1"


class Printing:
    """An `Output` over pipes that the test writes to."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.loop = DrivenLoop()
        self.sent: list[list[Any]] = []
        self.config = Config(**settings)
        self.directory = directory
        self.output = Output(self.loop, self.config, str(directory), b"node", self._send)
        self.workers: dict[bytes, WorkerProcess] = {}
        self.ends: dict[bytes, tuple[int, int]] = {}

    def _send(self, job: bytes, lines: list[list[Any]]) -> None:
        assert job == JOB
        self.sent += lines

    def worker(self, name: bytes, label: str = "Counter") -> bytes:
        worker = self.workers[name] = WorkerProcess(name, "", {})
        worker.pid = 40 + len(self.workers)
        worker.stdout, out = os.pipe()
        worker.stderr, err = os.pipe()
        for fd in (worker.stdout, worker.stderr, out):
            os.set_blocking(fd, False)
        self.ends[name] = (out, err)
        self.output.open(worker)
        self.output.label(name, label, JOB)
        return name

    def write(self, name: bytes, text: str, stream: int = 1) -> int:
        return os.write(self.ends[name][stream - 1], text.encode())

    def texts(self) -> list[str]:
        return [line[5] for line in self.sent]

    def until(self, *texts: str) -> None:
        self.loop.until(lambda: self.texts() == list(texts))

    def die(self, name: bytes) -> None:
        for fd in self.ends.pop(name):
            os.close(fd)
        self.output.close(name)
        self.workers.pop(name).close()

    def close(self) -> None:
        for name in list(self.workers):
            self.die(name)
        self.loop.close()


@pytest.fixture
def printing(tmp_path: Path) -> Iterator[Printing]:
    found = Printing(tmp_path, log_bytes=1000, log_files=2, output_rate=200_000)
    yield found
    found.close()


def test_lines_are_sent_once_in_order_with_their_origin(printing: Printing) -> None:  # O1
    worker = printing.worker(b"a")
    printing.write(worker, "one\ntw")
    printing.write(worker, "o\n")
    printing.write(worker, "\n")
    printing.until("one", "two", "")
    assert printing.sent[0] == [b"a", "Counter", 41, b"node", 1, "one"]
    printing.write(worker, "error\n", stream=2)
    printing.loop.until(lambda: printing.sent[-1][4:] == [2, "error"])


def test_text_that_is_cut_within_a_character_is_whole(printing: Printing) -> None:
    worker = printing.worker(b"a")
    out = printing.ends[worker][0]
    os.write(out, "grü".encode()[:-1])
    printing.loop.wait(0.01)
    os.write(out, "grün\n".encode()[3:])
    printing.until("grün")


def test_the_beginning_of_a_line_is_shown_after_a_moment(printing: Printing) -> None:
    worker = printing.worker(b"a")
    before = printing.loop.now()
    printing.write(worker, "password: ")
    printing.until("password: ")
    assert printing.loop.now() - before >= PARTIAL_AFTER
    printing.write(worker, "done\n")
    printing.until("password: ", "done")


def test_what_a_worker_printed_last_is_shown_when_it_dies(printing: Printing) -> None:
    worker = printing.worker(b"a")
    printing.write(worker, "whole\nand a half")
    printing.die(worker)
    assert printing.texts() == ["whole", "and a half"]


def test_a_line_is_shown_under_the_name_that_the_output_says(printing: Printing) -> None:
    worker = printing.worker(b"a", "task")
    name = mark("train").decode()
    printing.write(worker, f"before\nhalf{name}one\ntwo\n{mark('').decode()}after\n")
    printing.until("before", "half", "one", "two", "after")
    labels = [line[1] for line in printing.sent]
    assert labels == ["task", "task", "train", "train", "task"]
    printing.die(worker)
    [log] = printing.directory.glob("*.out")
    assert log.read_text() == "before\nhalfone\ntwo\nafter\n"


def test_what_looks_like_a_name_is_shown_when_the_worker_dies(printing: Printing) -> None:
    worker = printing.worker(b"a")
    printing.write(worker, "half\x1b_zac")
    printing.die(worker)
    assert printing.texts()[-1].endswith("\x1b_zac")


def test_a_line_without_end_is_broken(
    printing: Printing, monkeypatch: pytest.MonkeyPatch
) -> None:  # O2
    monkeypatch.setattr("zactor.runtime.nodes.output.PARTIAL_AFTER", 60.0)
    worker = printing.worker(b"a")
    written = 0
    while written < LINE_LIMIT:
        written += printing.write(worker, "x" * 4096)
        printing.loop.wait(0)
    printing.loop.until(printing.texts)
    assert len(printing.texts()[0]) == LINE_LIMIT


def test_nothing_is_shown_before_work_or_after_the_job(printing: Printing) -> None:
    worker = printing.worker(b"a")
    printing.output.label(worker, "", b"")
    printing.write(worker, "early\n")
    printing.loop.wait(0.1)
    printing.output.label(worker, "Counter", JOB)
    printing.write(worker, "meanwhile\n")
    printing.until("meanwhile")
    printing.output.drop_job(JOB)
    printing.write(worker, "late\n")
    printing.loop.wait(0.1)
    printing.die(worker)
    assert printing.texts() == ["meanwhile"]
    log = printing.output.read_log(worker, 1, 0, 1000)
    assert log == {"text": "early\nmeanwhile\nlate\n", "offset": 21, "size": 21}


def test_a_worker_that_floods_waits(printing: Printing) -> None:  # O2
    worker = printing.worker(b"a")
    chunk = ("y" * 99 + "\n") * 600
    begun, written = printing.loop.now(), 0
    while printing.loop.now() - begun < 1.0:
        try:
            written += printing.write(worker, chunk)
        except BlockingIOError:
            printing.loop.wait(0.05)
    # One second's allowance at the start, one more in a second, and what pipes and reads hold.
    assert 200_000 <= written <= 2 * 200_000 + 3 * 65536
    shown = lambda: sum(len(text) + 1 for text in printing.texts())
    printing.loop.until(lambda: written <= shown() <= written + 1)


def test_logs_are_rotated_and_read_by_offset(tmp_path: Path) -> None:  # O2
    log = LogFile(str(tmp_path / "log"), 100)
    for number in range(25):
        log.write(b"line %04d\n" % number)
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1"]
    assert log.read(0, 1000) == {
        "text": "".join(f"line {n:04}\n" for n in range(10, 20)), "offset": 200, "size": 250,
    }  # fmt: skip
    assert log.read(200, 20)["text"] == "line 0020\nline 0021\n"
    assert log.read(-10, 100)["text"] == "line 0024\n"
    assert log.read(999, 10) == {"text": "", "offset": 250, "size": 250}
    log.close()


def test_logs_of_the_dead_are_bounded(printing: Printing) -> None:  # O2
    for name in (b"a", b"b", b"c"):
        printing.write(printing.worker(name), "x\n")
        printing.die(name)
    assert len(os.listdir(printing.directory)) == 2
    with pytest.raises(LookupError):
        printing.output.read_log(b"a", 1, 0, 10)
    assert printing.output.read_log(b"c", 1, 0, 10)["text"] == "x\n"


def test_a_worker_that_prints_nothing_has_no_file(printing: Printing) -> None:
    printing.die(printing.worker(b"a"))
    assert os.listdir(printing.directory) == []


def test_a_driver_that_leaves_is_sent_all_that_was_printed(printing: Printing) -> None:
    worker = printing.worker(b"a")
    printing.write(worker, "whole\nand a half")
    printing.write(worker, "error\n", stream=2)
    printing.output.flush_job(b"another")
    assert printing.texts() == []
    printing.output.flush_job(JOB)  # the loop has not turned
    assert printing.texts() == ["whole", "and a half", "error"]
    printing.output.flush_job(JOB)
    assert len(printing.texts()) == 3


def test_logs_are_listed_once_something_is_in_them(printing: Printing) -> None:
    worker = printing.worker(b"a")
    printing.write(worker, "x\n")
    printing.until("x")
    [row] = printing.output.list_logs()
    assert (row["stream"], row["size"], row["pid"], row["is_alive"]) == ("out", 2, 41, True)
    printing.die(worker)
    [row] = printing.output.list_logs()
    assert not row["is_alive"]
    assert row["filename"] in os.listdir(printing.directory)
