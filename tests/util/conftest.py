"""The same subject and cluster as the parity table: `ZACTOR_PARITY=ray` tests `ray.util`."""

from tests.parity.conftest import (
    cluster,
    pytest_collection_modifyitems,
    pytest_configure,
    ray,
)
from tests.parity.table import SUBJECT

__all__ = ["cluster", "pytest_collection_modifyitems", "pytest_configure", "ray"]

if SUBJECT != "zactor":
    from tests.parity.conftest import leaves_nothing, module_leaves_nothing

    __all__ += ["leaves_nothing", "module_leaves_nothing"]
