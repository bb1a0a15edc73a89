"""Named tuples as `typing.NamedTuple` makes them, in a tenth of the time.

A start imports some ninety of them, one a message or effect, and each process of a cluster does so.
`typing` compiles every annotation, and `collections` every constructor: 0.11 ms a class, 10 of the
90 ms that `import zactor` took. Here a constructor is the compiled one of another class with as
many fields, under other names: 0.01 ms.

Only for modules in which annotations are not evaluated (`from __future__ import annotations`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType
    from typing import NamedTuple as NamedTuple  # noqa: PLC0414 - for those who import it from here
else:
    from _collections import _tuplegetter
    from functools import cache
    from types import FunctionType

    _GLOBALS = {"_new": tuple.__new__, "__builtins__": {}, "__name__": "zactor.named"}

    class _Named(tuple):
        """What they have in common, under the names of the standard library."""

        __slots__ = ()

        @classmethod
        def _make(cls, values: Any) -> Any:
            made = tuple.__new__(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
            return made

        def _replace(self, /, **changes: Any) -> Any:
            made = self._make(map(changes.pop, self._fields, self))
            if changes:
                raise ValueError(f"Got unexpected field names: {list(changes)!r}")
            return made

        def _asdict(self) -> dict[str, Any]:
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self) -> str:
            shown = (f"{name}={value!r}" for name, value in self._asdict().items())
            return f"{type(self).__name__}({', '.join(shown)})"

        def __getnewargs__(self) -> tuple[Any, ...]:
            return tuple(self)

        __replace__ = _replace

    class _Maker(type):
        """Makes a class of its own kind out of the body of each class below `NamedTuple`."""

        def __new__(cls, name: str, bases: Any, body: dict[str, Any]) -> type:  # noqa: ARG004, PYI034
            fields = tuple(body.get("__annotations__", ()))
            defaults = {field: body.pop(field) for field in fields if field in body}
            if tuple(defaults) != fields[len(fields) - len(defaults) :]:
                raise TypeError(f"{name}: a field without a default follows one with a default")
            new = FunctionType(
                _constructor(len(fields)).replace(co_varnames=("_cls", *fields)),
                _GLOBALS, "__new__", tuple(defaults.values()),
            )  # fmt: skip
            new.__qualname__ = f"{body['__qualname__']}.__new__"
            body.update(
                {field: _tuplegetter(index, None) for index, field in enumerate(fields)},
                __slots__=(), __match_args__=fields, __new__=new,
                _fields=fields, _field_defaults=defaults,
            )  # fmt: skip
            return type(name, (_Named,), body)

    @cache
    def _constructor(count: int) -> CodeType:
        names = "".join(f"_{index}, " for index in range(count))
        made = eval(f"lambda _cls, {names}: _new(_cls, ({names}))", _GLOBALS)  # noqa: S307 - our own text
        return made.__code__.replace(co_name="__new__")

    NamedTuple = type.__new__(_Maker, "NamedTuple", (), {})
