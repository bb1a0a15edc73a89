"""Leased workers for tasks: who asked for how many, who holds which, who has to give one back.

A client declares how many workers of one shape it could use; the broker grants as resources
allow and the client pushes tasks to the workers directly. One life of a lease:

    STARTING   resources taken, StartLease sent        -> HELD, or given up (LeaseFailed, node lost)
    HELD       LeaseGranted sent                       -> gone (ReturnLease, client dead), ENDING, lost
    ENDING     its worker is being killed (its group   -> lost, when its node says that it is dead
               was removed), its resources are free

While others starve, leases are called back (`LeaseRecalled`) from whoever has most, down to a
fair share; the holder returns them when the running task ends. A worker that waits in a `get`
lends its CPUs; when it goes on it takes them back even below zero, and what runs then runs on
fewer CPUs than it asked for until enough was returned.

Workers that die before a task of theirs began are replaced after growing pauses, and not for ever:
after a number of them in a row the demand fails, unless it has other workers.

Does not choose nodes, and does not know what runs on a worker.

Invariants
    L1  A lease has one node, and its holding is taken from one pool, once.
    L2  A party never has more leases than it was ever granted for; `held` is their number.
    L3  Numbers of leases are never used again, also not by a restarted broker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.lease import ENDING, HELD, STARTING, Lease, LeaseParty
from zactor.core.placement import shape_of_demand
from zactor.core.resources import SCALE, Holding, parse_amounts, show_amounts
from zactor.core.restarts import NO_FAULT_KINDS, spawn_pause
from zactor.wire.messages import (
    Address,
    DemandFailed,
    EndLease,
    LeaseGranted,
    LeaseLost,
    StartLease,
)

if TYPE_CHECKING:
    from zactor.core.broker_config import BrokerConfig
    from zactor.core.deadlines import Deadlines
    from zactor.core.directory import Directory
    from zactor.core.groups import Groups
    from zactor.core.journal import Journal
    from zactor.core.membership import Membership, Node
    from zactor.core.placement import Obstacle, Spot
    from zactor.core.processes import Processes
    from zactor.core.resources import Pool
    from zactor.core.waiting import Waiting


class Leases:
    """All demands and leases."""

    def __init__(
        self,
        journal: Journal,
        deadlines: Deadlines,
        config: BrokerConfig,
        membership: Membership,
        waiting: Waiting,
        groups: Groups,
        processes: Processes,
        directory: Directory,
    ) -> None:
        self._journal = journal
        self._deadlines = deadlines
        self._config = config
        self._membership = membership
        self._waiting = waiting
        self._groups = groups
        self._processes = processes
        self._directory = directory
        self.homes: dict[bytes, bytes] = {}  # driver -> node of its machine
        self.leases: dict[int, Lease] = {}
        self.parties: dict[tuple[Any, ...], LeaseParty] = {}
        self.by_client: dict[bytes, dict[bytes, LeaseParty]] = {}
        self.by_process: dict[bytes, Lease] = {}
        self.by_pool: dict[Pool, dict[int, Lease]] = {}
        self.granted = 0  # so far
        self.version = 0  # rises when what could be called back changes
        self._last = 0

    def number_from(self, first: int) -> None:
        """Number leases from `first` on (L3)."""
        self._last = max(self._last, first)

    def home_of(self, client: bytes) -> bytes:
        """Return the node that a client is on; b"" if unknown."""
        address = self._journal.book.get(client)
        if address is not None and address.node:
            return address.node
        return self.homes.get(client, b"")

    def demanded(
        self, client: bytes, name: bytes, raw: dict[str, Any], count: int, now: float
    ) -> None:
        """A client declares how many workers of a shape it could use.

        Raises:
            ValueError: The shape makes no sense, or the client has too many demands.
        """
        mine = self.by_client.setdefault(client, {})
        party = mine.get(name)
        if party is None:
            if count <= 0:
                return
            if len(mine) >= self._config.max_demands:
                raise ValueError(f"more than {self._config.max_demands} demands of one client")
            party = LeaseParty(self, client, name, raw, shape_of_demand(raw))
            mine[name] = self.parties[party.key] = party
        party.wanted = max(0, count)
        self._settle(party, now)

    def _settle(self, party: LeaseParty, now: float) -> None:
        """Have the party wait, or not, according to what it wants."""
        if not party.is_hungry:
            self._leave(party)
            if not party.wanted and not party.leases:
                self._forget(party)
        elif ("lease-retry", *party.key) not in self._deadlines:
            shape = party.shape.avoiding(party.avoid) if party.avoid else party.shape
            if party.line is not None and party.line.key != shape.key:
                self._leave(party)
            party.line = shape
            self._waiting.enter(shape, party, now)

    def _leave(self, party: LeaseParty) -> None:
        if party.line is not None:
            self._waiting.leave(party.line, party.key)
            party.line = None

    def _forget(self, party: LeaseParty) -> None:
        self._leave(party)
        self._deadlines.cancel(("lease-retry", *party.key))
        self.parties.pop(party.key, None)
        mine = self.by_client.get(party.client, {})
        mine.pop(party.name, None)
        if not mine:
            self.by_client.pop(party.client, None)

    def start(self, party: LeaseParty, spot: Spot, now: float) -> None:
        """Take the spot and have the node get a worker."""
        self._last += 1
        lease = Lease(self._last, party, spot.node, spot.pool)
        lease.holding = spot.pool.take(party.shape.need)
        lease.since = now
        self._enter(lease)
        address = self._journal.book.get(party.client)
        shape = {
            **party.raw,
            "client": party.client,
            "key": party.name,
            "address": list(address) if address else None,
            "gpu_ids": lease.holding.gpu_ids,
            "assigned": show_amounts(lease.holding.amounts),
            "bundle": spot.bundle,
        }
        job = party.raw.get("job") or b""
        self._journal.send(spot.node.address.process, StartLease(lease.id, job, shape))

    def _enter(self, lease: Lease) -> None:
        self.leases[lease.id] = lease
        lease.party.leases[lease.id] = lease
        lease.node.leases[lease.id] = None
        self.by_pool.setdefault(lease.pool, {})[lease.id] = lease
        group = self._groups.find(lease.group) if lease.group else None
        if group is not None:
            group.leases[lease.id] = None

    def _free(self, lease: Lease) -> None:
        """Give back what the lease holds; it is forgotten, or ENDING, from here on."""
        pool_leases = self.by_pool.get(lease.pool)
        if pool_leases is None or pool_leases.pop(lease.id, None) is None:
            return
        if not pool_leases:
            del self.by_pool[lease.pool]
        if lease.is_blocked:
            lease.pool.force("CPU", lease.holding.amounts["CPU"])
        lease.pool.give(lease.holding)
        self.version += 1
        lease.party.leases.pop(lease.id, None)
        lease.node.leases.pop(lease.id, None)
        group = self._groups.find(lease.group) if lease.group else None
        if group is not None:
            group.leases.pop(lease.id, None)
        self._waiting.freed(lease.node)

    def _forget_lease(self, lease: Lease) -> None:
        self._free(lease)
        del self.leases[lease.id]
        if lease.address is not None:
            self.by_process.pop(lease.address.process, None)

    def worker_up(
        self, node: Node, number: int, address: Address, pid: int, now: float
    ) -> None:
        """The node has a worker for the lease."""
        lease = self.leases.get(number)
        self._processes.enter(address.process, "worker", node.id, pid)
        if lease is None or lease.state != STARTING or lease.node is not node:
            if lease is None:
                self._journal.send(node.address.process, EndLease(number, True))
            return
        party = lease.party
        party.attempts, party.avoid = 0, frozenset()
        lease.address, lease.pid = address, pid
        self.by_process[address.process] = lease
        if party.held > party.wanted:
            self._end(lease, reusable=True, now=now)
            return
        lease.state = HELD
        self.granted += 1
        self.version += 1
        self._journal.send(party.client, LeaseGranted(party.name, number, list(address)))

    def failed(self, node: Node, number: int, error: list[Any], now: float) -> None:
        """The node could not get a worker for the lease."""
        lease = self.leases.get(number)
        if lease is None or lease.node is not node:
            return
        party = lease.party
        self._forget_lease(lease)
        party.attempts += 1
        is_final = error[:1] != ["spawn"]
        party.avoid |= {node.id}
        self._again(party, party.attempts, error, now, is_final=is_final)

    def _again(
        self, party: LeaseParty, failures: int, error: list[Any], now: float, *, is_final: bool
    ) -> None:
        """Try once more to have a worker, after a pause; or end the demand."""
        has_others = any(lease.state == HELD for lease in party.leases.values())
        if is_final or (failures >= self._config.spawn_attempts and not has_others):
            self._journal.send(party.client, DemandFailed(party.name, True, error))
            party.wanted = 0
            self._settle(party, now)
            return
        self._leave(party)
        pause = spawn_pause(failures, self._config)
        if pause:
            self._deadlines.set(("lease-retry", *party.key), now + pause)
        else:
            self._settle(party, now)

    def retry(self, key: tuple[Any, ...], now: float) -> None:
        """The pause after failed starts is over."""
        party = self.parties.get(key)
        if party is not None:
            self._settle(party, now)

    def returned(self, client: bytes, number: int, now: float, *, reusable: bool) -> None:
        """The client gives a lease back."""
        lease = self.leases.get(number)
        if lease is not None and lease.party.client == client and lease.state == HELD:
            lease.party.unbegun.worked()
            self._end(lease, reusable=reusable, now=now)

    def _end(self, lease: Lease, *, reusable: bool, now: float) -> None:
        party = lease.party
        self._journal.send(lease.node.address.process, EndLease(lease.id, reusable))
        self._forget_lease(lease)
        self._settle(party, now)

    def give_up(self, lease: Lease, cause: dict[str, Any], now: float) -> None:
        """End the lease by killing its worker; its client hears of it when that is dead."""
        if lease.state == ENDING:
            return
        party = lease.party
        self._journal.send(lease.node.address.process, EndLease(lease.id, False))
        if lease.state == STARTING:
            self._forget_lease(lease)
        else:
            self._free(lease)
            lease.state, lease.cause = ENDING, cause
        self._settle(party, now)

    def worker_died(
        self, lease: Lease, cause: dict[str, Any], progress: list[Any], now: float
    ) -> None:
        """The lease's worker is dead, or as good as."""
        party = lease.party
        was_told = lease.state != STARTING
        self._forget_lease(lease)
        if was_told:
            rows = self._directory.rows_of(party.client, progress)
            self._journal.send(party.client, LeaseLost(lease.id, lease.cause or cause, rows))
        if lease.cause is not None or cause.get("kind") in NO_FAULT_KINDS:
            self._settle(party, now)
        elif any(row[2] for row in progress):
            party.unbegun.worked()
            self._settle(party, now)
        else:
            party.unbegun.died(lease.id, self._last, now, self._config)
            count = party.unbegun.count
            text = (
                f"{count} workers for such tasks died one after another before a task had begun; "
                f"the last one {cause.get('text') or 'died'}"
            )
            error = ["WorkerCrashedError", text, {"executed": "no"}]
            self._again(party, count, error, now, is_final=False)

    def client_died(self, client: bytes, now: float) -> None:
        """Its demands end; what its workers do is of no use to anybody: they are stopped."""
        for party in list(self.by_client.get(client, {}).values()):
            party.wanted = 0
            for lease in list(party.leases.values()):
                # A worker that its client was never told of has run nothing.
                self._end(lease, reusable=lease.state == STARTING, now=now)
            self._forget(party)
        self.homes.pop(client, None)

    def node_lost(self, node: Node, cause: dict[str, Any], now: float) -> None:
        """All workers of the node are gone."""
        for number in list(node.leases):
            self.worker_died(self.leases[number], cause, [], now)
        for lease in [x for x in self.leases.values() if x.node is node]:
            self.worker_died(lease, cause, [], now)  # those that were ENDING

    def blocked(self, process: bytes, *, is_blocked: bool) -> bool:
        """A worker waits, or goes on; False if it is no leased worker."""
        lease = self.by_process.get(process)
        if lease is None:
            return False
        cpus = lease.holding.amounts.get("CPU", 0)
        if cpus and lease.is_blocked != is_blocked and lease.state != ENDING:
            lease.is_blocked = is_blocked
            self.version += 1
            if is_blocked:
                lease.pool.lend("CPU", cpus)
                self._waiting.freed(lease.node)
            else:
                lease.pool.force("CPU", cpus)
        return True

    def warned(self, party: LeaseParty, obstacle: Obstacle) -> None:
        """Tell a client why its demand is not met."""
        error = ["Task" + obstacle.kind, obstacle.text, {}]
        self._journal.send(party.client, DemandFailed(party.name, False, error))

    def refused(self, party: LeaseParty, obstacle: Obstacle, now: float) -> None:
        """Its demand can never be met: end it."""
        error = ["Task" + obstacle.kind, obstacle.text, {}]
        self._journal.send(party.client, DemandFailed(party.name, True, error))
        party.wanted = 0
        self._settle(party, now)

    def adopt(self, node: Node, row: dict[str, Any], now: float) -> bool:
        """Enter a lease that a re-attached node still has from before a broker restart.

        Returns False if it cannot be: the node is to stop its worker.
        """
        raw, number = row.get("shape") or {}, row["lease"]
        client, name = raw.get("client"), raw.get("key")
        if (
            not isinstance(client, bytes)
            or not isinstance(name, bytes)
            or not row.get("process")
        ):
            return False
        if client in self._processes.dead:
            return False
        mine = self.by_client.setdefault(client, {})
        party = mine.get(name)
        if party is None:
            party = LeaseParty(self, client, name, raw, shape_of_demand(raw))
            mine[name] = self.parties[party.key] = party
        pool = node.pool
        if party.shape.group:
            group = self._groups.find(party.shape.group)
            bundle = group.select(raw.get("bundle", -1))[:1] if group else []
            if not bundle or bundle[0].node != node.id:
                self._settle(party, now)
                return False
            pool = bundle[0].pool
        holding = _holding_of(raw)
        if not pool.has_room_for(holding):
            # It was given back, and what it held to another, and its end never got to the node.
            self._settle(party, now)
            return False
        lease = Lease(number, party, node, pool)
        lease.holding = holding
        pool.take_again(lease.holding)
        lease.state, lease.since = HELD, now
        lease.address, lease.pid = Address(*row["address"]), row.get("pid", 0)
        self._enter(lease)
        self.by_process[lease.address.process] = lease
        party.wanted = max(party.wanted, party.held)
        self.number_from(number)
        # The client may have returned it before its node was back, or never have heard of the
        # grant: told again, it either knows the lease, uses it, or gives it back.
        where = raw.get("address")
        if client not in self._journal.book and isinstance(where, list) and len(where) == 5:
            self._journal.book[client] = Address(*where)
        self._journal.send(client, LeaseGranted(name, number, list(row["address"])))
        return True

    def check(self) -> None:
        """Assert L1 and L2."""
        counted = 0
        for lease in self.leases.values():
            assert lease.id <= self._last, "L3"
            if lease.state == ENDING:
                assert lease.id not in lease.party.leases
                continue
            counted += 1
            assert lease.id in lease.node.leases, "L1"
            assert lease.id in self.by_pool[lease.pool], "L1"
            assert lease.party.leases[lease.id] is lease, "L2"
            assert self._membership.nodes.get(lease.node.id) is lease.node, "L1"
            if lease.address is not None:
                assert self.by_process[lease.address.process] is lease
        assert sum(len(leases) for leases in self.by_pool.values()) == counted, "L1"
        assert sum(party.held for party in self.parties.values()) == counted, "L2"
        for process, lease in self.by_process.items():
            assert lease.address is not None, process
            assert self.leases.get(lease.id) is lease


def _holding_of(raw: dict[str, Any]) -> Holding:
    amounts = parse_amounts(raw.get("assigned") or {})
    each = min(SCALE, amounts.get("GPU", 0))
    return Holding(amounts, tuple((gpu, each) for gpu in raw.get("gpu_ids") or []))
