"""A loop that a test drives by hand, up to a condition or a deadline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.runtime.links.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Callable


class DrivenLoop(Loop):
    def wait(self, longest: float) -> None:
        """Turn once; come back after `longest` at the latest."""
        timer = self.call_later(longest, lambda: None)
        self.turn()
        timer.cancel()

    def until(self, condition: Callable[[], Any], seconds: float = 10.0) -> None:
        """Turn until the condition is true."""
        deadline = self.now() + seconds
        while not condition():
            assert self.now() < deadline, "the condition did not come true in time"
            self.wait(0.05)
