"""`ray.cloudpickle`: the pickle that functions, classes and values travel in."""

from zactor.serde.cloud import *  # noqa: F403
from zactor.serde.cloud import CloudPickler, Pickler, dump, dumps, load, loads

__all__ = ["CloudPickler", "Pickler", "dump", "dumps", "load", "loads"]
