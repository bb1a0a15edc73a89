"""Tests of medians, spreads and what counts as a difference."""

import math

import pytest

from bench.statistic import geometric_mean, moved, percentile, ratio, spread


def test_a_percentile_is_one_of_the_values():
    values = [5.0, 1.0, 4.0, 2.0, 3.0]

    assert percentile(values, 0.5) == 3.0
    assert percentile(values, 0.99) == 5.0
    assert percentile(values, 0.0) == 1.0


def test_a_percentile_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_the_spread_ignores_one_outlier():
    assert spread([100.0, 100.0, 100.0, 100.0, 900.0]) == 0.0
    assert spread([90.0, 95.0, 100.0, 105.0, 110.0]) == pytest.approx(0.05)


def test_one_sample_has_no_spread():
    assert spread([7.0]) == 0.0


def test_a_ratio_above_one_is_ahead_whichever_way_the_unit_goes():
    assert ratio(200.0, 100.0, less_is_better=False) == 2.0
    assert ratio(0.1, 4.0, less_is_better=True) == pytest.approx(40.0)
    assert ratio(0.0, 4.0, less_is_better=True) == math.inf


def test_samples_that_overlap_have_not_moved():
    assert not moved([100.0, 120.0, 140.0], [130.0, 150.0, 170.0])


def test_samples_far_apart_have_moved_either_way():
    assert moved([100.0, 101.0, 102.0], [120.0, 121.0, 122.0])
    assert moved([120.0, 121.0, 122.0], [100.0, 101.0, 102.0])


def test_less_than_three_per_cent_is_the_same_even_without_overlap():
    assert not moved([100.0, 100.1, 100.2], [101.0, 101.1, 101.2])


def test_a_difference_within_the_spreads_has_not_moved():
    assert not moved([70.0, 105.0, 110.0], [111.0, 115.0, 150.0])


def test_what_the_machine_did_to_every_row_is_taken_out():
    assert not moved([100.0, 101.0, 102.0], [80.0, 81.0, 82.0], drift=0.8)
    assert moved([100.0, 101.0, 102.0], [100.0, 101.0, 102.0], drift=0.8)


def test_a_figure_that_leaves_zero_has_moved():
    assert moved([0.0, 0.0], [1.0, 1.0])


def test_geometric_mean():
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
