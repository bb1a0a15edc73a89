"""Named tuples: what `typing.NamedTuple` promises, made in another way."""

from __future__ import annotations

import copy
import pickle
import typing

import pytest

from zactor.named import NamedTuple


class Ours(NamedTuple):
    """A point."""

    x: int
    y: int = 2
    label: str = "here"

    @property
    def far(self) -> bool:
        return self.x > 10

    @classmethod
    def origin(cls) -> Ours:
        return cls(0, 0)


class Theirs(typing.NamedTuple):
    """A point."""

    x: int
    y: int = 2
    label: str = "here"


class Empty(NamedTuple):
    """Nothing."""


class Heir(Ours):
    """A class below one."""

    def __str__(self) -> str:
        return f"{self.x}|{self.y}"


def both(*args: object, **kwargs: object) -> list[object]:
    """Return what each kind makes of the arguments, an error as its text without the name."""
    found: list[object] = []
    for kind in (Ours, Theirs):
        try:
            found.append(tuple(kind(*args, **kwargs)))
        except TypeError as error:
            found.append(str(error).replace("Ours", "").replace("Theirs", ""))
    return found


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1,), {}), ((1, 3), {"label": "a"}), ((), {"y": 1, "x": 0}), ((), {}), ((1, 2, 3, 4), {}),
     ((1,), {"x": 2}), ((1,), {"z": 2})],
)  # fmt: skip
def test_arguments_are_taken_and_refused_as_by_the_standard_library(
    args: tuple[int, ...], kwargs: dict[str, object]
) -> None:
    ours, theirs = both(*args, **kwargs)
    assert ours == theirs


def test_values_are_read_shown_compared_and_changed_by_name() -> None:
    ours, theirs = Ours(1), Theirs(1)
    assert tuple(ours) == tuple(theirs) == (1, 2, "here")
    assert (ours.x, ours.y, ours.label) == (1, 2, "here")
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert ours._asdict() == theirs._asdict()
    assert ours._replace(y=5) == (1, 5, "here")
    assert Ours._make([7, 8, "b"]) == (7, 8, "b")
    assert Ours._fields == Theirs._fields
    assert Ours._field_defaults == Theirs._field_defaults
    match ours:
        case Ours(x, label=label):
            assert (x, label) == (1, "here")
        case _:
            pytest.fail("it does not match")


def test_what_is_wrong_with_a_change_is_said() -> None:
    with pytest.raises(ValueError, match="z"):
        Ours(1)._replace(z=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Expected 3 arguments, got 2"):
        Ours._make([1, 2])
    with pytest.raises(AttributeError):
        Ours(1).x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Ours(1).colour = 2


def test_methods_docstrings_heirs_and_empty_ones_work() -> None:
    assert Ours(11).far
    assert not Ours.origin().far
    assert Ours.__doc__ == "A point."
    assert Ours.__annotations__ == {"x": "int", "y": "int", "label": "str"}
    assert (str(Heir(1)), Heir(1).far, isinstance(Heir(1), Ours)) == ("1|2", False, True)
    assert Empty() == ()


def test_they_are_copied_and_pickled() -> None:
    for value in (Ours(1), Heir(3, 4), Empty()):
        found = pickle.loads(pickle.dumps(value))
        assert (found, type(found)) == (value, type(value))
        assert copy.deepcopy(value) == value


def test_a_default_before_a_field_without_one_is_refused() -> None:
    with pytest.raises(TypeError, match="without a default follows one with a default"):

        class Wrong(NamedTuple):
            x: int = 1
            y: int  # type: ignore[misc]
