"""Ray's module of the state API's error."""

from zactor.exceptions import StateApiError

RayStateApiException = StateApiError

__all__ = ["RayStateApiException"]
