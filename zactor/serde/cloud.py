"""cloudpickle's own functions, for the few places that hand them to users."""

import pickle

import cloudpickle
from cloudpickle import CloudPickler as Pickler
from cloudpickle import dump, dumps, register_pickle_by_value, unregister_pickle_by_value

load = pickle.load
loads = pickle.loads

__all__ = [
    "Pickler",
    "cloudpickle",
    "dump",
    "dumps",
    "load",
    "loads",
    "register_pickle_by_value",
    "unregister_pickle_by_value",
]
