"""A worker's program for tests: does what its lane says, one word at a time."""

from __future__ import annotations

import os
import random
import select
import socket
import sys
from typing import Any

from zactor.runtime.hosting.progress import ProgressPage
from zactor.runtime.nodes.lane import Lane, LaneClosedError


def main(control: socket.socket, progress_fd: int, boot: dict[str, Any]) -> int:
    lane = Lane(control)
    lane.send(["up", [boot["process"], b"n", b"m", "ipc://x", ""]])
    poller = select.poll()
    poller.register(lane, select.POLLIN)
    poller.register(boot["node_pidfd"], select.POLLIN)
    while True:
        for fd, _ in poller.poll():
            if fd == boot["node_pidfd"]:
                os._exit(9)
        try:
            for message in lane.receive():
                code = obey(lane, progress_fd, boot, message)
                if code is not None:
                    return code
        except LaneClosedError:
            return 3


def obey(lane: Lane, progress_fd: int, boot: dict[str, Any], message: list[Any]) -> int | None:
    match message:
        case ["exit", *_]:
            return 0
        case ["return", code]:
            return code
        case ["print", text]:
            print(text)
        case ["print-err", text]:
            print(text, file=sys.stderr)
        case ["write", text]:
            os.write(1, text.encode())
        case ["flood", count]:
            for index in range(count):
                print("line", index)
        case ["progress", rows]:
            page = ProgressPage(progress_fd)
            for caller, stream, started, finished in rows:
                at = page.add(caller, stream)
                page.words[at], page.words[at + 1] = started, finished
        case ["tell"]:
            fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
            links = []
            for fd in fds:
                try:
                    links.append(os.readlink(f"/proc/self/fd/{fd}"))
                except OSError:
                    continue
            lane.send(
                ["told", {
                    "pid": os.getpid(), "ppid": os.getppid(), "sid": os.getsid(0),
                    "fds": links, "random": random.random(), "boot": boot,
                    "threads": len(os.listdir("/proc/self/task")), "cwd": os.getcwd(),
                    "env": {k: v for k, v in os.environ.items() if k.startswith("TEST_")},
                }], wait=True,
            )  # fmt: skip
        case ["child", seconds]:
            import subprocess

            child = subprocess.Popen(["sleep", str(seconds)])
            lane.send(["told", child.pid], wait=True)
        case ["say-and-die", words]:
            lane.send(words, wait=True)
            os.abort()
        case ["spin"]:
            while True:
                pass
        case ["actor", actor, life, spec]:
            if spec.get("crash"):
                os.abort()
            if spec.get("fails"):
                lane.send(["failed", actor, life, ["constructor", "boom", {}]])
            else:
                lane.send(["ready", actor, life, "Thing"])
        case ["stop", actor, life]:
            lane.send(
                ["exited", actor, life, {"kind": "exit", "code": 0, "text": "stopped"}],
                wait=True,
            )
            return 0
    return None
