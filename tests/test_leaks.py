"""The leak checks of conftest see what they are there to see."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

CONFTEST = Path(__file__).parent / "conftest.py"


def run(tmp_path: Path, source: str) -> str:
    (tmp_path / "conftest.py").write_text(
        CONFTEST.read_text().replace("GRACE = 5.0", "GRACE = 0.1")
    )
    (tmp_path / "test_it.py").write_text(textwrap.dedent(source))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=30,
    )
    return done.stdout


def test_a_thread_left_fails_the_test(tmp_path: Path) -> None:
    out = run(
        tmp_path,
        """
        import threading

        def test_it():
            threading.Thread(target=threading.Event().wait, args=(1,), name="stray").start()
        """,
    )
    assert "left threads: ['stray']" in out


def test_a_process_left_fails_the_module_even_when_it_was_reparented(tmp_path: Path) -> None:
    out = run(
        tmp_path,
        """
        import subprocess, sys

        START = "import subprocess; subprocess.Popen(['sleep', '20'], start_new_session=True)"

        def test_it():
            subprocess.run([sys.executable, "-c", START], check=True)
        """,
    )
    assert "sleep 20" in out
    assert "1 passed, 1 error" in out


def test_a_segment_left_fails_the_module(tmp_path: Path) -> None:
    out = run(
        tmp_path,
        """
        import os

        def test_it():
            open(os.path.join(os.environ["ZACTOR_SHM_DIR"], "zactor-left"), "w").close()
        """,
    )
    assert "the module left: zactor-left" in out
    assert "1 passed, 1 error" in out


def test_nothing_left_passes(tmp_path: Path) -> None:
    assert "1 passed" in run(tmp_path, "def test_it():\n    pass\n")
