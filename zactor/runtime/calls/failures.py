"""Calls that failed lately, for listings: what is kept of each, and what Ray calls its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.calls import USER_ERROR
from zactor.named import NamedTuple
from zactor.serde.exceptions import text_of

if TYPE_CHECKING:
    from zactor.core.calls import Result

FINISHED = "FINISHED"
FAILED = "FAILED"
LONGEST = 4_000  # characters of a message
_UNREAD = 8_192  # bytes of a pickled exception that are kept to be read when somebody asks

_KINDS = {
    "ActorDiedError": "ACTOR_DIED",
    "ActorPlacementGroupRemoved": "ACTOR_PLACEMENT_GROUP_REMOVED",
    "ActorUnavailableError": "ACTOR_UNAVAILABLE",
    "ActorUnschedulableError": "ACTOR_UNSCHEDULABLE_ERROR",
    "DefinitionError": "RUNTIME_ENV_SETUP_FAILED",
    "NodeDiedError": "NODE_DIED",
    "ObjectFreedError": "OBJECT_FREED",
    "ObjectLostError": "OBJECT_LOST",
    "OutOfMemoryError": "OUT_OF_MEMORY",
    "OwnerDiedError": "OWNER_DIED",
    "RuntimeEnvSetupError": "RUNTIME_ENV_SETUP_FAILED",
    "TaskCancelledError": "TASK_CANCELLED",
    "TaskPlacementGroupRemoved": "TASK_PLACEMENT_GROUP_REMOVED",
    "TaskUnschedulableError": "TASK_UNSCHEDULABLE_ERROR",
    "WorkerCrashedError": "WORKER_DIED",
}


class Failure(NamedTuple):
    """What became of one call. It does not keep the call's values alive."""

    kind: str  # in Ray's spelling
    text: Any  # or the pickled exception (small ones), which is read when somebody asks
    stream: Any
    number: int
    method: int
    function: str  # of a task that never left

    def message(self) -> str:
        """Return the text."""
        text = text_of(self.text) if isinstance(self.text, bytes) else str(self.text)
        return text[-LONGEST:]


def outcome(failure: Failure | None) -> dict[str, Any]:
    """Return what a row says of a call that has ended; `failure` is None if it succeeded."""
    if failure is None:
        return {"state": FINISHED}
    said = {"error_type": failure.kind, "error_message": failure.message()}
    return {"state": FAILED, **said}


def failure_of(result: Result, state: int, value: Any) -> Failure:
    """Return what is to be kept of a call that is about to be settled with an error.

    Args:
        result: The call.
        state: USER_ERROR or ERROR.
        value: The pickled exception; or the error, or its form on the wire.
    """
    text: Any
    if state == USER_ERROR:
        kind = "TASK_EXECUTION_EXCEPTION"
        payload = value[0] if isinstance(value, tuple | list) else value
        text = bytes(payload) if len(payload) <= _UNREAD else text_of(payload)[-LONGEST:]
    elif isinstance(value, BaseException):
        kind, text = _kind(type(value).__name__), str(value)[:LONGEST]
    else:
        kind, text = _kind(str(value[0])), str(value[1])[:LONGEST]
    function = getattr(result, "function", None)
    name = function[1] if function else ""
    return Failure(kind, text, result.stream, result.number, result.method, name)


def _kind(name: str) -> str:
    return _KINDS.get(name, "SYSTEM_ERROR" if name in ("", "InternalError") else name)
