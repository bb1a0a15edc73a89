"""Why a wait can never end, found by following who waits for what.

Everything is in one process here, so nobody has to be asked: a wait that closes a circle is refused when it
begins, and when nothing at all can run any more, the driver is told what its wait hangs on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.calls import PENDING
from zactor.exceptions import DeadlockError
from zactor.runtime.calls.several import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zactor.core.calls import Result
    from zactor.runtime.inprocess.scheduler import Strand
    from zactor.runtime.inprocess.world import World

MOST = 20  # links of a chain that are told


def circle(world: World, me: Strand, needed: Sequence[Result]) -> DeadlockError | None:
    """Return the error of a wait of `me` for all of `needed` that could never end, if it is one."""
    if me is world.scheduler.main:
        return None  # nobody waits for the driver
    chain = _path_to(world, me, me, needed, set())
    return DeadlockError(chain=tuple(chain)) if chain is not None else None


def _path_to(
    world: World, me: Strand, waiter: Strand, needed: Sequence[Result], seen: set[int]
) -> list[str] | None:
    """Return the waits, from that of `waiter` for `needed` on, by which it waits for `me`."""
    for result in needed:
        for strand, text in _runs_or_precedes(world, result):
            wait = f"{_label(waiter)}, blocked in a get on {text}"
            if strand is me:
                return [wait]
            if id(strand) in seen or strand.deadline is not None or not strand.needs:
                continue
            seen.add(id(strand))
            rest = _path_to(world, me, strand, strand.needs, seen)
            if rest is not None:
                return [wait, *rest]
    return None


def _runs_or_precedes(world: World, result: Result) -> list[tuple[Strand, str]]:
    """Return the strands that must go on before the result can be settled, where that is certain."""
    call = result.call if isinstance(result, Part) else result
    target = getattr(call.stream, "target", None)
    actor = world.actors.get(getattr(target, "id", b""))
    if call.state != PENDING:
        return []
    if target is None:
        return []
    if actor is None:
        run = getattr(target, "run", None)
        strand = run.call.strand if run is not None else None
        return [(strand, f"the task {target.label}()")] if strand is not None else []
    run = actor.running.get(call)
    if run is not None:
        strand = run.call.strand
        return [(strand, f"{actor.label}.{run.name}()")] if strand is not None else []
    if not actor.is_plain:
        return []
    name = actor.name_of(call)
    return [
        (other.call.strand, f"{actor.label}.{name}(), which waits behind {other.name}()")
        for other in actor.running.values()
        if other.call.strand is not None
    ]


def _label(strand: Strand) -> str:
    call = strand.call
    name = f".{call.function}()" if call is not None and strand.process.running.label else ""
    return f"{strand.name}{name}" if name else f"{strand.name}()"


def explain(world: World) -> DeadlockError:
    """Return what the driver's wait raises when nothing can run any more, or nothing that helps."""
    scheduler = world.scheduler
    main = scheduler.main
    lines = []
    seen: set[int] = set()
    for result in main.needs:
        if result.state == PENDING:
            lines += _reasons(world, result, seen)
        if len(lines) >= MOST:
            break
    if not main.needs:
        lines.append(f"the driver {main.why or 'waits'}")
    if any(timer.callback is not None for timer in scheduler.timers):
        waited = scheduler.now - main.since
        text = (
            f"Waited for {waited:,.0f} s of virtual time, in which the clock moved {scheduler.ticks:,} "
            "times: what runs goes on for ever, and what is waited for does not come of it."
        )
    else:
        text = "This wait can never end: nothing in this in-process world can run any more."
    return DeadlockError(text, chain=tuple(lines[:MOST]))


def reasons(world: World, result: Result) -> list[str]:
    """Say why a result has not come."""
    return _reasons(world, result, set())


def _reasons(world: World, result: Result, seen: set[int]) -> list[str]:
    """Say why a result has not come, and why what that hangs on has not, and so on."""
    call = result.call if isinstance(result, Part) else result
    if id(call) in seen:
        return []
    seen.add(id(call))
    if call.waiting:
        pins = [pin for pin in call.pin or () if hasattr(pin, "_result")]
        awaited = [pin._result for pin in pins if pin._result.state == PENDING]  # noqa: SLF001
        return [
            "a call whose arguments are not there yet",
            *[line for each in awaited for line in _reasons(world, each, seen)],
        ]
    target = getattr(call.stream, "target", None)
    actor = world.actors.get(getattr(target, "id", b""))
    if actor is not None:
        return _of_actor(world, actor, call, seen)
    queue: Any = getattr(call, "queue", None)
    if queue is None:
        return ["a value that nobody makes"]
    task = world.task_of(call)
    if task is not None and task.run is None:
        return [_wants(world, f"the task {task.name}()", task)]
    if task is not None and task.run is not None and task.run.call.strand is not None:
        return _of_strand(world, task.run.call.strand, f"the task {task.name}()", seen)
    return ["a task"]


def _of_actor(world: World, actor: Any, call: Result, seen: set[int]) -> list[str]:
    name = f"{actor.label}.{actor.name_of(call)}()"
    if not actor.is_up:
        if actor.state in ("PENDING", "RESTARTING") and actor._begins is not None:  # noqa: SLF001
            return [_wants(world, f"{name}: {actor.label}", actor)]
        strands = world.scheduler.strands_of(actor.process) if actor.life else []
        begun = [
            line
            for s in strands
            for line in _of_strand(world, s, f"{actor.label}.__init__()", seen)
        ]
        return [f"{name}, whose actor has not been constructed", *begun]
    run = actor.running.get(call)
    if run is None:
        lines = [f"{name}, which has not started"]
        for other in actor.running.values():
            lines += _of_run(world, actor, other, seen)
        return lines
    return _of_run(world, actor, run, seen)


def _of_run(world: World, actor: Any, run: Any, seen: set[int]) -> list[str]:
    name = f"{actor.label}.{run.name}()"
    if run.call.strand is None:
        return [f"{name}, which awaits what nobody sets"]
    return _of_strand(world, run.call.strand, name, seen)


def _of_strand(world: World, strand: Strand, name: str, seen: set[int]) -> list[str]:
    lines = [f"{name}, which {strand.why or 'does not go on'}"]
    for result in strand.needs:
        lines += _reasons(world, result, seen)
    return lines


def _wants(world: World, who: str, what: Any) -> str:
    obstacle = world.placing.obstacle(what.place_shape)
    why = obstacle.text if obstacle is not None else f"others hold {what.place_shape}"
    return f"{who} waits for its place: {why}"
