"""Tells the libraries that user code calls how many of the machine's CPUs they may use.

`OMP_NUM_THREADS` is the number of CPUs assigned, rounded down, and 1 at least: as many processes as
there are CPUs, each with as many threads, would keep each other waiting.

Enforces nothing, and sets nothing that the machine, the runtime environment or user code has set.
Which GPUs are seen is `machine.use_gpus`.

Invariants
    S1  A variable whose value is not the one set here last is not touched again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

THREADS = "OMP_NUM_THREADS"


class Assigned:
    """The variables of one process."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._environ = environ
        self._said: str | None = None

    def tell(self, spec: Mapping[str, Any]) -> None:
        """Set the variables as `spec`, of a lease or an actor's life, says."""
        cpus = (spec.get("assigned") or {}).get("CPU", 1)
        if self._environ.get(THREADS) == self._said:  # S1
            self._environ[THREADS] = self._said = str(max(1, int(cpus)))
