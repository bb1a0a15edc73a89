"""Names that Ray programs look for in `ray.actor`."""

from zactor.api.actors import ActorClass, ActorHandle, ActorMethod
from zactor.api.control import exit_actor

__all__ = ["ActorClass", "ActorHandle", "ActorMethod", "exit_actor"]
