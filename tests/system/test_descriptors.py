"""A cluster that has few descriptors refuses what it cannot host, and goes on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import UNIT, _python_path

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(120)]

PROGRAM = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
import zactor

@zactor.remote(num_cpus=0)
class Actor:
    def ping(self):
        return 1

zactor.init(num_cpus=2, log_to_driver=False)
actors = [Actor.remote() for _ in range(70)]
outcomes = set()
for actor in actors:
    try:
        outcomes.add(zactor.get(actor.ping.remote(), timeout=60))
    except zactor.exceptions.ActorDiedError as error:
        assert "ulimit" in str(error) and error.executed == "no", error
        outcomes.add("refused")
print(sorted(map(str, outcomes)), zactor.get(actors[0].ping.remote(), timeout=10))
zactor.shutdown()
"""


def test_actors_beyond_the_limit_of_open_files_are_refused_with_the_reason() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=100 * UNIT,
        env={**os.environ, "PYTHONPATH": _python_path()},
        check=False,
    )
    assert ran.stdout.split("\n")[0] == "['1', 'refused'] 1", ran.stderr[-2000:]
