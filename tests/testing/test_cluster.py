"""Clusters of several nodes for users' tests."""

from __future__ import annotations

import pytest

import zactor
from zactor.testing import Cluster

pytestmark = [pytest.mark.system, pytest.mark.slow]


def test_amounts_may_be_whole_floats() -> None:
    with Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2.0, "object_store_memory": 1e8, "resources": {"a": 0.5}},
        connect=True,
    ):
        resources = zactor.cluster_resources()
        zactor.shutdown()

    assert (resources["CPU"], resources["a"]) == (2.0, 0.5)
    assert resources["object_store_memory"] == 1e8
