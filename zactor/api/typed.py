"""Types of the API: what a checker knows of `.remote(...)`, of methods, and of actor classes.

Almost all of this exists for type checkers alone. At run time `Calls` is an empty base class and
`Actor` an empty one to inherit from. What a checker can know, and what not, stands in
docs/reference/typing.md. No behaviour is defined here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from typing import Concatenate, Protocol

    from zactor.api.actors import ActorClass, ActorHandle, ActorMethod
    from zactor.api.functions import RemoteFunction
    from zactor.api.generators import ObjectRefGenerator
    from zactor.runtime.calls.refs import ObjectRef

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
Y = TypeVar("Y")
Ref = TypeVar("Ref")


class Calls(Generic[P, Ref]):
    """Something with `.remote(...)` that takes the arguments `P` and returns `Ref`.

    An argument may also be a reference to a value of the right type. That is not expressible for a
    ParamSpec, so a call with a reference among its first five positional arguments is not checked.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        @overload
        def remote(self, *args: P.args, **kwargs: P.kwargs) -> Ref: ...
        @overload
        def remote(self, _a: ObjectRef[Any], /, *args: Any, **kwargs: Any) -> Ref: ...
        @overload
        def remote(self, _a: Any, _b: ObjectRef[Any], /, *args: Any, **kwargs: Any) -> Ref: ...
        @overload
        def remote(
            self, _a: Any, _b: Any, _c: ObjectRef[Any], /, *args: Any, **kwargs: Any
        ) -> Ref: ...
        @overload
        def remote(
            self, _a: Any, _b: Any, _c: Any, _d: ObjectRef[Any], /, *args: Any, **kwargs: Any
        ) -> Ref: ...
        @overload
        def remote(
            self,
            _a: Any,
            _b: Any,
            _c: Any,
            _d: Any,
            _e: ObjectRef[Any],
            /,
            *args: Any,
            **kwargs: Any,
        ) -> Ref: ...
        def remote(self, *args: Any, **kwargs: Any) -> Any:
            """Submit a call; return the reference of its result. Does not wait."""


class Actor:
    """A base for classes whose actors' methods a type checker shall know.

        @zactor.remote
        class Counter(zactor.Actor):
            @zactor.method
            def increment(self, by: int) -> int: ...

    To a checker `Counter.remote(...)` takes the constructor's arguments, and a handle has the type
    `Counter`: `counter.increment.remote(1)` takes an int and returns an `ObjectRef[int]`. At run
    time the base is empty and changes nothing.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        __ray_ready__: ActorMethod[[], ObjectRef[bool]]
        __zactor_ready__: ActorMethod[[], ObjectRef[bool]]
        __ray_call__: ActorMethod[..., Any]
        __zactor_call__: ActorMethod[..., Any]
        __ray_terminate__: ActorMethod[[], Any]
        __zactor_terminate__: ActorMethod[[], Any]

        @overload
        @classmethod
        def remote(cls: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...
        @overload
        @classmethod
        def remote(
            cls: Callable[..., T], _a: ObjectRef[Any], /, *args: Any, **kwargs: Any
        ) -> T: ...
        @overload
        @classmethod
        def remote(
            cls: Callable[..., T], _a: Any, _b: ObjectRef[Any], /, *args: Any, **kwargs: Any
        ) -> T: ...
        @overload
        @classmethod
        def remote(
            cls: Callable[..., T],
            _a: Any,
            _b: Any,
            _c: ObjectRef[Any],
            /,
            *args: Any,
            **kwargs: Any,
        ) -> T: ...
        @classmethod
        def remote(cls: Any, *args: Any, **kwargs: Any) -> Any:
            """Create an actor and return its handle; does not wait for it to come up."""

        @classmethod
        def options(cls: Callable[P, T], **options: Any) -> Creates[P, T]:
            """Return the class with other options for the actors made of it."""


if TYPE_CHECKING:

    class Creates(Calls[P, Ref]):
        """What `.options()` of an `Actor` class is, to a checker."""

        def options(self, **options: Any) -> Creates[P, Ref]: ...

    C = TypeVar("C", bound=type[Actor])
    K = TypeVar("K", bound=type[Any])
    F_co = TypeVar("F_co", bound=Callable[..., Any], covariant=True)

    class ClassOf(ActorClass[Any], Generic[F_co]):
        """What `@remote` makes of the class `F_co`, to a checker: it knows the constructor."""

        @overload
        def remote(
            self: ClassOf[Callable[P, T]], *args: P.args, **kwargs: P.kwargs
        ) -> ActorHandle[T]: ...
        @overload
        def remote(
            self: ClassOf[Callable[..., T]], _a: ObjectRef[Any], /, *args: Any, **kwargs: Any
        ) -> ActorHandle[T]: ...
        @overload
        def remote(
            self: ClassOf[Callable[..., T]],
            _a: Any,
            _b: ObjectRef[Any],
            /,
            *args: Any,
            **kwargs: Any,
        ) -> ActorHandle[T]: ...
        def remote(self, *args: Any, **kwargs: Any) -> Any: ...

        def options(self, **options: Any) -> ClassOf[F_co]: ...

    class BoundMethod(ActorMethod[P, Ref], Generic[P, R, Ref]):
        """A method seen through `self` (call it) or through a handle (`.remote`)."""

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

        @overload
        def options(
            self, *, num_returns: int | str | None, **options: Any
        ) -> BoundMethod[P, R, Any]: ...
        @overload
        def options(self, **options: Any) -> BoundMethod[P, R, Ref]: ...
        def options(self, **options: Any) -> Any: ...

    class Method(Generic[P, R, Ref]):
        """What `@method` makes of a function, to a checker."""

        def __get__(self, instance: Any, owner: Any) -> BoundMethod[P, R, Ref]: ...

    class MethodDecorator(Protocol):
        """What `@method(...)` with options is, to a checker."""

        @overload
        def __call__(
            self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
        ) -> Method[P, Coroutine[Any, Any, R], ObjectRef[R]]: ...
        @overload
        def __call__(  # type: ignore[overload-overlap]
            self, function: Callable[Concatenate[Any, P], Iterator[Y]], /
        ) -> Method[P, Iterator[Y], ObjectRefGenerator[Y]]: ...
        @overload
        def __call__(  # type: ignore[overload-overlap]
            self, function: Callable[Concatenate[Any, P], AsyncIterator[Y]], /
        ) -> Method[P, AsyncIterator[Y], ObjectRefGenerator[Y]]: ...
        @overload
        def __call__(
            self, function: Callable[Concatenate[Any, P], R], /
        ) -> Method[P, R, ObjectRef[R]]: ...

    class OpenMethodDecorator(Protocol):
        """What `@method(num_returns=...)` is, to a checker: what calls return is not known."""

        def __call__(
            self, function: Callable[Concatenate[Any, P], R], /
        ) -> Method[P, R, Any]: ...

    class RemoteDecorator(Protocol):
        """What `@remote(...)` with options is, to a checker."""

        @overload
        def __call__(self, definition: C, /) -> C: ...  # type: ignore[overload-overlap]
        @overload
        def __call__(self, definition: K, /) -> ClassOf[K]: ...  # type: ignore[overload-overlap]
        @overload
        def __call__(  # type: ignore[overload-overlap]
            self, definition: Callable[P, Iterator[Y]], /
        ) -> StreamingFunction[P, ObjectRefGenerator[Y]]: ...
        @overload
        def __call__(self, definition: Callable[P, R], /) -> RemoteFunction[P, R]: ...

    class OpenRemoteDecorator(Protocol):
        """What `@remote(num_returns=...)` is, to a checker: what calls return is not known."""

        def __call__(self, definition: Callable[P, Any], /) -> StreamingFunction[P, Any]: ...

    class StreamingFunction(Calls[P, Ref]):
        """What `@remote` makes of a function whose calls do not return one reference."""

        @overload
        def options(
            self, *, num_returns: int | str | None, **options: Any
        ) -> StreamingFunction[P, Any]: ...
        @overload
        def options(self, **options: Any) -> StreamingFunction[P, Ref]: ...
        def options(self, **options: Any) -> Any: ...
