"""Session directories: made, found, swept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zactor.config import Config
from zactor.runtime.session import (
    SessionError,
    find_broker,
    machine_token,
    open_session,
    sweep,
)

ONE = b"\x01" * 12
TWO = b"\x02" * 12
ADDRESS = [b"p" * 12, b"", b"m", "ipc://x", ""]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "shm").mkdir()
    return Config(tmpdir=str(tmp_path / "z"), shm_dir=str(tmp_path / "shm"))


def test_a_session_directory_is_private_and_goes_with_its_last_holder(config: Config) -> None:
    first = open_session(config, ONE)
    second = open_session(config, ONE)
    assert os.stat(first.path).st_mode & 0o777 == 0o700
    first.close()
    assert os.path.isdir(second.path)
    second.close()
    assert not os.path.exists(second.path)


def test_a_directory_that_others_can_read_is_refused(config: Config) -> None:  # D1
    os.mkdir(config.base, 0o755)
    os.chmod(config.base, 0o755)
    with pytest.raises(SessionError, match="ZACTOR_TMPDIR"):
        open_session(config, ONE)


def test_a_link_to_a_directory_is_refused(config: Config, tmp_path: Path) -> None:  # D1
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    os.symlink(tmp_path / "elsewhere", config.base)
    with pytest.raises(SessionError):
        open_session(config, ONE)


def test_a_path_too_long_for_sockets_is_refused_with_advice(tmp_path: Path) -> None:
    config = Config(tmpdir=str(tmp_path / ("x" * 100)))
    with pytest.raises(SessionError, match="ZACTOR_TMPDIR to a shorter"):
        open_session(config, ONE)


def test_what_a_dead_session_left_is_swept_and_a_living_one_is_not(
    config: Config,
) -> None:  # D2
    alive = open_session(config, TWO)
    program = (
        "import os, sys; from zactor.config import Config; "
        "from zactor.runtime.session import open_session; "
        f"s = open_session(Config(tmpdir={config.tmpdir!r}), {ONE!r}); "
        "open(os.path.join(s.path, 'socket'), 'w').close(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    for name in ("zactor-01010101-a", "zactor-02020202-a", "other"):
        Path(config.shm_dir, name).touch()
    assert os.path.exists(os.path.join(config.base, "01010101", "socket"))

    assert sweep(config) == ["01010101"]

    assert sorted(os.listdir(config.shm_dir)) == ["other", "zactor-02020202-a"]
    assert os.path.isdir(alive.path)
    alive.close()
    assert os.listdir(config.shm_dir) == ["other"]
    assert sweep(config) == []


@pytest.mark.parametrize("after", ["mkdir", "open"])
def test_a_sweep_between_the_steps_of_opening_a_session_does_not_matter(
    config: Config, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    step, swept = getattr(os, after), []

    def then_swept(path: str, *args: Any) -> Any:
        done = step(path, *args)
        if path.removesuffix("/lock").endswith((b"c" * 4).hex()) and not swept:
            swept.append(path)
            swept.extend(sweep(config))
        return done

    sweep(config)  # the base is there
    monkeypatch.setattr(os, after, then_swept)
    session = open_session(config, b"c" * 16)
    assert len(swept) == 2
    assert os.path.isdir(session.path)
    assert sweep(config) == []
    session.close()


def test_the_latest_living_cluster_is_found(config: Config) -> None:
    assert find_broker(config) is None
    older = open_session(config, ONE)
    older.publish(ADDRESS)
    newer = open_session(config, TWO)
    newer.publish([*ADDRESS[:4], "tcp://"])
    assert find_broker(config) == [*ADDRESS[:4], "tcp://"]
    newer.close()
    assert find_broker(config) == ADDRESS
    older.close()
    assert find_broker(config) is None


def test_the_machine_token_is_the_directory_s_and_the_boot_s(
    config: Config, tmp_path: Path
) -> None:
    token = machine_token(config)
    other = machine_token(Config(tmpdir=str(tmp_path / "y")))
    assert token == machine_token(config)
    assert token[:8] == other[:8]
    assert token[8:] != other[8:]
    assert len(token) == 16
