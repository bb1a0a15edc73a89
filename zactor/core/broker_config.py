"""The numbers a broker works by. Seconds, counts and bytes; nothing here is decided twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Limits and times of one broker. The defaults are what users get."""

    cluster: dict[str, Any] = field(
        default_factory=dict
    )  # told to all who attach: id, name ...

    machine: bytes = (
        b""  # token of the broker's own machine: processes there it can watch itself
    )
    process: bytes = b""  # its own process id

    node_lease: float = 10.0  # a node that was not heard of for so long, and 10% more, is lost
    node_renew: float = 2.0
    driver_grace: float = 10.0  # a driver whose link is lost may come back within this
    restart_grace: float = 15.0  # after a broker restart: until then absent nodes may re-attach
    stop_grace: float = (
        30.0  # a node that was told to kill and says nothing is not believed longer
    )
    unknown_grace: float = (
        5.0  # requests about an actor or blob not heard of yet wait this long
    )

    warn_infeasible: float = 1.0  # no node could ever take it: say so after this
    warn_busy: float = 30.0  # it only waits for its turn: say so after this
    refuse_infeasible: bool = (
        False  # and then refuse it, instead of waiting for a node that can
    )
    recall_delay: float = 0.005  # others starve this long before a lease is called back
    spread_from: float = 0.5  # DEFAULT packs onto a node up to this use, then evens out

    restart_window: float = 30.0  # crashes within this count for the back-off
    restart_step: float = (
        0.1  # the second restart waits this long, each later one twice as long
    )
    restart_pause: float = 5.0  # ... and none longer than this
    spawn_attempts: int = (
        8  # so many workers failed to start before an actor or demand is failed
    )

    max_actors: int = 2_000_000
    max_dead_actors: int = 10_000
    max_dead_processes: int = 10_000
    max_dead_nodes: int = 1_000
    max_dead_groups: int = 1_000
    max_dead_jobs: int = 1_000
    max_groups: int = 100_000
    max_clients: int = 65_536
    max_demands: int = 4_096  # per client
    max_watches: int = 1_000_000  # per client
    max_answers: int = 16_384  # remembered, so that a repeated request is answered the same
    max_parked: int = 65_536  # requests that wait for something not heard of yet
    max_definitions: int = 1 << 30  # bytes of pickled classes and functions
    max_definition: int = 256 << 20  # bytes of one
    max_events: int = 1_000  # what happened lately, for people
    epoch: float = 0.0  # what is added to `now` to have seconds since 1970
    max_rows: int = 10_000  # of a query's answer
