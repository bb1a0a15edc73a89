"""The module under test and the one cluster the rows share.

`ZACTOR_PARITY=ray` runs the same rows on Ray itself, where that is installed: an expectation
that fails there is wrong.
"""

import gc
import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.parity.table import SUBJECT

CPUS = 8
WIDGETS = 2


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "system: starts real processes")
    config.addinivalue_line("markers", "timeout: limit in seconds")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "parity" not in item.path.parts:
            continue
        item.add_marker(pytest.mark.system)
        if SUBJECT != "zactor":
            item.add_marker(pytest.mark.filterwarnings("ignore"))
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(60))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    module = importlib.import_module(SUBJECT)
    module.init(
        address="local",
        num_cpus=CPUS,
        resources={"widget": WIDGETS},
        labels={"zone": "north"},
        object_store_memory=256 * 1024 * 1024,
        include_dashboard=False,
        log_to_driver=False,
        namespace="parity",
    )
    yield module
    module.shutdown()


@pytest.fixture
def ray(cluster: Any) -> Iterator[Any]:
    yield cluster
    gc.collect()


@pytest.fixture(autouse=True)
def leaves_nothing(cluster: Any) -> None:
    """One cluster serves all rows: what a row leaves goes with it."""


@pytest.fixture(autouse=True, scope="module")
def module_leaves_nothing() -> None:
    """See `leaves_nothing`."""
