"""Every piece of `bench.micro` runs: they use the package's insides, which change."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest

from bench.micro import Piece, measure
from bench.micro.__main__ import FILES


def pieces() -> Iterator[Piece]:
    for file in FILES:
        yield from importlib.import_module(f"bench.micro.{file}").pieces()


@pytest.mark.parametrize("file", FILES)
def test_every_piece_runs_and_takes_time(file: str) -> None:
    measured = 0
    for piece in importlib.import_module(f"bench.micro.{file}").pieces():
        timing = measure(piece, seconds=0.0001, repetitions=2)
        assert min(timing.samples) > 0, piece.name
        assert piece.name in str(timing)
        measured += 1
    assert measured


def test_the_names_of_pieces_differ() -> None:
    names = [piece.name for piece in pieces()]
    assert len(set(names)) == len(names)
