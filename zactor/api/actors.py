"""Actor classes, handles and methods: what `@remote` makes of a class, and what calls it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from zactor.api.session import process
from zactor.api.submission import MethodCall
from zactor.api.typed import Calls
from zactor.core.calls import Result
from zactor.exceptions import ActorClassInheritanceError
from zactor.ids import ActorID
from zactor.options import ActorOptions, MethodOptions
from zactor.runtime import current as processes
from zactor.runtime.calls.arguments import with_known_values
from zactor.runtime.calls.deadlines import ACTIVE
from zactor.runtime.calls.outgoing import BATCH_CALLS
from zactor.runtime.calls.refs import ObjectRef
from zactor.runtime.calls.signatures import UNKNOWN, positional_range, signature
from zactor.serde.pickling import unpickle_plain
from zactor.serde.values import collect, dumps_args, loaded
from zactor.wire import batches
from zactor.wire.messages import Address

if TYPE_CHECKING:
    from zactor.core.calls import Stream
    from zactor.runtime.calls.actors import ActorView
    from zactor.runtime.objects.objects import Guard
    from zactor.runtime.process import Process

P = ParamSpec("P")
T = TypeVar("T")
Ref = TypeVar("Ref")

# Names under which zactor's own methods can be called, on every actor.
_OWN_METHODS = {
    "__ray_ready__": batches.READY,
    "__zactor_ready__": batches.READY,
    "__ray_call__": batches.APPLY,
    "__zactor_call__": batches.APPLY,
    "__ray_terminate__": batches.TERMINATE,
    "__zactor_terminate__": batches.TERMINATE,
}


class ActorMethod(Calls[P, Ref]):
    """A method of an actor: `.remote(...)` calls it, `.options(...)` says how."""

    __slots__ = (
        "_guard",
        "_handle",
        "_least",
        "_most",
        "_name",
        "_number",
        "_options",
        "_plain",
        "_retries",
        "_stream",
    )

    def __init__(
        self, handle: ActorHandle[Any], name: str, number: int, options: MethodOptions
    ) -> None:
        self._name = name
        self._number = number
        self._options = options
        self._guard = handle._guard
        self._retries = options.max_task_retries or 0
        self._stream: Stream = handle._open_stream()
        # What a handle needs to be made again; the handle itself would make a cycle, and its end
        # would wait for the garbage collector.
        self._handle = handle._facts
        # How many arguments will do; calls with others, or with keywords, are looked at closely.
        self._least, self._most = positional_range(self._parameters())
        self._plain = (
            options.num_returns in (None, 1)
            and not options.retry_exceptions
            and options.timeout is None
            and options.concurrency_group is None
            and handle._facts.max_pending_calls < 0
            and options.on_full != "wait"
            and number != batches.APPLY
        )

    def _submit(self, *args: Any, **kwargs: Any) -> Any:
        """Submit a call; return its ObjectRef (or as many as `num_returns` says).

        Does not wait. Calls from this process to one plain actor start in the order submitted.

        Raises:
            TypeError: The arguments do not fit the method's signature.
            SerializationError: An argument cannot be pickled.
            PendingCallsLimitExceeded: More calls wait than the limits allow.
        """
        if self._plain and not kwargs and self._least <= len(args) <= self._most and not ACTIVE:
            stream = self._stream
            if stream.is_open and stream.identity.is_current:
                if args:
                    for value in args:
                        if type(value) is ObjectRef:
                            known = with_known_values(args)
                            if known is None:
                                return MethodCall(self, args, kwargs).submit()
                            args = known
                            break
                    payload, buffers, refs = pickled = dumps_args(args, None, self._name)
                    if buffers or refs or len(payload) > _SMALL:
                        return MethodCall(self, args, kwargs, pickled).submit()
                    result = Result(
                        stream,
                        next(stream.numbers),
                        self._number,
                        payload,
                        self._guard,
                        self._retries,
                    )
                else:
                    result = Result(
                        stream,
                        next(stream.numbers),
                        self._number,
                        None,
                        self._guard,
                        self._retries,
                    )
                outgoing = stream.outgoing
                if outgoing is not None:
                    gathered = outgoing.gathered
                    gathered.append(result)
                    if outgoing.sent == outgoing.settled or len(gathered) >= BATCH_CALLS:
                        outgoing.flush()
                    elif not outgoing.is_gathering:
                        outgoing.start_gathering()
                    return ObjectRef(result)
        return MethodCall(self, args, kwargs).submit()

    if not TYPE_CHECKING:
        remote = _submit  # to checkers, it is as `Calls` says

    def _remote(self, args: Any = (), kwargs: Any = None, **options: Any) -> Any:
        """Submit a call with options of its own: what older Ray programs write."""
        method = self.options(**options) if options else self
        return method._submit(*(args or ()), **(kwargs or {}))

    def _parameters(self) -> str:
        """Return the method's parameters, see `runtime.calls.signatures`."""
        if self._number < 0:
            return UNKNOWN
        found: str = self._handle.methods[self._number][1].get("takes", UNKNOWN)
        return found

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise TypeError if the arguments do not fit the method's signature."""
        if kwargs or not self._least <= len(args) <= self._most:
            try:
                signature(self._parameters()).bind(*args, **kwargs)
            except TypeError as error:
                name = f"{self._handle.class_name}.{self._name}"
                raise TypeError(f"{name}(): {error}") from None

    @overload
    def options(
        self, *, num_returns: int | str | None, **options: Any
    ) -> ActorMethod[P, Any]: ...
    @overload
    def options(self, **options: Any) -> ActorMethod[P, Ref]: ...
    def options(self, **options: Any) -> Any:
        """Return the method with other options for its calls.

        Raises:
            ValueError: An option is unknown or out of range.
            TypeError: A value is of the wrong type.
        """
        again: ActorMethod[P, Ref] = object.__new__(ActorMethod)
        for slot in ("_guard", "_handle", "_least", "_most", "_name", "_number", "_stream"):
            setattr(again, slot, getattr(self, slot))
        again._options = self._options.merged(**options)
        retries = again._options.max_task_retries
        again._retries = self._retries if retries is None else retries
        again._plain = False
        return again

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """Return a node of a call graph."""
        raise NotImplementedError("call graphs made with .bind() are not part of zactor")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"Actor methods cannot be called directly. Instead of running "
            f"'object.{self._name}()', try 'object.{self._name}.remote()'."
        )

    def __repr__(self) -> str:
        return f"ActorMethod({self._name})"

    def __reduce__(self) -> Any:
        return _load_method, (
            ActorHandle(self._handle, self._guard),
            self._name,
        )


_SMALL = 1 << 20


def _load_method(handle: ActorHandle[Any], name: str) -> ActorMethod[..., Any]:
    method: ActorMethod[..., Any] = getattr(handle, name)
    return method


class _Facts:
    """What a handle knows of its actor; shared by all handles and methods of it in a process."""

    __slots__ = (
        "actor_options",
        "class_name",
        "groups",
        "id",
        "is_async",
        "is_ordered",
        "max_pending_calls",
        "method_options",
        "methods",
        "numbers",
        "owner",
        "view",
    )

    def __init__(self, entry: dict[str, Any], owner: Address | None, view: ActorView) -> None:
        self.id: bytes = entry["id"]
        self.class_name: str = entry.get("class_name") or "Actor"
        self.methods: list[list[Any]] = entry.get("methods") or []
        self.method_options: dict[str, MethodOptions] = {}  # by name, once it was asked for
        self.numbers = {row[0]: number for number, row in enumerate(self.methods)}
        self.max_pending_calls: int = entry.get("max_pending_calls", -1)
        options = entry.get("options") or {}
        self.groups: list[str] | None = options.get("groups")
        self.is_ordered: bool = options.get("ordered", True)
        self.is_async: bool = entry.get("is_async", False)
        self.actor_options = ActorOptions.of(
            max_task_retries=entry.get("max_task_retries", 0),
            **({"on_full": options["on_full"]} if options.get("on_full") else {}),
        )
        self.owner = owner
        self.view = view

    def of(self, actor: bytes, owner: Address | None, view: ActorView) -> _Facts:
        """Return the facts of another actor of the same kind."""
        other = object.__new__(_Facts)
        for slot in _SAME:
            setattr(other, slot, getattr(self, slot))
        other.id, other.owner, other.view = actor, owner, view
        return other

    def entry(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {
            "id": self.id,
            "class_name": self.class_name,
            "methods": self.methods,
            "max_pending_calls": self.max_pending_calls,
            "max_task_retries": self.actor_options.max_task_retries,
            "is_async": self.is_async,
            "options": {
                "ordered": self.is_ordered,
                "on_full": self.actor_options.on_full,
                "groups": self.groups,
            },
        }


_SAME = tuple(slot for slot in _Facts.__slots__ if slot not in ("id", "owner", "view"))


class ActorHandle(Generic[T]):
    """What a caller holds of an actor: its methods, with `.remote`.

    Can be passed to calls, returned, stored and pickled. An actor that is not detached ends when
    its last handle is gone, after the calls that were submitted. Handles that `get_actor` returns do
    not keep it. Two handles are equal if they name the same actor.
    """

    _facts: _Facts
    _guard: Guard | None

    def __init__(self, facts: _Facts, guard: Guard | None) -> None:
        self._facts = facts
        self._guard = guard

    def __getattr__(self, name: str) -> ActorMethod[..., Any]:
        facts = self._facts
        number = facts.numbers.get(name)
        if number is not None:
            known = facts.method_options.get(name)
            if known is None:
                about = facts.methods[number][1]
                known = MethodOptions.of(**_method_options(about)).under(facts.actor_options)
                facts.method_options[name] = known
            options = known
        elif name in _OWN_METHODS:
            number = _OWN_METHODS[name]
            options = MethodOptions().under(facts.actor_options)
        else:
            raise AttributeError(f"'{facts.class_name}' object has no attribute '{name}'")
        method: ActorMethod[..., Any] = ActorMethod(self, name, number, options)
        setattr(self, name, method)  # the next look-up is a plain one
        return method

    def _open_stream(self) -> Stream:
        runtime = process()
        return runtime.actors.stream(self._facts.view, runtime.identity)

    @property
    def _actor_id(self) -> ActorID:
        return ActorID(self._facts.id)

    _ray_actor_id = _actor_id

    def reference(self, runtime: Process) -> tuple[bytes, bytes] | None:  # noqa: ARG002
        """Return `(actor id, owner's process id)` if this handle keeps the actor, else None."""
        if self._guard is None or self._facts.owner is None:
            return None
        return self._facts.id, self._facts.owner.process

    def __reduce__(self) -> Any:
        runtime = processes.current()
        facts = self._facts
        owner = facts.owner if self._guard is not None else None
        if not collect(self) and self._guard is not None and runtime is not None:
            runtime.objects.keep_for_ever(self._guard)
        return _load_handle, (facts.entry(), list(owner) if owner is not None else None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and self._facts.id == other._facts.id

    def __hash__(self) -> int:
        return hash(self._facts.id)

    def __dir__(self) -> list[str]:
        return sorted(
            [
                "__init__",
                "__ray_ready__",
                "__ray_call__",
                "__ray_terminate__",
                *self._facts.numbers,
            ]
        )

    def __repr__(self) -> str:
        return f"Actor({self._facts.class_name}, {self._facts.id.hex()})"

    def __copy__(self) -> ActorHandle[T]:
        return self

    def __deepcopy__(self, memo: Any) -> ActorHandle[T]:
        return self


def _method_options(about: dict[str, Any]) -> dict[str, Any]:
    names = {
        "returns": "num_returns",
        "group": "concurrency_group",
        "retries": "max_task_retries",
        "timeout": "timeout",
        "on_full": "on_full",
        "backpressure": "_generator_backpressure_num_objects",
    }
    options = {names[key]: value for key, value in about.items() if key in names}
    kinds = about.get("retry")
    if kinds:
        options["retry_exceptions"] = kinds if kinds is True else unpickle_plain(kinds)
    return options


def _load_handle(entry: dict[str, Any], owner: list[Any] | None) -> ActorHandle[Any]:
    runtime = processes.current()
    if runtime is None:
        raise RuntimeError("an actor handle was unpickled before zactor.init()")
    place = Address._make(owner) if owner is not None else None
    guard = runtime.objects.guard(entry["id"], place) if place is not None else None
    handle: ActorHandle[Any] = ActorHandle(
        _Facts(entry, place, runtime.actors.view(entry["id"])), guard
    )
    loaded(handle)
    return handle


def weak_handle(entry: dict[str, Any]) -> ActorHandle[Any]:
    """Return a handle, made of a directory entry, that does not keep the actor."""
    runtime = process()
    return ActorHandle(_Facts(entry, None, runtime.actors.view(entry["id"], entry)), None)


def own_handle(spec: dict[str, Any]) -> ActorHandle[Any]:
    """Return a handle of the actor that runs here, which does not keep it."""
    view = process().actors.view(spec["id"])
    return ActorHandle(_Facts(spec, None, view), None)


class ActorClass(Calls[..., ActorHandle[T]], Generic[T]):
    """What `@remote` makes of a class: `.remote(...)` creates an actor, `.options(...)` says how."""

    def __init__(self, cls: type[T], options: ActorOptions) -> None:
        self._class = cls
        self._options = options
        self._pattern: Any = None  # what its actors have in common (api.creation)
        self.__name__ = cls.__name__
        self.__qualname__ = cls.__qualname__
        self.__module__ = cls.__module__
        self.__doc__ = cls.__doc__
        self._check()

    def _check(self) -> None:
        from zactor.runtime.calls.methods import is_async_class

        self._options.resolved(is_async=is_async_class(self._class))

    def __mro_entries__(self, bases: Any) -> Any:
        raise ActorClassInheritanceError

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self._class.__name__
        raise TypeError(
            f"Actors cannot be instantiated directly. Instead of '{name}()', use '{name}.remote()'."
        )

    def _create(self, *args: Any, **kwargs: Any) -> ActorHandle[T]:
        """Create an actor and return its handle; does not wait for it to come up.

        Raises:
            TypeError: The arguments do not fit the constructor.
            ActorAlreadyExistsError: The name is taken.
        """
        from zactor.api.creation import create

        return create(self, self._options, args, kwargs)

    if not TYPE_CHECKING:
        remote = _create  # to checkers, it is as `Calls` says

    def _remote(self, args: Any = (), kwargs: Any = None, **options: Any) -> ActorHandle[T]:
        """Create an actor with options of its own: what older Ray programs write."""
        actor_class = self.options(**options) if options else self
        return actor_class._create(*(args or ()), **(kwargs or {}))

    def options(self, **options: Any) -> ActorClass[T]:
        """Return the class with other options for the actors made of it.

        Raises:
            ValueError: An option is unknown or out of range.
            TypeError: A value is of the wrong type.
        """
        return ActorClass(self._class, self._options.merged(**options))

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """Return a node of a call graph."""
        raise NotImplementedError("call graphs made with .bind() are not part of zactor")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._class, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self._class)})

    def __repr__(self) -> str:
        return f"ActorClass({self._class.__name__})"

    def __reduce__(self) -> Any:
        return ActorClass, (self._class, self._options)


def modify_class(cls: type[T]) -> type[T]:
    """Check that a class can become an actor class."""
    if isinstance(cls, ActorClass):
        raise TypeError("the class is an actor class already")
    return cls


def fresh_actor_id() -> bytes:
    """Return the id of a new actor."""
    return os.urandom(12)
