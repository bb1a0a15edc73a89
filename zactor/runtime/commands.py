"""The command that starts a process of ours: this interpreter, and this zactor.

Imports next to nothing: a program waits for its cluster, so it starts it before all else.
"""

from __future__ import annotations

import os
import sys

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def python_command(program: str, *args: str) -> list[str]:
    """Return the command that runs `program` with this interpreter and this zactor.

    The current directory stays off the module search path (-P): a `socket.py` that lies there is
    none of ours. What users import comes with the set-up.

    The package `zactor` itself is a bare one there, since its `__init__` imports the whole public API,
    which takes longer than all that a broker and a node need. `complete_package` mends that.
    """
    find = (
        "import sys, types; package = types.ModuleType('zactor'); "
        f"package.__path__ = [{_PACKAGE!r}]; sys.modules['zactor'] = package; "
    )
    return [sys.executable, "-P", "-c", find + program, *args]


def complete_package() -> None:
    """Import the `zactor` that users know, in a process that has begun with a bare one."""
    bare = sys.modules["zactor"]
    if bare.__spec__ is not None:
        return
    from importlib.util import module_from_spec, spec_from_file_location

    path = os.path.join(_PACKAGE, "__init__.py")
    spec = spec_from_file_location("zactor", path, submodule_search_locations=[_PACKAGE])
    assert spec is not None
    assert spec.loader is not None
    whole = module_from_spec(spec)
    for name, value in vars(bare).items():
        if isinstance(value, type(sys)):
            setattr(whole, name, value)  # the modules that are imported already
    sys.modules["zactor"] = whole
    spec.loader.exec_module(whole)
