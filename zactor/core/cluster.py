"""The parts of a broker put together: what one part's news means for the others.

Deaths are where the parts meet: of a process, a node, a job, a group. Each is handled in one
procedure here, in an order such that nobody is told of a consequence before its cause, and every
procedure is safe to run again.

Does not read messages (`core.client_requests`, `core.node_reports`) and decides no policy.

Invariants
    K1  What is owned by a dead process is dead, ending or detached.
    K2  After each step nothing that could be placed waits (W3), and nothing is reserved for a
        party that is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.deadlines import Deadlines
from zactor.core.directory import Actor, Directory
from zactor.core.events import ERROR, INFO, WARNING, Events
from zactor.core.groups import Group, Groups
from zactor.core.journal import Journal
from zactor.core.leases import Leases
from zactor.core.lifecycle import Lifecycle
from zactor.core.membership import ABSENT, Membership, Node
from zactor.core.placement import Placement
from zactor.core.processes import FORGOTTEN, Processes
from zactor.core.pulse import Pulse
from zactor.core.recall import choose_recalls
from zactor.core.restarts import CRASHES
from zactor.core.sessions import Definitions, Job, Parking, Sessions
from zactor.core.waiting import Waiting
from zactor.wire.messages import (
    Address,
    JobEnded,
    LeaseRecalled,
    SessionLost,
    StopNode,
    WatchDriver,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.core.broker_config import BrokerConfig
    from zactor.core.placement import Obstacle
    from zactor.core.state import State
    from zactor.ids import IdSource

Cause = dict[str, Any]

DRAINED = "drained"
INFEASIBLE = (WARNING, "SCHEDULER_INFEASIBLE")


class Cluster:
    """Everything a broker knows."""

    def __init__(self, state: State, ids: IdSource, config: BrokerConfig) -> None:
        self.ids = ids
        self.config = config
        self.term = 0  # the how-manieth broker on this state
        self.journal = Journal(state, Events(config.max_events, config.epoch))
        self.deadlines = Deadlines()
        self.processes = Processes(self.journal, config)
        self.membership = Membership(self.journal, self.deadlines, config)
        self.pulse = Pulse(self.deadlines, config.node_renew)
        nodes = self.membership.nodes
        self.placement = Placement(nodes, config.spread_from)
        self.waiting = Waiting(self.placement, self.deadlines, config)
        self.groups = Groups(self.journal, self.deadlines, config, nodes, self.waiting.freed)
        self.waiting.on_freed = self.groups.freed
        self.waiting.on_obstacle = self._obstacle
        self.placement.find_group = self.groups.find
        self.directory = Directory(self.journal, config)
        self.leases = Leases(
            self.journal, self.deadlines, config, self.membership, self.waiting, self.groups,
            self.processes, self.directory,
        )  # fmt: skip
        self.lifecycle = Lifecycle(
            self.journal, self.deadlines, config, self.directory, self.membership, self.waiting,
            self.groups, self.processes, self.leases.home_of,
        )  # fmt: skip
        self.lifecycle.on_buried = self._actor_buried
        self.sessions = Sessions(self.journal, config)
        self.definitions = Definitions(self.journal, config)
        self.parking = Parking(self.deadlines, config)
        self.on_overdue: Callable[[int, float], None] = lambda number, now: None
        self.links: Callable[[], dict[str, int]] = dict  # what the shell's links count
        self._recalled_at = (0, 0)  # versions at the last look for leases to call back

    def start(self, now: float) -> None:
        """Begin a term: read what a broker before this one has left."""
        item = self.journal.state.get(b"meta/term")
        self.term = (item.value if item else 0) + 1
        self.journal.put(b"meta/term", self.term)
        self.leases.number_from(self.term << 32)
        self.definitions.load()
        self.sessions.load()
        nodes = self.membership.load(now)
        self.groups.load(now)
        if nodes or self.sessions.by_driver:
            self.placement.is_settled = False
            self.deadlines.set(("settled",), now + self.config.restart_grace)
        if nodes:
            self.pulse.begin(now)
        for node in nodes:
            self.journal.book[node.address.process] = node.address
            self.processes.enter(node.address.process, "node", node.id)
        for driver, job in self.sessions.by_driver.items():
            self.journal.book[driver] = Address(*job.address)
            self.processes.enter(driver, "driver", b"", job.metadata.get("pid", 0))
            self.deadlines.set(("driver", driver), now + self.config.restart_grace)
        self.lifecycle.load(now)
        self.settle(now)

    def _obstacle(self, obstacle: Obstacle) -> None:
        """Something cannot be placed as the cluster is, or never can be."""
        is_refused = obstacle.is_final or (
            self.config.refuse_infeasible and obstacle.is_infeasible
        )
        severity, kind = (ERROR, "SCHEDULER_REFUSED") if is_refused else INFEASIBLE
        self.journal.events.add(severity, kind, obstacle.text)

    # -- after each step

    def settle(self, now: float) -> None:
        """Place what can be placed now, and look after those who still wait."""
        if self.groups.fill():
            self.waiting.recheck()
        self.waiting.fill(now)
        self.lifecycle.send_starts()
        if self.waiting.lines and self.leases.by_pool:
            version = (self.waiting.version, self.leases.version)
            if version != self._recalled_at and ("recall",) not in self.deadlines:
                self.deadlines.set(("recall",), now + self.config.recall_delay)

    def look_at_clock(self, now: float) -> None:
        """Give everybody a new lease if this broker has not been running. Before any deadline."""
        if not self.pulse.is_due(now):
            return
        if away := self.pulse.away(now):
            self.journal.report(
                "warning", f"this broker did not run for {away:.1f} s: every lease begins anew"
            )
            for node in self.membership.nodes.values():
                self.membership.renewed(node, now)
            for driver in self.sessions.by_driver:
                if ("driver", driver) in self.deadlines:
                    self.deadlines.set(("driver", driver), now + self.config.driver_grace)
        if self.membership.nodes:
            self.pulse.beat(now)
        else:
            self.pulse.end()

    def due(self, name: tuple[Any, ...], now: float) -> None:
        """Act on a deadline."""
        match name[0]:
            case "node":
                node = self.membership.nodes[name[1]]
                self.node_gone(node, f"its lease ran out ({node.state.lower()})", now)
            case "driver":
                self.driver_lost(name[1], "its link to the broker was lost for too long", now)
            case "warn":
                self.waiting.warn(name[1], now)
            case "group":
                reason = self.groups.warn(name[1], now)
                if reason:
                    error = ["TaskUnschedulableError", reason, {}]
                    cause = {"kind": "unschedulable", "text": reason, "error": error}
                    self.remove_group(self.groups.groups[name[1]], cause, now)
            case "restart":
                self.lifecycle.restart_due(name[1], now)
            case "stop":
                self.lifecycle.stop_overdue(name[1], now)
            case "lease-retry":
                self.leases.retry(name[1:], now)
            case "recall":
                self._recall()
            case "parked":
                self.on_overdue(name[1], now)
            case "unknown":
                if not self.processes.is_known(name[1]):
                    self.process_died(name[1], FORGOTTEN, now)
            case "settled":
                self._settled(now)

    def _recall(self) -> None:
        self._recalled_at = (self.waiting.version, self.leases.version)
        for lease in choose_recalls(self.waiting, self.leases, self.placement):
            self.journal.send(lease.party.client, LeaseRecalled(lease.id))

    def _settled(self, now: float) -> None:
        """Who has not come back after a broker restart is gone."""
        self.placement.is_settled = True
        for node in list(self.membership.nodes.values()):
            if node.state == ABSENT:
                self.node_gone(node, "it did not come back after the broker's restart", now)
        owners = [*self.directory.by_owner, *self.groups.by_owner]
        for owner in dict.fromkeys(owners):
            if not self.processes.is_known(owner):
                self.process_died(owner, FORGOTTEN, now)
        self.waiting.review(now)

    # -- deaths

    def process_died(self, process: bytes, cause: Cause, now: float) -> None:
        """A process is dead: what it owned goes, who watched it is told."""
        if process in self.processes.dead:
            return
        self._end_owned(process, now)
        self.leases.client_died(process, now)
        self.directory.forget_watcher(process)
        self.groups.forget_watcher(process)
        self.sessions.tools.pop(process, None)
        self.deadlines.cancel(("unknown", process))
        self.processes.died(process, cause)

    def ended(self, process: bytes, cause: Cause, now: float) -> None:
        """A process of whatever kind is dead, as somebody on its machine saw."""
        node = self.membership.by_process.get(process)
        job = self.sessions.by_driver.get(process)
        if node is not None:
            self.node_gone(node, cause.get("text") or "its process has ended", now)
        elif job is not None:
            self.end_job(job, cause, now)
        else:
            self.process_died(process, cause, now)

    def _end_owned(self, process: bytes, now: float) -> None:
        text = f"its owner, process {process.hex()[:12]}, is gone"
        cause = {"kind": "owner", "text": text, "owner": process}
        self.lifecycle.owner_died(process, cause, now)
        for group_id in list(self.groups.by_owner.get(process, {})):
            group = self.groups.groups[group_id]
            if not group.is_detached:
                self.remove_group(group, cause, now)

    def worker_died(
        self, process: bytes, hosted: list[Any], lease: int, cause: Cause, progress: list[Any],
        now: float,
    ) -> None:  # fmt: skip
        """A worker is dead, as its node saw."""
        if cause.get("kind") in CRASHES and cause.get("code"):
            known = self.processes.living.get(process)
            text = (
                f"worker {process.hex()[:12]} (pid {known.pid if known else 0}) {cause['text']}"
            )
            node = known.node if known else b""
            self.journal.events.add(ERROR, "WORKER_CRASHED", text, worker=process, node=node)
        self.lifecycle.worker_died(process, hosted, cause, progress, now)
        held = self.leases.by_process.get(process) or self.leases.leases.get(lease)
        if held is not None and (held.address is None or held.address.process == process):
            self.leases.worker_died(held, cause, progress, now)
        self.process_died(process, cause, now)

    def node_gone(self, node: Node, reason: str, now: float) -> None:
        """A node is lost or has left: all that ran there has failed."""
        name = node.id.hex()[:12]
        self.journal.report("warning", f"node {name} is gone: {reason}")
        severity, kind = (INFO, "NODE_LEFT") if reason == DRAINED else (ERROR, "NODE_LOST")
        self.journal.events.add(severity, kind, f"node {name} is gone: {reason}", node=node.id)
        text = f"its node {name} is gone: {reason}"
        cause = {"kind": "node", "code": 0, "text": text, "node": node.id}
        self.leases.node_lost(node, cause, now)
        self.lifecycle.node_lost(node, cause, now)
        self.groups.node_lost(node, now)
        self.membership.remove(node)
        self.waiting.forget_node(node)
        self.waiting.recheck()
        for process in list(self.processes.on_node.get(node.id, {})):
            self.process_died(process, cause, now)
        for driver, home in list(self.leases.homes.items()):
            if home == node.id:
                del self.leases.homes[driver]
                self.find_home(driver)
        self.waiting.review(now)

    def driver_lost(self, driver: bytes, reason: str, now: float) -> None:
        """A driver cannot be reached; if it lives after all it is told."""
        job = self.sessions.by_driver.get(driver)
        if job is None:
            return
        self.journal.send(driver, SessionLost(reason))
        cause = {"kind": "lost", "code": 0, "text": f"the driver was declared lost: {reason}"}
        self.end_job(job, cause, now)

    def end_job(self, job: Job, cause: Cause, now: float) -> None:
        """A driver's session is over."""
        self.deadlines.cancel(("driver", job.driver))
        is_lost = cause.get("kind") == "lost"
        text = f"job {job.id.hex()} has ended: {cause.get('text') or 'its driver has left'}"
        severity, kind = (WARNING, "JOB_LOST") if is_lost else (INFO, "JOB_ENDED")
        self.journal.events.add(severity, kind, text, job=job.id)
        self.sessions.close(job, cause)
        self.directory.forget_watcher(job.driver)  # it is not told of all that ends with it
        self.lifecycle.job_ended(job.id, now)
        self.process_died(job.driver, cause, now)
        for node in self.membership.nodes.values():
            self.journal.send(node.address.process, JobEnded(job.id))
        self._forget_job_if_over(job)

    def _actor_buried(self, actor: Actor) -> None:
        job = self.sessions.jobs.get(actor.job)
        if job is not None:
            self._forget_job_if_over(job)

    def _forget_job_if_over(self, job: Job) -> None:
        if job.ended is None or job.id in self.directory.by_job or job.id in self.sessions.gone:
            return
        self.definitions.forget_job(job.id)
        self.sessions.forget(job)

    def remove_group(self, group: Group, cause: Cause, now: float) -> None:
        """Give up a placement group with what runs in it."""
        actors = [self.directory.actors[actor_id] for actor_id in group.actors]
        leases = [self.leases.leases[lease] for lease in group.leases]
        self.groups.remove(group, cause)
        text = f"its placement group {group.id.hex()[:12]} was removed"
        gone = {
            "kind": "group",
            "text": text,
            "error": ["ActorPlacementGroupRemoved", text, {}],
        }
        for actor in actors:
            self.lifecycle.end(actor, gone, now)
        for lease in leases:
            self.leases.give_up(lease, gone, now)
        self.waiting.review(now)

    # -- belonging

    def find_home(self, driver: bytes) -> bytes:
        """Say which node a driver belongs to, and have the node of its machine watch its pid."""
        address = self.journal.book.get(driver)
        own = self.membership.on_machine(address.machine) if address else None
        node = own or self.membership.any()
        if node is None:
            return b""
        self.leases.homes[driver] = node.id
        known = self.processes.living.get(driver)
        if own is not None and known is not None and known.pid:
            self.journal.send(node.address.process, WatchDriver(driver, known.pid))
        return node.id

    def watch_node(self, node: Node) -> None:
        """Have somebody on its machine see the end of a node, or only its lease will tell.

        The broker does it itself if it is there. So does another node, and each of the two watches
        the other: it also removes what the dead one has left on the machine.
        """
        pid, process = node.pid, node.address.process
        if not pid or process == self.config.process:
            return
        if node.address.machine == self.config.machine:
            self.journal.watch(process, pid)
        other = self.membership.on_machine(node.address.machine, besides=node)
        if other is not None:
            self.journal.send(other.address.process, WatchDriver(process, pid))
            self.journal.send(process, WatchDriver(other.address.process, other.pid))

    def find_homes(self, node: Node) -> None:
        """A node has (re-)attached: drivers of its machine belong to it."""
        for driver in self.sessions.by_driver:
            address = self.journal.book.get(driver)
            if address is None:
                continue
            if driver not in self.leases.homes or address.machine == node.address.machine:
                self.find_home(driver)

    def is_job_open(self, job_id: bytes) -> bool:
        """Whether something may still be made for the job."""
        job = self.sessions.jobs.get(job_id)
        return job is not None and (job.ended is None or job_id in self.directory.by_job)

    def stop_drained(self, now: float) -> None:
        """End the nodes that were to be drained and are empty."""
        for node in list(self.membership.draining.values()):
            if node.is_empty:
                self.journal.send(node.address.process, StopNode(DRAINED))
                self.node_gone(node, DRAINED, now)

    def check(self) -> None:
        """Assert every invariant."""
        for part in (
            self.processes, self.membership, self.waiting, self.groups, self.directory,
            self.leases, self.lifecycle, self.definitions, self.journal.events,
        ):  # fmt: skip
            part.check()
        for owner in self.processes.dead:
            for actor_id in self.directory.by_owner.get(owner, {}):
                actor = self.directory.actors[actor_id]
                assert actor.is_detached or actor.ending is not None, "K1"
        self._check_sums()

    def _check_sums(self) -> None:
        """What a node has given out is what lives, leases and bundles there hold."""
        for node in self.membership.nodes.values():
            held: dict[str, int] = {}
            holders = [
                (a.holding.amounts, a.is_blocked)
                for a in (self.directory.actors[i] for i in node.actors)
                if a.pool is node.pool
            ]
            holders += [
                (lease.holding.amounts, lease.is_blocked)
                for lease in (self.leases.leases[i] for i in node.leases)
                if lease.pool is node.pool
            ]
            for group_id, index in node.bundles:
                holders.append((self.groups.groups[group_id].bundles[index].amounts, False))
            for amounts, is_blocked in holders:
                for name, units in amounts.items():
                    if not (is_blocked and name == "CPU"):
                        held[name] = held.get(name, 0) + units
            for name, total in node.pool.total.items():
                assert total - node.pool.available[name] == held.get(name, 0), (name, held)
