"""The options of a task, an actor, a method: checked, frozen, and merged by precedence.

A record is made from what a decorator got, and merged with what `.options()` got; what was not
given stays at its default. Precedence for calls of methods: the call, then `@method`, then the
actor's `.options()`, then its class's decorator, then the default.

Invariants
    O1  A record that exists is valid, alone and in combination.
    O2  Merging changes what is named and nothing else.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from zactor.options import scheduling, tables
from zactor.options.scheduling import PlacementGroupSchedulingStrategy, SchedulingStrategy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zactor.options.tables import Option

DEFAULT_MAX_RETRIES = 3
ASYNC_MAX_CONCURRENCY = 1000

RetryExceptions = bool | tuple[type[Exception], ...]

_PRIVATE = {
    "_generator_backpressure_num_objects": "generator_backpressure",
    "_num_objects_per_yield": "objects_per_yield",
    "_actor_generator_backpressure_num_objects": "actor_generator_backpressure",
    "_labels": "labels",
}


@dataclass(frozen=True, slots=True, init=False, repr=False, eq=False)
class _Record:
    """What the three kinds of options have in common. `given` are the names that were set."""

    _table: ClassVar[Mapping[str, Option]]
    _what: ClassVar[str]
    _decorator_only: ClassVar[tuple[str, ...]] = ()

    given: frozenset[str] = frozenset()

    @classmethod
    def of(cls, options: Mapping[str, Any] | None = None, /, **more: Any) -> Self:
        """Return the record of a decorator's options.

        Raises:
            ValueError: An option is unknown, its value out of range, or at odds with another.
            TypeError: A value is of the wrong type.
        """
        return cls()._with({**(options or {}), **more})

    def merged(self, **overrides: Any) -> Self:
        """Return a copy in which what `.options()` was given rules. Raises as `of`."""
        for name in self._decorator_only:
            if name in overrides:
                raise ValueError(f"Setting '{name}' is not supported in '.options()'.")
        return self._with(overrides)

    def _with(self, options: dict[str, Any]) -> Self:
        if not options:
            return self
        tables.validate(self._table, self._what, options)
        options = self._plain(options)
        changes = {_PRIVATE.get(name, name): value for name, value in options.items()}
        return dataclasses.replace(self, given=self.given | changes.keys(), **changes)

    @classmethod
    def _plain(cls, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options with old spellings replaced and lists made tuples."""
        options = dict(options)
        retry = options.get("retry_exceptions")
        if isinstance(retry, list | tuple):
            options["retry_exceptions"] = tuple(retry)
        for name, value in (options.get("label_selector") or {}).items():
            if value and " " in value:  # "in(a, b)": the broker reads it without the spaces
                selector = {**options["label_selector"], name: value.replace(" ", "")}
                options["label_selector"] = selector
        group = options.pop("placement_group", "default")
        index = options.pop("placement_group_bundle_index", -1)
        capture = options.pop("placement_group_capture_child_tasks", None)
        if group in ("default", None) and index != -1:
            raise ValueError(
                "If placement group is not set, the value of bundle index must be -1, not "
                f"{index!r}."
            )
        if group not in ("default", None):
            if options.get("scheduling_strategy") is not None:
                raise ValueError(
                    "Placement groups should be specified via the scheduling_strategy option. "
                    "The placement_group option is deprecated."
                )
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                group, index, capture
            )
        return options


@dataclass(frozen=True, slots=True, init=False, repr=False, eq=False)
class _Placed(_Record):
    """Options of what is placed on a node by the resources it needs."""

    name: str | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None
    memory: float | None = None
    resources: dict[str, float] | None = None
    accelerator_type: str | None = None
    object_store_memory: int | None = None
    runtime_env: dict[str, Any] | None = None
    scheduling_strategy: SchedulingStrategy | None = None
    label_selector: dict[str, str] | None = None
    fallback_strategy: list[dict[str, Any]] | None = None
    labels: dict[str, str] | None = None
    enable_task_events: bool = True

    def _demand(self) -> dict[str, float]:
        demand = dict(self.resources or {})
        if self.num_cpus is not None:
            demand["CPU"] = self.num_cpus
        if self.num_gpus is not None:
            demand["GPU"] = self.num_gpus
        if self.memory is not None:
            demand["memory"] = int(self.memory)
        if self.accelerator_type is not None:
            demand[f"accelerator_type:{self.accelerator_type}"] = 0.001
        return demand

    def strategy(self) -> str | dict[str, Any] | None:
        """Return the scheduling strategy as the broker reads it, without placement groups."""
        return scheduling.to_wire(self.scheduling_strategy)

    def placement_group(self) -> PlacementGroupSchedulingStrategy | None:
        """Return the placement group to run in; the strategy's `placement_group` may be None."""
        strategy = self.scheduling_strategy
        return strategy if isinstance(strategy, PlacementGroupSchedulingStrategy) else None


@dataclass(frozen=True, slots=True)
class TaskOptions(_Placed):
    """Options of a remote function."""

    _table = tables.TASK_OPTIONS
    _what = "remote functions"
    _decorator_only = ("max_calls",)

    num_returns: int | str | None = None
    max_calls: int | None = None
    max_retries: int | None = None
    retry_exceptions: RetryExceptions = False
    timeout: float | None = None
    generator_backpressure: int | None = None
    objects_per_yield: int | None = None

    def merged(self, **overrides: Any) -> TaskOptions:
        """Return a copy in which what `.options()` was given rules. Raises as `of`."""
        _keep_objects_per_yield(self, overrides, "task call")
        return super(TaskOptions, self).merged(**overrides)

    def demand(self) -> dict[str, float]:
        """Return what a run of the task holds: one CPU unless something else was asked for."""
        return {"CPU": 1, **self._demand()}

    def retries(self, default: int = DEFAULT_MAX_RETRIES) -> int:
        """Return how often to run again after a crash (-1: without limit)."""
        return default if self.max_retries is None else self.max_retries

    def calls_per_worker(self) -> int:
        """Return after how many runs a worker ends (0: never). One where GPUs are used."""
        if self.max_calls is not None:
            return self.max_calls
        return 1 if self.num_gpus else 0


@dataclass(frozen=True, slots=True)
class ActorOptions(_Placed):
    """Options of an actor class."""

    _table = tables.ACTOR_OPTIONS
    _what = "actors"
    _decorator_only = ("concurrency_groups",)

    namespace: str | None = None
    get_if_exists: bool = False
    lifetime: str | None = None
    max_restarts: int | None = 0
    max_task_retries: int | None = 0
    max_concurrency: int | None = None
    max_pending_calls: int | None = -1
    concurrency_groups: dict[str, int] | None = None
    allow_out_of_order_execution: bool | None = None
    isolation: str | None = None
    on_full: str | None = None
    enable_tensor_transport: bool | None = None
    actor_generator_backpressure: int | None = None

    def __post_init__(self) -> None:
        if self.get_if_exists and not self.name:
            raise ValueError("The actor name must be specified to use `get_if_exists`.")

    def resolved(self, *, is_async: bool) -> ActorOptions:
        """Return a copy for a class whose nature is known: no None where there is a default.

        Args:
            is_async: The class has `async def` methods.

        Raises:
            ValueError: Order is asked of an actor that runs several calls at a time.
        """
        concurrency = self.max_concurrency or (ASYNC_MAX_CONCURRENCY if is_async else 1)
        unordered = self.allow_out_of_order_execution
        if unordered is False and (is_async or concurrency > 1):
            kind = "async" if is_async else "multi-threaded"
            raise ValueError(
                f"If you're using {kind} actors, calls can't execute in order. Set "
                "`allow_out_of_order_execution=True` to allow out-of-order execution."
            )
        if self.isolation == "shared" and self.num_gpus:
            raise ValueError("isolation='shared' actors share their process and hold no GPUs.")
        return dataclasses.replace(
            self,
            max_concurrency=concurrency,
            allow_out_of_order_execution=unordered or is_async or concurrency > 1,
            max_restarts=self.max_restarts or 0,
            max_task_retries=self.max_task_retries or 0,
            max_pending_calls=-1 if self.max_pending_calls is None else self.max_pending_calls,
            concurrency_groups=dict(self.concurrency_groups or {}),
            isolation=self.isolation or "process",
            on_full=self.on_full or "raise",
        )

    def is_detached(self) -> bool:
        """Tell whether the actor outlives its creator."""
        return self.lifetime == "detached"

    def demand(self) -> dict[str, float]:
        """Return what a node must have for the actor to be placed there."""
        demand = self._demand()
        return demand if "CPU" in demand else {"CPU": 1, **demand}

    def running_demand(self) -> dict[str, float]:
        """Return what the actor holds for as long as it lives.

        Nothing (but memory) by default, so that idle actors cost no CPU; all of it if CPUs, GPUs
        or custom resources were asked for.
        """
        demand = self._demand()
        if demand.keys() <= {"memory"}:
            return demand
        return demand if "CPU" in demand else {"CPU": 1, **demand}


@dataclass(frozen=True, slots=True)
class MethodOptions(_Record):
    """Options of an actor's method: of `@method`, of `.options()` on it, or of both.

    None means that nothing was said there.
    """

    _table = tables.METHOD_OPTIONS
    _what = "actor methods"

    name: str | None = None
    num_returns: int | str | None = None
    concurrency_group: str | None = None
    max_task_retries: int | None = None
    retry_exceptions: RetryExceptions | None = None
    enable_task_events: bool | None = None
    tensor_transport: str | None = None
    timeout: float | None = None
    on_full: str | None = None
    generator_backpressure: int | None = None
    objects_per_yield: int | None = None

    def merged(self, **overrides: Any) -> MethodOptions:
        """Return a copy in which what `.options()` of the call was given rules.

        Raises:
            TypeError: As `of`, and for unknown options too: in Ray they are parameters.
            ValueError: As `of`.
        """
        unknown = overrides.keys() - tables.CALL_OPTIONS.keys()
        if unknown:
            raise TypeError(
                f"Invalid option keyword {min(unknown)} for calls of actor methods. Valid ones "
                f"are {sorted(tables.CALL_OPTIONS)}."
            )
        _keep_objects_per_yield(self, overrides, "actor method call")
        tables.validate(tables.CALL_OPTIONS, self._what, overrides)
        name = overrides.pop("name", self.name)
        return dataclasses.replace(self._with(overrides), name=name)

    def under(self, actor: ActorOptions) -> MethodOptions:
        """Return a copy in which the actor's options stand in for what was not said."""
        retries = self.max_task_retries
        return dataclasses.replace(
            self,
            max_task_retries=(actor.max_task_retries or 0) if retries is None else retries,
            retry_exceptions=False if self.retry_exceptions is None else self.retry_exceptions,
            on_full=self.on_full or actor.on_full or "raise",
        )


def _keep_objects_per_yield(
    record: TaskOptions | MethodOptions, overrides: dict[str, Any], what: str
) -> None:
    per_yield = overrides.get("_num_objects_per_yield")
    if per_yield is not None and per_yield != (record.objects_per_yield or 1):
        raise ValueError(
            f"_num_objects_per_yield cannot be overridden per {what}. Give it to the decorator."
        )
