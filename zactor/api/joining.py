"""Finding the cluster that `init` is to join, or starting one."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from zactor.config import Config

if TYPE_CHECKING:
    from zactor.runtime.driver import Driver

# What Ray's `init` takes and zactor has no use for.
_IGNORED = {
    "include_dashboard", "dashboard_host", "dashboard_port", "job_config", "enable_resource_isolation", "cgroup_path",
    "system_reserved_cpu", "system_reserved_memory", "proxy_server_url", "allow_multiple",
}  # fmt: skip


def check_init_arguments(**given: Any) -> None:  # noqa: C901 - one check after the other
    """Check what `init` was given.

    Raises:
        ValueError: Something is out of range, or not supported; says what.
        TypeError: Something is of the wrong type.
        RuntimeError: An argument is unknown.
    """
    for name in ("num_cpus", "num_gpus", "object_store_memory"):
        value = given[name]
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} must be a number, not {value!r}")
        if value < 0:
            raise ValueError(f"{name} cannot be negative, but is {value!r}")
    if given["num_gpus"] is not None and given["num_gpus"] != int(given["num_gpus"]):
        raise ValueError(f"num_gpus of a node is a whole number, not {given['num_gpus']!r}")
    resources = given["resources"]
    if resources is not None:
        if not isinstance(resources, dict):
            raise TypeError(f"resources must be a dict, not {resources!r}")
        for name, value in resources.items():
            if name in ("CPU", "GPU"):
                raise ValueError(f"use num_{name.lower()}s instead of resources[{name!r}]")
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ValueError(f"resources[{name!r}] must be a number >= 0, not {value!r}")
    namespace = given["namespace"]
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError(f"namespace must be a string, not {namespace!r}")
    if namespace is not None and not namespace:
        raise ValueError(
            "namespace cannot be an empty string; None asks for one of the job's own"
        )
    for name in ("labels", "runtime_env"):
        if given[name] is not None and not isinstance(given[name], dict):
            raise TypeError(f"{name} must be a dict, not {given[name]!r}")
    form = given["logging_format"]
    if form is not None and not isinstance(form, str):
        raise TypeError(f"logging_format must be a string, not {form!r}")
    config = given["logging_config"]
    if config is not None and not hasattr(config, "wishes"):
        raise TypeError(f"logging_config must be a zactor.LoggingConfig, not {config!r}")
    for name in given["others"]:
        if name not in _IGNORED and not name.startswith("_"):
            raise RuntimeError(f"init() got an unknown argument {name!r}")


def join(
    address: str | None,
    *,
    resources: dict[str, float | None],
    labels: dict[str, str],
    store_bytes: int | None,
    namespace: str,
    runtime_env: dict[str, Any] | None,
    log_to_driver: bool,
    preload: list[str],
) -> Driver:
    """Open a session with the cluster at `address`, or with a new one.

    Raises:
        ConnectionError: Nobody answers there.
    """
    config = Config.from_environment()
    where = address if address is not None else config.address or "local"
    metadata = {
        "pid": os.getpid(),
        "hostname": os.uname().nodename,
        "python": list(sys.version_info[:3]),
        "entrypoint": " ".join(sys.argv)[:200],
        "log_to_driver": log_to_driver and config.log_to_driver,
        "env": runtime_env or {},
        "sys_path": [os.path.abspath(path) for path in sys.path],
        "cwd": os.getcwd(),
    }
    if where == "local":
        from zactor.runtime.launching import LaunchError, launch

        settings: dict[str, Any] = {}
        if store_bytes:
            settings["store_bytes"] = store_bytes
        try:
            launched = launch(
                resources=resources, labels=labels, preload=preload, settings=settings,
                meanwhile=_import_runtime,
            )  # fmt: skip
        except LaunchError as error:
            raise ConnectionError(f"the cluster could not be started: {error}") from None
        from zactor.runtime.driver import Driver

        try:
            return Driver(
                broker=launched.broker,
                directory=launched.session,
                machine=launched.machine,
                keys=None,
                namespace=namespace,
                metadata=metadata,
                launched=launched,
            )
        except BaseException:
            launched.stop()
            raise
    given = [name for name, value in resources.items() if value is not None] + list(labels)
    if given:
        raise ValueError(
            f"{', '.join(given)}: resources and labels are given where nodes are started "
            "(zactor node), not when an existing cluster is joined"
        )
    from zactor.runtime.driver import Driver

    place = locate(where, config)
    try:
        driver = Driver(
            broker=place.broker,
            directory=place.directory,
            machine=place.machine,
            keys=place.keys,
            namespace=namespace,
            metadata=metadata,
            session=place.session,
            config=config,
        )
        # Its nodes' workers were not started by this program: they are told where its modules are.
        driver.process.session["sys_path"] = metadata["sys_path"]
        return driver
    except BaseException:
        place.session.close()
        raise


def _import_runtime() -> None:
    """Import what the program is about to need: it would only wait meanwhile."""
    for name in ("runtime.driver", "api.remote", "api.creation", "api.control", "api.values"):
        import_module(f"zactor.{name}")


def locate(where: str, config: Config) -> Any:
    """Return where a cluster's broker is: its address, keys, and a directory for our inbox.

    Raises:
        ConnectionError: There is none, or nobody answers.
    """
    from zactor.runtime.joining import find_cluster

    return find_cluster(where, config)
