"""A call of a method on its way: options applied, arguments encoded, limits kept.

`ActorMethod.remote` keeps the plain case to itself; everything else comes here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.api.session import process
from zactor.core.calls import PENDING, Result
from zactor.exceptions import PendingCallsLimitExceeded
from zactor.runtime.calls.arguments import are_here, complete, encode, wait_for_arguments
from zactor.runtime.calls.deadlines import deadline_of
from zactor.runtime.calls.refs import ObjectRef
from zactor.runtime.calls.several import Several
from zactor.runtime.links.interrupts import protected
from zactor.serde.values import dumps
from zactor.wire import batches

if TYPE_CHECKING:
    from zactor.api.actors import ActorMethod
    from zactor.core.calls import Stream


class MethodCall:
    """One call that is not plain. `submit` does it all."""

    def __init__(
        self,
        method: ActorMethod[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        pickled: Any = None,
    ) -> None:
        self._pickled = pickled
        self._method = method
        self._args = args
        self._kwargs = kwargs

    def submit(self) -> Any:
        """Submit the call; return its reference, references, or generator."""
        method = self._method
        runtime = process()
        facts = method._handle
        method.check_arguments(self._args, self._kwargs)
        group = method._options.concurrency_group
        if group is not None and facts.groups is not None and group not in facts.groups:
            raise ValueError(undeclared_group(group, facts.class_name, facts.groups))
        stream = method._stream
        if not stream.identity.is_current or stream.caller != runtime.identity.caller:
            stream = runtime.actors.stream(facts.view, runtime.identity)
        self._check_limit(stream)
        returns, extras = call_extras(method._options)
        deadline = deadline_of(method._options.timeout)
        if deadline is not None:
            extras[batches.X_DEADLINE] = deadline
        result: Any = make_result(
            stream,
            next(stream.numbers),
            method._number,
            method._guard,
            method._retries,
            returns,
        )
        if type(returns) is str:
            result.expect(returns, extras)
        if batches.X_NAME in extras:
            runtime.caller.note_name(result, extras[batches.X_NAME])
        awaited = encode(
            runtime,
            result,
            self._args,
            self._kwargs,
            extras or None,
            method._name,
            pickled=self._pickled,
        )
        if deadline is not None:
            runtime.deadlines.expect(result, deadline, method._name)
        if runtime.actors.refuse(result):
            return references(result, returns)
        if not are_here(awaited):
            self._hold_until_ready(runtime, result, awaited)
        elif complete(runtime, result):
            send(runtime, result)
        return references(result, returns)

    def _hold_until_ready(self, runtime: Any, result: Result, awaited: Any) -> None:
        # Not to be interrupted: what is held and waits for nobody would hold all later calls up.
        if self._method._handle.is_ordered:
            # Held in its place: later calls of the stream wait behind it.
            result.waiting = 1
            runtime.caller.hold(result)
            wait_for_arguments(runtime, result, awaited, lambda r: self._ready(runtime, r))
        else:
            wait_for_arguments(
                runtime, result, awaited, lambda r: self._ready_alone(runtime, r)
            )

    @staticmethod
    def _ready(runtime: Any, result: Result) -> None:
        if result.state == PENDING:
            complete(runtime, result)
        result.waiting = 0
        runtime.caller.release(result.stream)

    @staticmethod
    def _ready_alone(runtime: Any, result: Result) -> None:
        if result.state == PENDING and complete(runtime, result):
            send(runtime, result)

    def _check_limit(self, stream: Stream) -> None:
        limit = self._method._handle.max_pending_calls
        if limit < 0:
            return
        if pending_calls(stream) < limit:
            return
        if self._method._options.on_full == "wait":
            runtime = process()
            while pending_calls(stream) >= limit:
                oldest = next(iter(stream.pending.values()), None) or stream.held[0]
                runtime.wait_for([oldest], 1, None)
            return
        raise PendingCallsLimitExceeded(
            f"The task {self._method._name} could not be submitted to "
            f"{self._method._handle.view.label}: {limit} calls are pending (max_pending_calls)."
        )


def undeclared_group(group: str, class_name: str, declared: Any) -> str:
    """Return what is said of a concurrency group that an actor class has not declared."""
    return (
        f"concurrency group {group!r} is not one of {class_name}'s: {sorted(declared)}. Declare it: "
        f"@remote(concurrency_groups={{{group!r}: n}})"
    )


protected(MethodCall._hold_until_ready)


def pending_calls(stream: Stream) -> int:
    """Return how many calls of a stream are not settled."""
    outgoing = stream.outgoing
    return stream.unsettled() + (len(outgoing.gathered) if outgoing is not None else 0)


def make_result(
    stream: Any, number: int, method: int, pin: Any, retries: int, returns: Any
) -> Result:
    """Return the result of a call, with parts if it has several values."""
    if returns == 1:
        return Result(stream, number, method, None, pin, retries)
    if returns in ("streaming", "dynamic"):
        from zactor.runtime.calls.streaming import Streaming

        return Streaming(stream, number, method, None, pin, retries)
    several = Several(stream, number, method, None, pin, retries)
    several.expect(returns)
    return several


def references(result: Result, returns: Any) -> Any:
    """Return what `.remote()` gives back."""
    if returns == 1:
        return ObjectRef(result)
    if returns == 0:
        return None
    if returns in ("streaming", "dynamic"):
        from zactor.api.generators import generator_of

        return generator_of(result, returns)
    return [ObjectRef(part) for part in result.parts]  # type: ignore[attr-defined]


def send(runtime: Any, result: Result) -> None:
    """Send a call whose arguments are complete, now or as soon as its stream allows."""
    stream = result.stream
    if stream.is_open:
        outgoing = stream.outgoing
        if outgoing is not None:
            outgoing.gathered.append(result)
            if outgoing.sent == outgoing.settled or result.frames:
                outgoing.flush()
            elif not outgoing.is_gathering:
                outgoing.start_gathering()
            return
    runtime.caller.hold(result)


def call_extras(options: Any) -> tuple[Any, dict[int, Any]]:
    """Return `(number of returns, extras)` that a call's options ask for."""
    extras: dict[int, Any] = {}
    returns = 1 if options.num_returns is None else options.num_returns
    if returns == "streaming":
        extras[batches.X_RETURNS] = -1
    elif returns == "dynamic":
        extras[batches.X_RETURNS] = -2
    elif returns != 1:
        extras[batches.X_RETURNS] = returns
    retries = (
        getattr(options, "max_task_retries", None) or getattr(options, "max_retries", None) or 0
    )
    if options.retry_exceptions and retries:
        kinds: Any = True
        if options.retry_exceptions is not True:
            kinds = dumps(tuple(options.retry_exceptions))[0]
        extras[batches.X_RETRY] = [retries, kinds]
    group = getattr(options, "concurrency_group", None)
    if group is not None:
        extras[batches.X_GROUP] = group
    if options.generator_backpressure is not None and options.generator_backpressure > 0:
        extras[batches.X_BACKPRESSURE] = options.generator_backpressure
    if options.name:
        extras[batches.X_NAME] = options.name
    return returns, extras
