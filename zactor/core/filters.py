"""Filters of listings: which rows are asked for.

A filter is `[key, "=" | "!=", value]`; a row passes if all hold. Values are compared as text, without
regard to case, so that what was typed on a command line finds numbers, booleans and ids.

Does not know where rows come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

Row = dict[str, Any]

_BOOLEANS = {"1": "true", "0": "false"}


class Filters:
    """Conditions that were read and checked."""

    __slots__ = ("_conditions",)

    def __init__(self, conditions: Any) -> None:
        """Read `[[key, op, value], ...]`.

        Raises:
            ValueError: One of them makes no sense.
        """
        self._conditions: list[tuple[str, bool, str]] = []
        for condition in conditions or ():
            if not isinstance(condition, list | tuple) or len(condition) != 3:
                raise ValueError(f"a filter is (key, '=' or '!=', value), not {condition!r}")
            key, op, value = condition
            if op not in ("=", "!="):
                raise ValueError(
                    f"Unsupported filter predicate {op!r} is given. Available predicates: =, !="
                )
            self._conditions.append((str(key), op == "=", _text(value)))

    def match(self, row: Mapping[str, Any], unsettled: Collection[str] = ()) -> bool:
        """Whether a row passes; conditions on `unsettled` keys, which may change yet, are left out.

        Raises:
            ValueError: A condition is on a key that such rows do not have.
        """
        for key, equal, value in self._conditions:
            if key in unsettled:
                continue
            try:
                found = row[key]
            except KeyError:
                raise ValueError(
                    f"there is no {key!r} to filter by; there is: {', '.join(row)}"
                ) from None
            wanted = _BOOLEANS.get(value, value) if type(found) is bool else value
            if (_text(found) == wanted) != equal:
                return False
        return True

    def over(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows that pass.

        Raises:
            ValueError: See `match`.
        """
        return (row for row in rows if self.match(row))


def _text(value: Any) -> str:
    return str(value).lower()
