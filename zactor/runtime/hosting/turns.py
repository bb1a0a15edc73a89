"""One shared actor after the other: what the thread that holds the run token does with it.

With many actors nearly all calls are alone: the only one of their stream, and plain. Those are taken
(`Turns.take_singles`) and run (`Turns.run_ready`) in one loop each, in which nothing is called but
the method itself; whatever else there is to do, or to run, is a turn of its own (`_turn`).

Invariants
    T5  Nothing that is gathered in the seat stays there when user code may wait, end or take long.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from zactor.exceptions import RemoteProtocolError
from zactor.runtime.hosting.hosts import FAST, FAST_RUNS, REPLY_AGE
from zactor.runtime.hosting.replying import NATIVE_TYPES
from zactor.runtime.hosting.running_call import StopServing
from zactor.runtime.hosting.seats import SharedActor, as_runs
from zactor.runtime.hosting.shared_callers import running_actor
from zactor.runtime.links.interrupts import enters_user_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.core.intake import Intake
    from zactor.runtime.hosting.seats import Seat
    from zactor.runtime.hosting.shared import SharedHost
    from zactor.runtime.links.peer import Peer

SLICE = 64  # calls of one actor before others have their turn
SAY_MANY = 256  # actors constructed in a row before the node hears of them


class Turns:
    """Runs actors in seats, for one worker."""

    def __init__(self, host: SharedHost) -> None:
        self.host = host
        self.process = host.process
        self.callee = host.process.callee

    # -- in, on the leader ---------------------------------------------------------------------

    def take_singles(
        self,
        peer: Peer,
        number: int,
        flat: list[Any],
        define: Callable[[Peer, list[Any], int], Intake],
    ) -> list[Any]:
        """Put calls, the only one of their stream each, into their mailboxes.

        Returns:
            What is not for an idle actor: `[channel, seq, number, method, arguments]` each.
        """
        channels, host = peer.channels, self.host
        ready = host.ready.append
        others = []
        parts = iter(flat)
        host.lock.acquire()
        try:
            for channel, seq, method, arguments in zip(parts, parts, parts, parts, strict=True):
                if type(channel) is int:
                    try:
                        intake = channels[channel]
                    except IndexError:
                        text = f"channel {channel} was not defined"
                        raise RemoteProtocolError(text) from None
                else:
                    intake = define(peer, channel, seq)
                    channel = intake.channel  # noqa: PLW2901 - from here on it is its number
                actor = intake.host
                if (
                    type(actor) is SharedActor
                    and not actor.is_busy
                    and not actor.is_over
                    and seq == intake.next_seq
                ):
                    intake.floor = seq
                    if intake.cancelled or len(intake.kept) > 3:
                        intake.settled_below(seq)
                    elif intake.kept:  # as that does, without the call
                        intake.kept = ()
                        intake._dropped += 1  # noqa: SLF001
                    intake.next_seq = seq + 1
                    intake.unfinished += 1
                    actor.is_busy = True
                    actor.runs = (intake, seq, number, method, arguments)
                    ready(actor)
                else:
                    others.append((channel, seq, number, method, arguments))
                number += 1
        finally:
            if host.ready and host.holder is None:
                host.grant()
            host.lock.release()
        return others

    # -- the thread that holds the token -------------------------------------------------------

    @enters_user_code
    def run_ready(self, seat: Seat) -> None:  # noqa: C901, PLR0912, PLR0915 - the hot path
        """Run what is ready until nothing is, or somebody's wait is over."""
        host, callee, clock = self.host, self.callee, perf_counter
        resuming, lock, popleft = host.resuming, host.lock, host.ready.popleft
        words = callee.progress.words  # type: ignore[union-attr]
        ended = clock()
        while not resuming and not host.is_over:
            try:
                actor = popleft()
            except IndexError:
                break
            run = getattr(actor, "runs", None)
            if (
                type(run) is not tuple
                or not run
                or type(run[4]) is list
                or run[3] < 0
                or run[0].cancelled
                or actor.is_over
                or actor.is_stopping
            ):
                self.gather(seat)
                try:
                    self._turn(seat, actor)
                finally:
                    seat.actor = actor.seat = None
                if len(host.ready_rows) >= SAY_MANY:
                    host.tell_node()
                ended = clock()
                continue
            intake, seq, number, method, arguments = run
            actor.runs = ()
            streaks = actor.kind.streaks
            if (waiting := seat.since or callee.oldest) and (
                streaks.get(method, 0) < FAST_RUNS or ended - waiting > REPLY_AGE
            ):
                self.gather(seat)
                callee.flush()
            seat.sit(actor)
            seat.intake, seat.offset, seat.parent = intake, number - seq, None
            seat.run_calls = (seq, run[3:])
            caller = actor.caller
            seat.first_made = 1 if caller is None else int(caller.numbers.__reduce__()[1][0])
            seat.method = method
            seat.started = started = ended
            words[intake.row] = seq
            seat.seq = seq
            try:
                function = getattr(actor.instance, seat.names[method])
                if arguments is None:
                    value = function()
                else:
                    args = seat.loads(arguments)
                    if type(args) is tuple:
                        value = function(*args)
                    else:
                        value = function(*args[0], **args[1])
                seat.seq_over()
            except BaseException as error:  # noqa: BLE001 - user code
                seat.seq_over()
                self.gather(seat)
                self._failed(seat, actor, intake, seq, method, error)
            else:
                if type(value) in NATIVE_TYPES and type(value) is not int:
                    status = 0
                else:
                    status, value = seat.encode_simple(value)
                if status < 0:
                    self.gather(seat)
                    if not actor.is_over:
                        seat.returned(intake, seq, method, value)
                elif not actor.is_over:
                    if seat.peer is not intake.peer or intake.kept:
                        self.gather(seat)
                        seat.peer = intake.peer
                    reply = (seq, status, value)
                    if intake.kept:
                        with callee.lock:  # the leader may be dropping some of them
                            intake.keep(reply)
                    else:
                        intake.kept = reply
                    intake.unfinished -= 1
                    seat.singles.append(intake.channel)
                    seat.singles += reply
                    if not seat.since:
                        seat.since = ended
            if seat.is_cancelled:
                seat.absorb()
            words[intake.row + 1] = seq
            ended = clock()
            streaks[method] = streaks.get(method, 0) + 1 if ended - started < FAST else 0
            seat.seq = 0
            seat.actor = actor.seat = None
            with lock:
                if actor.runs:
                    host.ready.append(actor)
                    continue
                actor.is_busy = False
                is_stopping = _is_to_end(actor)
            if is_stopping:
                self.gather(seat)
                host.ended(actor, "stopped")
        self.gather(seat)
        running_actor.set(None)

    def _failed(
        self, seat: Seat, actor: SharedActor, intake: Intake, seq: int, method: int, error: Any
    ) -> None:
        """A call that came alone has raised: its reply, or the end of its actor."""
        try:
            if not actor.is_over:
                seat.failed(intake, seq, method, error)
        except StopServing as stop:
            self.host.ended(actor, stop.cause)
        except SystemExit:
            self.host.ended(actor, "exited")

    # -- one actor's turn ----------------------------------------------------------------------

    def _turn(self, seat: Seat, actor: Any) -> None:
        host = self.host
        if actor.is_over:
            return
        if type(actor) is not SharedActor:
            self._begin(actor)
            return
        seat.sit(actor)
        if actor.spec is not None and not self._construct(seat, actor):
            return
        calls = 0
        try:
            while actor.runs and calls < SLICE:
                with host.lock:
                    run, *rest = as_runs(actor.runs)
                    actor.runs = rest or ()
                calls += len(run[3]) >> 1
                self._run(seat, actor, run)
                if _is_over(actor):
                    return
        except StopServing as stop:
            host.ended(actor, stop.cause)
            return
        except SystemExit:
            host.ended(actor, "exited")
            return
        with host.lock:
            if actor.runs:
                host.ready.append(actor)
                return
            actor.is_busy = False
            is_stopping = actor.is_stopping
        if is_stopping:
            host.ended(actor, "stopped")

    def _construct(self, seat: Seat, actor: SharedActor) -> bool:
        from zactor.runtime.hosting.construction import make_instance
        from zactor.runtime.worker import repr_of, shown_constructor_error

        assert actor.spec is not None
        common, args = actor.spec
        actor.spec = None
        seat.parent = None
        try:
            actor.instance = make_instance(self.process, common, actor.id, args)
        except StopServing:
            self.host.ended(actor, "exited")
            return False
        except BaseException as error:  # noqa: BLE001 - the user's constructor
            self.host.never_began(actor, shown_constructor_error(error, seat))
            return False
        seat.methods.instance = seat.instance = actor.instance
        actor.repr = repr_of(actor.instance)
        self.host.ready_rows.append([actor.id, actor.life, actor.repr])
        return not actor.is_over

    def _begin(self, actor: Any) -> None:
        """Construct an actor that then runs by itself, without the token."""
        from zactor.runtime.worker import shown_constructor_error

        running_actor.set(actor)
        try:
            actor.construct()
        except StopServing:
            self.host.ended(actor, "exited")
        except BaseException as error:  # noqa: BLE001 - the user's constructor
            self.host.never_began(actor, shown_constructor_error(error, actor.execution))
        else:
            self.host.ready_rows.append([actor.id, actor.life, actor.execution.actor_repr])
            actor.begin()

    @enters_user_code
    def _run(self, seat: Seat, actor: SharedActor, run: Any) -> None:  # noqa: C901 - the hot path
        """Run the calls that came together. The counterpart of `MainHost._run_ready`."""
        callee = self.callee
        words = callee.progress.words  # type: ignore[union-attr]
        intake, seq, number, calls, frames, parent = run
        row = intake.row
        instance, names, streaks, loads = actor.instance, seat.names, seat.streaks, seat.loads
        seat.enter(intake, number - seq, parent)
        seat.flat = []
        seat.run_calls = (seq, calls)
        pairs = iter(calls)
        started = perf_counter()
        for method, arguments in zip(pairs, pairs, strict=True):
            if (seat.flat or callee.oldest) and (
                streaks.get(method, 0) < FAST_RUNS
                or (callee.oldest and started - callee.oldest > REPLY_AGE)
            ):
                self.gather(seat)
                callee.flush()
            seat.started = started
            seat.method = method
            words[row] = seq
            seat.seq = seq
            if type(arguments) is list or method < 0 or intake.cancelled:
                self.gather(seat)
                try:
                    seat.special(actor, intake, seq, number, method, arguments, frames)
                finally:
                    seat.seq_over()
            else:
                try:
                    function = getattr(instance, names[method])
                    if arguments is None:
                        value = function()
                    else:
                        args = loads(arguments)
                        value = (
                            function(*args)
                            if type(args) is tuple
                            else function(*args[0], **args[1])
                        )
                    seat.seq_over()
                except BaseException as error:  # noqa: BLE001 - user code
                    seat.seq_over()
                    self.gather(seat)
                    if not actor.is_over:
                        seat.failed(intake, seq, method, error)
                else:
                    if type(value) in NATIVE_TYPES and type(value) is not int:
                        status = 0
                    else:
                        status, value = seat.encode_simple(value)
                    if actor.is_over:
                        return
                    if status < 0:
                        self.gather(seat)
                        seat.returned(intake, seq, method, value)
                    else:
                        seat.flat += (seq, status, value)
            if seat.is_cancelled:
                seat.absorb()
            if actor.is_over:
                return
            words[row + 1] = seq
            seq += 1
            number += 1
            ended = perf_counter()
            streaks[method] = streaks.get(method, 0) + 1 if ended - started < FAST else 0
            started = ended
        self.gather(seat)
        seat.leave()

    def gather(self, seat: Seat) -> None:
        """Hand what the seat has gathered to the callee; it leaves with the next flush."""
        flat, singles = seat.flat, seat.singles
        if flat:
            seat.flat = []
            assert seat.intake is not None
            self.callee.gather(seat.intake, flat)
        if singles:
            seat.singles, seat.since, peer = [], 0.0, seat.peer
            self.callee.gather_singles(peer, singles)


def _is_to_end(actor: SharedActor) -> bool:
    """Whether it was told to stop: by what it ran, or meanwhile."""
    return actor.is_stopping and not actor.is_over


def _is_over(actor: SharedActor) -> bool:
    """Whether it has ended: as what it runs may bring about, which checkers of types do not see."""
    return actor.is_over
