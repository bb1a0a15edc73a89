"""A cluster of several nodes for scripts of the parity table."""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def nodes(ray: Any, *options: dict[str, Any]) -> Iterator[str]:
    """Join a cluster that has a node for each of `options`; yields the id of the last."""
    module = importlib.import_module(f"{ray.__name__}.cluster_utils")
    cluster = module.Cluster()
    last = ""
    try:
        for each in options:
            last = cluster.add_node(**each).node_id
        cluster.wait_for_nodes()
        ray.init(address=cluster.address)
        yield last
    finally:
        ray.shutdown()
        cluster.shutdown()
