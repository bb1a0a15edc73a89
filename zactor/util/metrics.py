"""Metrics of the user's own: `Counter`, `Gauge` and `Histogram`.

Values are kept in the process that records them, under the metric's name and its tags, and
can be read with `snapshot()`. Where `prometheus_client` is installed each metric also stands
in its default registry, so that `prometheus_client.start_http_server` serves it. Does not
send anything to another process.
"""

from __future__ import annotations

import re
import threading
import warnings
from bisect import bisect_left
from typing import Any

__all__ = ["Counter", "Gauge", "Histogram", "Metric", "snapshot"]

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")

_lock = threading.Lock()
# Name of a metric -> tags -> its value (of a histogram, the counts of its buckets and the sum).
_values: dict[str, dict[tuple[tuple[str, str], ...], Any]] = {}
# What prometheus_client knows each metric by; it refuses a name twice.
_exported: dict[str, Any] = {}


class Metric:
    """What is common to the metrics: a name, a description and the keys of its tags.

    A name that Prometheus does not take is warned of, and the metric records nothing.

    Raises:
        ValueError: The name is empty.
        TypeError: `tag_keys` is not a tuple of strings.
    """

    def __init__(
        self, name: str, description: str = "", tag_keys: tuple[str, ...] | None = None
    ) -> None:
        if not name:
            raise ValueError("Empty name is not allowed. Please provide a metric name.")
        # As with Ray, a program goes on with a metric that nobody can read.
        self._is_discarded = not _NAME.match(name)
        if self._is_discarded:
            warnings.warn(
                f"The metric {name!r} is not recorded: a name is made of letters, digits, '_' "
                "and ':', and does not begin with a digit",
                stacklevel=3,
            )
        keys = () if tag_keys is None else tag_keys
        if not isinstance(keys, tuple) or not all(isinstance(key, str) for key in keys):
            raise TypeError(f"tag_keys should be a tuple of strings, not {tag_keys!r}")
        self._name, self._description, self._tag_keys = name, description, keys
        self._default_tags: dict[str, str] = {}

    def __reduce__(self) -> Any:
        return type(self), (self._name, self._description, self._tag_keys), self._state()

    def set_default_tags(self, default_tags: dict[str, str]) -> Metric:
        """Set the tags that calls need not give; return the metric.

        Raises:
            ValueError: A key is not among the metric's keys.
            TypeError: A value is not a string.
        """
        self._default_tags = self._checked(default_tags)
        return self

    @property
    def info(self) -> dict[str, Any]:
        """The name, description, keys and default tags."""
        return {
            "name": self._name,
            "description": self._description,
            "tag_keys": self._tag_keys,
            "default_tags": self._default_tags,
        }

    def _state(self) -> dict[str, Any]:
        return {"_default_tags": self._default_tags}

    def _checked(self, tags: dict[str, str] | None) -> dict[str, str]:
        for key, value in (tags or {}).items():
            if key not in self._tag_keys:
                raise ValueError(f"Unrecognized tag key {key}.")
            if not isinstance(value, str):
                raise TypeError(f"Tag values must be str, got {type(value)}.")
        return dict(tags or {})

    def _tags(self, tags: dict[str, str] | None) -> tuple[tuple[str, str], ...]:
        final = {**self._default_tags, **self._checked(tags)}
        missing = [key for key in self._tag_keys if key not in final]
        if missing:
            raise ValueError(f"Missing value for tag key(s): {','.join(missing)}.")
        return tuple((key, final[key]) for key in self._tag_keys)

    def _export(self, kind: str, tags: tuple[tuple[str, str], ...], **options: Any) -> Any:
        """Return prometheus_client's metric with these tags, or None without that package."""
        try:
            import prometheus_client  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            return None
        with _lock:
            if self._name not in _exported:
                make = getattr(prometheus_client, kind)
                _exported[self._name] = make(
                    self._name, self._description or self._name, self._tag_keys, **options
                )
            metric = _exported[self._name]
        return metric.labels(*[value for _, value in tags]) if tags else metric


class Counter(Metric):
    """A number that only grows."""

    def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
        """Add `value`, which must be positive."""
        _check_number(value)
        if value <= 0:
            raise ValueError(f"value must be >0, got {value}")
        key = self._tags(tags)
        if self._is_discarded:
            return
        with _lock:
            series = _values.setdefault(self._name, {})
            series[key] = series.get(key, 0.0) + value
        exported = self._export("Counter", key)
        if exported is not None:
            exported.inc(value)


class Gauge(Metric):
    """A number that is what it was last set to."""

    def set(self, value: float | None, tags: dict[str, str] | None = None) -> None:
        """Set the number; None is ignored."""
        if value is None:
            return
        _check_number(value)
        key = self._tags(tags)
        if self._is_discarded:
            return
        with _lock:
            _values.setdefault(self._name, {})[key] = value
        exported = self._export("Gauge", key)
        if exported is not None:
            exported.set(value)


class Histogram(Metric):
    """How many observations fell between which boundaries.

    Raises:
        ValueError: No boundaries were given, or one that is not positive.
    """

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: list[float] | None = None,
        tag_keys: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(name, description, tag_keys)
        if not boundaries:
            raise ValueError(
                "boundaries argument should be provided when using the Histogram class. "
                "e.g., Histogram('name', boundaries=[1.0, 2.0])"
            )
        if any(boundary <= 0 for boundary in boundaries):
            raise ValueError(f"Invalid `boundaries` argument, {boundaries}: all must be > 0")
        self.boundaries = sorted(boundaries)

    def __reduce__(self) -> Any:
        arguments = (self._name, self._description, self.boundaries, self._tag_keys)
        return type(self), arguments, self._state()

    def observe(self, value: float, tags: dict[str, str] | None = None) -> None:
        """Count `value` in its bucket."""
        _check_number(value)
        key = self._tags(tags)
        if self._is_discarded:
            return
        with _lock:
            series = _values.setdefault(self._name, {})
            counts, total = series.get(key, ([0] * (len(self.boundaries) + 1), 0.0))
            counts[bisect_left(self.boundaries, value)] += 1
            series[key] = counts, total + value
        exported = self._export("Histogram", key, buckets=self.boundaries)
        if exported is not None:
            exported.observe(value)

    @property
    def info(self) -> dict[str, Any]:
        """The name, description, keys, default tags and boundaries."""
        return {**super().info, "boundaries": self.boundaries}


def snapshot() -> dict[str, dict[tuple[tuple[str, str], ...], Any]]:
    """Return what this process has recorded: name of a metric -> tags -> value.

    Of a histogram, the value is the counts of its buckets and the sum of what was observed.
    """
    with _lock:
        return {name: dict(series) for name, series in _values.items()}


def _check_number(value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"value must be int or float, got {type(value)}.")
