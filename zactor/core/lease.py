"""One lease, and one client's demand for leases: the records that `core.leases` keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.resources import Holding, Pool
from zactor.core.restarts import UnbegunDeaths

if TYPE_CHECKING:
    from zactor.core.leases import Leases
    from zactor.core.membership import Node
    from zactor.core.placement import Obstacle, Shape, Spot
    from zactor.wire.messages import Address

STARTING = "STARTING"
HELD = "HELD"
ENDING = "ENDING"

# A shape that asks for nothing fits for ever: so many workers of it at once for one client.
FREE_LEASES = 16


class Lease:
    """One worker, leased to one client."""

    __slots__ = (
        "address", "cause", "group", "holding", "id", "is_blocked", "is_recalled", "node",
        "party", "pid", "pool", "since", "state",
    )  # fmt: skip

    def __init__(self, lease: int, party: LeaseParty, node: Node, pool: Pool) -> None:
        self.id = lease
        self.party = party
        self.node = node
        self.pool = pool
        self.holding = Holding({}, ())
        self.group = party.shape.group
        self.state = STARTING
        self.address: Address | None = None
        self.pid = 0
        self.is_blocked = False  # its CPUs are lent
        self.is_recalled = False
        self.cause: dict[str, Any] | None = None  # why it is ENDING
        self.since = 0.0

    @property
    def units(self) -> dict[str, int]:
        """What it keeps others from having."""
        amounts = self.holding.amounts
        return {k: v for k, v in amounts.items() if k != "CPU"} if self.is_blocked else amounts


class LeaseParty:
    """One client's demand for one shape."""

    __slots__ = (
        "attempts", "avoid", "client", "key", "leases", "line", "name", "raw", "registry",
        "shape", "unbegun", "wanted",
    )  # fmt: skip

    def __init__(
        self, registry: Leases, client: bytes, name: bytes, raw: dict[str, Any], shape: Shape
    ) -> None:
        self.registry = registry
        self.client = client
        self.name = name  # the `key` of its Demand
        self.key = ("lease", client, name)
        self.raw = raw
        self.shape = shape
        self.wanted = 0
        self.leases: dict[int, Lease] = {}
        self.attempts = 0  # workers that failed to start since the last that did
        self.avoid: frozenset[bytes] = frozenset()  # nodes where they failed
        self.unbegun = UnbegunDeaths()
        self.line: Shape | None = None  # the line it was last put in

    @property
    def held(self) -> int:
        """How many workers it has or is getting."""
        return len(self.leases)

    @property
    def share(self) -> int:
        """How many it has."""
        return len(self.leases)

    @property
    def want(self) -> int:
        """How many more it wants."""
        return self.wanted - self.held

    @property
    def is_hungry(self) -> bool:
        """Whether it wants more than it has."""
        if not self.shape.need and self.held >= FREE_LEASES:
            return False
        return self.held < self.wanted

    @property
    def prefer(self) -> bytes:
        """Its own node."""
        return self.registry.home_of(self.client)

    @property
    def near(self) -> bytes:
        """Where most of the arguments of these tasks are, as its client says."""
        return bytes(self.raw.get("near") or b"")

    def granted(self, spot: Spot, now: float) -> bool:
        """Have a worker started there."""
        self.registry.start(self, spot, now)
        return self.is_hungry

    def warned(self, obstacle: Obstacle, now: float) -> None:
        """Tell the client."""
        self.registry.warned(self, obstacle)

    def refused(self, obstacle: Obstacle, now: float) -> None:
        """End the demand."""
        self.registry.refused(self, obstacle, now)
