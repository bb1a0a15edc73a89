"""How values lie in segments."""

from __future__ import annotations

import pytest

from zactor.store import layout


@pytest.mark.parametrize("payload", [0, 1, 100, 5000])
def test_pieces_start_where_the_plan_says_and_do_not_overlap(payload: int) -> None:
    lengths = [10, layout.LARGE, 0, layout.LARGE - 1, layout.LARGE + 1]
    plan = layout.plan(b"i" * 28, b"o" * 12, payload, lengths)
    header = layout.read_header(plan.head[: layout.HEADER_SIZE])
    assert header is not None
    table = plan.head[layout.HEADER_SIZE :]
    first, spans = layout.pieces(header, table)

    assert first == (plan.payload_at, payload)
    assert [length for _, length in spans] == lengths
    assert [offset for offset, _ in spans] == plan.buffers_at
    end = len(plan.head)
    for offset, length in [first, *spans]:
        assert offset >= end
        assert offset % (layout.PAGE if length >= layout.LARGE else layout.ALIGNMENT) == 0
        end = offset + length
    assert end == plan.size
