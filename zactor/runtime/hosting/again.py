"""A call that has raised: is it run again, here and at once?

Retries for exceptions and after crashes are of one number, which the caller keeps. So each retry made here is
told to it before the call runs again: should that end the process, the caller knows how many are left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.serde.pickling import unpickle_plain
from zactor.wire import batches

if TYPE_CHECKING:
    from zactor.core.intake import Intake
    from zactor.runtime.process import Process


def runs_again(
    process: Process, intake: Intake, seq: int, error: BaseException, extras: dict[int, Any]
) -> bool:
    """Tell whether a call is run again after what it raised; if so, that is counted in `extras`."""
    retry = extras.get(batches.X_RETRY)
    if retry is None or not retry[0] or not is_retried(error, retry[1]):
        return False
    if retry[0] > 0:
        retry[0] -= 1
        process.callee.tell(intake, seq, batches.RETRYING)
    return True


def is_retried(error: BaseException, kinds: Any) -> bool:
    """Tell whether an exception is of the kinds that a call is retried for (see X_RETRY)."""
    if kinds is True:
        return isinstance(error, Exception)
    allowed = tuple(unpickle_plain(kinds))
    return isinstance(error, allowed) or isinstance(getattr(error, "cause", None), allowed)
