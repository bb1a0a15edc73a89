"""`ray.cloudpickle`: the pickle that functions, classes and values travel in."""

from zactor.serde.cloud import *  # noqa: F403
from zactor.serde.cloud import dump, dumps, load, loads

__all__ = ["dump", "dumps", "load", "loads"]
