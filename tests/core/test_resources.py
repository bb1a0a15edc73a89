"""Amounts and pools."""

from __future__ import annotations

import pytest

from zactor.core.resources import NOTHING, Pool, parse_amounts, show_amounts


@pytest.mark.parametrize(
    ("resources", "amounts"),
    [
        ({}, {}),
        ({"CPU": 1}, {"CPU": 10_000}),
        ({"CPU": 0.1, "x": 0.0001}, {"CPU": 1_000, "x": 1}),
        ({"CPU": 0}, {}),
        ({"memory": 2**40}, {"memory": 2**40 * 10_000}),
        ({"GPU": 0.25}, {"GPU": 2_500}),
        ({"GPU": 3.0}, {"GPU": 30_000}),
    ],
)
def test_numbers_become_exact_units(resources, amounts):
    assert parse_amounts(resources) == amounts
    assert show_amounts(amounts) == {k: v for k, v in resources.items() if v}


@pytest.mark.parametrize(
    "resources",
    [
        {"CPU": -1}, {"CPU": float("nan")}, {"CPU": float("inf")}, {"CPU": "1"}, {"CPU": True},
        {"CPU": 0.00001}, {"GPU": 1.5}, {1: 1}, {"": 1}, {"CPU": None}, [], None, {"CPU": 2**60},
    ],
)  # fmt: skip
def test_senseless_resources_are_refused(resources):
    with pytest.raises(ValueError):
        parse_amounts(resources)


def test_what_is_taken_and_given_back_is_there_again():  # R1
    pool = Pool({"CPU": 20_000, "x": 5})
    holding = pool.take({"CPU": 15_000})
    assert not pool.fits({"CPU": 5_001})
    assert pool.fits({"CPU": 5_000, "x": 5})
    assert pool.could_hold({"CPU": 20_000})
    assert not pool.could_hold({"y": 1})
    assert pool.use() == 0.75
    pool.give(holding)
    assert pool.available == pool.total
    pool.check()


def test_tenths_sum_to_a_whole():
    pool = Pool(parse_amounts({"CPU": 1}))
    for _ in range(10):
        pool.take(parse_amounts({"CPU": 0.1}))
    assert pool.available == {"CPU": 0}


def test_a_whole_gpu_is_one_that_nobody_shares():  # R2
    pool = Pool(parse_amounts({"GPU": 3}))
    half = pool.take(parse_amounts({"GPU": 0.5}))
    two = pool.take(parse_amounts({"GPU": 2}))
    assert half.gpu_ids == [0]
    assert two.gpu_ids == [1, 2]
    assert not pool.fits(parse_amounts({"GPU": 1}))
    assert pool.fits(parse_amounts({"GPU": 0.5}))
    pool.check()
    pool.give(half)
    assert pool.take(parse_amounts({"GPU": 1})).gpu_ids == [0]


def test_fractions_fill_a_gpu_before_they_open_another():
    pool = Pool(parse_amounts({"GPU": 2}))
    ids = [pool.take(parse_amounts({"GPU": 0.4})).gpu_ids[0] for _ in range(4)]
    assert ids == [0, 0, 1, 1]
    assert not pool.fits(parse_amounts({"GPU": 0.4}))  # 0.4 is free, in two pieces


def test_lent_cpus_can_be_forced_below_zero():
    pool = Pool({"CPU": 10_000})
    first = pool.take({"CPU": 10_000})
    pool.lend("CPU", 10_000)
    second = pool.take({"CPU": 10_000})
    pool.force("CPU", 10_000)
    assert pool.available["CPU"] == -10_000
    pool.check()
    with pytest.raises(AssertionError):
        pool.check(may_oversubscribe=False)
    pool.give(first)
    pool.give(second)
    assert pool.available == pool.total


def test_a_holding_is_taken_again_as_it_was():
    pool = Pool(parse_amounts({"GPU": 2, "CPU": 1}))
    holding = Pool(parse_amounts({"GPU": 2, "CPU": 1})).take(parse_amounts({"GPU": 1}))
    pool.take_again(holding)
    assert pool.take(parse_amounts({"GPU": 1})).gpu_ids == [1]
    pool.take_again(NOTHING)
    pool.check()
