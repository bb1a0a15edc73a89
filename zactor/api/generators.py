"""ObjectRefGenerator: the references of a call that yields."""

from __future__ import annotations

from typing import Any


class ObjectRefGenerator:
    """Yields a reference for each value that a streaming call yields, as they come."""


def is_generator(value: Any) -> bool:
    """Whether a value is an ObjectRefGenerator."""
    return isinstance(value, ObjectRefGenerator)


def waitable(generator: ObjectRefGenerator) -> Any:
    """Return what `wait` waits for: the next item."""
    raise TypeError(f"{generator!r} cannot be waited for")
