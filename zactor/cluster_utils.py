"""Names that Ray programs look for in `ray.cluster_utils`: several nodes on one machine, for tests."""

from zactor.testing import Cluster

__all__ = ["Cluster"]
