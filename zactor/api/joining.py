"""Finding the cluster that `init` is to join, or starting one."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from zactor.config import Config
from zactor.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from zactor.api.log_config import LoggingConfig
    from zactor.runtime.driver import Driver

# What Ray's `init` takes and zactor has no use for.
_IGNORED = {
    "include_dashboard", "dashboard_host", "dashboard_port", "job_config", "enable_resource_isolation", "cgroup_path",
    "system_reserved_cpu", "system_reserved_memory", "proxy_server_url", "allow_multiple",
}  # fmt: skip


class Wishes(NamedTuple):
    """What `init` was asked for."""

    address: str | None
    num_cpus: float | None
    num_gpus: float | None
    resources: Mapping[str, float] | None
    labels: Mapping[str, str] | None
    object_store_memory: int | None
    namespace: str | None
    runtime_env: dict[str, Any] | None
    log_to_driver: bool
    logging_level: Any
    logging_format: str | None
    logging_config: LoggingConfig | None
    configure_logging: bool
    preload: list[str] | None

    def check(self, others: Iterable[str]) -> None:
        """Check all that can be checked without a cluster; `others` are names nobody knows.

        Raises:
            ValueError: Something is out of range, or not supported; says what.
            TypeError: Something is of the wrong type.
            RuntimeError: An argument is unknown.
        """
        for name in ("num_cpus", "num_gpus", "object_store_memory"):
            _check_amount(name, getattr(self, name))
        if self.num_gpus is not None and self.num_gpus != int(self.num_gpus):
            raise ValueError(f"num_gpus of a node is a whole number, not {self.num_gpus!r}")
        _check_resources(self.resources)
        _check_text("namespace", self.namespace)
        if self.namespace == "":
            raise ValueError(
                "namespace cannot be an empty string; None asks for one of the job's own"
            )
        for name in ("labels", "runtime_env"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, dict):
                raise TypeError(f"{name} must be a dict, not {value!r}")
        _check_text("logging_format", self.logging_format)
        config = self.logging_config
        if config is not None and not hasattr(config, "wishes"):
            raise TypeError(f"logging_config must be a zactor.LoggingConfig, not {config!r}")
        for name in others:
            if name not in _IGNORED and not name.startswith("_"):
                raise RuntimeError(f"init() got an unknown argument {name!r}")

    def amounts(self) -> dict[str, float | None]:
        """Return the resources of a node that is to be started; None is for what it finds."""
        return {"CPU": self.num_cpus, "GPU": self.num_gpus, **(self.resources or {})}


def _check_text(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {value!r}")


def _check_amount(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if value < 0:
        raise ValueError(f"{name} cannot be negative, but is {value!r}")


def _check_resources(resources: Any) -> None:
    if resources is None:
        return
    if not isinstance(resources, dict):
        raise TypeError(f"resources must be a dict, not {resources!r}")
    for name, value in resources.items():
        if name in ("CPU", "GPU"):
            raise ValueError(f"use num_{name.lower()}s instead of resources[{name!r}]")
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ValueError(f"resources[{name!r}] must be a number >= 0, not {value!r}")


def join(wishes: Wishes, environment: dict[str, Any]) -> Driver:
    """Open a session with the cluster that is wished for, or with a new one.

    Args:
        wishes: What `init` was asked for.
        environment: Of the job's workers, in plain values.

    Raises:
        ConnectionError: Nobody answers at the address.
        ValueError: Resources or labels are given, and the cluster exists already.
    """
    config = Config.from_environment()
    where = wishes.address if wishes.address is not None else config.address or "local"
    about = {
        "pid": os.getpid(),
        "hostname": os.uname().nodename,
        "python": list(sys.version_info[:3]),
        "entrypoint": " ".join(sys.argv)[:200],
        "log_to_driver": wishes.log_to_driver and config.log_to_driver,
        "env": environment,
        "sys_path": [os.path.abspath(path) for path in sys.path],
        "cwd": os.getcwd(),
    }
    if where == "local":
        return _start_cluster(wishes, about)
    given = [name for name, value in wishes.amounts().items() if value is not None]
    given += wishes.labels or ()
    if given:
        raise ValueError(
            f"{', '.join(given)}: resources and labels are given where nodes are started "
            "(zactor node), not when an existing cluster is joined"
        )
    return _join_cluster(where, config, wishes.namespace or "", about)


def _start_cluster(wishes: Wishes, about: dict[str, Any]) -> Driver:
    from zactor.runtime.launching import LaunchError, launch

    store_bytes = wishes.object_store_memory
    try:
        launched = launch(
            resources=wishes.amounts(),
            labels=dict(wishes.labels or {}),
            preload=wishes.preload or [],
            settings={"store_bytes": store_bytes} if store_bytes else {},
            meanwhile=_import_runtime,
        )
    except LaunchError as error:
        raise ConnectionError(f"the cluster could not be started: {error}") from None
    from zactor.runtime.driver import Driver

    try:
        return Driver(
            broker=launched.broker,
            directory=launched.session,
            machine=launched.machine,
            keys=None,
            namespace=wishes.namespace or "",
            metadata=about,
            launched=launched,
        )
    except BaseException:
        launched.stop()
        raise


def _import_runtime() -> None:
    """Import what the program is about to need: it would only wait meanwhile."""
    for name in ("runtime.driver", "api.remote", "api.creation", "api.control", "api.values"):
        import_module(f"zactor.{name}")


def _join_cluster(where: str, config: Config, namespace: str, about: dict[str, Any]) -> Driver:
    from zactor.runtime.driver import Driver

    place = locate(where, config)
    try:
        driver = Driver(
            broker=place.broker,
            directory=place.directory,
            machine=place.machine,
            keys=place.keys,
            namespace=namespace,
            metadata=about,
            session=place.session,
            config=config,
        )
    except BaseException:
        place.session.close()
        raise
    # Its nodes' workers were not started by this program: they are told where its modules are.
    driver.process.session["sys_path"] = about["sys_path"]
    return driver


def locate(where: str, config: Config) -> Any:
    """Return where a cluster's broker is: its address, keys, and a directory for our inbox.

    Raises:
        ConnectionError: There is none, or nobody answers.
    """
    from zactor.runtime.joining import find_cluster

    return find_cluster(where, config)
