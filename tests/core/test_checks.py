"""Types of fields, for every control message there is."""

from __future__ import annotations

import pytest

from zactor.core.checks import field_error
from zactor.wire import messages as m

GOOD = {
    "int": 1, "str": "s", "bytes": b"b", "bool": True, "float": 1.5, "dict[str, Any]": {},
    "list[Any]": [], "str | None": None, "bytes | None": None, "Any": object(),
}  # fmt: skip


def good(kind):
    return kind(
        *(GOOD[str(getattr(a, "__forward_arg__", a))] for a in kind.__annotations__.values())
    )


@pytest.mark.parametrize("kind", m.CODES.values(), ids=lambda kind: kind.__name__)
def test_a_message_as_declared_passes_and_any_other_type_does_not(kind):
    message = good(kind)
    assert field_error(message) is None
    for name, annotation in kind.__annotations__.items():
        if str(getattr(annotation, "__forward_arg__", annotation)) != "Any":
            problem = field_error(message._replace(**{name: object()}))
            assert problem is not None
            assert problem.startswith(f"{kind.__name__}.{name}")


def test_a_bool_is_no_number_and_long_values_are_cut():
    assert field_error(m.Query(True, "x", {})) is not None
    assert len(field_error(m.Query(1, b"x" * 10_000, {})) or "") < 200
