"""The parity table in an in-process world: the rows that run on a cluster run there as they are.

Scripts start programs of their own and are left out. What the world does not offer is listed here, and
nowhere else skipped.
"""

from __future__ import annotations

import gc
import importlib
from pathlib import Path
from typing import Any

import pytest

import zactor
from tests.parity.table import SUBJECT, Row, Table
from zactor.testing import local

PARITY = Path(__file__).parents[1] / "parity"

NOT_OFFERED = {
    "a_blocked_group_of_an_async_actor": "a loop for each group of an async actor",
    "a_definition_that_is_too_large": "the bound of what the broker keeps",
    "a_summary_of_objects": "listings of objects",
    "each_group_has_a_loop": "a loop for each group of an async actor",
    "objects_are_listed": "listings of objects",
    "retries_of_both_kinds": "one count of retries for crashes and exceptions",
    "the_address_can_be_joined": "an address",
    "the_session_and_its_directory": "a session's directory",
    "threads_of_a_task": "variables of a worker's environment",
    "what_a_job_says": "a driver's process, and the time of day",
    "workers_are_ended_first": "a process for the system to end",
}


def _rows() -> Any:
    for path in sorted(PARITY.glob("test_*.py")):
        module = importlib.import_module(f"tests.parity.{path.stem}")
        tables = [each for each in vars(module).values() if isinstance(each, Table)]
        for row in (row for table in tables for row in table.rows):
            if (
                row.prints is None
                and row.only in (None, SUBJECT)
                and row.name not in NOT_OFFERED
            ):
                yield pytest.param(row, id=row.name)


@pytest.mark.slow
@pytest.mark.timeout(30)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("row", list(_rows()))
def test_a_row_of_the_parity_table(row: Row, tmp_path: Path) -> None:
    with local(
        num_cpus=8, resources={"widget": 2}, labels={"zone": "north"}, namespace="parity"
    ):
        row.check(zactor, tmp_path)
    gc.collect()


def test_nothing_is_left_out_without_being_in_the_table() -> None:
    names = {
        row.name
        for path in PARITY.glob("test_*.py")
        for table in vars(importlib.import_module(f"tests.parity.{path.stem}")).values()
        if isinstance(table, Table)
        for row in table.rows
    }
    assert set(NOT_OFFERED) <= names
