"""Intervals, paired tests and their correction: pure functions of numbers."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class Mean(NamedTuple):
    """A mean and how well it is known.

    Attributes:
      value: the mean; NaN of nothing.
      half_width: of its 95 % interval by Student's t; NaN of fewer than two numbers.
      n: how many numbers.
    """

    value: float
    half_width: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        return self.value - self.half_width, self.value + self.half_width


class Difference(NamedTuple):
    """What came of paired measurements.

    Attributes:
      mean: of the differences, with its interval.
      p: two-sided, of the hypothesis that the mean difference is 0; NaN of fewer than two pairs.
    """

    mean: Mean
    p: float


def mean(values: Sequence[float]) -> Mean:
    """The mean of independent measurements, with its 95 % interval by Student's t.

    Args:
      values: any number of numbers.
    """
    count = len(values)
    if count < 2:
        return Mean(float(values[0]) if count else math.nan, math.nan, count)
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)
    return Mean(float(np.mean(values)), float(quantile * stats.sem(values)), count)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """How much larger the second of each pair is, by the paired t-test.

    Pairs that all differ by the same amount have no spread, and t is infinite. If the amount is 0,
    p is 1; else it is that of the exact sign-flip test, 2^(1 - pairs), since so few pairs that
    agree are no proof: accuracies are counts of images, and small ones repeat.

    Args:
      first: a number of each pair.
      second: the other, in the same order.

    Raises:
      ValueError: they are not equally many.

    References:
      Student, The probable error of a mean, Biometrika 1908;
      Fisher, The Design of Experiments, 1935, section 21, for flipping signs.
    """
    differences = [b - a for a, b in zip(first, second, strict=True)]
    of_mean = mean(differences)
    if of_mean.n < 2:
        p = math.nan
    elif np.ptp(differences) <= 1e-12 * max(map(abs, differences)):
        p = 1.0 if not any(differences) else 2.0 ** (1 - of_mean.n)
    else:
        p = float(stats.ttest_rel(second, first).pvalue)
    return Difference(of_mean, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects for making several comparisons, step by step downwards.

    The i-th smallest of m values is multiplied by m - i + 1; none becomes smaller than the one
    before it, or larger than 1. The chance of any false finding is then at most that of one test,
    however the comparisons depend on each other.

    Args:
      p_values: NaN for a comparison that was not made; it stays NaN and is not counted.

    Returns:
      The corrected values, in the same order.

    References:
      Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statistics 1979.
    """
    made = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    corrected, least = [math.nan] * len(p_values), 0.0
    for rank, (p, index) in enumerate(made):
        least = max(least, min(1.0, p * (len(made) - rank)))
        corrected[index] = least
    return corrected


def median_ratio(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """How many times the second of each pair is the first: median, lower and upper quartile.

    Args:
      pairs: of positive numbers; NaN three times of none.
    """
    if not pairs:
        return math.nan, math.nan, math.nan
    low, middle, high = np.quantile([b / a for a, b in pairs], (0.25, 0.5, 0.75))
    return float(middle), float(low), float(high)
