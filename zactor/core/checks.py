"""Checks that a message's fields have the types its class declares.

The codec gives back whatever the peer packed. A machine asks here once, at its door, and needs
no further checks of plain fields; what is inside dicts and lists it reads with care.
"""

from __future__ import annotations

from typing import Any

_KINDS: dict[str, type | tuple[type, ...] | None] = {
    "int": int,
    "str": str,
    "bytes": bytes,
    "bool": bool,
    "float": (int, float),
    "dict[str, Any]": dict,
    "list[Any]": (list, tuple),
    "str | None": (str, type(None)),
    "bytes | None": (bytes, type(None)),
    "Any": None,
}
_tables: dict[type, list[tuple[int, str, type | tuple[type, ...], bool]]] = {}


def _table(kind: type) -> list[tuple[int, str, type | tuple[type, ...], bool]]:
    rows = []
    for position, (name, annotation) in enumerate(kind.__annotations__.items()):
        text = getattr(annotation, "__forward_arg__", annotation)
        wanted = _KINDS[text if isinstance(text, str) else annotation.__name__]
        if wanted is not None:
            rows.append((position, name, wanted, text == "int"))
    return rows


def field_error(message: Any) -> str | None:
    """Return what is wrong with the fields of `message`, or None."""
    kind = type(message)
    table = _tables.get(kind)
    if table is None:
        table = _tables[kind] = _table(kind)
    for position, name, wanted, is_number in table:
        value = message[position]
        if not isinstance(value, wanted) or (is_number and isinstance(value, bool)):
            return f"{kind.__name__}.{name} cannot be {value!r:.80}"
    return None
