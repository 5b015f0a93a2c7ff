"""Intervals, tests and their correction: compared with SciPy, and by simulation."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import stats

from train.studies.report import statistics

ACCURACIES = st.lists(st.floats(0, 100, allow_subnormal=False), min_size=2, max_size=12)


@hypothesis.given(ACCURACIES)
@hypothesis.settings(deadline=None, max_examples=50)
def test_interval_equals_scipy(values):
    mean = statistics.mean(values)
    spread = stats.sem(values)
    if spread:
        low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=spread)
        np.testing.assert_allclose(mean.interval, (low, high), rtol=1e-9, atol=1e-9)
    else:
        assert mean.half_width == pytest.approx(0, abs=1e-9)


def test_one_value_has_no_interval():
    assert math.isnan(statistics.mean([3.0]).half_width)
    assert math.isnan(statistics.mean([]).value)
    assert math.isnan(statistics.paired_difference([1.0], [2.0]).p)


def test_paired_difference_equals_scipy():
    rng = np.random.default_rng(0)
    without = rng.normal(70, 2, 7)
    with_gc = without + rng.normal(0.4, 0.5, 7)
    result = statistics.paired_difference(list(without), list(with_gc))
    expected = stats.ttest_rel(with_gc, without)
    interval = expected.confidence_interval(0.95)
    assert result.p == pytest.approx(expected.pvalue)
    assert result.mean.interval == pytest.approx((interval.low, interval.high))
    assert result.mean.value > 0  # second minus first


def test_identical_pairs_have_no_difference():
    assert statistics.paired_difference([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == ((0.0, 0.0, 3), 1.0)


def test_equal_differences_use_sign_flip_test():
    shifted = statistics.paired_difference([97.0, 98.1, 96.3], [97.2, 98.3, 96.5])
    assert shifted.p == 0.25
    assert shifted.mean.value == pytest.approx(0.2)


def test_unequal_lengths_raise():
    with pytest.raises(ValueError, match="shorter"):
        statistics.paired_difference([1.0, 2.0], [1.0])


def test_holm_by_hand():
    # Holm 1979: smallest times 4, next times 3, and so on; each is at least the one before it.
    corrected = statistics.holm([0.01, 0.04, 0.03, 0.005])
    assert corrected == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_holm_ignores_missing_p_values():
    corrected = statistics.holm([math.nan, 0.02, 0.5])
    assert math.isnan(corrected[0])
    assert corrected[1:] == [0.04, 0.5]


@pytest.mark.slow
def test_false_positive_rate_and_coverage():
    """2,000 studies of 5 comparisons of 6 pairs that differ only by noise: 5 % are wrong."""
    rng = np.random.default_rng(0)
    studies, wrong, covered = 2000, 0, 0
    for _ in range(studies):
        without = rng.normal(97, 1, (5, 6))
        with_gc = without + rng.normal(0, 0.3, (5, 6))
        results = [
            statistics.paired_difference(list(a), list(b))
            for a, b in zip(without, with_gc, strict=True)
        ]
        wrong += min(statistics.holm([each.p for each in results])) < 0.05
        low, high = results[0].mean.interval
        covered += low <= 0 <= high
    assert 0.03 < wrong / studies < 0.065
    assert 0.935 < covered / studies < 0.965


def test_true_difference_is_detected():
    rng = np.random.default_rng(1)
    without = rng.normal(70, 1, (5, 6))
    results = [
        statistics.paired_difference(list(row), list(row - 2 + rng.normal(0, 0.3, 6)))
        for row in without
    ]
    assert max(statistics.holm([each.p for each in results])) < 0.01


def test_median_ratio_of_pairs():
    assert statistics.median_ratio([(1.0, 1.1), (2.0, 2.0), (1.0, 9.0)])[0] == pytest.approx(1.1)
    assert all(map(math.isnan, statistics.median_ratio([])))


@pytest.mark.parametrize("pairs", [2, 3, 8, 30])
def test_detectable_difference_is_found_in_80_percent(pairs):
    """Simulated studies with the detectable difference as the true one."""
    rng = np.random.default_rng(pairs)
    deviation = 1.7
    spread = statistics.Mean(0.0, _half_width(deviation, pairs), pairs)
    shift = statistics.detectable(spread)
    samples = rng.normal(shift, deviation, (4000, pairs))
    found = np.mean(stats.ttest_1samp(samples, 0.0, axis=1).pvalue < 0.05)
    assert found == pytest.approx(statistics.POWER, abs=0.025)


def test_detectable_difference_is_known_for_8_pairs():
    """Cohen 1988: d = 1.16 standard deviations for n = 8, alpha = 5 %, power 80 %."""
    spread = statistics.Mean(0.0, _half_width(1.0, 8), 8)
    assert statistics.detectable(spread) == pytest.approx(1.16, abs=0.005)


def test_one_pair_detects_nothing():
    assert math.isnan(statistics.detectable(statistics.mean([1.0])))


def _half_width(deviation, count):
    return stats.t.ppf(0.975, count - 1) * deviation / math.sqrt(count)
