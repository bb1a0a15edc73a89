"""What a connection carries at most, of whatever kind it is."""

from __future__ import annotations

import resource

# A batch is at most 64 KiB and one call's payload at most 1 MiB, but definitions and out-of-band
# buffers of inline values may be larger; who sends a message above this is cut off.
MAX_MESSAGE = 256 << 20
# A thousand actors answer their creator at once; the system may allow fewer (net.core.somaxconn).
BACKLOG = 4_096
MAX_SOCKETS = 16_384  # libzmq's default of 1,023 is fewer than the actors of one driver


def most_connections() -> int:
    """Return how many outgoing connections this process may have open.

    Each costs up to two descriptors, and as a rule one more for the peer's own. The limit on
    descriptors is raised as far as this user may.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (ValueError, OSError):
            pass  # the system's own limit is lower than what it calls the hard one
    if soft == resource.RLIM_INFINITY:
        soft = 1 << 20
    return max(16, min(MAX_SOCKETS - 64, (soft - 128) // 4))
