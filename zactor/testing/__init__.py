"""For tests of programs that use zactor: clusters of several nodes on one machine."""

from zactor.testing.cluster import Cluster, ClusterNode

__all__ = ["Cluster", "ClusterNode"]
