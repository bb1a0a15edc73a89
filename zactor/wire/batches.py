"""How calls and replies are laid out inside a message: flat lists, since they are the hot path.

A CALLS body is a list of groups, each a run of calls on one stream:

    [channel, first_seq, first_number, floor, [method, arguments, method, arguments, ...]]

`channel` is a number that the sender has defined on this link; the group that uses it first
has the definition in its place, a list (see `Channel`), and the receiver gives it the next free
number, counting from 0. `floor` is the lowest seq of the stream that is not settled: the callee forgets
replies below it. `arguments` is None (no arguments), bytes (pickled), or a list
`[pickled or None, extras]` where extras is a dict keyed by the X_ constants. Flat lists pack at
68 ns and unpack at 49 ns a call; one nested list a call took 134 and 90.

Calls that go to an actor each, one after the other, have a form for all of them together, for peers
that say in their hello that they take `SINGLES`:

    [None, first_number, [channel, seq, method, arguments, channel, seq, method, arguments, ...]]

Nothing else of those streams is unsettled: `seq` is the floor. It takes 0.1 us a call to pack and
unpack, where a group for each takes 0.5.

A REPLIES body is a list of groups:

    [channel, [seq, status, value, seq, status, value, ...]]

with the caller's channel number; or, of such calls,

    [None, [channel, seq, status, value, channel, seq, status, value, ...]]

`value` depends on status, see the constants. A reply that has
more to say carries status | EXTRA, and its value is `[value, extras]`.
"""

from __future__ import annotations

from typing import Any

from zactor.named import NamedTuple


class Channel(NamedTuple):
    """What a channel number stands for."""

    caller: bytes  # caller id
    actor: bytes  # actor id; for tasks, the worker's process id
    life: int  # of the actor; 0 for tasks
    stream: int  # number of the stream between this caller and this actor
    version: int  # class version the method numbers belong to


# The feature in a hello: the sender of it takes groups of single calls, and of their replies.
SINGLES = "singles"

# Method numbers below zero are zactor's own.
VOID = -1  # the seq is used up by a call that will not come
APPLY = -2  # fn(self, *args): the first argument is a function
READY = -3  # answers True once constructed
TERMINATE = -4  # graceful stop, after what is queued
RUN_TASK = -5  # run a remote function: X_FUNCTION names it

# In the place of a channel in a CANCEL: what follows is an object id instead of a seq.
NO_CHANNEL = -1

# Keys of a call's extras.
X_FRAMES = 1  # [n]: payload frames of this call follow, n of them (out-of-band buffers)
X_SLOTS = 2  # values of top-level references: list of [status, value], in order of their slots
X_REFS = 3  # contained references: list of [object id, owner address]
X_DEADLINE = 4  # when the call is overdue, in seconds of the wall clock since 1970
X_RETURNS = 5  # num_returns: int, -1 streaming, -2 dynamic
X_FLAGS = 6  # see F_ constants
X_GROUP = 7  # concurrency group of this call
X_PARENT = 8  # [caller id, number] of the call that made this one, outermost last
X_CONTEXT = 9  # context map carried on to child calls
X_KEY = 10  # idempotency key
X_NAME = 11  # name given by the caller for humans
X_FUNCTION = 12  # [definition key, function name]
X_RETRY = 13  # [times, pickled exception types or True]: retry in place on these
X_ATTEMPT = 14  # how often this call was sent to earlier lives
X_BACKPRESSURE = 15  # streaming: how many items may be unconsumed
X_STORED = 16  # the pickled arguments are in the store: [segment name, size, node, ...]
X_JOB = 17  # job id, namespace and the like that a task's worker does not know of itself

F_READ_ONLY = 1
F_NO_REPLY = 2
F_STREAM = 4

# Statuses of a reply.
NATIVE = 0  # value: what msgpack carries as itself (None, bool, int, float, str, bytes)
PICKLED = 1  # value: pickle bytes
USER_ERROR = 2  # value: pickled exception of the user's code
ERROR = 3  # value: [kind, text, fields] of a zactor error
STORED = 4  # value: [segment name, size, node id, address of the node]: in shared memory
SEVERAL = 5  # value: list of [status, value], one for each of num_returns
ITEM = 6  # value: [index, status, value]: one item of a stream; the call goes on
END = 7  # value: number of items: the stream is complete
BUSY = 8  # value: None: the mailbox is full, the call was not taken
MOVED = 9  # value: an Address: the actor is there now
NEEDS_FUNCTION = 10  # value: definition key: send it with the function's definition
HANDED_BACK = 11  # value: None: a task that was queued and not started; or what it lacks, [object id, place] each
NOT_HERE = 12  # value: life of the actor, which is over where the call came to; it did not run
RETRYING = 13  # value: None: the call raised and runs again, a retry of its number; it goes on
EXTRA = 64

# Flags of a CANCEL body, `[channel, seq, flags]`.
C_RECURSIVE = 1  # what the call has called is cancelled too
C_FORCE = 2  # a running task's worker process is ended

# Keys of a reply's extras.
Y_REFS = 1  # references contained in the value: list of [object id, owner address]
Y_UNCONFIRMED = 2  # the callee still waits for owners to confirm refs of the arguments
Y_FRAMES = 3  # payload frames of the value follow, n of them
Y_EXECUTED = 4  # "no" | "yes" | "unknown" (for ERROR)


def is_calls(body: Any) -> bool:
    """Whether a CALLS body is laid out as it should be. Asked only once it has made trouble."""
    return type(body) is list and all(
        _are_singles(group) if type(group) is list and group[:1] == [None] else _is_run(group)
        for group in body
    )


def _is_run(group: Any) -> bool:
    return (
        type(group) is list
        and len(group) >= 5
        and _is_channel(group[0])
        and all(type(number) is int for number in group[1:4])
        and type(group[4]) is list
        and len(group[4]) % 2 == 0
        and all(type(method) is int for method in group[4][::2])
        and all(_is_arguments(arguments) for arguments in group[4][1::2])
    )


def _are_singles(group: list[Any]) -> bool:
    return (
        len(group) >= 3
        and type(group[1]) is int
        and type(group[2]) is list
        and len(group[2]) % 4 == 0
        and all(map(_is_channel, group[2][::4]))
        and all(type(number) is int for number in group[2][1::4] + group[2][2::4])
        and all(map(_is_arguments, group[2][3::4]))
    )


def _is_channel(channel: Any) -> bool:
    return type(channel) is int or (type(channel) is list and len(channel) >= 5)


def _is_arguments(arguments: Any) -> bool:
    if type(arguments) is list:
        return len(arguments) == 2 and type(arguments[1]) is dict
    return arguments is None or type(arguments) is bytes


def is_replies(body: Any) -> bool:
    """Whether a REPLIES body is laid out as it should be. Asked only once it has made trouble."""
    return type(body) is list and all(
        type(group) is list
        and len(group) >= 2
        and type(group[1]) is list
        and (_are_single_replies(group[1]) if group[0] is None else _are_replies(group))
        for group in body
    )


def _are_replies(group: list[Any]) -> bool:
    flat = group[1]
    return (
        type(group[0]) is int
        and len(flat) % 3 == 0
        and all(type(number) is int for number in flat[::3] + flat[1::3])
    )


def _are_single_replies(flat: list[Any]) -> bool:
    numbers = flat[::4] + flat[1::4] + flat[2::4]
    return len(flat) % 4 == 0 and all(type(number) is int for number in numbers)


def is_cancel(body: Any) -> bool:
    """Whether a CANCEL body is laid out as it should be."""
    return type(body) is list and len(body) >= 3 and all(type(part) is int for part in body[:3])
