"""Names that Ray programs look for in `ray.remote_function`."""

from zactor.api.functions import RemoteFunction

__all__ = ["RemoteFunction"]
