"""The session directory: where the processes of one cluster on one machine meet.

    <base>/                  $ZACTOR_TMPDIR or /tmp/zactor-<uid>; 0700
        machine              the machine's token
        latest               name of the session that started last
        <cluster id, 8 hex>/ 0700
            lock             held, shared, by each process that keeps the session alive
            broker           the broker's address, msgpack
            logs/            output of workers
            <process id hex> ipc sockets

The lock is what says whether a session lives: the kernel releases it when its holders are dead,
however they died. A session whose lock nobody holds is swept, with its shared-memory segments, by
whoever starts next. The lock's descriptor must not be inherited: a fork server is forked before.

Invariants
    D1  Nothing here is used that somebody else could have put here: the directory's owner and
        mode are checked, and a symbolic link is not followed.
    D2  A session is removed only by who holds its lock exclusively.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgpack

if TYPE_CHECKING:
    from zactor.config import Config

SOCKET_PATH_LIMIT = 107
"""Bytes of a Unix socket's path that Linux takes (`sun_path`, less its final zero)."""

_SOCKET_NAME = 24  # a process id in hex
_NAME = 8
_TOKEN = 8
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class SessionError(OSError):
    """A session directory cannot be made or used; the text says why and what to do."""


class Session:
    """A session directory, whose lock this process holds. Make one with `open_session`."""

    def __init__(self, path: str, cluster: bytes, shm_dir: str, lock: int) -> None:
        self.path = path
        self.cluster = cluster
        self.logs = os.path.join(path, "logs")
        self._shm_dir = shm_dir
        self._lock = lock

    @property
    def segment_prefix(self) -> str:
        """What the names of this cluster's shared-memory segments begin with."""
        return _segment_prefix(os.path.basename(self.path))

    def prefix_of_node(self, process: bytes) -> str:
        """What the names of the segments begin with that a node gave out; the maker's id follows."""
        return f"{self.segment_prefix}{process.hex()[:_NAME]}-"

    def sweep_node(self, process: bytes) -> None:
        """Remove the segments that a dead node gave out, but for those of living programs."""
        prefix = self.prefix_of_node(process)
        lives: dict[str, bool] = {}
        for name in os.listdir(self._shm_dir):
            if not name.startswith(prefix):
                continue
            maker = name.removeprefix(prefix).partition("-")[0]
            if maker not in lives:
                lives[maker] = _is_listening(os.path.join(self.path, maker))
            if not lives[maker]:
                _remove_tree(os.path.join(self._shm_dir, name))

    def publish(self, address: list[Any]) -> None:
        """Let `find_broker` find the broker at `address`."""
        _write(os.path.join(self.path, "broker"), msgpack.packb(address))
        base, name = os.path.split(self.path)
        _write(os.path.join(base, "latest"), name.encode())

    def close(self) -> None:
        """Let go; the last to do so removes the directory and the segments."""
        if self._lock < 0:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pass  # others keep it
        else:
            _remove(self.path, self._shm_dir)
        os.close(self._lock)
        self._lock = -1


def open_session(config: Config, cluster: bytes) -> Session:
    """Open the session of `cluster` on this machine, making its directory if need be.

    Raises:
        SessionError: The directory is not ours alone, or its path is too long for sockets.
    """
    base = _open_base(config)
    path = os.path.join(base, cluster.hex()[:_NAME])
    longest = len(os.fsencode(path)) + 1 + _SOCKET_NAME
    if longest > SOCKET_PATH_LIMIT:
        raise SessionError(
            f"{path}: sockets in it would have paths of {longest} bytes, and {SOCKET_PATH_LIMIT} "
            "is the most that Linux takes; set ZACTOR_TMPDIR to a shorter directory"
        )
    while True:
        _make_private(path)
        # Another process's sweep may remove the directory at any time until its lock is held: then
        # it is made again. A lock that is not there any more is nobody's.
        try:
            lock = os.open(
                os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_SH)
        if _is_same(lock, os.path.join(path, "lock")):
            break
        os.close(lock)
    session = Session(path, cluster, config.shm_dir, lock)
    _make_private(session.logs)
    return session


def sweep(config: Config) -> list[str]:
    """Remove the sessions whose lock nobody holds, with their segments; return their names."""
    base = _open_base(config)
    swept = []
    for entry in sorted(os.listdir(base)):
        path = os.path.join(base, entry)
        if len(entry) != _NAME or not _is_private(path):
            continue
        lock = _try_lock(path)
        if lock is None:
            continue
        _remove(path, config.shm_dir)
        os.close(lock)
        swept.append(entry)
    return swept


def find_broker(config: Config) -> list[Any] | None:
    """Return the address of this user's latest living cluster on this machine, if there is one."""
    base = config.base
    try:
        names = [name for name in os.listdir(base) if len(name) == _NAME]
        names.sort(key=lambda name: os.stat(os.path.join(base, name)).st_mtime, reverse=True)
    except OSError:
        return None
    latest = _read(os.path.join(base, "latest"))
    if latest is not None and latest.decode() in names:
        names.insert(0, latest.decode())
    for name in names:
        found = broker_in(os.path.join(base, name))
        if found is not None:
            return found
    return None


def broker_in(path: str) -> list[Any] | None:
    """Return the address of the living cluster whose session is in this directory."""
    if not _is_private(path) or not _is_held(path):
        return None
    address = _read(os.path.join(path, "broker"))
    if address is None:
        return None
    found: list[Any] = msgpack.unpackb(address)
    return found


def machine_token(config: Config) -> bytes:
    """Return what is equal exactly where ipc endpoints of this user can be reached.

    Half of it is the running kernel's, half lies in the directory that the endpoints are in: two
    containers on one machine share the first, and a shared file system the second.
    """
    path = os.path.join(_open_base(config), "machine")
    token = _read(path)
    if token is None or len(token) != _TOKEN:
        draft = f"{path}.{os.getpid()}"
        _write(draft, os.urandom(_TOKEN))
        with suppress(FileExistsError):  # the first wins
            os.link(draft, path)
        os.unlink(draft)
        token = _read(path) or b""
    with open(_BOOT_ID) as file:
        boot = file.read().replace("-", "")
    return bytes.fromhex(boot)[:_TOKEN] + token


def _open_base(config: Config) -> str:
    base = config.base
    os.makedirs(os.path.dirname(base) or "/", exist_ok=True)
    _make_private(base)
    return base


def _make_private(path: str) -> None:
    """Make a directory, if need be. A sweep may have removed it by the time this returns."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise SessionError(
            f"{path}: {error.strerror}; set ZACTOR_TMPDIR to another directory"
        ) from None
    if _is_private(path) is False:
        raise SessionError(
            f"{path} is not a directory of this user alone (mode 0700): remove it, or set "
            "ZACTOR_TMPDIR to another directory"
        )


def _is_private(path: str) -> bool | None:
    """Whether it is a directory that only we can use; None if it is gone."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.getuid()
        and not found.st_mode & 0o077
    )


def _try_lock(path: str) -> int | None:
    """Take the lock of the session at `path` exclusively; None if somebody holds it."""
    try:
        lock = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _is_held(path: str) -> bool:
    lock = _try_lock(path)
    if lock is None:
        return True
    os.close(lock)
    return False


def _is_listening(path: str) -> bool:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        return probe.connect_ex(path) in (0, errno.EAGAIN)


def _is_same(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _segment_prefix(name: str) -> str:
    return f"zactor-{name}-"


def _remove(path: str, shm_dir: str) -> None:
    """Remove a session whose lock is held: the lock's name last."""
    prefix = _segment_prefix(os.path.basename(path))
    for directory, is_ours in (
        (shm_dir, lambda name: name.startswith(prefix)),
        (path, _not_lock),
    ):
        try:
            names = os.listdir(directory)
        except FileNotFoundError:
            continue
        for name in filter(is_ours, names):
            _remove_tree(os.path.join(directory, name))
    _remove_tree(os.path.join(path, "lock"))
    try:
        os.rmdir(path)
    except OSError:
        return  # something was made in it meanwhile; the next sweep finds it


def _not_lock(name: str) -> bool:
    return name != "lock"


def _remove_tree(path: str) -> None:
    # Not shutil's: importing that costs a tenth of a cluster's start.
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
        for name in os.listdir(path):
            _remove_tree(os.path.join(path, name))
        os.rmdir(path)
    except OSError:
        return  # gone already, or being filled: the next sweep finds it


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _write(path: str, content: bytes) -> None:
    draft = f"{path}.{os.getpid()}.new"
    with open(
        os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb"
    ) as file:
        file.write(content)
    os.replace(draft, path)
