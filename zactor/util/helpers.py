"""Ray's name for the module of `as_completed` and `map_unordered`."""

from zactor.util.iteration import as_completed, map_unordered

__all__ = ["as_completed", "map_unordered"]
