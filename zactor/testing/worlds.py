"""An in-process world for tests: the whole public API, no processes, one schedule a seed, virtual time.

    with zactor.testing.local(seed=7) as world:
        counter = Counter.remote()
        assert zactor.get(counter.increment.remote()) == 1
        world.crash_next(counter, "increment", ran=True)

Does not run anything itself: `zactor.runtime.inprocess` does.
"""

from __future__ import annotations

import functools
import inspect
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zactor.api.actors import ActorClass, ActorHandle
from zactor.api.control import kill
from zactor.api.functions import RemoteFunction
from zactor.api.session import open_world, shutdown
from zactor.api.typed import Actor
from zactor.runtime.inprocess.faults import CRASH, Fault
from zactor.runtime.inprocess.scheduler import PATIENCE
from zactor.runtime.inprocess.world import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from zactor.exceptions import Executed
    from zactor.runtime.inprocess.world import World

__all__ = ["LocalWorld", "Step", "each_seed", "local"]

SEED_VARIABLE = "ZACTOR_SEED"


class LocalWorld:
    """An in-process world, as a test sees it. Made by `local`.

    Attributes:
        seed: What its schedule was drawn from.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.seed = world.seed

    @property
    def now(self) -> float:
        """Virtual seconds since the world began."""
        return self._world.scheduler.now

    @property
    def trace(self) -> list[Step]:
        """What has happened so far, in order: the same for the same seed."""
        return list(self._world.trace)

    def story(self) -> str:
        """Return the trace as text, a step a line."""
        return "\n".join(map(str, self._world.trace))

    # -- time ----------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let so much virtual time pass, with whatever happens in it."""
        self._world.scheduler.sleep(seconds)

    def settle(self) -> None:
        """Let everything run that can run without time passing."""
        self._world.scheduler.sleep(0.0)

    # -- faults --------------------------------------------------------------------------------

    def kill(self, actor: ActorHandle[Any] | Actor, *, no_restart: bool = True) -> None:
        """`zactor.kill`, at once."""
        kill(actor, no_restart=no_restart)

    def crash(self, actor: ActorHandle[Any] | Actor) -> None:
        """Have the actor's process die, as by a segmentation fault. `max_restarts` says what follows.

        Raises:
            ValueError: It has not begun to live, or is dead.
        """
        target = _target(actor)
        found = self._world.actors.get(target)
        if found is None or not found.life or found.process.is_dead:
            raise ValueError(
                f"{actor!r} has no process that could crash: it is {_state_of(found)}"
            )
        found.life_over({**CRASH, "text": "was killed by SIGKILL (crash)"})

    def crash_next(
        self, target: Any, method: str | None = None, *, ran: bool = False,
        executed: Executed = "unknown",
    ) -> None:  # fmt: skip
        """Have the process die when the next call of `target` starts, or when it has run.

        Args:
            target: An actor's handle; an actor class, or its name, for any actor of it; a remote
                function, or its name.
            method: The method; by default any, but not the constructor: that is "__init__".
            ran: Let the method run first. Its effects stay, its result is lost.
            executed: What the error tells the caller: "unknown", as when nobody could see it, or
                what is true.

        Raises:
            ValueError: `executed` would be a lie.
        """
        self._fault(target, method, ran=ran, executed=executed, is_crash=True)

    def lose_next(
        self, target: Any, method: str | None = None, *, ran: bool = False,
        executed: Executed = "unknown",
    ) -> None:  # fmt: skip
        """Have the next call of `target` lost, or its reply; the actor lives on.

        As when a link is lost: the caller gets an ActorUnavailableError (a task's, a
        WorkerCrashedError). The arguments are those of `crash_next`.

        Raises:
            ValueError: `executed` would be a lie, or it is a constructor.
        """
        if method == "__init__":
            raise ValueError("a constructor's call cannot be lost: use crash_next")
        self._fault(target, method, ran=ran, executed=executed, is_crash=False)

    def _fault(
        self, target: Any, method: str | None, *, ran: bool, executed: Executed, is_crash: bool
    ) -> None:
        if executed not in ("no", "yes", "unknown"):
            raise ValueError(f"executed is 'no', 'yes' or 'unknown', not {executed!r}")
        if executed == ("no" if ran else "yes"):
            text = "has run" if ran else "has not run"
            raise ValueError(f"executed={executed!r} would be a lie about a call that {text}")
        fault = Fault(
            self._world, _target(target), method, ran=ran, executed=executed, is_crash=is_crash
        )
        self._world.faults.waiting.append(fault)

    @property
    def faults(self) -> list[str]:
        """The faults that were asked for and have not happened."""
        return [repr(fault) for fault in self._world.faults.waiting]

    def __repr__(self) -> str:
        return f"LocalWorld(seed={self.seed}, now={self.now:g})"


def _state_of(actor: Any) -> str:
    return "not known here" if actor is None else actor.state


def _target(target: Any) -> Any:
    if isinstance(target, ActorHandle):
        return target._facts.id
    if isinstance(target, ActorClass):
        return target._class.__name__
    if isinstance(target, RemoteFunction):
        return target._options.name or target._function.__name__
    if isinstance(target, str):
        return target
    if isinstance(target, type):
        return target.__name__
    raise TypeError(
        f"a fault is for an actor's handle, an actor class, a remote function or a name, not {target!r}"
    )


@contextmanager
def local(
    seed: int | None = None,
    *,
    num_cpus: float = 8,
    num_gpus: float = 0,
    resources: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    namespace: str | None = None,
    eagerness: float = 0.25,
    patience: float = PATIENCE,
) -> Iterator[LocalWorld]:
    """Open an in-process world; inside, `import zactor` and everything on it is at home in it.

    Args:
        seed: What the schedule is drawn from; by default $ZACTOR_SEED, or else 0. The same seed gives
            the same schedule.
        num_cpus: CPUs of its one node: so many tasks run side by side.
        num_gpus: GPUs, as a count.
        resources: Further resources by name.
        labels: Labels of its node.
        namespace: Where its actors' names are.
        eagerness: How often, from 0 to 1, others may run in between when a call is submitted.
        patience: Virtual seconds that a wait of the test without a timeout may take while something
            goes on, a year by default; then it raises DeadlockError. Where nothing goes on, it does so
            at once.

    Raises:
        RuntimeError: This process has a session already.
    """
    if seed is None:
        seed = int(os.environ.get(SEED_VARIABLE) or 0)
    world = open_world(
        seed=seed, num_cpus=num_cpus, num_gpus=num_gpus, resources=resources, labels=labels,
        namespace=namespace, eagerness=eagerness, patience=patience,
    )  # fmt: skip
    try:
        yield LocalWorld(world)
    except BaseException as error:
        error.add_note(f"in zactor.testing.local(seed={seed})")
        raise
    finally:
        shutdown()


def each_seed(
    seeds: int | Iterable[int] = 20, **arguments: Any
) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Run a test once for each seed, each time in a world of its own.

        @zactor.testing.each_seed(100)
        def test_transfers_keep_the_sum(world): ...

    The first parameter of the test is the world; others are left to pytest. The first failure is
    raised, with a note that says its seed. With $ZACTOR_SEED set, only that seed is tried.

    Args:
        seeds: How many, from 0 on; or which.
        **arguments: Of `local`.
    """

    def decorate(test: Callable[..., Any]) -> Callable[..., None]:
        signature = inspect.signature(test)
        first, *rest = signature.parameters.values()

        @functools.wraps(test)
        def run(*args: Any, **kwargs: Any) -> None:
            given = os.environ.get(SEED_VARIABLE)
            if given:
                tried: Iterable[int] = [int(given)]
            else:
                tried = range(seeds) if isinstance(seeds, int) else seeds
            for seed in tried:
                try:
                    with local(seed=seed, **arguments) as world:
                        test(*args, **{first.name: world}, **kwargs)
                except BaseException as error:
                    error.add_note(
                        f"{test.__name__} fails with seed {seed}; to run it with that one alone: "
                        f"{SEED_VARIABLE}={seed}"
                    )
                    raise

        run.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined]
        return run

    return decorate
