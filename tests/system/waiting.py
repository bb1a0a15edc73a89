"""Waiting for a condition, with a deadline."""

import threading
import time
from collections.abc import Callable
from typing import Any

PAUSE = threading.Event()  # never set


def wait_for(condition: Callable[[], Any], timeout: float = 20.0) -> Any:
    """Return what `condition` returns once it is true.

    Raises:
        TimeoutError: It did not become true.
    """
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{condition} did not become true within {timeout:g} s")
        PAUSE.wait(0.005)
    return found
