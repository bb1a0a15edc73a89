"""Classes and functions as bytes: what workers must have to run them.

What workers can import travels by name. What they cannot (defined in `__main__`, a notebook, a
function; lambdas; modules that are on no path) travels by value, with the globals it uses. So
does what `@remote` replaced under its own name in its module, since looking the name up there
finds the replacement; its globals are those of the moment it is packed. Where that fails (a lock
among the globals), it travels by name after all: the replacement has the original as
`__zactor_definition__`.

Keeps no cache: who packs holds on to the result.
"""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cloudpickle

from zactor.exceptions import DefinitionError, ZactorError
from zactor.serde.inspection import explain
from zactor.serde.pickling import Buffer, pickle_value, unpickle_value
from zactor.serde.values import missing_module_hint

try:  # without OpenSSL, which comes with hashlib and takes a twentieth of a start
    from _blake2 import blake2b
except ImportError:  # another Python than CPython
    from hashlib import blake2b

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec

_KEY_SIZE = 20


# References in closures and globals of what was packed without `refs`: a worker may run it at any
# time until the job ends, so they live as long as this process. One entry a definition.
_pinned: dict[bytes, list[Any]] = {}


def pack_definition(
    definition: Callable[..., Any], refs: list[Any] | None = None
) -> tuple[bytes, bytes]:
    """Pack a class or function for workers.

    What travels by name has the same key in every process; what travels by value, within the
    process that packs it.

    Args:
        definition: The class or function.
        refs: A list to which the references in its globals and closure are appended, to be kept
            while it is in use. Without it they are kept for ever.

    Returns:
        The key (20 bytes, a hash) and the blob.

    Raises:
        SerializationError: Something it uses cannot be pickled; says what.
    """
    module = getattr(definition, "__module__", None) or "__main__"
    if module != "__main__" and not is_importable(module) and module in sys.modules:
        cloudpickle.register_pickle_by_value(sys.modules[module])
    try:
        payload, buffers, found = pickle_value(definition)
    except Exception as error:
        if not _stands_for(module, definition):
            kind = "actor class" if isinstance(definition, type) else "function"
            what = f"the {kind} {_name(definition)}"
            raise explain(definition, error, what, _name(definition), "no") from error
        by_name = _ByName(module, definition.__qualname__)
        payload, buffers, found = pickle_value(by_name)
    frames = [bytes(buffer) for buffer in buffers]
    blob = pickle.dumps((_name(definition), module, payload, frames), 5)
    key = blake2b(blob, digest_size=_KEY_SIZE).digest()
    if refs is not None:
        refs.extend(found)
    elif found:
        _pinned[key] = list(found)
    return key, blob


def load_definition(blob: Buffer, found: list[Any] | None = None) -> Any:
    """Return the class or function. References in it are appended to `found`.

    Raises:
        DefinitionError: It cannot be loaded in this process; says which module is missing.
    """
    name, module, payload, frames = pickle.loads(blob)
    try:
        return unpickle_value(payload, frames, found)
    except ZactorError:
        raise
    except ImportError as error:
        missing = error.name or module
        raise DefinitionError(
            f"The definition of {name} cannot be loaded: {error}. {missing_module_hint(error)}",
            module=missing,
        ) from error
    except Exception as error:
        raise DefinitionError(
            f"The definition of {name}, from module {module!r}, cannot be loaded: "
            f"{type(error).__name__}: {error}. Is it the same version here as where it came from?",
            module=module,
        ) from error


def _name(definition: Any) -> str:
    return str(getattr(definition, "__qualname__", None) or type(definition).__qualname__)


class _ByName:
    """Pickles as what looks a definition up."""

    def __init__(self, *where: str) -> None:
        self.where = where

    def __reduce__(self) -> tuple[Any, ...]:
        return look_up, self.where


def look_up(module: str, qualname: str) -> Any:
    """Return the definition of that name, not what `@remote` put in its place."""
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return getattr(found, "__zactor_definition__", found)


def _stands_for(module: str, definition: Any) -> bool:
    """Tell whether a worker that looks the definition up by its name would find it."""
    if not is_importable(module):
        return False
    try:
        return bool(look_up(module, definition.__qualname__) is definition)
    except Exception:  # noqa: BLE001 - modules may compute their attributes
        return False


@lru_cache(maxsize=4096)
def is_importable(name: str) -> bool:
    """Tell whether a new process with this one's `sys.path` could import this very module.

    `__main__` is not, nor what was made by hand or loaded from a file that is on no path.
    """
    module = sys.modules.get(name)
    if module is None or name == "__main__":
        return False
    parent = name.rpartition(".")[0]
    if parent and not is_importable(parent):
        return False
    spec = _find(name, getattr(sys.modules.get(parent), "__path__", None) if parent else None)
    if spec is None:
        return False
    file = getattr(module, "__file__", None)
    if file is None or spec.origin is None or not spec.has_location:
        return True
    return bool(os.path.realpath(file) == os.path.realpath(spec.origin))


def _find(name: str, path: Any) -> ModuleSpec | None:
    # Not importlib.util.find_spec: of a loaded module, that returns what it was loaded by.
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path)
        except Exception:  # noqa: BLE001, S112 - finders are anybody's
            continue
        if spec is not None:
            return spec
    return None
