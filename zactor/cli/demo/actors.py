"""The actors of the demonstration. Plain classes; `stages` makes actor classes of them."""

from __future__ import annotations

import os
import zlib

from zactor.cli.demo import models


class Counter:
    """Counts: the shortest method there is, for the call rate."""

    def __init__(self) -> None:
        self.value = 0

    def increment(self) -> int:
        """Count one call."""
        self.value += 1
        return self.value

    def pid(self) -> int:
        """Return the process that it runs in."""
        return os.getpid()


class Source:
    """Makes big values."""

    def make(self, number: int, size: int) -> bytes:
        """Return `size` bytes that depend on the number."""
        return bytes([number % 251]) * size


class Filter:
    """Turns one big value into another."""

    def __init__(self, shift: int) -> None:
        self.table = bytes((byte + shift) % 256 for byte in range(256))

    def apply(self, data: bytes) -> bytes:
        """Shift every byte."""
        return data.translate(self.table)


class Sink:
    """Reduces a big value to a small one."""

    def digest(self, data: bytes) -> int:
        """Return a checksum of all bytes."""
        return zlib.crc32(data)


class Service:
    """Does a little work per call, and is going to be killed."""

    def __init__(self) -> None:
        self.served = 0

    def work(self, number: int) -> int:
        """Return the square of the number."""
        self.served += 1
        return number * number

    def pid(self) -> int:
        """Return the process that it runs in."""
        return os.getpid()


class Model:
    """One version of a model: trained once, warm from then on."""

    def __init__(self, version: str) -> None:
        self.model = models.train(version)

    def predict(self, features: tuple[float, ...]) -> int:
        """Return the class that the features most likely belong to."""
        return self.model.predict(features)
