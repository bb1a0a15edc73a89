"""Classes and functions on their way: stored with the broker once a job, loaded once a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.serde.definitions import load_definition, pack_definition
from zactor.wire.messages import Define, FetchDefinition

if TYPE_CHECKING:
    from zactor.runtime.process import Process

MOST = 95 << 20  # bytes of a definition


class Definitions:
    """What this process has published, and what it has loaded."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._published: dict[int, tuple[Any, bytes]] = {}  # id -> (kept alive, key)
        self._told: set[bytes] = set()
        self._loaded: dict[bytes, Any] = {}

    def publish(self, definition: Any) -> bytes:
        """Return the key of a class or function, after seeing to it that the broker has it."""
        known = self._published.get(id(definition))
        if known is not None:
            return known[1]
        key, blob = pack_definition(definition)
        if len(blob) > MOST:
            raise ValueError(_too_large(definition, len(blob)))
        if key not in self._told:
            self._told.add(key)
            self._process.tell(Define(key, blob, self._process.job))
        self._published[id(definition)] = (definition, key)
        self._loaded.setdefault(key, definition)
        return key

    def load(self, key: bytes) -> Any:
        """Return the class or function behind a key, from the broker the first time."""
        found = self._loaded.get(key)
        if found is None:
            blob = self._process.ask(FetchDefinition(0, key))
            found = self._loaded[key] = load_definition(blob)
        return found

    def known(self, key: bytes) -> Any:
        """Return what is behind a key if this process has it, else None."""
        return self._loaded.get(key)

    def add(self, key: bytes, blob: bytes) -> Any:
        """Load a definition that came along with something else."""
        found = self._loaded.get(key)
        if found is None:
            found = self._loaded[key] = load_definition(blob)
        return found


def _too_large(definition: Any, size: int) -> str:
    name = getattr(definition, "__qualname__", repr(definition))
    kind = "actor" if isinstance(definition, type) else "remote function"
    if kind == "actor":
        name = definition.__name__
    return (
        f"The {kind} {name} is too large ({size >> 20} MiB > {MOST >> 20} MiB). Check that its "
        "definition does not capture a large array or another large object of the scope around it: "
        "pass such a value as an argument, by a reference that zactor.put() returned."
    )
