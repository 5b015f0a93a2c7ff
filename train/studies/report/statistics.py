"""Confidence intervals, paired tests and their correction: pure functions of numbers."""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

CONFIDENCE = 0.95
POWER = 0.8
"""The probability with which a detectable difference is significant."""


class Mean(NamedTuple):
    """A mean and its confidence interval.

    Attributes:
      value: The mean; NaN if there are no values.
      half_width: Half the width of the 95 % interval by Student's t; NaN for fewer than two values.
      n: The number of values.
    """

    value: float
    half_width: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """The lower and the upper end of the interval."""
        return self.value - self.half_width, self.value + self.half_width


class Difference(NamedTuple):
    """The result of a paired comparison.

    Attributes:
      mean: The mean difference, with its interval.
      p: The two-sided p-value of the hypothesis that the mean difference is 0; NaN for fewer than
        two pairs.
    """

    mean: Mean
    p: float


class Ratio(NamedTuple):
    """The ratio of paired measurements: median and quartiles; NaN if there are no pairs."""

    median: float
    lower_quartile: float
    upper_quartile: float


def mean(values: Sequence[float]) -> Mean:
    """Return the mean of independent values, with its 95 % interval by Student's t."""
    count = len(values)
    if count < 2:
        return Mean(float(values[0]) if count else math.nan, math.nan, count)
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)
    return Mean(float(np.mean(values)), float(quantile * stats.sem(values)), count)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Return the mean of second minus first over all pairs, with the p-value of a paired t-test.

    If all differences are equal, their variance is 0 and t is infinite. Then p is 1 if the
    differences are 0, and else that of the exact sign-flip test, 2^(1 - pairs). Accuracies are
    counts of images, so a few equal differences occur by chance and are weak evidence.

    Args:
      first: The first value of each pair.
      second: The second value of each pair, in the same order.

    Raises:
      ValueError: If the lengths differ.

    References:
      Student, The probable error of a mean, Biometrika 1908;
      Fisher, The Design of Experiments, 1935, section 21, for the sign-flip test.
    """
    differences = [b - a for a, b in zip(first, second, strict=True)]
    mean_difference = mean(differences)
    if mean_difference.n < 2:
        p = math.nan
    elif np.ptp(differences) <= 1e-12 * max(map(abs, differences)):
        p = 1.0 if not any(differences) else 2.0 ** (1 - mean_difference.n)
    else:
        p = float(stats.ttest_rel(second, first).pvalue)
    return Difference(mean_difference, p)


def detectable(difference: Mean) -> float:
    """Return the smallest true difference that a study like this would probably have shown.

    It is the difference for which a two-sided paired t-test at 5 %, without correction, is
    significant, with the right sign, in 80 % of studies with the same number of pairs and the same
    deviation.

    Args:
      difference: The mean difference over the pairs, with its interval.

    Returns:
      The absolute difference; NaN for fewer than two pairs.

    References:
      Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd edition, 1988, chapter 2.
    """
    if difference.n < 2:
        return math.nan
    critical = stats.t.ppf((1 + CONFIDENCE) / 2, difference.n - 1)
    return difference.half_width / critical * _standardized_detectable(difference.n)


@functools.cache
def _standardized_detectable(pairs: int) -> float:
    """Return the detectable difference in standard errors."""
    freedom = pairs - 1
    critical = stats.t.ppf((1 + CONFIDENCE) / 2, freedom)

    def missing_power(shift: float) -> float:
        return stats.nct.sf(critical, freedom, shift) - POWER

    return float(optimize.brentq(missing_power, 0.0, 3.0 * critical + 3.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for several comparisons by Holm's step-down method.

    The i-th smallest of m values is multiplied by m - i + 1. A corrected value is at least the
    one before it, and at most 1. The probability of any false positive is then at most that of a
    single test, for any dependence between the comparisons.

    Args:
      p_values: One for each comparison; NaN if it has no p-value. NaN stays NaN and does not count.

    Returns:
      The corrected values, in the same order.

    References:
      Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statistics 1979.
    """
    ranked = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    corrected, lower_bound = [math.nan] * len(p_values), 0.0
    for rank, (p, index) in enumerate(ranked):
        lower_bound = max(lower_bound, min(1.0, p * (len(ranked) - rank)))
        corrected[index] = lower_bound
    return corrected


def median_ratio(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """Return the ratio of the second to the first number of each pair: median and quartiles.

    Args:
      pairs: Pairs of positive numbers.
    """
    if not pairs:
        return Ratio(math.nan, math.nan, math.nan)
    low, middle, high = np.quantile([b / a for a, b in pairs], (0.25, 0.5, 0.75))
    return Ratio(float(middle), float(low), float(high))
