"""`multiprocessing.Pool` over a cluster: the same calls, with actors for processes."""

from multiprocessing import JoinableQueue, TimeoutError  # noqa: A004

from zactor.util.multiprocessing.pool import Pool

__all__ = ["JoinableQueue", "Pool", "TimeoutError"]
