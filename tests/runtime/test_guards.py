"""The guards of objects: once the last holder is gone, nobody finds one again."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from zactor.runtime.objects.objects import Guard


class Table:
    """Looks, while a guard's end is being told, whether a weak reference still finds it."""

    def __init__(self) -> None:
        self.weak: Any = None
        self.found: list[tuple[bytes, Any]] = []

    def drop_soon(self, object_id: bytes) -> None:
        self.found.append((object_id, self.weak()))


@pytest.mark.parametrize("is_cyclic", [False, True])
def test_a_guard_whose_end_is_told_is_found_by_nobody(is_cyclic: bool) -> None:
    table: Any = Table()
    guard = Guard(b"o" * 20, table)
    table.weak = weakref.ref(guard)
    holder: list[Any] = [guard]
    if is_cyclic:
        holder.append(holder)
    del guard
    assert table.found == []
    del holder
    gc.collect()
    assert table.found == [(b"o" * 20, None)]
