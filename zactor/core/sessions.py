"""Jobs and the sessions of drivers and tools; what jobs have defined; requests that wait.

A driver's session is a job. It ends in order (`Detach`), by the driver's death as its node sees
it, or when the driver's link is lost and does not come back. A job that has ended is kept while a
detached actor of it lives, and so are the classes and functions it has defined.

Does not end what belongs to a job; the broker does.

Invariants
    J1  Numbers of jobs are never used again.
    J2  A blob is kept exactly while a job that defined it is kept; their sum is bounded.
    J3  A parked request is answered once: by what it waits for, or when its time is over.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zactor.core.broker_config import BrokerConfig
    from zactor.core.deadlines import Deadlines
    from zactor.core.journal import Journal
    from zactor.wire.messages import Address


class Job:
    """One driver's session, or what is left of it."""

    __slots__ = ("address", "driver", "ended", "id", "metadata", "namespace", "started")

    def __init__(
        self, job: bytes, driver: bytes, address: list[Any], namespace: str,
        metadata: dict[str, Any], started: float,
    ) -> None:  # fmt: skip
        self.id = job
        self.driver = driver
        self.address = address
        self.namespace = namespace
        self.metadata = metadata
        self.started = started
        self.ended: dict[str, Any] | None = None  # the cause

    def record(self) -> dict[str, Any]:
        """Return what a broker that is started again has to know."""
        return {
            "driver": self.driver, "address": self.address, "namespace": self.namespace,
            "metadata": self.metadata, "started": self.started, "ended": self.ended,
        }  # fmt: skip


class Sessions:
    """All jobs, and the tools that are attached."""

    def __init__(self, journal: Journal, config: BrokerConfig) -> None:
        self._journal = journal
        self._config = config
        self._last = 0
        self.jobs: dict[bytes, Job] = {}
        self.by_driver: dict[bytes, Job] = {}  # those that have not ended
        self.tools: dict[bytes, str] = {}  # process -> namespace
        self.gone: OrderedDict[bytes, None] = OrderedDict()  # jobs of which nothing is left

    def load(self) -> None:
        """Enter the jobs that a broker before this one knew."""
        for key, item in self._journal.state.range(b"job/"):
            r = item.value
            job = Job(
                key[4:], r["driver"], r["address"], r["namespace"], r["metadata"], r["started"]
            )
            job.ended = r["ended"]
            self.jobs[job.id] = job
            if job.ended is None:
                self.by_driver[job.driver] = job
        last = self._journal.state.get(b"meta/job")
        self._last = last.value if last else 0

    def open(
        self, driver: bytes, address: Address, namespace: str, metadata: dict[str, Any],
        now: float,
    ) -> Job:  # fmt: skip
        """Begin a job."""
        self._last += 1
        self._journal.put(b"meta/job", self._last)
        job_id = self._last.to_bytes(4, "big")
        job = Job(job_id, driver, list(address), namespace, metadata, now)
        self.jobs[job_id] = self.by_driver[driver] = job
        self._journal.put(b"job/" + job_id, job.record())
        return job

    def close(self, job: Job, cause: dict[str, Any]) -> None:
        """The session is over; the job may be kept for its detached actors."""
        job.ended = cause
        del self.by_driver[job.driver]
        self._journal.put(b"job/" + job.id, job.record())

    def forget(self, job: Job) -> None:
        """Nothing of the job is left: it is kept only to be listed, for a while."""
        self._journal.delete(b"job/" + job.id)
        self.gone[job.id] = None
        while len(self.gone) > self._config.max_dead_jobs:
            del self.jobs[self.gone.popitem(last=False)[0]]


class Definitions:
    """Pickled classes and functions, by key."""

    def __init__(self, journal: Journal, config: BrokerConfig) -> None:
        self._journal = journal
        self._config = config
        self.size = 0
        self._blobs: dict[bytes, bytes] = {}
        self._jobs: dict[bytes, dict[bytes, None]] = {}  # key -> jobs that defined it
        self._keys: dict[bytes, dict[bytes, None]] = {}  # job -> keys

    def __len__(self) -> int:
        return len(self._blobs)

    def load(self) -> None:
        """Enter what a broker before this one kept."""
        for key, item in self._journal.state.range(b"def/"):
            for job in item.value["jobs"]:
                self._enter(key[4:], item.value["blob"], job)

    def define(self, key: bytes, blob: bytes, job: bytes) -> bool:
        """Keep `blob` for `job`; False if it is over the bound."""
        known = self._blobs.get(key)
        if known is not None and job in self._jobs[key]:
            return True
        if known is None:
            is_too_large = len(blob) > self._config.max_definition
            if is_too_large or self.size + len(blob) > self._config.max_definitions:
                return False
        self._enter(key, blob if known is None else known, job)
        self._save(key)
        return True

    def _enter(self, key: bytes, blob: bytes, job: bytes) -> None:
        if key not in self._blobs:
            self._blobs[key] = blob
            self.size += len(blob)
        self._jobs.setdefault(key, {})[job] = None
        self._keys.setdefault(job, {})[key] = None

    def _save(self, key: bytes) -> None:
        value = {"blob": self._blobs[key], "jobs": list(self._jobs[key])}
        self._journal.put(b"def/" + key, value)

    def get(self, key: bytes) -> bytes | None:
        """Return the blob, or None."""
        return self._blobs.get(key)

    def forget_job(self, job: bytes) -> None:
        """The job needs nothing any more."""
        for key in self._keys.pop(job, {}):
            jobs = self._jobs[key]
            del jobs[job]
            if jobs:
                self._save(key)
            else:
                del self._jobs[key]
                self.size -= len(self._blobs.pop(key))
                self._journal.delete(b"def/" + key)

    def check(self) -> None:
        """Assert J2."""
        assert self.size == sum(map(len, self._blobs.values())), "J2"
        assert self.size <= self._config.max_definitions, "J2"
        assert self._jobs.keys() == self._blobs.keys(), "J2"


class Parking:
    """Requests about something that may be on its way on another link.

    A handle can arrive before the broker has heard of its actor: different senders, different
    links. Such a request is not refused at once.
    """

    def __init__(self, deadlines: Deadlines, config: BrokerConfig) -> None:
        self._deadlines = deadlines
        self._config = config
        self._number = 0
        self._parked: dict[int, tuple[Any, bytes, Any]] = {}
        self._by_key: dict[Any, dict[int, None]] = {}

    def park(self, key: Any, peer: bytes, message: Any, now: float) -> bool:
        """Keep the message until `key` is there; False if too many are kept."""
        if len(self._parked) >= self._config.max_parked:
            return False
        self._number += 1
        self._parked[self._number] = (key, peer, message)
        self._by_key.setdefault(key, {})[self._number] = None
        self._deadlines.set(("parked", self._number), now + self._config.unknown_grace)
        return True

    def take(self, key: Any) -> list[tuple[bytes, Any]]:
        """Take out the messages that waited for `key`."""
        if key not in self._by_key:
            return []
        return [self._take(number) for number in list(self._by_key[key])]

    def overdue(self, number: int) -> tuple[bytes, Any]:
        """Take out a message whose time is over."""
        return self._take(number)

    def _take(self, number: int) -> tuple[bytes, Any]:
        key, peer, message = self._parked.pop(number)
        del self._by_key[key][number]
        if not self._by_key[key]:
            del self._by_key[key]
        self._deadlines.cancel(("parked", number))
        return peer, message


class Answers:
    """Answers given, so that a request that is repeated is answered the same (bounded)."""

    def __init__(self, config: BrokerConfig) -> None:
        self._limit = config.max_answers
        self._answers: OrderedDict[tuple[bytes, int], Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, peer: bytes, request: int) -> Any | None:
        """Return the answer given to this request before."""
        return self._answers.get((peer, request))

    def keep(self, peer: bytes, request: int, answer: Any) -> None:
        """Remember an answer; the oldest goes."""
        self._answers[peer, request] = answer
        if len(self._answers) > self._limit:
            self._answers.popitem(last=False)
