"""cloudpickle's own functions, for the few places that hand them to users."""

import pickle

import cloudpickle
from cloudpickle import (
    CloudPickler,
    dump,
    dumps,
    register_pickle_by_value,
    unregister_pickle_by_value,
)

load = pickle.load
loads = pickle.loads
Pickler = CloudPickler

__all__ = [
    "CloudPickler",
    "Pickler",
    "cloudpickle",
    "dump",
    "dumps",
    "load",
    "loads",
    "register_pickle_by_value",
    "unregister_pickle_by_value",
]
