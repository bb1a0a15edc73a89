"""Which part of a value cannot be pickled."""

from zactor.serde import FailureTuple, inspect_serializability

__all__ = ["FailureTuple", "inspect_serializability"]
