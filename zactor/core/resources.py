"""Amounts of resources in fixed point, and pools they are taken from.

An amount is an int, in units of 1/10,000, so that sums are exact. A pool is what a node, or one
bundle of a placement group, has to give. GPUs are a count whose members have numbers: a demand
of one or more gets whole GPUs, a fraction gets a share of one.

Does not choose pools, and does not know who holds what.

Invariants
    R1  available <= total for each resource; available >= 0 except by `force`, which is for
        workers that go on after a blocking wait and may oversubscribe CPUs.
    R2  What is free of a pool's GPUs sums to its available "GPU".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

SCALE = 10_000
CPU = "CPU"
GPU = "GPU"

Amounts = dict[str, int]


def parse_amounts(resources: Any) -> Amounts:
    """Turn `{"CPU": 0.5}` into units; zeros are dropped.

    Raises:
        ValueError: Not a dict of names and finite numbers >= 0 in steps of 0.0001, or a GPU
            count over 1 that is not whole.
    """
    if not isinstance(resources, dict):
        raise ValueError(f"resources must be a dict, not {type(resources).__name__}")
    amounts: Amounts = {}
    for name, number in sorted(resources.items()):
        if not isinstance(name, str) or not name:
            raise ValueError(f"a resource needs a name, not {name!r}")
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise ValueError(f"resource {name!r} must be a number, not {number!r}")
        if not 0 <= number < 2**53:  # also keeps out nan
            raise ValueError(f"resource {name!r} must be a number >= 0, not {number!r}")
        units = round(number * SCALE)
        if abs(units - number * SCALE) > 1e-3 * max(1, abs(number)):
            raise ValueError(f"resource {name!r} goes in steps of 0.0001, not {number!r}")
        if units:
            amounts[name] = units
    gpus = amounts.get(GPU, 0)
    if gpus > SCALE and gpus % SCALE:
        raise ValueError(f"more than one GPU must be a whole number, not {gpus / SCALE}")
    return amounts


def show_amounts(amounts: Mapping[str, int]) -> dict[str, float]:
    """Turn units back into numbers for people and messages."""
    return {name: units / SCALE for name, units in amounts.items()}


class Holding(NamedTuple):
    """What was taken from a pool, to be given back as it is."""

    amounts: Amounts
    gpus: tuple[tuple[int, int], ...]  # (number of the GPU, units of it)

    @property
    def gpu_ids(self) -> list[int]:
        """The numbers of its GPUs."""
        return [gpu for gpu, _ in self.gpus]


NOTHING = Holding({}, ())


class Pool:
    """Resources to take from and give back to."""

    __slots__ = ("available", "gpus", "total")

    def __init__(self, total: Amounts, gpus: Mapping[int, int] | None = None) -> None:
        self.total = dict(total)
        self.available = dict(total)
        if gpus is None:
            gpus = dict.fromkeys(range(total.get(GPU, 0) // SCALE), SCALE)
        self.gpus = dict(gpus)  # number -> units free

    def could_hold(self, need: Mapping[str, int]) -> bool:
        """Say whether `need` would fit if nobody held anything."""
        total = self.total
        return all(total.get(name, 0) >= units for name, units in need.items())

    def fits(self, need: Mapping[str, int]) -> bool:
        """Say whether `need` can be taken now."""
        available = self.available
        for name, units in need.items():
            if available.get(name, 0) < units:
                return False
        return GPU not in need or self._pick_gpus(need[GPU]) is not None

    def take(self, need: Amounts) -> Holding:
        """Take `need`, which must fit."""
        picked = self._pick_gpus(need[GPU]) if GPU in need else ()
        assert picked is not None
        return self._hold(need, picked)

    def has_room_for(self, holding: Holding) -> bool:
        """Say whether `holding` can be taken again without lending more than there is, but for CPUs."""
        available = self.available
        return all(
            available.get(name, 0) >= units
            for name, units in holding.amounts.items()
            if name != CPU
        ) and all(self.gpus.get(gpu, 0) >= units for gpu, units in holding.gpus)

    def take_again(self, holding: Holding) -> None:
        """Take exactly `holding`, fitting or not: it is held already (after a broker restart)."""
        self._hold(holding.amounts, holding.gpus)

    def _hold(self, need: Amounts, picked: tuple[tuple[int, int], ...]) -> Holding:
        available = self.available
        for name, units in need.items():
            available[name] = available.get(name, 0) - units
        for gpu, units in picked:
            self.gpus[gpu] = self.gpus.get(gpu, 0) - units
        return Holding(need, picked) if need or picked else NOTHING

    def give(self, holding: Holding) -> None:
        """Take a holding back."""
        available = self.available
        for name, units in holding.amounts.items():
            available[name] += units
        for gpu, units in holding.gpus:
            self.gpus[gpu] += units

    def lend(self, name: str, units: int) -> None:
        """Have `units` of one resource back for a while; its holder waits for something."""
        self.available[name] += units

    def force(self, name: str, units: int) -> None:
        """Take `units` of one resource even below zero; its holder goes on."""
        self.available[name] -= units

    def use(self) -> float:
        """Return the share in use of what is scarcest, 0.0 to 1.0 or above."""
        most = 0.0
        for name, total in self.total.items():
            if total:
                most = max(most, 1.0 - self.available[name] / total)
        return most

    def _pick_gpus(self, units: int) -> tuple[tuple[int, int], ...] | None:
        if units < SCALE:
            # The fullest GPU that has room, so that whole ones stay whole.
            _, gpu = min(
                ((free, gpu) for gpu, free in self.gpus.items() if free >= units),
                default=(0, -1),
            )
            return ((gpu, units),) if gpu >= 0 else None
        whole = [gpu for gpu, free in self.gpus.items() if free == SCALE][: units // SCALE]
        return tuple((gpu, SCALE) for gpu in whole) if len(whole) * SCALE == units else None

    def check(self, *, may_oversubscribe: bool = True) -> None:
        """Assert R1 and R2."""
        for name, units in self.available.items():
            assert units <= self.total.get(name, 0), (name, units, self.total)
            low = units >= 0 or (may_oversubscribe and name == "CPU")
            assert low, f"{name} is at {units}"
        assert sum(self.gpus.values()) == self.available.get(GPU, 0), "R2"
