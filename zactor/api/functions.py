"""Remote functions: what `@remote` makes of a function, and how a task is submitted."""

from __future__ import annotations

import functools
import hashlib
import inspect
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from zactor.api.environments import check_environment, for_node, merged
from zactor.api.placing import placing_of
from zactor.api.session import process
from zactor.api.submission import call_extras, references
from zactor.api.typed import Calls
from zactor.core.calls import PENDING
from zactor.options import TaskOptions
from zactor.runtime.calls.arguments import are_here, complete, encode, wait_for_arguments
from zactor.runtime.calls.deadlines import deadline_of
from zactor.runtime.calls.refs import ObjectRef
from zactor.runtime.calls.several import Several
from zactor.runtime.calls.task_queues import TaskResult
from zactor.wire.batches import X_DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.api.typed import StreamingFunction
    from zactor.runtime.offered import Offered

P = ParamSpec("P")
R = TypeVar("R")


class RemoteFunction(Calls[P, ObjectRef[R]], Generic[P, R]):
    """What `@remote` makes of a function: `.remote(...)` runs it as a task, `.options(...)` says how."""

    def __init__(self, function: Callable[P, R], options: TaskOptions) -> None:
        if inspect.iscoroutinefunction(function):
            raise ValueError(
                "'async def' should not be used for remote tasks. You can wrap the async "
                "function with `asyncio.run(f())`, or make it a method of an actor."
            )
        if options.num_returns == "streaming" and not _is_generator(function):
            raise ValueError(
                f"num_returns='streaming' needs a generator function, and {function!r} has no yield"
            )
        self._function = function
        self._options = options
        self._queue: Any = None
        self._queue_of: Offered | None = None
        functools.update_wrapper(self, function)
        self.__zactor_definition__ = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self._function.__name__
        raise TypeError(
            f"Remote functions cannot be called directly. Instead of running '{name}()', "
            f"try '{name}.remote()'."
        )

    @overload
    def options(
        self, *, num_returns: int | str | None, **options: Any
    ) -> StreamingFunction[P, Any]: ...
    @overload
    def options(self, **options: Any) -> RemoteFunction[P, R]: ...
    def options(self, **options: Any) -> Any:
        """Return the function with other options for its tasks.

        Raises:
            ValueError: An option is unknown or out of range.
            TypeError: A value is of the wrong type.
        """
        return RemoteFunction(self._function, self._options.merged(**options))

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """Return a node of a call graph."""
        raise NotImplementedError("call graphs made with .bind() are not part of zactor")

    def _remote(self, args: Any = (), kwargs: Any = None, **options: Any) -> Any:
        """Submit a task with options of its own: what older Ray programs write."""
        function: Any = self.options(**options) if options else self
        return function._submit(*(args or ()), **(kwargs or {}))

    def _submit(self, *args: Any, **kwargs: Any) -> Any:
        """Submit a task; return its ObjectRef (or as many as `num_returns` says). Does not wait.

        Raises:
            TypeError: The arguments do not fit the function's signature.
            SerializationError: An argument cannot be pickled.
        """
        runtime = process()
        if self._queue_of is not runtime or self._queue.identity is not runtime.identity:
            self._prepare(runtime)
        if args or kwargs:
            self._check_signature(args, kwargs)
        result = self._make_result(runtime)
        extras = dict(self._extras)
        deadline = deadline_of(self._options.timeout)
        if deadline is not None:
            extras[X_DEADLINE] = deadline
            runtime.deadlines.expect(result, deadline, self._function.__name__)
        if self._options.name:
            runtime.caller.note_name(result, self._options.name)
        awaited = encode(runtime, result, args, kwargs, extras or None, self._function.__name__)
        if runtime.is_over is not None:
            result.settle(4, runtime.is_over)
        elif not are_here(awaited):
            wait_for_arguments(runtime, result, awaited, lambda r: _ready(runtime, r))
        elif complete(runtime, result):
            runtime.tasks.submit(result)
        return references(result, self._returns)

    if not TYPE_CHECKING:
        remote = _submit  # to checkers, it is as `Calls` says

    def _make_result(self, runtime: Offered) -> Any:
        number = next(runtime.identity.numbers)
        kind = _result_type(self._returns)
        stand_in = self._queue.identity
        result = kind(stand_in, number, 0, None, None, self._retries)
        if type(self._returns) is str:
            result.expect(self._returns, self._extras)
        elif self._returns != 1:
            result.expect(self._returns)
        result.function = self._named
        result.queue = self._queue
        result.max_calls = self._max_calls
        return result

    def _check_signature(self, args: Any, kwargs: Any) -> None:
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._function.__name__}(): {error}") from None

    def _prepare(self, runtime: Offered) -> None:
        options = self._options
        self._signature = inspect.signature(self._function)
        if options.num_returns is None and _is_generator(self._function):
            options = options.merged(num_returns="streaming")
        self._returns, self._extras = call_extras(options)
        self._retries = options.retries()
        self._max_calls = options.calls_per_worker()
        key = runtime.definitions.publish(self._function)
        self._named = (key, self._function.__name__)
        job = runtime.session.get("runtime_env") or {}
        env = for_node(merged(job, check_environment(options.runtime_env)))
        shape = {
            "resources": options.demand(),
            **placing_of(runtime, options, self._function.__qualname__),
            "label_selector": options.label_selector or {},
            "fallback": list(options.fallback_strategy or ()),
            "env": env,
            "job": runtime.job,
            "namespace": runtime.namespace,
            "session": runtime.inherited_session(),
        }
        digest = hashlib.blake2b(repr(sorted(shape.items())).encode(), digest_size=12).digest()
        self._queue = runtime.tasks.queue(digest, shape, runtime.identity)
        self._queue_of = runtime

    def __getstate__(self) -> Any:
        return {"_function": self._function, "_options": self._options}

    def __setstate__(self, state: Any) -> None:
        self.__init__(state["_function"], state["_options"])  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"RemoteFunction({self._function.__qualname__})"


def _is_generator(function: Any) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _result_type(returns: Any) -> Any:
    if returns == 1:
        return TaskResult
    if returns in ("streaming", "dynamic"):
        from zactor.runtime.calls.streaming import StreamingTask

        return StreamingTask
    return SeveralTask


class SeveralTask(Several):
    """The outcome of a task with several return values."""

    __slots__ = ("function", "has_run", "max_calls", "queue")


def _ready(runtime: Offered, result: Any) -> None:
    if result.state == PENDING and complete(runtime, result):
        runtime.tasks.submit(result)
