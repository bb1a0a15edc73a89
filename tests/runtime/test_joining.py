"""The cluster file: written whole, read only where it is safe, and errors that say what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zactor.config import Config
from zactor.runtime.joining import (
    ClusterFile,
    find_cluster,
    read_cluster_file,
    write_cluster_file,
)
from zactor.runtime.session import machine_token, open_session
from zactor.transport.curve import make_keys
from zactor.wire.messages import Address


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config()._replace(tmpdir=str(tmp_path / "z"))


def content(machine: bytes = b"m" * 16, tcp: str = "tcp://127.0.0.1:6400") -> ClusterFile:
    broker = Address(b"p" * 12, b"", machine, "ipc:///tmp/x", tcp)
    return ClusterFile(b"c" * 12, broker, make_keys())


def test_what_is_written_is_read_again_and_only_by_its_owner(tmp_path: Path) -> None:
    path = str(tmp_path / "cluster.zactor")
    written = content()
    write_cluster_file(path, written)
    assert read_cluster_file(path) == written
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["cluster.zactor"]


def test_a_file_that_others_can_read_is_refused(tmp_path: Path, config: Config) -> None:
    path = str(tmp_path / "cluster.zactor")
    write_cluster_file(path, content())
    os.chmod(path, 0o644)
    with pytest.raises(ConnectionError, match="chmod 600"):
        find_cluster(path, config)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"zactor": 1}', "\xff"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, config: Config, text: str) -> None:
    path = tmp_path / "cluster.zactor"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConnectionError, match="no cluster file"):
        find_cluster(str(path), config)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cluster.zactor"
    write_cluster_file(str(path), content())
    path.write_text(path.read_text().replace('"zactor": 1', '"zactor": 2'))
    with pytest.raises(ValueError, match="format 2"):
        read_cluster_file(str(path))


def test_no_file_says_what_an_address_is(config: Config) -> None:
    with pytest.raises(ConnectionError, match="zactor broker"):
        find_cluster("nowhere.zactor", config)


def test_no_cluster_on_this_machine_says_so(config: Config) -> None:
    with pytest.raises(ConnectionError, match="no cluster of this user runs"):
        find_cluster("auto", config)


def test_auto_finds_the_broker_of_this_machine_and_its_keys(config: Config) -> None:
    session = open_session(config, b"c" * 12)
    try:
        own = content(machine_token(config))
        broker = own.broker._replace(ipc=f"ipc://{session.path}/{own.broker.process.hex()}")
        session.publish(list(broker))
        for keys in (None, own.keys):
            place = find_cluster("auto", config)
            assert (place.broker, place.directory, place.keys) == (broker, session.path, keys)
            place.session.close()
            write_cluster_file(f"{session.path}/cluster", own)
    finally:
        session.close()
    assert not os.path.exists(session.path)


def test_a_broker_that_listens_elsewhere_on_loopback_only_is_said_to(
    tmp_path: Path, config: Config
) -> None:
    path = str(tmp_path / "cluster.zactor")
    write_cluster_file(path, content(tcp=""))
    with pytest.raises(ConnectionError, match="--listen"):
        find_cluster(path, config)
