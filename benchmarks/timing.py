"""Measuring variants in turn, so that what disturbs one disturbs them all."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np


def in_turn(variants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each variant in each round; every round runs them all, in alternating order."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for round_ in range(rounds + 1):
        for name in list(variants)[:: 1 if round_ % 2 else -1]:
            start = time.perf_counter()
            variants[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(times[1:]) for name, times in seconds.items()}


def paired(seconds: np.ndarray, baseline: np.ndarray) -> dict[str, Any]:
    """The ratio of times of the same round: the median over the rounds, and the quartiles."""
    low, median, high = np.percentile(seconds / baseline, (25, 50, 75))
    return {"ratio": float(median), "ratio_quartiles": [float(low), float(high)]}


def summary(seconds: np.ndarray, baseline: np.ndarray) -> dict[str, Any]:
    """The median time, and its ratio to the baseline's."""
    return {"milliseconds": 1e3 * float(np.median(seconds))} | paired(seconds, baseline)


def count_for(seconds: float, repeat: Callable[[int], Any]) -> int:
    """How many repetitions take about so long; `repeat` is called with ever larger numbers."""
    repeat(1)
    count, took = 1, 0.0
    while took < seconds / 4:
        count *= 2
        start = time.perf_counter()
        repeat(count)
        took = time.perf_counter() - start
    return max(1, round(count * seconds / took))
