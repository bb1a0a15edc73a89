"""The names of living actors."""

from zactor.api.control import list_named_actors

__all__ = ["list_named_actors"]
