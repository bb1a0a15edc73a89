"""The base of zactor's errors: a message, fields, and a text made of both.

Names no particular error.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

Executed = Literal["no", "yes", "unknown"]

EXECUTED_TEXT = {
    "no": "was not executed.",
    "yes": "was executed.",
    "unknown": "may or may not have been executed.",
}


class ZactorError(Exception):
    """Base of all errors that zactor raises.

    Subclasses declare their fields as class annotations with defaults; all are keywords of the
    constructor, after the message.
    """

    _fields: ClassVar[dict[str, Any]] = {}  # name -> default, base classes' first
    _headline: ClassVar[str] = ""  # said when there is no message
    _advice: ClassVar[str] = ""  # what the reader can do about it

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("zactor.exceptions."):
            cls.__module__ = (
                "zactor.exceptions"  # where users import it from; shown in tracebacks
            )
        fields: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            if issubclass(base, ZactorError):
                fields.update(base._fields)
        own = cls.__annotations__  # its own: since Python 3.10 none are inherited
        public = (n for n in own if not n.startswith("_") and n.islower() and n in cls.__dict__)
        fields.update((name, cls.__dict__[name]) for name in public)
        cls._fields = fields

    def __init__(self, message: str = "", **fields: Any) -> None:
        for name in fields:
            if name not in self._fields:
                raise TypeError(f"{type(self).__name__} has no field {name!r}")
        super().__init__(*((message,) if message else ()))
        self.message = message
        self.__dict__.update(fields)

    def __str__(self) -> str:
        parts = [self.message or self._headline, self._outcome(), self._advice]
        return "\n".join(part for part in parts if part)

    def _outcome(self) -> str:
        """Say whether the call ran, where that is a question."""
        executed = getattr(self, "executed", None)
        return f"The call {EXECUTED_TEXT[executed]}" if executed in EXECUTED_TEXT else ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__.copy())


def _restore(
    cls: type[ZactorError], args: tuple[Any, ...], state: dict[str, Any]
) -> ZactorError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


ZactorError.__module__ = "zactor.exceptions"
