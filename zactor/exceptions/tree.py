"""The errors below `ZactorError`, all but `TaskError`: their fields and their words."""

from __future__ import annotations

from typing import Any, ClassVar

from zactor.exceptions.root import EXECUTED_TEXT, Executed, ZactorError
from zactor.exceptions.task import TaskError


class UserCodeException(ZactorError):  # noqa: N818 - Ray's name
    """For libraries on top of zactor: what their users' code raised, wrapped."""


class TaskCancelledError(ZactorError):
    """The call was cancelled, by `cancel` or because its caller was."""

    task_id: str = ""
    executed: Executed = "unknown"

    def __str__(self) -> str:
        task = f"Task: {self.task_id} was cancelled." if self.task_id else "Task was cancelled."
        return "\n".join(part for part in (task, self.message, self._outcome()) if part)

    error_message = property(lambda self: self.message)


# -- actors -------------------------------------------------------------------------------------


class ActorError(ZactorError):
    """A call to an actor has no result, for a reason that is the actor's, not the method's."""

    _headline = "The actor experienced an error before finishing this task."

    actor_id: str = ""
    class_name: str = ""
    name: str = ""
    namespace: str = ""
    method: str = ""
    node_id: str = ""
    pid: int = 0
    actor_init_failed: bool = False
    preempted: bool = False
    cause: BaseException | None = None
    executed: Executed = "unknown"

    def __str__(self) -> str:
        lines = [
            self._headline,
            f"  actor: {self._who()}",
            f"  why: {self.message or 'not known'}",
        ]
        lines += [f"  {self._outcome()}", f"  {self._advice}" if self._advice else ""]
        return "\n".join(line for line in lines if line)

    def _who(self) -> str:
        text = self.class_name or "an actor"
        if self.name:
            text += f" {self.name!r}"
        if self.namespace:
            text += f" in namespace {self.namespace!r}"
        if self.actor_id:
            text += f" (id {self.actor_id})"
        if self.pid:
            text += f", pid {self.pid}"
        if self.node_id:
            text += f", on node {self.node_id}"
        return text

    def _outcome(self) -> str:
        return f"The call{f' {self.method}()' if self.method else ''} {EXECUTED_TEXT[self.executed]}"

    @property
    def error_msg(self) -> str:
        """The whole text."""
        return str(self)


class ActorDiedError(ActorError):
    """The actor is dead and will not be restarted.

    With `actor_init_failed` its constructor raised, and `cause` is that TaskError. Name it
    `max_restarts` to have it started again after a crash.
    """

    _headline = "The actor died unexpectedly before finishing this task."

    def __init__(self, message: Any = "", **fields: Any) -> None:
        if isinstance(message, TaskError):
            fields = {"cause": message, "actor_init_failed": True, "executed": "no"} | fields
            fields.setdefault("actor_id", message.actor_id)
            message = ""
        super().__init__(message, **fields)

    def __str__(self) -> str:
        if not self.actor_init_failed:
            return super().__str__()
        cause: Any = self.cause  # or still as it came over the wire: [kind, text, fields]
        why = cause[1] if isinstance(cause, list | tuple) else str(cause or self.message)
        return (
            f"The actor died because of an error raised in its creation task, {why}\n"
            f"  actor: {self._who()}\n  {self._outcome()}"
        )

    @staticmethod
    def from_task_error(task_error: TaskError) -> ActorDiedError:
        """Return the error of an actor whose constructor raised `task_error`."""
        return ActorDiedError(task_error)


class ActorUnavailableError(ActorError):
    """The actor cannot be reached now: it is being restarted, or its node does not answer.

    `executed="unknown"` means that the call was on its way; send it again only if running it
    twice is harmless. The handle stays good.
    """

    _advice = "Calls made later may succeed; max_task_retries sends such calls again."

    def __str__(self) -> str:
        why = self.message or "it does not answer"
        return f"The actor {self._who()} is unavailable: {why}.\n  {self._outcome()}\n  {self._advice}"


class ActorAlreadyExistsError(ZactorError, ValueError):
    """The name is taken by a living actor."""

    name: str = ""
    namespace: str = ""
    actor_id: str = ""
    executed: Executed = "no"

    def __str__(self) -> str:
        space = f" (namespace={self.namespace})"
        return self.message or (
            f"The name {self.name}{space} is already taken. Please use a different name, get the "
            f"existing actor by get_actor({self.name!r}, namespace={self.namespace!r}), or pass "
            "get_if_exists=True."
        )

    error_message = property(__str__)


class ActorHandleNotFoundError(ZactorError, ValueError):
    """The handle belongs to another session or cluster."""

    _headline = "The actor handle is not known in this session."

    actor_id: str = ""
    executed: Executed = "no"
    error_message = property(str)


class ActorClassInheritanceError(ZactorError, TypeError):
    """A class tried to inherit from an actor class; let it inherit from the plain class."""

    _headline = (
        "Inheriting from actor classes is not currently supported. Let a plain class be the base, "
        "and make actor classes of what inherits from it."
    )


class PendingCallsLimitExceeded(ZactorError):  # noqa: N818 - Ray's name
    """A queue for calls is at its limit: the handle's `max_pending_calls`, or the actor's mailbox."""

    _headline = "Too many calls are pending."

    actor_id: str = ""
    class_name: str = ""
    method: str = ""
    limit: int = 0
    executed: Executed = "no"


class ActorUnschedulableError(ZactorError):
    """No node can take the actor, now or later."""

    actor_id: str = ""
    class_name: str = ""
    executed: Executed = "no"
    error_message = property(lambda self: self.message)

    def __str__(self) -> str:
        return f"The actor {self.class_name}{' ' * bool(self.class_name)}is not schedulable: {self.message}"


class ActorPlacementGroupRemoved(ZactorError):  # noqa: N818 - Ray's name
    """The actor's placement group was removed, and the actor with it."""

    _headline = "The placement group corresponding to this Actor has been removed."

    actor_id: str = ""
    executed: Executed = "unknown"


# -- tasks and workers --------------------------------------------------------------------------


class TaskUnschedulableError(ZactorError):
    """No node can take the task, now or later."""

    executed: Executed = "no"
    error_message = property(lambda self: self.message)

    def __str__(self) -> str:
        return f"The task is not schedulable: {self.message}"


class TaskPlacementGroupRemoved(ZactorError):  # noqa: N818 - Ray's name
    """The task's placement group was removed, and the task with it."""

    _headline = "The placement group corresponding to this task has been removed."

    executed: Executed = "unknown"


class _WorkerLostError(ZactorError):
    """What ran the call is gone. Not raised itself."""

    function_name: str = ""
    node_id: str = ""
    pid: int = 0
    executed: Executed = "unknown"

    def __str__(self) -> str:
        what = f" running {self.function_name}()" * bool(self.function_name)
        pid = f" pid {self.pid}" * bool(self.pid)
        node = f" on node {self.node_id}" * bool(self.node_id)
        place = f"  where:{pid}{node}{what}" if pid or node or what else ""
        parts = [self._headline, self.message, place, self._outcome(), self._advice]
        return "\n".join(part for part in parts if part)


class WorkerCrashedError(_WorkerLostError):
    """The worker process died while it ran the task."""

    _headline = "The worker died unexpectedly while executing this task."
    _advice = "max_retries runs such tasks again; `zactor logs` has the worker's last output."


class LocalNodeDiedError(_WorkerLostError):
    """The node process of this machine died."""

    _headline = "The task's local node died."


class NodeDiedError(_WorkerLostError):
    """A node is dead, or did not renew its lease."""

    _headline = "The node is dead or cannot be reached."


class OutOfMemoryError(_WorkerLostError):
    """The worker was ended because its machine ran out of memory."""

    _headline = "The worker was killed because memory ran out."
    _advice = "Give the task or actor `memory=`, run fewer at a time, or use a larger machine."


# -- objects ------------------------------------------------------------------------------------


class ObjectStoreFullError(ZactorError):
    """The value does not fit into the shared-memory store, even after evicting and spilling."""

    _advice = (
        "The local object store is full of objects that are still in scope and cannot be "
        "evicted. Drop references, or start with a larger object_store_memory."
    )

    size: int = 0
    capacity: int = 0
    node_id: str = ""


class OutOfDiskError(ObjectStoreFullError):
    """The object store is full, and so is the disk that it would spill to."""

    _advice = (
        "The object cannot be created: the store is full and so is the local disk. Drop "
        "references, or make room in the session directory's file system (ZACTOR_TMPDIR)."
    )


class ObjectLostError(ZactorError):
    """The value of a reference is gone, and cannot be made again."""

    object_ref_hex: str = ""
    owner_address: Any = None
    call_site: str = ""
    executed: Executed = "unknown"

    _why: ClassVar[str] = "All copies have been lost due to node failure."

    def __str__(self) -> str:
        text = f"Failed to retrieve object {self.object_ref_hex or '(unknown)'}."
        if self.call_site:
            text += f" The ObjectRef was created at: {self.call_site}"
        return f"{text}\n{self.message or self._why}"


class ObjectFetchTimedOutError(ObjectLostError):
    """No node that has the object could deliver it in time."""

    _why = "Fetching it timed out: no node that has it answered."


class ObjectFreedError(ObjectLostError):
    """The value was freed by hand."""

    _why = "The object was manually freed while references to it were held."


class OwnerDiedError(ObjectLostError):
    """The process or actor that owned the value is gone, and its values with it."""

    _why = (
        "The object's owner has exited: the process or actor that made the ObjectRef by "
        "`.remote()` or `put`. Let an actor that lives long enough make it."
    )


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """The value was freed though a reference was held: a bug in zactor."""

    _why = "The object was freed while it was referenced. This is a bug in zactor."


class ObjectReconstructionFailedError(ObjectLostError):
    """The value was lost and could not be made again, for `reason`."""

    REASONS: ClassVar[dict[str, str]] = {
        "MAX_ATTEMPTS": "its task was run again max_retries times; raise max_retries.",
        "LINEAGE_EVICTED": "the record of the task that made it was dropped to bound memory.",
        "ACTOR_DIED": "the actor whose call made it is dead.",
        "PUT": "it was made by put(), so no task can make it again; return it from a task.",
        "RETRIES_DISABLED": "its task has max_retries=0, or its actor max_task_retries=0.",
        "BORROWED": "only its owner can make it again, and this process is not the owner.",
        "REF_NOT_FOUND": "its owner does not know the reference.",
        "TASK_CANCELLED": "the task that makes it was cancelled.",
        "LINEAGE_DISABLED": "making lost objects again is switched off.",
    }

    reason: str = ""

    @property
    def reason_message(self) -> str:
        """Why the value could not be made again."""
        why = self.REASONS.get(self.reason, "the reason is not known.")
        return self.message or f"The object cannot be reconstructed because {why}"

    def __str__(self) -> str:
        text = f"Failed to retrieve object {self.object_ref_hex or '(unknown)'}."
        return f"{text}\n[{self.reason or 'UNKNOWN'}] {self.reason_message}"


# -- waiting ------------------------------------------------------------------------------------


class GetTimeoutError(ZactorError, TimeoutError):
    """`get(timeout=)` ran out. The call goes on, and can be waited for again."""

    _headline = "Get timed out: some object(s) not ready."


class DeadlineExceededError(ZactorError, TimeoutError):
    """The call's own deadline passed, its `timeout=` or what was left of its parent's."""

    _headline = "The call's deadline passed before it had a result."

    actor_id: str = ""
    method: str = ""
    timeout: float | None = None
    executed: Executed = "unknown"


class DeadlockError(ZactorError, RuntimeError):
    """Waiting for this would never end: what it waits for waits for the waiter."""

    chain: tuple[str, ...] = ()  # the calls, each waiting for the next one
    executed: Executed = "no"

    def __str__(self) -> str:
        text = self.message or "This wait can never end, since the calls wait for each other."
        chain = "\n  waits for ".join(self.chain)
        return f"{text}\n  {chain}" if chain else text


class ObjectRefStreamEndOfStreamError(ZactorError):
    """A streaming generator has no more references."""


class AsyncioActorExit(ZactorError):  # noqa: N818 - Ray's name
    """Ends an async actor from within; `exit_actor` raises it."""


# -- values, definitions, environments ----------------------------------------------------------


class SerializationError(ZactorError, TypeError):
    """A value cannot be pickled, or not unpickled again.

    `path` is where in the value the trouble is, as in `argument 'x'.sessions['a'].lock`.
    """

    path: str = ""
    executed: Executed | None = None  # "no" for arguments, "yes" for results


class OutOfBandObjectRefSerializationError(SerializationError):
    """A reference was pickled outside of zactor, and the configuration forbids that."""


class UnserializableException(ZactorError):  # noqa: N818 - Ray's name
    """Stands for an exception that cannot be unpickled here; has its text."""

    _advice = "The exception's class is missing here, or cannot be rebuilt from its pickle."

    def __str__(self) -> str:
        return f"Failed to deserialize exception. {self._advice}\nOriginal exception:\n{self.message}"


class DefinitionError(ZactorError, ImportError):
    """A class or function cannot be loaded in this process, mostly for want of a module."""

    module: str = ""
    executed: Executed = "no"


class RuntimeEnvSetupError(ZactorError):
    """A runtime environment cannot be set up."""

    executed: Executed = "no"
    error_message = property(lambda self: self.message)

    def __str__(self) -> str:
        return f"Failed to set up runtime environment.\n{self.message}".rstrip()


class StateApiError(ZactorError):
    """A listing of the cluster's state is not whole: some of those who were asked did not answer."""

    _advice = "Pass raise_on_missing_output=False to have what is there."


# -- the system ---------------------------------------------------------------------------------


class ZactorSystemError(ZactorError):
    """Something in zactor or beneath it failed."""

    traceback_str: str = ""
    client_exc = property(lambda self: self.message)

    def __str__(self) -> str:
        trace = f"\ntraceback: {self.traceback_str}" if self.traceback_str else ""
        return f"System error: {self.message}{trace}"


class InternalError(ZactorSystemError):
    """A bug in zactor. Please report it, with this text."""

    _advice = "This is a bug in zactor; please report it with the lines above."

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self._advice}"


class StreamingGeneratorReplayInconsistentError(ZactorSystemError):
    """A generator that was run again yielded another number of values than before."""


class ProtocolError(ZactorError):
    """The wire protocol was broken."""


class LocalProtocolError(ProtocolError):
    """We were about to break it: a bug in zactor, or a misuse of its internals."""


class RemoteProtocolError(ProtocolError):
    """A peer broke it: garbage, or a version that does not fit ours."""


class AuthenticationError(ZactorError):
    """The cluster does not admit this process."""

    _advice = "Use the cluster file that the broker wrote: init(address=FILE)."


class SessionLostError(ZactorError, ConnectionError):
    """This driver's session is over: the cluster is gone, or declared the driver lost."""

    _headline = "The session with the cluster is over."
    _advice = "Call shutdown() and init() for a new one; handles and references of the old one are void."

    executed: Executed = "unknown"


class CrossLanguageError(ZactorError):
    """An exception of another language. zactor raises none; programs may name it."""
