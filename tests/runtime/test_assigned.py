"""What the resources assigned mean to the libraries that user code calls."""

from __future__ import annotations

import pytest

from zactor.runtime.hosting.assigned import Assigned


@pytest.mark.parametrize(
    ("cpus", "threads"), [(1, "1"), (2.0, "2"), (0.25, "1"), (0, "1"), (3.5, "3")]
)
def test_threads_are_as_many_as_the_cpus_rounded_down_and_one_at_least(
    cpus: float, threads: str
) -> None:
    environ: dict[str, str] = {}
    Assigned(environ).tell({"assigned": {"CPU": cpus}})
    assert environ == {"OMP_NUM_THREADS": threads}


def test_what_holds_no_cpu_has_one_thread() -> None:
    environ: dict[str, str] = {}
    Assigned(environ).tell({"assigned": {}})
    assert environ == {"OMP_NUM_THREADS": "1"}


def test_each_lease_has_its_own_number_of_threads() -> None:
    environ: dict[str, str] = {}
    assigned = Assigned(environ)
    assigned.tell({"assigned": {"CPU": 2}})
    assigned.tell({"assigned": {"CPU": 1}})
    assert environ["OMP_NUM_THREADS"] == "1"


def test_what_others_have_set_is_left_alone() -> None:  # S1
    environ = {"OMP_NUM_THREADS": "7"}
    Assigned(environ).tell({"assigned": {"CPU": 2}})
    assert environ["OMP_NUM_THREADS"] == "7"
    environ = {}
    assigned = Assigned(environ)
    assigned.tell({"assigned": {"CPU": 2}})
    environ["OMP_NUM_THREADS"] = "5"  # by user code
    assigned.tell({"assigned": {"CPU": 1}})
    assert environ["OMP_NUM_THREADS"] == "5"
