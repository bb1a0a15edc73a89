"""What the node's account of the store decides."""

from __future__ import annotations

from typing import Any

import pytest

from zactor.core.pulls import CHUNK, CHUNKS_IN_FLIGHT, MOST_PULLS
from zactor.core.storage import RETRY, Storage
from zactor.core.storage_effects import (
    Ask,
    Forget,
    Inspect,
    ReadChunk,
    Remove,
    Reply,
    ReplyFile,
    Restore,
    Spill,
    Take,
    Tell,
    Watch,
    WriteChunk,
)
from zactor.wire.messages import (
    Answer,
    FreeSegment,
    LocateSegment,
    ReadSegment,
    ReserveSegment,
    SegmentFilled,
)

P, Q, OWNER = b"p", b"q", b"owner"
X, Y = b"x" * 28, b"y" * 28
HERE, THERE = b"here", b"there"


class Store:
    def __init__(self, capacity: int = 100, **kwargs: Any) -> None:
        self.machine = Storage(
            HERE, b"me", "zactor-", capacity, **({"spill_limit": 1000} | kwargs)
        )
        self.now = 0.0
        self.requests = 0

    def say(self, message: Any, process: bytes = P) -> list[Any]:
        self.machine.receive(process, None, message, self.now)
        return self.done()

    def done(self) -> list[Any]:
        self.machine.check()
        return self.machine.drain()

    def reserve(self, size: int, process: bytes = P) -> str:
        (reply,) = self.say(ReserveSegment(1, size), process)
        assert reply.ok
        return reply.value

    def fill(
        self, object_id: bytes, size: int = 40, process: bytes = P, owner: bytes = P
    ) -> str:
        name = self.reserve(size, process)
        self.say(SegmentFilled(name, object_id, size, owner), process)
        return name

    def locate(
        self, object_id: bytes, name: str, node: bytes = HERE, request: int = 7
    ) -> list[Any]:
        return self.say(LocateSegment(request, object_id, name, node, [node]), Q)

    def back(self, callback: str, *args: Any, **kwargs: Any) -> list[Any]:
        getattr(self.machine, callback)(*args, now=self.now, **kwargs)
        return self.done()


@pytest.fixture
def store() -> Store:
    return Store()


def answer(value: Any, request: int = 7, process: bytes = Q, ok: bool = True) -> Reply:
    return Reply(process, None, request, ok=ok, value=value)


def error(effects: list[Any]) -> str:
    (reply,) = effects
    assert not reply.ok
    return reply.value[0]


def test_names_are_never_used_twice(store):
    first = store.reserve(10)
    store.say(FreeSegment(first, keep=False))
    assert store.reserve(10) != first
    assert first.startswith("zactor-70-")


def test_room_is_given_while_there_is_some(store):  # N1
    store.reserve(60)
    assert error(Store(100).say(ReserveSegment(1, 101))) == "ObjectStoreFullError"
    assert store.say(ReserveSegment(2, 60)) == []  # somebody may give back what is reserved
    store.now = 10.0
    assert error(store.back("tick")) == "ObjectStoreFullError"
    assert store.machine.stats().refused == 1


def test_a_warm_segment_goes_first_then_a_copy_then_what_is_on_disk_then_the_oldest_value():
    store = Store(120)
    old, warm = store.fill(X, 20), store.fill(Y, 20)
    store.say(FreeSegment(warm, keep=True))
    on_disk = store.fill(b"d" * 28, 20)
    store.machine._start(store.machine._room.segments[on_disk], "spilling")
    store.done()
    store.back("spilled", on_disk, True)
    _, restored = [*store.locate(b"d" * 28, on_disk), ""][0], ""
    restored = store.machine._objects[b"d" * 28].segment
    store.back("placed", restored, True)
    store.locate(b"c" * 28, "zactor-far-1", THERE)
    (write,) = store.back("answered", 1, True, [20, bytes(20)])
    store.back("chunk_written", write.name, True)

    store.reserve(40)
    order = []
    for request in range(4):
        effects = store.say(ReserveSegment(10 + request, 20))
        order += [(type(effect), effect.name) for effect in effects]
        name = effects[0].name
        store.back("spilled" if type(effects[0]) is Spill else "took", name, True)

    assert order == [(Take, warm), (Take, write.name), (Take, restored), (Spill, old)]


def test_what_is_in_use_is_tried_again_until_patience_ends(store):
    name = store.fill(X, 80)
    (spill,) = store.say(ReserveSegment(9, 60), Q)
    assert spill == Spill(name, X, name)
    assert store.back("spilled", name, False) == []
    assert store.machine.next_deadline() == pytest.approx(RETRY)
    store.now = RETRY
    assert store.back("tick") == [spill]
    store.now = 2.0
    assert error(store.back("spilled", name, False)) == "ObjectStoreFullError"
    assert store.machine.next_deadline() is None
    assert store.locate(X, name) == [answer(name)]


def test_a_value_larger_than_the_store_is_refused_for_that(store):
    (reply,) = store.say(ReserveSegment(1, 101))
    assert reply.value[0] == "ObjectStoreFullError"
    assert reply.value[1].endswith("0 of 100 are taken, and the store never holds so much")


def test_a_full_disk_is_named_in_the_refusal(store):
    name = store.fill(X, 80)
    store.say(ReserveSegment(9, 60), Q)
    store.now = 2.0
    (reply,) = store.back("spilled", name, False, is_disk_full=True)
    assert reply.value[0] == "OutOfDiskError"
    assert "disk" in reply.value[1]
    assert store.machine.stats().spilled == 0


@pytest.mark.parametrize(
    ("limit", "kind", "why"),
    [(30, "OutOfDiskError", "the disk"), (0, "ObjectStoreFullError", "all is in use")],
)
def test_the_disk_is_bounded_and_the_refusal_says_so(limit, kind, why):  # N3
    store = Store(100, spill_limit=limit)
    store.fill(X, 80)
    assert store.say(ReserveSegment(9, 60), Q) == []
    store.now = 2.0
    (reply,) = store.back("tick")
    assert reply.value[0] == kind
    assert why in reply.value[1]


def test_a_spilled_value_is_restored_once_for_all_who_ask(store):
    name = store.fill(X, 80)
    store.say(ReserveSegment(9, 60), Q)
    (reply,) = store.back("spilled", name, True)
    store.say(FreeSegment(reply.value, keep=False), Q)
    (restore,) = store.locate(X, name, request=1)
    assert restore == Restore(restore.name, name)
    assert store.locate(X, name, request=2) == []
    assert store.back("placed", restore.name, True) == [
        answer(restore.name, 1), answer(restore.name, 2)
    ]  # fmt: skip
    assert store.say(FreeSegment(name, keep=False)) == [Forget(name), Remove(restore.name)]
    assert store.machine.stats()[:7] == (100, 0, 0, 0, 0, 0, 0)


def test_a_spilled_value_that_finds_no_room_is_looked_at_on_the_disk(store):
    name = store.fill(X, 80)
    store.say(ReserveSegment(9, 60), Q)
    assert store.locate(X, name, request=1) == []  # while it is on its way to the disk
    reply, shown = store.back("spilled", name, True)  # the reservation was first
    assert (reply.request, shown) == (9, ReplyFile(Q, None, 1, name))
    assert store.locate(X, name) == [ReplyFile(Q, None, 7, name)]
    store.say(FreeSegment(reply.value, keep=False), Q)
    (restore,) = store.locate(X, name)
    assert type(restore) is Restore


def test_a_value_that_cannot_be_written_to_memory_stays_on_disk_and_is_looked_at_there(store):
    name = store.fill(X, 80)
    store.say(ReserveSegment(9, 60), Q)
    (reply,) = store.back("spilled", name, True)
    store.say(FreeSegment(reply.value, keep=False), Q)
    (restore,) = store.locate(X, name)
    *_, shown = store.back("placed", restore.name, False)
    assert shown == ReplyFile(Q, None, 7, name)
    assert store.machine.stats().objects == 1


def test_an_object_freed_while_it_is_spilled_leaves_no_file(store):  # N3 N4
    name = store.fill(X, 80)
    store.say(ReserveSegment(9, 60), Q)
    assert store.say(FreeSegment(name, keep=False)) == []
    effects = store.back("spilled", name, True)
    assert effects[0] == Forget(name)
    assert effects[1].ok
    assert store.machine.stats().spilled == 0


def test_an_object_freed_while_its_spilling_fails_is_removed(store):
    name = store.fill(X, 80)
    store.say(ReserveSegment(9, 60), Q)
    store.say(FreeSegment(name, keep=False))
    remove, reply = store.back("spilled", name, False)
    assert remove == Remove(name)
    assert reply.ok


def test_a_segment_kept_warm_while_it_is_spilled_is_taken_then(store):
    name = store.fill(X, 80)
    store.say(ReserveSegment(9, 60), Q)
    store.say(FreeSegment(name, keep=True))
    assert store.back("spilled", name, False) == []
    store.now = RETRY
    assert store.back("tick") == [Take(name, b"", X)]


def test_a_warm_segment_filled_again_before_we_heard_is_kept(store):
    name = store.fill(X, 80)
    store.say(FreeSegment(name, keep=True))
    assert store.say(ReserveSegment(9, 60), Q) == [Take(name, b"", X)]
    store.say(SegmentFilled(name, Y, 80, P))
    assert store.back("took", name, False) == []  # still somebody waits
    assert store.locate(Y, name) == [answer(name)]


def test_a_filling_that_lost_the_race_is_ignored_and_what_came_of_it_forgotten(store):
    name = store.fill(X, 80)
    store.say(FreeSegment(name, keep=True))
    store.say(ReserveSegment(9, 60), Q)
    store.say(SegmentFilled(name, Y, 80, P))
    store.back("took", name, True)
    assert store.machine.stats().objects == 0
    assert store.say(SegmentFilled(name, Y, 80, P)) == []
    assert store.say(FreeSegment(name, keep=True)) == []


def test_filled_again_means_that_the_earlier_object_is_freed(store):
    name = store.fill(X)
    store.say(SegmentFilled(name, X, 40, P))  # said twice
    store.say(SegmentFilled(name, Y, 40, P))
    assert error(store.locate(X, "zactor-else")) == "ObjectLostError"
    assert store.locate(Y, name) == [answer(name)]


def test_only_its_maker_fills_a_segment_and_keeps_it_warm(store):
    name = store.reserve(40)
    store.say(SegmentFilled(name, X, 40, Q), Q)
    assert store.machine.stats().objects == 0
    store.say(SegmentFilled(name, X, 40, P))
    store.say(FreeSegment(name, keep=True), Q)
    assert store.machine.stats().warm == 0


def test_who_made_a_segment_is_told_that_its_owner_freed_it(store):
    name = store.fill(X, 80, owner=OWNER)
    tell = Tell(P, None, FreeSegment(name, True, X))
    assert store.say(FreeSegment(name, keep=False), OWNER) == [tell]
    assert store.machine.used() == 80
    assert store.say(FreeSegment(name, False, X), OWNER) == [tell]
    store.say(FreeSegment(name, keep=True))
    assert store.machine.stats().warm == 80
    unheard = store.reserve(10)
    assert store.say(FreeSegment(unheard, keep=False), OWNER)[0].peer == P
    store.say(SegmentFilled(name, Y, 80, OWNER))
    store.back("process_lost", OWNER)
    assert store.say(FreeSegment(name, keep=False)) == [Remove(name)]


def test_who_made_a_spilled_value_is_told_too(store):
    name = store.fill(X, 80, owner=OWNER)
    store.say(ReserveSegment(9, 60), Q)
    assert store.say(FreeSegment(name, keep=False), OWNER) == [
        Tell(P, None, FreeSegment(name, True, X))
    ]
    assert store.back("spilled", name, False) == []
    assert store.say(FreeSegment(name, keep=True)) == []
    store.now = RETRY
    assert store.back("tick") == [Take(name, b"", X)]
    store.back("took", name, True)
    name = store.fill(Y, 30, owner=OWNER)
    store.say(ReserveSegment(9, 60), Q)
    store.back("spilled", name, True)
    assert store.say(FreeSegment(name, keep=False), OWNER) == [
        Forget(name), Tell(P, None, FreeSegment(name, True, Y))
    ]  # fmt: skip


def test_a_late_word_about_what_was_in_a_segment_frees_nothing(store):
    name = store.fill(X, 80, owner=OWNER)
    store.say(FreeSegment(name, False, X), OWNER)
    store.say(FreeSegment(name, keep=True))
    store.say(SegmentFilled(name, Y, 80, OWNER))
    assert store.say(FreeSegment(name, False, X), OWNER) == []
    assert store.machine.stats().objects == 1


def test_a_maker_that_died_before_it_was_told_does_not_bring_the_object_back(store):
    name = store.fill(X, 80, owner=OWNER)
    store.say(FreeSegment(name, keep=False), OWNER)
    assert store.back("process_lost", P) == [Inspect(name)]
    assert store.back("inspected", name, X, OWNER, 80) == [Remove(name)]


def test_what_a_maker_wrote_over_its_own_value_is_kept_though_we_never_heard(store):
    name = store.fill(X, 80)
    assert store.back("process_lost", P) == [Inspect(name)]
    assert store.back("inspected", name, Y, OWNER, 80) == [Watch(OWNER)]
    assert store.locate(Y, name) == [answer(name)]


def test_owners_are_watched_once(store):
    name = store.reserve(10)
    assert store.say(SegmentFilled(name, X, 10, OWNER)) == [Watch(OWNER)]
    assert store.say(SegmentFilled(store.reserve(10), Y, 10, OWNER)) == []


def test_a_dead_process_leaves_only_what_others_own(store):
    mine, theirs = store.fill(X, 10), store.fill(Y, 10, owner=OWNER)
    reserved, warm = store.reserve(10), store.fill(b"w" * 28, 10)
    store.say(FreeSegment(warm, keep=True))
    store.say(LocateSegment(8, b"f" * 28, "zactor-far-1", THERE, [THERE]))

    assert store.back("process_lost", P) == [Inspect(mine), Inspect(reserved), Inspect(warm)]
    assert store.back("inspected", mine, X, P, 10) == [Remove(mine)]
    assert store.back("inspected", warm, b"", b"", 0) == [Remove(warm)]
    assert store.back("inspected", reserved, b"r" * 28, OWNER, 10) == []
    assert store.locate(b"r" * 28, reserved) == [answer(reserved)]
    assert store.back("answered", 1, False, None) == []  # who asked is dead
    assert store.back("process_lost", OWNER) == [Remove(theirs), Remove(reserved)]
    assert store.machine.used() == 0


def test_a_dead_process_waits_for_nothing(store):
    store.reserve(60, Q)
    assert store.say(ReserveSegment(1, 60)) == []
    store.back("process_lost", P)
    assert store.machine.stats().waiting == 0
    assert store.machine.next_deadline() is None


def test_a_dead_process_whose_warm_segment_is_being_taken_leaves_nothing(store):
    name = store.fill(X, 80)
    store.say(FreeSegment(name, keep=True))
    store.say(ReserveSegment(9, 60), Q)
    store.back("process_lost", P)
    assert store.back("took", name, False) == [Inspect(name)]
    remove, reply = store.back("inspected", name, b"", b"", 0)
    assert remove == Remove(name)
    assert reply.ok
    name = store.reserve(10)
    store.back("process_lost", P)
    store.say(FreeSegment(name, keep=False), Q)
    assert store.back("inspected", name, X, OWNER, 10) == [Remove(name)]


def test_a_copy_is_pulled_in_chunks_with_a_few_in_flight():
    store = Store(100 * CHUNK)
    size = 10 * CHUNK + 5
    (ask,) = store.locate(X, "zactor-far-1", THERE, request=1)
    assert ask == Ask(1, [THERE], ReadSegment(0, "zactor-far-1", 0, CHUNK))
    assert store.locate(X, "zactor-far-1", THERE, request=2) == []
    effects = store.back("answered", 1, True, [size, bytes(CHUNK)])
    write = effects[0]
    assert write == WriteChunk(write.name, X, 0, size, bytes(CHUNK))
    asks = effects[1:]
    assert len(asks) == CHUNKS_IN_FLIGHT - 1
    replies = []
    pending = [write]
    while pending or asks:
        while asks:
            ask = asks.pop()
            length = min(CHUNK, size - ask.message.offset)
            pending += store.back("answered", ask.token, True, [size, bytes(length)])
        for effect in store.back("chunk_written", pending.pop().name, True):
            (asks if type(effect) is Ask else replies).append(effect)
        assert len(asks) + len(pending) <= CHUNKS_IN_FLIGHT
    assert replies == [answer(write.name, 1), answer(write.name, 2)]
    assert store.machine.stats().pulls == 1
    assert store.back("answered", 99, True, [1, b"x"]) == []


@pytest.mark.parametrize(
    ("ok", "value"),
    [
        (False, ["ObjectLostError", "", {}]),
        (True, b"bytes"),
        (True, [10, b"short"]),
        (True, [0, b""]),
        (True, ["1", b""]),
    ],
)
def test_a_pull_that_fails_is_an_error_for_all_who_asked(store, ok, value):
    store.locate(X, "zactor-far-1", THERE)
    assert error(store.back("answered", 1, ok, value)) == "ObjectLostError"
    assert store.machine.stats().objects == 0


def test_a_pull_that_fails_midway_gives_back_its_room():
    store = Store(10 * CHUNK)
    store.locate(X, "zactor-far-1", THERE)
    write, second, third = store.back("answered", 1, True, [3 * CHUNK, bytes(CHUNK)])
    remove, reply = store.back("answered", second.token, False, None)
    assert remove == Remove(write.name)
    assert not reply.ok
    assert store.back("answered", third.token, True, [3 * CHUNK, bytes(CHUNK)]) == []
    assert store.back("chunk_written", write.name, True) == []
    assert store.machine.used() == 0


def test_a_chunk_that_cannot_be_written_fails_the_pull(store):
    store.locate(X, "zactor-far-1", THERE)
    (write,) = store.back("answered", 1, True, [10, bytes(10)])
    remove, reply = store.back("chunk_written", write.name, False)
    assert (remove, reply.ok) == (Remove(write.name), False)


def test_a_pull_without_room_is_refused(store):
    store.locate(X, "zactor-far-1", THERE)
    assert error(store.back("answered", 1, True, [101, bytes(101)])) == "ObjectStoreFullError"


def test_an_object_freed_while_it_is_pulled_is_lost_to_who_asked():
    store = Store(10 * CHUNK)
    store.locate(X, "zactor-far-1", THERE)
    write, *_ = store.back("answered", 1, True, [3 * CHUNK, bytes(CHUNK)])
    reply, remove = store.say(FreeSegment("zactor-far-1", keep=False))
    assert (reply.ok, remove) == (False, Remove(write.name))
    store.locate(X, "zactor-far-1", THERE)
    store.reserve(10 * CHUNK)
    store.back("answered", 4, True, [CHUNK, bytes(CHUNK)])  # waits for room
    store.say(FreeSegment("zactor-far-1", keep=False))
    store.now = 5.0
    assert store.back("tick") == []


def test_pulls_wait_for_each_other(store):
    for number in range(MOST_PULLS + 2):
        asks = store.locate(b"%028d" % number, f"zactor-far-{number}", THERE, request=number)
        assert len(asks) == (number < MOST_PULLS)
    store.say(FreeSegment(f"zactor-far-{MOST_PULLS}", keep=False))
    (reply, ask) = store.back("answered", 1, False, None)
    assert ask.message.name == f"zactor-far-{MOST_PULLS + 1}"
    assert reply.request == 0


def test_a_copy_that_nobody_asks_for_goes_after_a_while(store):
    store.locate(X, "zactor-far-1", THERE)
    (write,) = store.back("answered", 1, True, [10, bytes(10)])
    store.back("chunk_written", write.name, True)
    assert store.machine.next_deadline() == 60.0
    store.now = 30.0
    store.locate(X, "zactor-far-1", THERE)
    assert store.back("tick") == []
    store.now = 90.0
    assert store.back("tick") == [Take(write.name, X)]
    assert store.back("took", write.name, False) == []
    store.now = 150.0
    assert store.back("tick") == [Take(write.name, X)]
    located: list[Any] = store.locate(X, "zactor-far-1", THERE)
    (ask,) = located + store.back("took", write.name, True)
    assert type(ask) is Ask  # it was asked for just then, and is pulled again
    store.back("answered", ask.token, False, None)
    assert store.machine.stats().objects == 0


def test_a_value_made_again_here_replaces_a_copy(store):
    store.locate(X, "zactor-far-1", THERE)
    (write,) = store.back("answered", 1, True, [10, bytes(10)])
    store.back("chunk_written", write.name, True)
    name = store.reserve(20)
    assert store.say(SegmentFilled(name, X, 20, P)) == [Remove(write.name)]
    assert store.locate(X, name) == [answer(name)]


def test_who_asks_before_the_maker_was_heard_is_sent_to_look(store):
    name = store.reserve(10)
    assert store.locate(X, name) == [answer(name)]


def test_other_nodes_read_from_where_the_value_is(store):
    name = store.fill(X, 80)
    read = ReadSegment(3, name, 0, 10 * CHUNK)
    assert store.say(read, Q) == [ReadChunk(Q, None, 3, name, name, 0, CHUNK)]
    assert error(store.say(ReadSegment(3, "zactor-none", 0, 1), Q)) == "ObjectLostError"
    assert error(store.say(ReadSegment(3, name, 0, 0), Q)) == "ObjectLostError"
    store.say(ReserveSegment(9, 60), Q)
    store.back("spilled", name, True)
    assert store.say(read, Q) == [ReadChunk(Q, None, 3, name, name, 0, CHUNK)]


def test_less_room_in_the_file_system_is_less_room(store):
    store.back("limit", 50)
    assert error(store.say(ReserveSegment(1, 60))) == "ObjectStoreFullError"
    store.back("limit", 100)
    assert store.reserve(60)


@pytest.mark.parametrize(
    "message",
    [
        ReserveSegment(1, -5),
        ReserveSegment(1, "5"),
        LocateSegment(1, "x", "name", HERE, []),
        LocateSegment(1, X, ["name"], HERE, []),
        ReadSegment(1, "name", -1, 5),
        Answer(1, ok=True, value=None),
    ],
)
def test_what_makes_no_sense_is_refused(store, message):
    assert error(store.say(message)) == "ObjectLostError"


def test_what_makes_no_sense_and_asks_nothing_is_ignored(store):
    assert store.say(SegmentFilled(["name"], X, 1, P)) == []
    assert store.say(FreeSegment(None, keep=True)) == []
    assert store.say(ReadSegment("1", "name", 0, 5)) == []
    assert store.say(FreeSegment("zactor-unknown", keep=False)) == []
    assert store.back("chunk_written", "zactor-unknown", True) == []
