"""torch tensors out of band: their bytes are copied once, into the store, and not at all out of it.

torch pickles a storage by saving it into bytes. While a value of ours is pickled, a storage on the CPU gives
its memory as a buffer instead; pickles that others make stay as they are. Where the buffer comes from the
store, the tensor that is made of it is writable, and what is written to it is the writer's own
(copy on write): torch knows no read-only tensors, and writing to read-only memory is a SIGSEGV.

Does not import torch unless the program has.

Invariants
    T1  A pickle made outside of `pickle_value` is what it would be without zactor.
"""

from __future__ import annotations

import importlib
import sys
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

IN_BAND = 4_096  # bytes up to which a storage travels in the pickle itself


def wants_patch() -> bool:
    """Whether the program uses torch, and its storages are pickled as torch does it."""
    torch = sys.modules.get("torch")
    storage = getattr(getattr(torch, "storage", None), "TypedStorage", None)
    return storage is not None and not hasattr(storage.__reduce__, "is_zactors")


def patch(is_ours: Callable[[], bool]) -> None:
    """Have storages give their memory as buffers while `is_ours()` says so."""
    typed_storage: Any = sys.modules["torch"].storage.TypedStorage
    original = typed_storage.__reduce__

    def reduce(self: Any) -> Any:
        if not is_ours() or self._untyped_storage.device.type != "cpu":
            return original(self)
        return _storage, (_bytes_of(self._untyped_storage), str(self.dtype).partition(".")[2])

    reduce.is_zactors = True  # type: ignore[attr-defined]
    typed_storage.__reduce__ = reduce


def _bytes_of(untyped: Any) -> bytes | PickleBuffer:
    torch: Any = sys.modules["torch"]
    array = torch.empty(0, dtype=torch.uint8).set_(untyped).detach().numpy()
    return array.tobytes() if array.nbytes <= IN_BAND else PickleBuffer(array)


def _storage(data: Any, dtype: str) -> Any:
    """Return a storage with these bytes."""
    torch: Any = importlib.import_module("torch")
    view = memoryview(data)
    if view.nbytes:
        own = getattr(view.obj, "copy_on_write", None)
        memory, offset = own(view) if own is not None else (bytearray(view), 0)
        flat = torch.frombuffer(memory, dtype=torch.uint8, count=view.nbytes, offset=offset)
        untyped = flat.untyped_storage()
    else:
        untyped = torch.UntypedStorage(0)
    return torch.storage.TypedStorage(
        wrap_storage=untyped, dtype=getattr(torch, dtype), _internal=True
    )
