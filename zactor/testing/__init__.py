"""For tests of programs that use zactor: worlds within one process, clusters on one machine."""

from zactor.testing.cluster import Cluster, ClusterNode
from zactor.testing.worlds import LocalWorld, Step, each_seed, local

__all__ = ["Cluster", "ClusterNode", "LocalWorld", "Step", "each_seed", "local"]
