"""The fork server's heap: what its children make lies together."""

from __future__ import annotations

import subprocess
import sys

# A heap full of holes: every other object of each size is dropped. How many pages do new objects lie on?
PROGRAM = """
import sys
from zactor.runtime.nodes.heap import fill_holes

kept = [bytes(size - 33) for size in range(48, 513, 16) for _ in range(400)]
kept = kept[::2]
if sys.argv[1] == "filled":
    fill_holes()
made = [bytes(size - 33) for size in range(48, 513, 16) for _ in range(8)]
print(len({id(each) >> 12 for each in made}))
"""


def pages(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    return int(done.stdout)


def test_new_objects_lie_together_once_the_holes_are_filled() -> None:
    # 30 sizes of which 8 are made: a page of its own for each size, or two where they cross one.
    assert pages("filled") <= 60
    assert pages("full of holes") > pages("filled")
