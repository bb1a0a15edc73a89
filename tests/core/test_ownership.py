"""The reference table of one process, and conversations of two or three."""

from __future__ import annotations

from collections import defaultdict
from random import Random
from typing import Any

import pytest

from zactor.core.ownership import (
    LOST_PEERS_KEPT,
    ActorReleased,
    Free,
    Lost,
    References,
    Released,
    Send,
)
from zactor.wire.references import Confirmed, Drop, Gone, Held, Hold, Taken, pack, unpack

ME, PEER, THIRD = b"me", b"peer", b"third"
X, Y, Z = b"x" * 28, b"y" * 28, b"z" * 28
ACTOR = b"actor-id-12b"


@pytest.fixture
def table() -> References:
    return References(ME)


def sent(effects: list[Any]) -> list[Any]:
    return [
        message for effect in effects if isinstance(effect, Send) for message in effect.messages
    ]


def done(table: References) -> list[Any]:
    """Drain; checked before and after."""
    table.check()
    effects = table.drain()
    table.check()
    return effects


class Trio:
    """Three processes whose links deliver when told to."""

    def __init__(self) -> None:
        self.tables = {name: References(name) for name in (b"a", b"b", b"c")}
        self.links: dict[tuple[bytes, bytes], list[Any]] = defaultdict(list)
        self.freed: list[bytes] = []

    def flush(self) -> None:
        for name, table in self.tables.items():
            for effect in done(table):
                if isinstance(effect, Send):
                    self.links[name, effect.peer] += effect.messages
                elif isinstance(effect, Free):
                    self.freed.append(effect.object_id)

    def deliver(self, source: bytes, target: bytes) -> None:
        self.flush()
        for message in self.links.pop((source, target), []):
            self.tables[target].receive(source, message)
        self.flush()

    def deliver_all(self) -> None:
        self.flush()
        while self.links:
            self.deliver(*next(iter(self.links)))


def test_what_nobody_else_saw_is_not_in_the_table(table):
    assert table.drop_local(X) is False
    assert not table.knows(X)
    assert done(table) == []


def test_an_exported_object_is_freed_with_its_last_local_reference(table):
    table.export(X, ME)
    table.export(X, ME)
    table.export(Y, PEER)  # not ours: held already, or never
    table.add_local(X, ME)
    assert table.drop_local(X)
    assert done(table) == []
    assert table.drop_local(X)
    assert done(table) == [Free(X)]
    assert not table.knows(X)


def test_an_object_lives_while_a_holder_does(table):
    table.export(X, ME)
    table.receive(PEER, Hold(X))
    table.receive(PEER, Hold(X))
    table.drop_local(X)
    assert done(table) == [Send(PEER, [Held(X), Held(X)])]
    assert table.holders(X) == [PEER]
    table.receive(PEER, Drop(X))
    table.receive(PEER, Drop(X))
    assert done(table) == [Free(X)]
    assert table.holders(X) == []
    assert table.stats().ignored == 1


def test_an_actor_that_nobody_holds_is_released(table):
    table.own(ACTOR)
    table.drop_local(ACTOR)
    assert done(table) == [ActorReleased(ACTOR)]


def test_an_unknown_object_is_gone(table):
    table.receive(PEER, Hold(X))
    assert done(table) == [Send(PEER, [Gone(X)])]
    table.add_local(Y, THIRD)
    table.receive(PEER, Hold(Y))  # not ours to hold
    assert sent(done(table)) == [Hold(Y), Gone(Y)]


def test_a_borrower_holds_once_and_drops_after_the_answer(table):  # R2
    table.add_local(X, PEER)
    table.add_local(X, PEER)
    assert done(table) == [Send(PEER, [Hold(X)])]
    table.drop_local(X)
    table.drop_local(X)
    assert done(table) == []  # the answer to this Hold could be taken for that to a later one
    table.add_local(X, PEER)
    table.drop_local(X)
    assert done(table) == []
    table.receive(PEER, Held(X))
    assert done(table) == [Send(PEER, [Drop(X)]), Released(X)]
    table.receive(PEER, Held(X))
    assert table.stats().ignored == 1


def test_an_answer_counts_only_from_the_owner(table):
    table.add_local(X, PEER)
    done(table)
    table.receive(THIRD, Held(X))
    table.receive(THIRD, Gone(X))
    assert table.stats().asking == 1
    assert not table.is_lost(X)


def test_an_object_that_was_freed_before_we_were_entered_is_lost(table):
    table.add_local(X, PEER)
    table.receive(PEER, Gone(X))
    assert done(table) == [Send(PEER, [Hold(X)]), Lost(X, PEER, owner_died=False)]
    assert table.is_lost(X)
    assert table.stats().lost == 1
    table.drop_local(X)
    assert done(table) == [Released(X)]


def test_our_own_freed_object_that_comes_back_is_lost(table):
    table.add_local(X, ME)
    assert done(table) == [Lost(X, ME, owner_died=False)]
    table.drop_local(X)
    assert done(table) == [Released(X)]


def test_a_mapped_view_is_a_local_reference(table):
    table.mapped(X, ME)
    table.drop_local(X)
    assert done(table) == []
    table.unmapped(X)
    assert done(table) == [Free(X)]
    table.mapped(Y, PEER)
    assert sent(done(table)) == [Hold(Y)]


def test_a_stored_value_holds_what_is_in_it(table):
    table.own(X)
    table.own(Y, [(X, ME), (Z, PEER)])
    table.drop_local(X)
    assert sent(done(table)) == [Hold(Z)]
    table.receive(PEER, Held(Z))
    table.drop_local(Y)
    assert done(table) == [Send(PEER, [Drop(Z)]), Free(Y), Free(X), Released(Z)]


def test_a_cached_value_holds_what_is_in_it_while_its_object_is_held(table):
    table.cached(X, [(Y, THIRD)])  # not held at all: nothing to cache it under
    assert done(table) == []
    table.add_local(X, PEER)
    table.cached(X, [(Y, THIRD)])
    table.cached(X, [(Y, THIRD)])
    assert sent(done(table)) == [Hold(X), Hold(Y)]
    table.receive(PEER, Held(X))
    table.receive(THIRD, Held(Y))
    assert done(table) == []
    table.drop_local(X)
    assert sent(done(table)) == [Drop(X), Drop(Y)]


def test_a_call_pins_its_references_until_it_is_settled(table):
    table.pin_call(b"call", [(X, ME)])
    table.pin_call(b"call", [(Y, ME)])
    table.drop_local(X)
    table.drop_local(Y)
    assert done(table) == []
    assert table.stats().calls == 1
    table.lost(PEER)  # it may be tried again elsewhere
    assert done(table) == []
    table.call_settled(b"call", PEER)
    assert done(table) == [Free(X), Free(Y)]
    table.call_settled(b"call", PEER)


def test_an_unconfirmed_call_stays_pinned_until_its_callee_confirms(table):
    table.pin_call(b"call", [(X, ME)])
    table.drop_local(X)
    table.call_settled(b"call", PEER, unconfirmed=True)
    table.receive(THIRD, Confirmed(b"call"))
    assert done(table) == []
    table.receive(PEER, Confirmed(b"call"))
    assert done(table) == [Free(X)]
    table.receive(PEER, Confirmed(b"call"))
    assert table.stats().ignored == 1


def test_a_confirmation_may_be_handed_in_before_the_reply(table):
    table.pin_call(b"call", [(X, ME)])
    table.drop_local(X)
    table.receive(PEER, Confirmed(b"call"))
    table.call_settled(b"call", PEER, unconfirmed=True)
    assert done(table) == [Free(X)]


def test_a_callee_says_which_calls_are_unconfirmed(table):
    refs = [(X, PEER), (Y, THIRD), (Z, THIRD)]
    table.call_received(b"call", PEER, refs)
    table.add_local(Y, THIRD)
    assert sent(done(table)) == [Hold(X), Hold(Y), Hold(Z)]
    assert table.call_finished(b"call") is True  # keeps Y, of a third party, unanswered
    done(table)
    table.receive(THIRD, Held(Z))
    assert sent(done(table)) == [Drop(Z)]
    table.receive(THIRD, Held(Y))
    assert done(table) == [Send(PEER, [Confirmed(b"call")])]


def test_what_the_caller_owns_needs_no_confirmation(table):
    table.call_received(b"call", PEER, [(X, PEER)])
    table.call_received(b"call", PEER, [(X, PEER)])  # a retry while it runs
    table.add_local(X, PEER)
    assert table.call_finished(b"call") is False
    assert table.call_finished(b"call") is False
    assert sent(done(table)) == [Hold(X)]


def test_a_third_party_that_drops_at_once_loses_nothing():
    trio = Trio()
    a, b, c = trio.tables.values()
    a.export(X, b"a")
    a.receive(b"b", Hold(X))
    b.add_local(X, b"a")
    trio.deliver_all()
    a.drop_local(X)

    b.pin_call(b"call", [(X, b"a")])
    b.drop_local(X)
    c.call_received(b"call", b"b", [(X, b"a")])
    c.add_local(X, b"a")
    unconfirmed = c.call_finished(b"call")
    b.call_settled(b"call", b"c", unconfirmed=unconfirmed)
    trio.deliver(b"b", b"a")  # nothing may have been dropped yet
    assert trio.freed == []
    trio.deliver_all()
    assert trio.freed == []
    assert a.holders(X) == [b"c"]
    c.drop_local(X)
    trio.deliver_all()
    assert trio.freed == [X]


def test_a_reply_holds_what_is_in_it_until_it_is_taken():
    trio = Trio()
    a, b, c = trio.tables.values()
    a.export(X, b"a")
    b.add_local(X, b"a")
    trio.deliver_all()
    a.drop_local(X)

    b.value_sent(b"reply", b"c", [(X, b"a")])
    b.drop_local(X)
    c.value_received(b"reply", b"b", [(X, b"a"), (X, b"a")])
    c.own(Y, [(X, b"a")])
    trio.deliver(b"b", b"a")
    assert trio.freed == []
    trio.deliver_all()
    assert a.holders(X) == [b"c"]
    assert b.stats()[:6] == (0, 0, 0, 0, 0, 0)
    c.drop_local(Y)
    trio.deliver_all()
    assert trio.freed == [Y, X]


def test_what_the_sender_owns_is_taken_at_once(table):
    table.value_received(b"reply", PEER, [(X, PEER)])
    assert sent(done(table)) == [Hold(X), Taken(b"reply")]
    table.value_received(b"none", PEER, [])
    assert done(table) == []


def test_the_same_value_sent_twice_is_pinned_twice():
    trio = Trio()
    a, b, c = trio.tables.values()
    for _ in range(2):
        b.value_sent(b"reply", b"c", [(X, b"a")])
    for _ in range(2):
        c.value_received(b"reply", b"b", [(X, b"a")])
    a.export(X, b"a")
    trio.deliver(b"b", b"a")
    trio.deliver(b"c", b"a")
    trio.deliver(b"a", b"c")
    trio.flush()
    assert trio.links[b"c", b"b"] == [Taken(b"reply"), Taken(b"reply")]
    trio.deliver_all()
    a.drop_local(X)
    trio.deliver_all()
    assert trio.freed == [X]
    b.receive(b"c", Taken(b"reply"))
    assert b.stats().ignored == 1


def test_what_is_unpickled_keeps_its_outer_object_until_its_owner_has_answered():
    trio = Trio()
    a, b, c = trio.tables.values()
    c.export(Y, b"c")
    a.own(X, [(Y, b"c")])
    b.add_local(X, b"a")
    trio.deliver_all()
    a.drop_local(X)
    c.drop_local(Y)

    b.add_local(Y, b"c", via=X)
    b.add_local(Y, b"c", via=X)
    b.drop_local(X)
    trio.deliver(b"b", b"a")
    trio.deliver(b"a", b"c")
    assert trio.freed == []
    trio.deliver_all()
    assert trio.freed == [X]
    assert c.holders(Y) == [b"b"]


@pytest.mark.parametrize("is_cached", [False, True])
def test_what_was_unpickled_is_safe_in_whatever_order_links_deliver(is_cached):
    for seed in range(200):
        random = Random(seed)
        trio = Trio()
        a, b, c = trio.tables.values()
        c.export(Y, b"c")
        a.own(X, [(Y, b"c")])
        b.add_local(X, b"a")
        trio.deliver_all()
        a.drop_local(X)
        c.drop_local(Y)
        if is_cached:
            a.value_sent(X, b"b", [(Y, b"c")])
            b.value_received(X, b"a", [(Y, b"c")])
            b.cached(X, [(Y, b"c")])
            steps = [lambda b=b: b.add_local(Y, b"c"), lambda b=b: b.drop_local(X)]
        else:
            steps = [lambda b=b: b.add_local(Y, b"c", via=X), lambda b=b: b.drop_local(X)]
        trio.flush()
        while steps or trio.links:
            if steps and (not trio.links or random.random() < 0.3):
                steps.pop(0)()
                trio.flush()
            else:
                trio.deliver(*random.choice(list(trio.links)))
            assert Y not in trio.freed
        assert trio.freed == [X]
        b.drop_local(Y)
        trio.deliver_all()
        assert trio.freed == [X, Y]


def test_via_matters_only_where_messages_could_overtake(table):
    table.add_local(X, PEER)
    table.add_local(Y, PEER, via=X)  # the same owner hears in order
    table.add_local(Z, THIRD, via=b"unknown")
    table.drop_local(X)
    table.receive(PEER, Held(X))
    assert sent(done(table)) == [Hold(X), Hold(Y), Drop(X), Hold(Z)]


def test_the_death_of_a_process_releases_what_it_held_and_loses_what_it_owned(table):  # R4
    table.export(X, ME)
    table.receive(PEER, Hold(X))
    table.drop_local(X)
    table.add_local(Y, PEER)
    table.add_local(Z, THIRD)
    table.pin_call(b"call", [(Y, PEER)])
    table.call_settled(b"call", PEER, unconfirmed=True)
    table.value_sent(b"reply", PEER, [(Z, THIRD)])
    table.call_received(b"theirs", PEER, [(Z, THIRD)])
    table.call_received(b"late", PEER, [(Z, THIRD)])
    assert table.call_finished(b"theirs")
    table.value_received(b"other", PEER, [(Z, THIRD)])
    table.pin_call(b"early", [(Z, THIRD)])
    table.receive(PEER, Confirmed(b"early"))
    done(table)

    table.lost(PEER)
    table.lost(PEER)

    assert done(table) == [Lost(Y, PEER, owner_died=True), Free(X)]
    table.receive(THIRD, Held(Z))
    assert done(table) == []  # nobody is owed a Confirmed or Taken
    assert table.call_finished(b"late") is False
    table.value_sent(b"reply", PEER, [(Z, THIRD)])
    table.call_settled(b"early", PEER, unconfirmed=True)
    table.receive(PEER, Hold(X))
    table.drop_local(Z)
    table.drop_local(Y)
    assert done(table) == [Send(THIRD, [Drop(Z)]), Released(Z), Released(Y)]
    assert table.stats() == (0, 0, 0, 0, 0, 0, 1)


def test_an_object_of_a_dead_process_is_lost_at_once(table):
    table.lost(PEER)
    table.add_local(X, PEER)
    assert done(table) == [Lost(X, PEER, owner_died=True)]


def test_a_held_object_that_nobody_wanted_any_more_is_not_reported_lost(table):
    table.add_local(X, PEER)
    done(table)
    table.receive(PEER, Held(X))
    table.drop_local(X)
    table.lost(PEER)
    assert done(table) == [Released(X)]


def test_remembering_the_dead_is_bounded(table):
    for number in range(LOST_PEERS_KEPT + 10):
        table.lost(b"%d" % number)
    assert len(table._dead) == LOST_PEERS_KEPT


def test_a_batch_of_messages_crosses_the_wire():
    batch = [Hold(X), Held(X), Gone(Y), Drop(X), Confirmed(b"call"), Taken(b"reply")]
    assert unpack(pack(batch)) == batch


@pytest.mark.parametrize(
    "flat", [[0], [9, X], [-1, X], ["0", X], [True, X], [0, "x"], [0, None]]
)
def test_rubbish_is_not_a_batch(flat):
    with pytest.raises(ValueError, match="reference message"):
        unpack(flat)
