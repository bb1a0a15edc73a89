"""Messages and their bytes: what is packed comes back, and garbage is only ever a ProtocolError."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zactor.exceptions import ProtocolError
from zactor.wire import codec
from zactor.wire.messages import CODES, Answer

ids = st.binary(min_size=12, max_size=12)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"])) | st.integers(0, 99),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
ENVELOPE = [codec.VERSION, 5, b"s" * 12, b"d" * 12, 3, 2, None]


@given(ids, ids, st.integers(0, 2**63), st.integers(0, 2**63), plain)
def test_an_envelope_comes_back(
    source: bytes, to: bytes, seq: int, ack: int, body: object
) -> None:
    envelope = [codec.VERSION, 5, source, to, seq, ack, body]
    assert codec.unpack_envelope(codec.pack(envelope)) == envelope  # W1


def test_what_follows_the_body_is_left_alone() -> None:
    assert codec.unpack_envelope(codec.pack([*ENVELOPE, {"later": 1}]))[7] == {"later": 1}


@given(st.sampled_from(sorted(CODES)), st.data())
def test_a_control_message_comes_back(kind: int, data: st.DataObject) -> None:
    fields = CODES[kind]._fields
    message = CODES[kind](*(data.draw(plain) for _ in fields))
    packed, body = codec.pack_control(message)
    assert packed == kind
    body = msgpack.unpackb(codec.pack(body), strict_map_key=False)
    assert codec.unpack_control(kind, [*body, "a later field"]) == message


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_garbage_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):  # W2: no random bytes are an envelope
        codec.unpack_envelope(data)


@settings(max_examples=300)
@given(st.integers(0, 60), st.binary(min_size=1, max_size=4), st.integers(0, 60))
def test_a_damaged_envelope_is_taken_or_a_protocol_error(
    at: int, noise: bytes, cut: int
) -> None:
    data = codec.pack([*ENVELOPE[:6], [["a", 1, {"b": [2.5, b"c"]}]]])
    data = (data[:at] + noise + data[at + len(noise) :])[: len(data) - cut % len(data)]
    try:
        envelope = codec.unpack_envelope(data)
    except ProtocolError:
        return
    assert len(envelope) >= 7


@given(plain)
def test_a_body_that_does_not_fit_is_a_protocol_error(body: object) -> None:
    for kind in (0, 3, 16, 10_000):
        try:
            codec.unpack_control(kind, body)
        except ProtocolError:
            continue
        assert kind == 16
        assert type(body) is list
        assert len(body) >= 3


@pytest.mark.parametrize(
    "envelope",
    [
        {},
        ENVELOPE[:6],
        [codec.VERSION + 1, *ENVELOPE[1:]],
        [codec.VERSION, "5", *ENVELOPE[2:]],
        [*ENVELOPE[:2], "s" * 12, *ENVELOPE[3:]],
        [*ENVELOPE[:2], b"short", *ENVELOPE[3:]],
        [*ENVELOPE[:3], None, *ENVELOPE[4:]],
        [*ENVELOPE[:4], 1.5, *ENVELOPE[5:]],
        [*ENVELOPE[:5], "2", None],
    ],
)
def test_a_field_of_the_wrong_type_is_a_protocol_error(envelope: object) -> None:
    with pytest.raises(ProtocolError):
        codec.unpack_envelope(codec.pack(envelope))


@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * 5_000,  # nested beyond any stack
        b"\x81\x90\x01",  # a list as a key
        b"\xd6\xff\xff\xff\xff\xff",  # a timestamp
        b"\xc7\x0c\xff" + b"\xff" * 12,  # one out of range
        b"\xdd\xff\xff\xff\xff",  # four thousand million items announced
        b"\xa1\xff",  # no UTF-8
        b"\xc1",
    ],
)
def test_hostile_msgpack_is_a_protocol_error(data: bytes) -> None:
    for packed in (data, b"\x97\x01\x05" + data):
        with pytest.raises(ProtocolError):
            codec.unpack_envelope(packed)


def test_a_control_message_needs_its_fields() -> None:
    kind, body = codec.pack_control(Answer(1, True, "x"))
    with pytest.raises(ProtocolError):
        codec.unpack_control(kind, body[:2])


def test_a_hello_of_another_version_is_known_by_its_beginning() -> None:
    hello = [
        codec.VERSION + 5,
        codec.HELLO,
        b"s" * 12,
        b"d" * 12,
        0,
        0,
        {"address": []},
        "later",
    ]
    assert codec.hello_of_other_version(codec.pack(hello)) == (codec.VERSION + 5, hello)


@pytest.mark.parametrize(
    "envelope",
    [
        {},
        [codec.VERSION + 5],
        [codec.VERSION, codec.HELLO, b"s" * 12, b"d" * 12, 0, 0, None],
        [codec.VERSION + 5, codec.CALLS, b"s" * 12, b"d" * 12, 0, 0, None],
        [codec.VERSION + 5, codec.HELLO, b"s" * 12, None, 0, 0, None],
        ["2", codec.HELLO, b"s" * 12, b"d" * 12, 0, 0, None],
    ],
)
def test_nothing_else_is_taken_for_one(envelope: object) -> None:
    assert codec.hello_of_other_version(codec.pack(envelope)) == (0, None)
    assert codec.hello_of_other_version(b"\xc1") == (0, None)
