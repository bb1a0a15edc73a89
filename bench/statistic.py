"""Medians, spreads and what counts as a difference. Pure."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SMALLEST = 0.03  # medians closer than this are the same, whatever the samples say


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(samples: Sequence[float]) -> float:
    """Return the middle sample."""
    return statistics.median(samples)


def spread(samples: Sequence[float]) -> float:
    """Return half the distance between the quartiles, as a share of the median."""
    middle = median(samples)
    if len(samples) < 2 or not middle:
        return 0.0
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return (high - low) / 2 / abs(middle)


def ratio(ours: float, theirs: float, *, less_is_better: bool) -> float:
    """Return how many times better `ours` is; above 1 is ahead."""
    above, below = (theirs, ours) if less_is_better else (ours, theirs)
    return above / below if below else math.inf


def moved(old: Sequence[float], new: Sequence[float], *, drift: float = 1.0) -> bool:
    """Whether the difference between two sets of samples is beyond noise.

    It is when no sample of one lies within the range of the other, and the medians differ by
    more than `SMALLEST` and by more than both spreads together. `drift` is how much the machine
    itself has changed, new over old; it is taken out first.
    """
    old = [sample * drift for sample in old]
    if not (min(new) > max(old) or max(new) < min(old)):
        return False
    before, after = median(old), median(new)
    if not before or not after:
        return before != after
    difference = abs(math.log(after / before))
    return difference > max(SMALLEST, spread(old) + spread(new))


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of positive values."""
    return math.exp(statistics.fmean(math.log(value) for value in values))
