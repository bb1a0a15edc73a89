"""Every error that zactor raises.

    ZactorError
    ├─ TaskError                      user code raised; also an instance of the user's class
    ├─ TaskCancelledError
    ├─ UserCodeException              for libraries that wrap what their users' code raised
    ├─ ActorError
    │  ├─ ActorDiedError              gone for good
    │  └─ ActorUnavailableError       out of reach now, may come back
    ├─ ActorAlreadyExistsError        ValueError    the name is taken
    ├─ ActorHandleNotFoundError       ValueError    a handle of another session or cluster
    ├─ ActorClassInheritanceError     TypeError     an actor class was subclassed
    ├─ ActorUnschedulableError, ActorPlacementGroupRemoved
    ├─ TaskUnschedulableError, TaskPlacementGroupRemoved
    ├─ PendingCallsLimitExceeded      too many calls wait already
    ├─ WorkerCrashedError             the process that ran the task died
    ├─ LocalNodeDiedError, NodeDiedError
    ├─ OutOfMemoryError
    ├─ ObjectStoreFullError
    │  └─ OutOfDiskError
    ├─ ObjectLostError
    │  ├─ ObjectFetchTimedOutError
    │  ├─ ObjectFreedError
    │  ├─ ObjectReconstructionFailedError
    │  ├─ OwnerDiedError
    │  └─ ReferenceCountingAssertionError    AssertionError
    ├─ GetTimeoutError                TimeoutError  `get(timeout=)` ran out; the call goes on
    ├─ DeadlineExceededError          TimeoutError  the call's own `timeout=` ran out
    ├─ DeadlockError                  RuntimeError  a wait that could never end
    ├─ SerializationError             TypeError
    │  └─ OutOfBandObjectRefSerializationError
    ├─ UnserializableException        a result's exception cannot be unpickled here
    ├─ DefinitionError                ImportError   a class or function cannot be loaded here
    ├─ RuntimeEnvSetupError
    ├─ StateApiError                  part of the cluster did not say what it has
    ├─ ObjectRefStreamEndOfStreamError
    ├─ AsyncioActorExit
    ├─ AuthenticationError
    ├─ SessionLostError               ConnectionError
    ├─ CrossLanguageError             never raised; for `except` clauses
    ├─ ProtocolError
    │  ├─ LocalProtocolError          we would have broken the protocol
    │  └─ RemoteProtocolError         a peer did
    └─ ZactorSystemError
       ├─ InternalError               a bug in zactor
       └─ StreamingGeneratorReplayInconsistentError

Ray's own names for these stand at the bottom of the module.

An error is a message and fields; its text is made of both when it is asked for. Whatever is said
of an actor or a worker has `executed`: whether the call ran ("no", "yes", "unknown", and the
last only where nobody can know).

Does no I/O, and pickles nothing itself (`serde.exceptions` does).

Invariants
    X1  Every error pickles and copies with all its fields, its notes, and whatever was set on it.
    X2  Every error crosses the wire as `[kind, text, fields]`; an unknown kind still arrives.
"""

from __future__ import annotations

from zactor.exceptions.root import Executed, ZactorError
from zactor.exceptions.task import TaskError
from zactor.exceptions.tree import (
    ActorAlreadyExistsError,
    ActorClassInheritanceError,
    ActorDiedError,
    ActorError,
    ActorHandleNotFoundError,
    ActorPlacementGroupRemoved,
    ActorUnavailableError,
    ActorUnschedulableError,
    AsyncioActorExit,
    AuthenticationError,
    CrossLanguageError,
    DeadlineExceededError,
    DeadlockError,
    DefinitionError,
    GetTimeoutError,
    InternalError,
    LocalNodeDiedError,
    LocalProtocolError,
    NodeDiedError,
    ObjectFetchTimedOutError,
    ObjectFreedError,
    ObjectLostError,
    ObjectReconstructionFailedError,
    ObjectRefStreamEndOfStreamError,
    ObjectStoreFullError,
    OutOfBandObjectRefSerializationError,
    OutOfDiskError,
    OutOfMemoryError,
    OwnerDiedError,
    PendingCallsLimitExceeded,
    ProtocolError,
    ReferenceCountingAssertionError,
    RemoteProtocolError,
    RuntimeEnvSetupError,
    SerializationError,
    SessionLostError,
    StateApiError,
    StreamingGeneratorReplayInconsistentError,
    TaskCancelledError,
    TaskPlacementGroupRemoved,
    TaskUnschedulableError,
    UnserializableException,
    UserCodeException,
    WorkerCrashedError,
    ZactorSystemError,
)
from zactor.exceptions.wire import from_wire, to_wire

# Ray's names, for programs that `import zactor as ray`.
RayError = ZactorError
RayTaskError = TaskError
RayActorError = ActorError
RaySystemError = ZactorSystemError
LocalRayletDiedError = LocalNodeDiedError
ActorClassInheritanceException = ActorClassInheritanceError
OufOfBandObjectRefSerializationException = OutOfBandObjectRefSerializationError

__all__ = [
    "ActorAlreadyExistsError",
    "ActorClassInheritanceError",
    "ActorClassInheritanceException",
    "ActorDiedError",
    "ActorError",
    "ActorHandleNotFoundError",
    "ActorPlacementGroupRemoved",
    "ActorUnavailableError",
    "ActorUnschedulableError",
    "AsyncioActorExit",
    "AuthenticationError",
    "CrossLanguageError",
    "DeadlineExceededError",
    "DeadlockError",
    "DefinitionError",
    "Executed",
    "GetTimeoutError",
    "InternalError",
    "LocalNodeDiedError",
    "LocalProtocolError",
    "LocalRayletDiedError",
    "NodeDiedError",
    "ObjectFetchTimedOutError",
    "ObjectFreedError",
    "ObjectLostError",
    "ObjectReconstructionFailedError",
    "ObjectRefStreamEndOfStreamError",
    "ObjectStoreFullError",
    "OufOfBandObjectRefSerializationException",
    "OutOfBandObjectRefSerializationError",
    "OutOfDiskError",
    "OutOfMemoryError",
    "OwnerDiedError",
    "PendingCallsLimitExceeded",
    "ProtocolError",
    "RayActorError",
    "RayError",
    "RaySystemError",
    "RayTaskError",
    "ReferenceCountingAssertionError",
    "RemoteProtocolError",
    "RuntimeEnvSetupError",
    "SerializationError",
    "SessionLostError",
    "StateApiError",
    "StreamingGeneratorReplayInconsistentError",
    "TaskCancelledError",
    "TaskError",
    "TaskPlacementGroupRemoved",
    "TaskUnschedulableError",
    "UnserializableException",
    "UserCodeException",
    "WorkerCrashedError",
    "ZactorError",
    "ZactorSystemError",
    "from_wire",
    "to_wire",
]
