"""User values to bytes and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.micro import Piece
from zactor.serde.values import dumps, dumps_args, loads, loads_args

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Point:
    x: float
    y: float


def _local_class() -> object:
    class Local:
        def __init__(self) -> None:
            self.value = 1

    return Local()


VALUES = {
    "an int": 7,
    "a dict of 10": {str(i): i for i in range(10)},
    "a dataclass": Point(1.0, 2.0),
    "an instance of a local class": _local_class(),
    "1 KiB of numpy": np.ones(1024, dtype=np.uint8),
    "1 MiB of numpy": np.ones(2**20, dtype=np.uint8),
}


def pieces() -> Iterator[Piece]:
    """Dump and load each value."""
    for name, value in VALUES.items():
        payload, buffers, _ = dumps(value)
        yield Piece(f"serde: dump {name}", lambda v=value: dumps(v))
        yield Piece(f"serde: load {name}", lambda p=payload, b=buffers: loads(p, b))
    arguments = ((1, "two"), {"three": 3.0})
    payload, buffers, _ = dumps_args(*arguments)
    yield Piece("serde: dump three arguments", lambda: dumps_args(*arguments))
    yield Piece("serde: load three arguments", lambda: loads_args(payload, buffers))
