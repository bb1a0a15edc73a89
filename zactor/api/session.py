"""`init`, `shutdown`, `is_initialized`: the session of this process with a cluster."""

from __future__ import annotations

import atexit
import os
import sys
from typing import TYPE_CHECKING, Any, Self, cast

from zactor.exceptions import ZactorError
from zactor.runtime import current as processes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zactor.api.joining import Wishes
    from zactor.api.log_config import LoggingConfig
    from zactor.runtime.driver import Driver
    from zactor.runtime.inprocess.world import World
    from zactor.runtime.offered import Offered
    from zactor.runtime.process import Process

_driver: Driver | None = None
_world: World | None = (
    None  # in the place of a driver, while the session is with an in-process world
)


class ClusterContext(dict[str, Any]):
    """What `init` returns: facts about the cluster; as a context manager it ends the session."""

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__(facts)
        self.address_info = facts

    def disconnect(self) -> None:
        """End the session."""
        shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        shutdown()

    @property
    def dashboard_url(self) -> str:
        """There is no dashboard: an empty string."""
        return ""


def init(
    address: str | None = None,
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    resources: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    object_store_memory: int | None = None,
    local_mode: bool = False,
    ignore_reinit_error: bool = False,
    namespace: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    log_to_driver: bool = True,
    logging_level: Any = None,
    logging_format: str | None = None,
    logging_config: LoggingConfig | None = None,
    configure_logging: bool = True,
    preload: list[str] | None = None,
    **others: Any,
) -> ClusterContext:
    """Join a cluster, or start one.

    Without an address: the cluster of `$ZACTOR_ADDRESS`, or else a new one on this machine, which
    ends with this process. It takes part of a second; everything else that needs a cluster calls
    it by itself.

    Args:
        address: "local": always a new cluster; "auto": the one that runs on this machine; the
            path of a cluster file that `zactor broker` wrote; or the "address" that `init` has
            returned in another process of this machine.
        num_cpus: CPUs of the new cluster's node, for placement; by default those of this machine.
        num_gpus: GPUs, as a count.
        resources: Further resources by name.
        labels: Labels of the node, for placement by label.
        object_store_memory: Bytes of shared memory for large values.
        local_mode: Start no process: actors and tasks run in this one, one at a time, in virtual
            time. For tests and debugging; see `zactor.testing.local`, which offers more.
        ignore_reinit_error: Do nothing if there is a session already.
        namespace: Where this job's actor names are; by default one of its own.
        runtime_env: Environment of the job's workers.
        log_to_driver: Whether to show what workers print.
        logging_level: Level of this process's `zactor` logger.
        logging_format: Format of this process's `zactor` logger.
        logging_config: How the root logger is set up, in this process and in the job's workers.
        configure_logging: False: `logging_level` and `logging_format` are of no effect.
        preload: Modules that workers find imported.
        **others: Accepted for Ray's sake, and of no effect: dashboards and such.

    Returns:
        Facts about the cluster; usable as a context manager.

    Raises:
        RuntimeError: There is a session already.
        ConnectionError: Nobody answers at the address.
        ValueError: An argument makes no sense.
    """
    from zactor.api.joining import Wishes

    wishes = Wishes(
        address=address, num_cpus=num_cpus, num_gpus=num_gpus, resources=resources, labels=labels,
        object_store_memory=object_store_memory, namespace=namespace, runtime_env=runtime_env,
        log_to_driver=log_to_driver, logging_level=logging_level, logging_format=logging_format,
        logging_config=logging_config, configure_logging=configure_logging, preload=preload,
    )  # fmt: skip
    with processes.lock:
        if processes.current() is None:
            wishes.check(others)
            (_begin_here if local_mode else _begin)(wishes)
        elif not ignore_reinit_error:
            raise RuntimeError(
                "Maybe you called zactor.init twice by accident? This process has a session "
                "already. Call zactor.shutdown() first, or pass ignore_reinit_error=True."
            )
        return ClusterContext(_facts())


def _begin(wishes: Wishes) -> None:
    """Begin a session with a cluster."""
    global _driver  # noqa: PLW0603 - one session a process
    from zactor.api.environments import check_environment
    from zactor.api.joining import join

    environment = check_environment(wishes.runtime_env)
    own_logger = (wishes.logging_level, wishes.logging_format)
    if wishes.configure_logging and own_logger != (None, None):
        from zactor.api.log_config import set_up_own_logger

        set_up_own_logger(*own_logger)
    driver = _driver = join(wishes, environment)
    processes.set_current(driver.process)
    session = driver.process.session
    session["runtime_env"] = environment
    if wishes.logging_config is not None:
        from zactor.runtime.insight.records import set_up

        session["logging"] = wishes.logging_config.wishes()
        set_up(session["logging"])
    atexit.register(_at_exit)


def _begin_here(wishes: Wishes) -> None:
    """Begin a session within this process."""
    from zactor.api.environments import check_environment

    environment = check_environment(wishes.runtime_env)
    open_world(
        num_cpus=wishes.num_cpus, num_gpus=wishes.num_gpus or 0, resources=wishes.resources,
        labels=wishes.labels, namespace=wishes.namespace,
    )  # fmt: skip
    process().session["runtime_env"] = environment


def open_world(**arguments: Any) -> World:
    """Begin a session with an in-process world; `arguments` are those of `World`.

    Raises:
        RuntimeError: There is a session already.
    """
    global _world  # noqa: PLW0603
    from zactor.runtime.inprocess.world import World

    with processes.lock:
        if processes.current() is not None:
            raise RuntimeError(
                "this process has a session already: an in-process world cannot be opened beside it. "
                "Call zactor.shutdown() first."
            )
        arguments = {name: value for name, value in arguments.items() if value is not None}
        world = _world = World(**arguments)
        world.open()
        atexit.register(_at_exit)
        return world


def _facts() -> dict[str, Any]:
    process = processes.current()
    assert process is not None
    from zactor.runtime.machine import ip_address

    address = process.broker.ipc or process.broker.tcp
    return {
        "address": address,
        "gcs_address": address,
        "node_ip_address": ip_address(),
        "webui_url": "",  # there is no dashboard
        "node_id": process.post.address.node.hex(),
        "job_id": process.job.hex(),
        "namespace": process.namespace,
        "session_dir": os.path.dirname(process.post.address.ipc.removeprefix("ipc://")),
        "python_version": ".".join(map(str, sys.version_info[:3])),
    }


def shutdown(_exiting_interpreter: bool = False, *, wait_for_processes: bool = False) -> None:  # noqa: ARG001, FBT001, FBT002 - Ray's signature
    """End the session: its actors that are not detached go, and the cluster if `init` started it.

    Does nothing without a session. References and handles of the session are of no use afterwards.
    """
    global _driver, _world  # noqa: PLW0603
    with processes.lock:
        if _world is not None and not _world.is_elsewhere():
            world, _world = _world, None
            world.close()
            atexit.unregister(_at_exit)
            return
        driver, _driver = _driver, None
        process = processes.current()
        if process is None or driver is None:
            if driver is not None:
                driver = None  # a forked child: the session is its parent's
            return
        from zactor.exceptions import SessionLostError

        was_over = process.is_over
        process.end(SessionLostError("zactor.shutdown() was called"))
        process.is_over = was_over  # if it was not, the broker is still to hear of it
        driver.close()
        processes.set_current(None)
        atexit.unregister(_at_exit)


def _at_exit() -> None:
    shutdown(_exiting_interpreter=True)


def is_initialized() -> bool:
    """Whether this process has a session (or is a worker of a cluster)."""
    return processes.current() is not None


def process() -> Offered:
    """Return this process's runtime, starting a session if there is none.

    Raises:
        ZactorError: This process was forked from one with a session, which it cannot share.
    """
    found = processes.current()
    if found is None:
        if processes.is_inherited():
            raise ZactorError(
                "this process was forked from one that had called zactor.init(): sockets and "
                "threads do not survive a fork. Call zactor.init() in the child before anything "
                "else, or start it with the 'spawn' method."
            )
        init()
        found = processes.current()
        assert found is not None
    return found


def process_of_cluster(what: str) -> Process:
    """Return this process's runtime for `what`, which asks the processes of a cluster.

    Raises:
        NotImplementedError: The session is with an in-process world, which has none.
    """
    found = process()
    if is_in_process(found):
        raise NotImplementedError(
            f"an in-process world (zactor.testing.local, local_mode) does not offer {what}: use "
            "world.trace, or a real session"
        )
    return cast("Process", found)


def is_in_process(runtime: Offered) -> bool:
    """Whether a runtime is an in-process world's: one that knows everything there is itself."""
    from zactor.runtime.process import Process

    return not isinstance(runtime, Process)


def driver() -> Driver | None:
    """Return the driver's side of the session, or None in a worker."""
    return _driver
