"""Creating actors: the spec that goes to the broker, and the handle that comes back."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from zactor.api.environments import check_environment, for_node, merged
from zactor.api.session import process
from zactor.api.submission import undeclared_group
from zactor.core.calls import PENDING, Result
from zactor.exceptions import ActorAlreadyExistsError
from zactor.runtime.calls.arguments import complete, encode, wait_for_arguments
from zactor.runtime.calls.dependents import Constructor, fail_unconstructed
from zactor.runtime.calls.methods import describe_methods, is_async_class
from zactor.runtime.calls.refs import ObjectRef
from zactor.runtime.calls.values import LARGE
from zactor.serde.values import dumps_args
from zactor.wire.batches import X_FRAMES, X_REFS, X_SLOTS
from zactor.wire.messages import CreateActor, FindActor

if TYPE_CHECKING:
    from zactor.api.actors import ActorHandle
    from zactor.options import ActorOptions
    from zactor.runtime.calls.actors import ActorView
    from zactor.runtime.offered import Offered

T = TypeVar("T")


MOST_FITTING = 64  # arguments; of more it is looked at each time whether they fit


class Pattern:
    """What all actors that one caller makes of one `ActorClass` have in common.

    Attributes:
        spec: Of each, but for its id and arguments.
        entry: What a handle has to know, but for the id.
        is_plain: Many may be created with one message.
    """

    def __init__(self, runtime: Offered, cls: type, options: ActorOptions) -> None:
        from zactor.api.actors import _Facts

        self.runtime = runtime
        self.identity = runtime.identity
        is_async = is_async_class(cls)
        self.options = options = options.resolved(is_async=is_async)
        self.spec = make_spec(runtime, b"", cls, options, is_async=is_async)
        self.entry = _entry_of(self.spec)
        self.facts = _Facts(self.entry, None, None)  # type: ignore[arg-type]
        self.is_plain = options.isolation == "shared" and not options.name
        self.signature = _signature_of(cls)
        self.fitting: set[int] = set()  # numbers of positional arguments that were found to fit
        del self.spec["id"], self.entry["id"]

    def is_valid(self, runtime: Offered) -> bool:
        """Whether it is this session's and this caller's."""
        return self.runtime is runtime and self.identity.is_current


def create(
    actor_class: Any, options: ActorOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ActorHandle[T]:
    """Create an actor; see `ActorClass.remote`."""
    runtime = process()
    pattern: Pattern | None = actor_class._pattern  # noqa: SLF001
    if pattern is None or not pattern.is_valid(runtime):
        pattern = actor_class._pattern = Pattern(runtime, actor_class._class, options)  # noqa: SLF001
    cls: type[T] = actor_class._class  # noqa: SLF001
    if kwargs or len(args) not in pattern.fitting:
        check_signature(cls, pattern.signature, args, kwargs)
        if not kwargs and len(args) < MOST_FITTING:
            pattern.fitting.add(len(args))  # binding takes 8 us, a third of the whole
    if pattern.is_plain:
        for value in args:
            if type(value) is ObjectRef:
                break
        else:
            if not kwargs:
                return _create_with_others(runtime, pattern, cls, args)
    return _create_alone(runtime, pattern, cls, args, kwargs)


def _create_with_others(
    runtime: Offered, pattern: Pattern, cls: type, args: tuple[Any, ...]
) -> ActorHandle[Any]:
    payload: Any = b""
    if args:
        payload, buffers, refs = dumps_args(args, None, f"{cls.__name__}.__init__")
        if buffers or refs or len(payload) > LARGE:
            return _create_alone(runtime, pattern, cls, args, {})
    from zactor.api.actors import ActorHandle, fresh_actor_id

    actor = fresh_actor_id()
    view = runtime.actors.view(actor)
    runtime.actors.begin(view, pattern.entry)
    is_detached = pattern.options.is_detached()
    guard = None if is_detached else runtime.objects.own_actor(actor)
    runtime.creations.add(pattern.spec, actor, payload)
    owner = None if is_detached else runtime.post.address
    return ActorHandle(pattern.facts.of(actor, owner, view), guard)


def _create_alone(
    runtime: Offered, pattern: Pattern, cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ActorHandle[Any]:
    from zactor.api.actors import ActorHandle, fresh_actor_id, weak_handle

    options = pattern.options
    actor = fresh_actor_id()
    spec = {**pattern.spec, "id": actor}
    name = f"{cls.__name__}.__init__"
    carrier = Constructor(name)
    # They are kept for restarts, by the broker: in the store they might go before the actor does.
    awaited = encode(runtime, carrier, args, kwargs, None, name, stores=False)
    view = runtime.actors.view(actor)
    view.entry = {**view.entry, **_entry_of(spec)}
    view.is_watched = True  # whoever creates an actor watches it
    is_detached = options.is_detached()
    guard = None if is_detached else runtime.objects.own_actor(actor)
    if options.name:
        entry = _create_named(runtime, spec, carrier, awaited, view)
        if entry["id"] != actor:
            return weak_handle(entry)
        runtime.actors.view(actor, entry)
    else:
        wait_for_arguments(
            runtime, carrier, awaited, lambda _: _send_spec(runtime, spec, carrier, view)
        )
    owner = None if is_detached else runtime.post.address
    view.pin = carrier
    return ActorHandle(pattern.facts.of(actor, owner, view), guard)


def _create_named(
    runtime: Offered, spec: Any, carrier: Constructor, awaited: list[Result], view: ActorView
) -> Any:
    if awaited and spec["get_if_exists"]:
        entry = runtime.ask(FindActor(0, spec["name"], spec["namespace"]))
        if entry is not None:
            return entry  # and the arguments are ignored, whatever becomes of them
    pending = [result for result in awaited if result.state == PENDING]
    if pending:
        runtime.wait_for(pending, len(pending), None)
    if not _complete(runtime, spec, carrier):
        fail_unconstructed(runtime, view, carrier)
        return view.entry
    try:
        return runtime.ask(CreateActor(0, spec))
    except ActorAlreadyExistsError as error:
        raise error from None


def _send_spec(runtime: Offered, spec: Any, carrier: Constructor, view: ActorView) -> None:
    if carrier.state != PENDING or not _complete(runtime, spec, carrier):
        fail_unconstructed(runtime, view, carrier)
        return
    future = runtime.post.request(runtime.broker, CreateActor(0, spec))

    def answered(done: Any) -> None:
        error = done.exception()
        if error is not None:
            runtime.actors.fail(view, error)
        else:
            runtime.actors.view(view.id, done.result())

    future.add_done_callback(answered)


def _complete(runtime: Offered, spec: Any, carrier: Constructor) -> bool:
    payload = carrier.payload
    frames: list[Any] = []
    slots: Any = []
    refs: Any = []
    if type(payload) is list:
        carrier.stream = _OfConstructor(spec)
        if not complete(runtime, carrier):
            return False
        payload, extras = carrier.payload
        if X_FRAMES in extras:
            frames = list(carrier.frames)
        slots = extras.get(X_SLOTS, [])
        refs = extras.get(X_REFS, [])
    spec["args"] = {"payload": payload, "frames": frames, "slots": slots, "refs": refs}
    return True


class _OfConstructor:
    """Stands in for a stream where a constructor's call is named."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.caller = spec["id"] + b"\0\0\0\0"


def _signature_of(cls: Any) -> Any:
    """Return the signature of the constructor; None if nobody can tell, False if it takes nothing."""
    if cls.__init__ is object.__init__ and cls.__new__ is object.__new__:
        return False
    try:
        return inspect.signature(cls.__init__)
    except (ValueError, TypeError):
        return None


def check_signature(
    cls: Any, signature: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Check constructor arguments where the call is made.

    Raises:
        TypeError: They do not fit.
    """
    if signature is False and (args or kwargs):
        raise TypeError(f"{cls.__name__}() takes no arguments")
    if not signature:
        return
    try:
        signature.bind(None, *args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{cls.__name__}.__init__(): {error}") from None


def make_spec(
    runtime: Offered, actor: bytes, cls: type, options: ActorOptions, *, is_async: bool
) -> dict[str, Any]:
    """Return the spec of an actor, without its arguments (see core.directory)."""
    from zactor.api.placing import placing_of

    job = runtime.session.get("runtime_env") or {}
    env = for_node(merged(job, check_environment(options.runtime_env)))
    methods = describe_methods(cls, options.actor_generator_backpressure)
    declared = options.concurrency_groups or {}
    for _, about in methods:
        if about.get("group") and about["group"] not in declared:
            raise ValueError(undeclared_group(about["group"], cls.__name__, declared))
    return {
        "id": actor,
        "job": runtime.job,
        "owner": runtime.id,
        "owner_caller": runtime.identity.caller,
        "name": options.name or "",
        "namespace": options.namespace or runtime.namespace,
        "lifetime": options.lifetime or "",
        "get_if_exists": options.get_if_exists,
        "class_key": runtime.definitions.publish(cls),
        "class_name": cls.__name__,
        "methods": methods,
        "placing": options.demand(),
        "running": options.running_demand(),
        **placing_of(runtime, options, cls.__qualname__),
        "label_selector": options.label_selector or {},
        "fallback": list(options.fallback_strategy or ()),
        "max_restarts": options.max_restarts,
        "max_task_retries": options.max_task_retries,
        "max_concurrency": options.max_concurrency,
        "concurrency_groups": options.concurrency_groups or {},
        "is_async": is_async,
        "isolation": options.isolation,
        "max_pending_calls": options.max_pending_calls,
        "env": env,
        "options": {
            "ordered": not options.allow_out_of_order_execution,
            "on_full": options.on_full,
            "groups": sorted(options.concurrency_groups or ()),
            "session": runtime.inherited_session(),
        },
    }


def _entry_of(spec: dict[str, Any]) -> dict[str, Any]:
    names = (
        "id", "class_name", "methods", "max_pending_calls", "max_task_retries", "is_async", "name",
        "namespace", "options",
    )  # fmt: skip
    return {name: spec[name] for name in names}
