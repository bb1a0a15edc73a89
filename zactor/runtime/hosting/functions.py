"""What the method numbers of tasks stand for, at the worker that runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zactor.runtime.process import Process


class Functions(dict[int, Any]):
    """What method numbers stand for; those of tasks are loaded when they are first asked for.

    A number is defined by the first call that is sent with it. That one may not be run here: then what
    it brought is `promised` to those after it.
    """

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process
        self._promised: dict[int, bytes] = {}

    def promise(self, number: int, key: bytes) -> None:
        """Have a number stand for the function with this definition key from now on. Any thread."""
        self._promised[number] = key
        self.pop(number, None)  # of an earlier lease

    def get(self, number: int, default: Any = None) -> Any:
        """Return what a number stands for, if anything."""
        try:
            return self[number]
        except KeyError:
            return default

    def __missing__(self, number: int) -> Any:
        key = self._promised.get(number)
        if key is None:
            raise KeyError(number)
        function = self[number] = self._process.definitions.load(key)
        return function
