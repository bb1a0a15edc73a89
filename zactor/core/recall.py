"""Which leases to call back when others starve.

For each party that waits and could be served if somebody gave way, a pool is sought in which
enough is free, already called back, or held by parties that have more than their share; the
newest leases of whoever has most go first. A waiter that has nothing outranks every holder; one
that has something outranks those that have at least two more.

Pure choice: it marks leases as recalled and returns them; whoever calls sends the messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.lease import HELD, STARTING

if TYPE_CHECKING:
    from zactor.core.lease import Lease
    from zactor.core.leases import Leases
    from zactor.core.placement import Placement, Shape
    from zactor.core.resources import Pool
    from zactor.core.waiting import Waiting

# Waiting parties looked at in one pass: the rest have their turn after the next grant.
MAX_WAITERS = 64


class _Pass:
    """One look at all who wait."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._shares: dict[tuple[Any, ...], int] = {}  # party -> leases that it will keep
        self._expected: dict[Pool, dict[str, int]] = {}  # free now, or soon
        self.recalled: list[Lease] = []

    def share(self, key: tuple[Any, ...]) -> int:
        """Return how many leases a party keeps if all recalls so far are followed."""
        if key not in self._shares:
            party = self._leases.parties.get(key)
            kept = party.leases.values() if party is not None else ()
            self._shares[key] = sum(not lease.is_recalled for lease in kept)
        return self._shares[key]

    def expected(self, pool: Pool) -> dict[str, int]:
        """Return what is free in a pool, counting what was called back."""
        if pool not in self._expected:
            free = dict(pool.available)
            for lease in self._leases.by_pool.get(pool, {}).values():
                if lease.is_recalled:
                    for name, units in lease.units.items():
                        free[name] += units
            self._expected[pool] = free
        return self._expected[pool]

    def serve(self, shape: Shape, key: tuple[Any, ...], pools: list[Pool]) -> None:
        """Make room for one more of `shape` for party `key`, if that is fair."""
        for pool in pools:
            victims = self._victims(shape, key, pool)
            if victims is None:
                continue
            free = self.expected(pool)
            for lease in victims:
                lease.is_recalled = True
                self._shares[lease.party.key] = self.share(lease.party.key) - 1
                for name, units in lease.units.items():
                    free[name] += units
                self.recalled.append(lease)
            for name, units in shape.need.items():
                free[name] = free.get(name, 0) - units
            return

    def _victims(self, shape: Shape, key: tuple[Any, ...], pool: Pool) -> list[Lease] | None:
        """Return the leases to call back so that `shape` fits in `pool`; None if it cannot be."""
        free = self.expected(pool)
        missing = {n: u - free.get(n, 0) for n, u in shape.need.items() if u > free.get(n, 0)}
        if not missing:
            return []
        mine = self.share(key)
        least = 1 if mine == 0 else mine + 2
        candidates = [
            lease
            for lease in self._leases.by_pool.get(pool, {}).values()
            if lease.state in {HELD, STARTING}
            and not lease.is_recalled
            and lease.party.key != key
            and self.share(lease.party.key) >= least
            and any(name in missing for name in lease.units)
        ]
        candidates.sort(key=lambda lease: (-self.share(lease.party.key), -lease.id))
        taken: dict[tuple[Any, ...], int] = {}
        victims = []
        for lease in candidates:
            if not any(units > 0 for units in missing.values()):
                break
            party = lease.party.key
            if self.share(party) - taken.get(party, 0) < least or lease.state != HELD:
                continue
            taken[party] = taken.get(party, 0) + 1
            victims.append(lease)
            for name, units in lease.units.items():
                if name in missing:
                    missing[name] -= units
        return None if any(units > 0 for units in missing.values()) else victims


def choose_recalls(waiting: Waiting, leases: Leases, placement: Placement) -> list[Lease]:
    """Mark and return the leases to be called back now."""
    look = _Pass(leases)
    seen = 0
    for line in waiting.lines.values():
        if not line.shape.need:
            continue
        pools = [pool for _, pool in placement.pools(line.shape) if pool in leases.by_pool]
        for key in line.parties if pools else ():
            seen += 1
            if seen > MAX_WAITERS:
                break
            look.serve(line.shape, key, pools)
    return look.recalled
