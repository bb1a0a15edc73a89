"""The runtime of this process, if it has one: a driver's, a worker's, or an in-process world's.

Imports nothing: a program that is only imported, or starts its cluster, need not wait for what the
runtime itself is made of.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zactor.runtime.offered import Offered

_current: Offered | None = None
_is_fork = False  # `_current` is that of the process this one was forked from


def current() -> Offered | None:
    """Return what this process offers, or None before `init`, after `shutdown`, or in a fork."""
    return None if _is_fork else _current


def set_current(process: Offered | None) -> None:
    """Make `process` the one that `current` returns."""
    global _current, _is_fork  # noqa: PLW0603 - one runtime a process
    _current = process
    _is_fork = False


def is_inherited() -> bool:
    """Whether there is a runtime, but the one of the process that this one was forked from."""
    return _is_fork and _current is not None


def _forked() -> None:
    """Asking for the pid at each `current` would cost more than all else that it does."""
    global _is_fork  # noqa: PLW0603
    _is_fork = _current is not None


os.register_at_fork(after_in_child=_forked)


lock = threading.RLock()
"""Held while the process's runtime is made or ended."""
