"""What `@remote`, `@method` and `.options()` accept: tables, records and scheduling strategies.

Pure: it knows which options exist and what they may be, not what they do.
"""

from zactor.options.records import (
    ASYNC_MAX_CONCURRENCY,
    DEFAULT_MAX_RETRIES,
    ActorOptions,
    MethodOptions,
    RetryExceptions,
    TaskOptions,
)
from zactor.options.scheduling import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
    PlacementGroupSchedulingStrategy,
    SchedulingStrategy,
)
from zactor.options.tables import (
    ACTOR_OPTIONS,
    CALL_OPTIONS,
    METHOD_OPTIONS,
    TASK_OPTIONS,
    check_for_generator,
    check_quantity,
)

__all__ = [
    "ACTOR_OPTIONS",
    "ASYNC_MAX_CONCURRENCY",
    "CALL_OPTIONS",
    "DEFAULT_MAX_RETRIES",
    "METHOD_OPTIONS",
    "TASK_OPTIONS",
    "ActorOptions",
    "DoesNotExist",
    "Exists",
    "In",
    "MethodOptions",
    "NodeAffinitySchedulingStrategy",
    "NodeLabelSchedulingStrategy",
    "NotIn",
    "PlacementGroupSchedulingStrategy",
    "RetryExceptions",
    "SchedulingStrategy",
    "TaskOptions",
    "check_for_generator",
    "check_quantity",
]
