"""Names, kills, cancels: what is done with actors other than calling them."""

from __future__ import annotations

from typing import Any

from zactor.api.actors import ActorHandle, weak_handle
from zactor.api.session import process
from zactor.api.typed import Actor
from zactor.exceptions import ActorHandleNotFoundError
from zactor.runtime.calls.cancelling import cancel_result
from zactor.runtime.calls.refs import ObjectRef
from zactor.runtime.calls.several import Part
from zactor.runtime.hosting.running_call import StopServing
from zactor.wire.messages import FindActor, KillActor, ListNames


def get_actor(name: str, namespace: str | None = None) -> Any:
    """Return a handle of the actor with this name. The handle does not keep the actor alive.

    Args:
        name: Its name.
        namespace: Where the name is; by default this job's namespace.

    Raises:
        ValueError: No actor that lives has the name.
    """
    if not isinstance(name, str) or not name:
        raise ValueError("Please supply a non-empty value to get_actor")
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError(f"namespace must be a string, not {type(namespace)}")
    if namespace is not None and not namespace:
        raise ValueError('"" is not a valid namespace. Pass None to not specify a namespace.')
    runtime = process()
    entry = runtime.ask(FindActor(0, name, namespace or runtime.namespace))
    if entry is None:
        where = namespace or runtime.namespace
        raise ValueError(
            f"Failed to look up actor with name '{name}'. This could because 1. You are trying to "
            f"look up a named actor you didn't create. 2. The named actor died. 3. You did not use "
            f"a namespace matching the namespace of the actor (looked in {where!r})."
        )
    return weak_handle(entry)


def list_named_actors(all_namespaces: bool = False) -> list[Any]:  # noqa: FBT001, FBT002 - Ray's signature
    """Return the names of the living actors of this job's namespace.

    With `all_namespaces`: `{"name": ..., "namespace": ...}` of each.
    """
    runtime = process()
    rows = runtime.ask(ListNames(0, None if all_namespaces else runtime.namespace))
    if all_namespaces:
        return [{"name": name, "namespace": namespace} for namespace, name in rows]
    return [name for _, name in rows]


def kill(actor: ActorHandle[Any] | Actor, *, no_restart: bool = True) -> None:
    """End an actor's process now: no clean-up, and its unsettled calls fail.

    With `no_restart`, a call that this process makes afterwards never runs.

    Args:
        actor: Its handle.
        no_restart: False lets it be restarted, as after a crash.

    Raises:
        ValueError: Not a handle.
        ActorHandleNotFoundError: The handle is of another cluster or session.
    """
    if not isinstance(actor, ActorHandle):
        raise ValueError(
            f"zactor.kill() only supported for actors. For tasks, try zactor.cancel(). Got: {type(actor)}."
        )
    runtime = process()
    known = runtime.ask(KillActor(0, actor._facts.id, no_restart))
    if not known and actor._facts.view.entry.get("state") != "DEAD":
        raise ActorHandleNotFoundError(
            f"{actor!r} is not of this cluster: it was made in another session."
        )
    if no_restart:
        runtime.actors.was_killed(actor._facts.id)


def cancel(ref: Any, *, force: bool = False, recursive: bool = True) -> None:
    """Cancel a call or task, as far as it can be.

    One that has not started will not run, and raises TaskCancelledError at `get`. A running task or
    plain method gets a KeyboardInterrupt, an async method is cancelled as asyncio does. Nothing
    happens to one that has finished.

    Args:
        ref: What `.remote()` returned.
        force: End the worker process of a running task.
        recursive: Cancel what it has called as well.

    Raises:
        TypeError: Not a reference.
        ValueError: `force` on a call of an actor.
    """
    from zactor.api.generators import is_generator

    if is_generator(ref):
        result = ref.call()
    elif isinstance(ref, ObjectRef):
        result = ref._result
    else:
        raise TypeError(f"zactor.cancel() only supported for object refs. Got: {type(ref)}.")
    if isinstance(result, Part):
        result = result.call
    is_task = hasattr(result, "queue")
    if force and not is_task and result.stream is not None:
        raise ValueError("force=True is not supported for actor tasks.")
    cancel_result(process(), result, force=force, recursive=recursive)


def exit_actor() -> None:
    """End the actor whose method calls this, in order; it is not restarted.

    It does not return. In an async actor, tasks that its methods have started can call it too.

    Raises:
        TypeError: Called outside of an actor.
    """
    runtime = process()
    running = runtime.running
    if running is None or not running.actor_id:
        raise TypeError(
            "exit_actor API is called on a non-actor worker or driver; it can only be called "
            "from inside an actor."
        )
    runtime.end_actor()  # what is raised here does not leave a task that is not a call's own
    raise StopServing("exit_actor")
