"""The module under test and the one cluster the rows of a file share.

`ZACTOR_PARITY=ray` runs the same rows on Ray itself, where that is installed: an expectation
that fails there is wrong. There one cluster serves all files, since it takes seconds to start,
and nothing is checked for leaks.
"""

from __future__ import annotations

import gc
import importlib
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.parity.table import LOCAL, SUBJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

CPUS = 8
WIDGETS = 2

# On Ray the state API goes through the dashboard, whose packages need not be there.
WITH_DASHBOARD = bool(os.environ.get("ZACTOR_PARITY_DASHBOARD"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "system: starts real processes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not {"parity", "util"} & set(item.path.parts):
            continue
        item.add_marker(pytest.mark.system)
        # A row says what comes of a program; that it also warns is another test's matter.
        item.add_marker(pytest.mark.filterwarnings("ignore"))


if SUBJECT != "zactor":

    @pytest.fixture(autouse=True)
    def leaves_nothing() -> None:
        """Nothing is checked: what Ray leaves behind is its own affair."""

    @pytest.fixture(autouse=True, scope="module")
    def module_leaves_nothing() -> None:
        """The same."""


def scope_of_cluster(fixture_name: str, config: pytest.Config) -> str:
    if LOCAL:
        return "function"
    return "module" if SUBJECT == "zactor" else "session"


@pytest.fixture(scope=scope_of_cluster)
def cluster() -> Iterator[Any]:
    module = importlib.import_module(SUBJECT)
    if LOCAL:
        testing = importlib.import_module("zactor.testing")
        with testing.local(num_cpus=CPUS, resources={"widget": WIDGETS}, namespace="parity"):
            yield module
        return
    if module.is_initialized():  # the session's, begun by the rows of another directory
        yield module
        return
    module.init(
        address="local",
        num_cpus=CPUS,
        resources={"widget": WIDGETS},
        labels={"zone": "north"},
        object_store_memory=256 * 1024 * 1024,
        include_dashboard=WITH_DASHBOARD,
        log_to_driver=False,
        namespace="parity",
    )
    yield module
    module.shutdown()


@pytest.fixture
def ray(cluster: Any) -> Iterator[Any]:
    yield cluster
    gc.collect()
