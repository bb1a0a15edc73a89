"""What becomes of an exception that is zactor's own mistake: it is shown, and the thread goes on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def guarded(callback: Callable[[], None]) -> None:
    """Run a callback of the receiving thread; what it raises is reported, and the thread goes on."""
    try:
        callback()
    except Exception:  # noqa: BLE001 - one callback must never end the receiving thread
        report_bug("running a callback")


def report_bug(doing: str) -> None:
    """Show an exception that is ours, and go on."""
    import traceback

    sys.stderr.write(f"zactor: internal error while {doing}; please report it\n")
    traceback.print_exc()
