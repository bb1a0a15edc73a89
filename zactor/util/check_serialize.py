"""Which part of a value cannot be pickled."""

from zactor.serde.inspection import FailureTuple, inspect_serializability

__all__ = ["FailureTuple", "inspect_serializability"]
