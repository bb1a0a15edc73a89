"""The decorators: `@remote` on classes and functions, `@method` on methods."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from zactor.api.actors import ActorClass
from zactor.api.functions import RemoteFunction
from zactor.exceptions import ActorClassInheritanceError
from zactor.options import ActorOptions, MethodOptions, TaskOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from typing import Concatenate

    from zactor.api.generators import ObjectRefGenerator
    from zactor.api.typed import (
        C,
        ClassOf,
        K,
        Method,
        MethodDecorator,
        OpenMethodDecorator,
        OpenRemoteDecorator,
        RemoteDecorator,
        StreamingFunction,
    )
    from zactor.runtime.calls.refs import ObjectRef

P = ParamSpec("P")
R = TypeVar("R")
Y = TypeVar("Y")


@overload
def remote(definition: C, /) -> C: ...  # type: ignore[overload-overlap]
@overload
def remote(definition: K, /) -> ClassOf[K]: ...  # type: ignore[overload-overlap]
@overload
def remote(  # type: ignore[overload-overlap]
    definition: Callable[P, Iterator[Y]], /
) -> StreamingFunction[P, ObjectRefGenerator[Y]]: ...
@overload
def remote(definition: Callable[P, R], /) -> RemoteFunction[P, R]: ...
@overload
def remote(*, num_returns: int | str | None, **options: Any) -> OpenRemoteDecorator: ...
@overload
def remote(**options: Any) -> RemoteDecorator: ...
def remote(*args: Any, **options: Any) -> Any:
    """Make an actor class of a class, or a remote function of a function.

    Bare, or with options as keywords:

        @zactor.remote
        class Counter: ...

        @zactor.remote(num_cpus=2, max_retries=1)
        def work(x): ...

    Raises:
        ValueError: An option is unknown or out of range, or `async def` was given.
        TypeError: It was given something else, or a value of the wrong type.
    """
    if len(args) == 1 and not options and (callable(args[0])):
        return _make(args[0], {})
    if args or not options:
        raise TypeError(
            "The @zactor.remote decorator must be applied either with no arguments and no "
            "parentheses, for example '@zactor.remote', or with some arguments, for example "
            "'@zactor.remote(num_cpus=2, resources={\"CustomResource\": 1})'."
        )
    return lambda definition: _make(definition, options)


def _make(definition: Any, options: dict[str, Any]) -> Any:
    if isinstance(definition, ActorClass | RemoteFunction):
        raise TypeError(
            "The @zactor.remote decorator must be applied to a plain function or class, "
            f"not to {definition!r}"
        )
    if inspect.isclass(definition):
        if any(isinstance(base, ActorClass) for base in definition.__mro__):
            raise ActorClassInheritanceError
        return ActorClass(definition, ActorOptions.of(**options))
    if inspect.isfunction(definition) or inspect.isbuiltin(definition) or callable(definition):
        return RemoteFunction(definition, TaskOptions.of(**options))
    raise TypeError(
        "The @zactor.remote decorator must be applied to either a function or a class."
    )


@overload
def method(
    function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
) -> Method[P, Coroutine[Any, Any, R], ObjectRef[R]]: ...
@overload
def method(  # type: ignore[overload-overlap]
    function: Callable[Concatenate[Any, P], Iterator[Y]], /
) -> Method[P, Iterator[Y], ObjectRefGenerator[Y]]: ...
@overload
def method(  # type: ignore[overload-overlap]
    function: Callable[Concatenate[Any, P], AsyncIterator[Y]], /
) -> Method[P, AsyncIterator[Y], ObjectRefGenerator[Y]]: ...
@overload
def method(function: Callable[Concatenate[Any, P], R], /) -> Method[P, R, ObjectRef[R]]: ...
@overload
def method(*, num_returns: int | str | None, **options: Any) -> OpenMethodDecorator: ...
@overload
def method(**options: Any) -> MethodDecorator: ...
def method(*args: Any, **options: Any) -> Any:
    """Give a method of an actor class options of its own.

        @zactor.method(num_returns=2)
        def split(self, x): ...

    Raises:
        ValueError: An option is unknown or out of range.
    """
    if len(args) == 1 and not options and callable(args[0]):
        args[0].__zactor_method__ = MethodOptions()
        return args[0]
    if args or not options:
        raise ValueError(
            "The @zactor.method decorator must be applied using at least one of the arguments, "
            "for example '@zactor.method(num_returns=2)'."
        )
    record = MethodOptions.of(**options)

    def annotate(function: Any) -> Any:
        function.__zactor_method__ = record
        return function

    return annotate
