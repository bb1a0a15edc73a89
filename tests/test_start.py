"""What has to be imported before a program can go on: counted, since time is the machine's."""

from __future__ import annotations

import subprocess
import sys

import pytest

SLOW = {"asyncio", "ssl", "zmq", "logging", "inspect", "dataclasses", "email", "http", "numpy"}


def imported(program: str) -> set[str]:
    """Run a program in a fresh interpreter; return the names of all modules it has then."""
    shown = "import sys; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{shown}"],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    return set(done.stdout.split())


def test_a_program_imports_little_before_its_cluster_is_started() -> None:
    """The cluster starts beside the rest of the program's own imports."""
    found = imported(
        "import zactor, zactor.api.joining, zactor.runtime.launching as launching\n"
        "seen = []\n"
        "def launch(**more):\n"
        "    import sys\n"
        "    seen.extend(sys.modules)\n"
        "    raise launching.LaunchError('not today')\n"
        "launching.launch = launch\n"
        "try:\n"
        "    zactor.init()\n"
        "except ConnectionError:\n"
        "    pass\n"
        "import sys; sys.modules = dict.fromkeys(seen)"
    )
    assert "zactor.runtime.launching" in found
    assert not found & SLOW
    assert not found & {"zactor.runtime.process", "zactor.runtime.driver", "cloudpickle"}


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("zactor.api.remote, zactor.api.creation, zactor.runtime.driver", {"asyncio", "ssl", "zmq"}),
        ("zactor.runtime.worker, zactor.runtime.hosting.construction", {"asyncio", "ssl", "zmq"}),
        ("zactor.runtime.broker, zactor.runtime.nodes.node", {"asyncio", "ssl", "zmq", "cloudpickle"}),
    ],
    ids=["driver", "worker", "cluster"],
)  # fmt: skip
def test_no_process_imports_what_only_some_programs_need(
    modules: str, absent: set[str]
) -> None:
    package = ""
    if "broker" in modules:  # which is not of a process that has the public API
        from zactor.runtime.commands import python_command

        package = python_command("")[3]
    assert not imported(f"{package}\nimport {modules}") & absent
