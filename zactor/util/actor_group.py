"""`ActorGroup`: several actors of one class that are called together."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import zactor

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ActorGroup", "ActorMetadata", "ActorWrapper"]


@dataclasses.dataclass(frozen=True)
class ActorMetadata:
    """Where an actor of a group runs."""

    node_id: str
    node_ip: str
    hostname: str
    gpu_ids: list[str]


@dataclasses.dataclass(frozen=True)
class ActorWrapper:
    """An actor of a group and where it runs."""

    actor: Any
    metadata: ActorMetadata


class _GroupMethod:
    """A method of every actor of a group."""

    def __init__(self, group: ActorGroup, name: str) -> None:
        self._group, self._name = group, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"Methods of an ActorGroup cannot be called directly. Instead of running "
            f"'group.{self._name}()', try 'group.{self._name}.remote()'."
        )

    def remote(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Call the method on each actor; return the references in the actors' order."""
        return [getattr(a.actor, self._name).remote(*args, **kwargs) for a in self._group]


class ActorGroup:
    """Several actors of one class: `group.method.remote(...)` calls each of them.

    Args:
        actor_cls: The plain class.
        num_actors: How many.
        num_cpus_per_actor: Processors each of them holds.
        num_gpus_per_actor: GPUs each of them holds.
        resources_per_actor: Other resources each of them holds.
        init_args: Arguments of the constructor.
        init_kwargs: Keyword arguments of the constructor.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        actor_cls: type,
        num_actors: int = 1,
        num_cpus_per_actor: float = 1,
        num_gpus_per_actor: float = 0,
        resources_per_actor: dict[str, float] | None = None,
        init_args: tuple[Any, ...] | None = None,
        init_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if num_actors <= 0:
            raise ValueError(f"The number of actors must be positive, not {num_actors}")
        if num_cpus_per_actor < 0 or num_gpus_per_actor < 0:
            raise ValueError("The number of CPUs and GPUs per actor must not be negative")
        self._class: Any = zactor.remote(
            num_cpus=num_cpus_per_actor,
            num_gpus=num_gpus_per_actor,
            resources=resources_per_actor or {},
        )(actor_cls)
        self._init = tuple(init_args or ()), dict(init_kwargs or {})
        self._count = num_actors
        self.actors: list[ActorWrapper] = []
        self.start()

    def __getattr__(self, name: str) -> _GroupMethod:
        if name.startswith("_") or not self.actors:
            raise AttributeError(name)
        if not hasattr(self.actors[0].actor, name):
            raise AttributeError(f"The actors of this group have no method {name!r}")
        return _GroupMethod(self, name)

    def __len__(self) -> int:
        return len(self.actors)

    def __iter__(self) -> Iterator[ActorWrapper]:
        return iter(self.actors)

    def __getitem__(self, index: int) -> ActorWrapper:
        return self.actors[index]

    @property
    def actor_metadata(self) -> list[ActorMetadata]:
        """Where each actor runs, in their order."""
        return [wrapper.metadata for wrapper in self.actors]

    def start(self) -> None:
        """Make the actors, unless they are there.

        Raises:
            RuntimeError: The group has been started.
        """
        if self.actors:
            raise RuntimeError("The actors of this group have already been started")
        self.add_actors(self._count)

    def shutdown(self, patience_s: float = 5) -> None:
        """End the actors: gracefully within `patience_s` seconds, then at once."""
        actors = [wrapper.actor for wrapper in self.actors]
        self.actors = []
        left = [actor.__ray_terminate__.remote() for actor in actors] if patience_s > 0 else []
        if left:
            _, left = zactor.wait(left, num_returns=len(left), timeout=patience_s)
        if left or patience_s <= 0:
            for actor in actors:
                zactor.kill(actor)

    def add_actors(self, num_actors: int) -> None:
        """Add `num_actors` actors to the group and wait until they are there."""
        args, kwargs = self._init
        made = [self._class.remote(*args, **kwargs) for _ in range(num_actors)]
        places = zactor.get([actor.__ray_call__.remote(_metadata) for actor in made])
        self.actors += [ActorWrapper(*pair) for pair in zip(made, places, strict=True)]

    def remove_actors(self, actor_indexes: list[int]) -> None:
        """Take the actors at these places out of the group; they end with their last handle."""
        gone = set(actor_indexes)
        self.actors = [a for index, a in enumerate(self.actors) if index not in gone]


def _metadata(_actor: Any) -> ActorMetadata:
    import socket

    context = zactor.get_runtime_context()
    host = socket.gethostname()
    try:
        address = socket.gethostbyname(host)
    except OSError:
        address = "127.0.0.1"
    gpus = context.get_accelerator_ids().get("GPU", [])
    return ActorMetadata(context.get_node_id(), address, host, [str(g) for g in gpus])
