"""Names that Ray programs look for in `ray.runtime_context`."""

from zactor.api.context import RuntimeContext, get_runtime_context

__all__ = ["RuntimeContext", "get_runtime_context"]
