"""Where tasks and actors should run: the strategies users write, label selectors, their checks.

Does not place anything: `to_wire` turns a strategy into what the broker's placement reads.
"""

from __future__ import annotations

import re
from typing import Any

_LABEL_NAME = r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
_name = re.compile(_LABEL_NAME)
_DNS_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?"
_prefix = re.compile(rf"{_DNS_LABEL}(?:\.{_DNS_LABEL})*")
_selector = re.compile(rf"!?{_LABEL_NAME}|!?in\(\s*{_LABEL_NAME}(?:\s*,\s*{_LABEL_NAME})*\s*\)")
_SYNTAX = "63 characters at most, alphanumeric at both ends, with '-', '_' and '.' between"

DEFAULT = "DEFAULT"
SPREAD = "SPREAD"


class In:
    """The label has one of these values."""

    operator = "in"

    def __init__(self, *values: str) -> None:
        self.values = _values(type(self).__name__, values)


class NotIn(In):
    """The label has none of these values, or is not there."""

    operator = "not_in"


class Exists:
    """The label is there."""

    operator = "exists"
    values: tuple[str, ...] = ()


class DoesNotExist:
    """The label is not there."""

    operator = "does_not_exist"
    values: tuple[str, ...] = ()


LabelMatch = In | NotIn | Exists | DoesNotExist


def _values(operator: str, values: tuple[str, ...]) -> list[str]:
    if not values:
        raise ValueError(
            f"The variadic parameter of the {operator} operator must be a non-empty tuple: name the "
            f'values, as in {operator}("a", "b")'
        )
    for position, value in enumerate(values):
        if not isinstance(value, str):
            raise ValueError(
                f"Type of value in position {position} for the {operator} operator must be str, "
                f"but got {value!r} of type {type(value)}."
            )
    return list(values)


class NodeAffinitySchedulingStrategy:
    """Run on the node with this id; with `soft`, elsewhere if that node is not there."""

    def __init__(
        self,
        node_id: str | bytes,
        soft: bool,
        _spill_on_unavailable: bool = False,
        _fail_on_unavailable: bool = False,
    ) -> None:
        self.node_id = node_id if isinstance(node_id, str) else node_id.hex()
        self.soft = soft
        self._spill_on_unavailable = _spill_on_unavailable
        self._fail_on_unavailable = _fail_on_unavailable
        if not re.fullmatch(r"(?:[0-9a-fA-F]{2})+", self.node_id):
            raise ValueError(
                f"Invalid node_id '{self.node_id}': it must be the hex string that nodes() shows."
            )
        if _spill_on_unavailable and not soft:
            raise ValueError("_spill_on_unavailable cannot be set when soft is False.")
        if _fail_on_unavailable and soft:
            raise ValueError("_fail_on_unavailable cannot be set when soft is True.")


class NodeLabelSchedulingStrategy:
    """Run on a node whose labels match `hard`, of these preferably one that matches `soft`.

    Both map label names to `In`, `NotIn`, `Exists` or `DoesNotExist`.
    """

    def __init__(
        self, hard: dict[str, LabelMatch] | None, *, soft: dict[str, LabelMatch] | None = None
    ) -> None:
        self.hard = _matches(hard, "hard")
        self.soft = _matches(soft, "soft")
        if not (self.hard or self.soft):
            raise ValueError(
                "The `hard` and `soft` parameter of NodeLabelSchedulingStrategy cannot both be "
                "empty."
            )


def _matches(matches: dict[str, LabelMatch] | None, parameter: str) -> dict[str, LabelMatch]:
    if matches is None:
        return {}
    if not isinstance(matches, dict):
        raise ValueError(
            f'The {parameter} parameter must be a map (e.g. {{"key1": In("value1")}}) '
            f"but got type {type(matches)}."
        )
    for key, match in matches.items():
        if not isinstance(key, str):
            raise ValueError(
                f"The map key of the {parameter} parameter must be of type str, but got {key!r} "
                f"of type {type(key)}."
            )
        if not isinstance(match, In | Exists | DoesNotExist):
            raise ValueError(
                f"The map value for {key!r} in the {parameter} parameter must be one of the `In`, "
                f"`NotIn`, `Exists` or `DoesNotExist` operators, but got {match!r} of type "
                f"{type(match)}."
            )
    return dict(matches)


class PlacementGroupSchedulingStrategy:
    """Run in a bundle of a placement group (-1: any of its bundles)."""

    def __init__(
        self,
        placement_group: Any,
        placement_group_bundle_index: int = -1,
        placement_group_capture_child_tasks: bool | None = None,
    ) -> None:
        self.placement_group = placement_group
        self.placement_group_bundle_index = placement_group_bundle_index
        self.placement_group_capture_child_tasks = placement_group_capture_child_tasks


SchedulingStrategy = (
    str
    | NodeAffinitySchedulingStrategy
    | NodeLabelSchedulingStrategy
    | PlacementGroupSchedulingStrategy
)


def to_wire(strategy: SchedulingStrategy | None) -> str | dict[str, Any] | None:
    """Return the strategy as the broker reads it; of a placement group's, None (see `group`)."""
    if isinstance(strategy, NodeAffinitySchedulingStrategy):
        node = bytes.fromhex(strategy.node_id)
        return {"kind": "node", "node": node, "soft": bool(strategy.soft)}
    if isinstance(strategy, NodeLabelSchedulingStrategy):
        hard, soft = (
            {name: [match.operator, list(match.values)] for name, match in matches.items()}
            for matches in (strategy.hard, strategy.soft)
        )
        return {"kind": "labels", "hard": hard, "soft": soft}
    return strategy if isinstance(strategy, str) else None


def check_strategy(value: Any) -> str | None:
    """Return what is wrong with the value of a string strategy, if anything."""
    if isinstance(value, str) and value not in (DEFAULT, SPREAD):
        return (
            f'The keyword \'scheduling_strategy\' accepts "DEFAULT", "SPREAD" or a strategy '
            f"object, but received {value!r}."
        )
    return None


def check_label_selector(selector: dict[Any, Any] | None) -> str | None:
    """Return what is wrong with a label selector, if anything."""
    for key, value in (selector or {}).items():
        if not isinstance(key, str) or not isinstance(value, str | None):
            raise TypeError(
                f"A label selector maps strings to strings, but received {key!r}: {value!r}."
            )
        prefix, slash, name = key.rpartition("/")
        if slash and (len(prefix) > 253 or not _prefix.fullmatch(prefix)):
            return f"Invalid label key prefix `{prefix}`: DNS labels joined by '.', 253 in all."
        if not _name.fullmatch(name):
            return f"Invalid label key name `{name}`: {_SYNTAX}."
        if value and not _selector.fullmatch(value):
            return (
                f"Invalid label selector value `{value}`: it is 'v', '!v', 'in(v, w)' or "
                f"'!in(v, w)', each value {_SYNTAX}."
            )
    return None


def check_fallback(strategies: list[Any] | None) -> str | None:
    """Return what is wrong with a fallback strategy, if anything."""
    for strategy in strategies or []:
        if not isinstance(strategy, dict):
            return "Each element in fallback_strategy must be a dictionary."
        if not strategy:
            return "Empty dictionary found in `fallback_strategy`."
        unknown = [name for name in strategy if name != "label_selector"]
        if unknown:
            return (
                f"Unsupported option found: '{unknown[0]}'. Only label_selector is supported."
            )
        selector = strategy["label_selector"]
        if selector and not isinstance(selector, dict):
            return 'The value of "label_selector" must be a dictionary.'
        wrong = check_label_selector(selector)
        if wrong:
            return wrong
    return None
