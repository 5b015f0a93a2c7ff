"""Interleaved timing of variants, so that other load on the machine affects all of them."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np


def time_interleaved(variants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Return the seconds of each variant in each round.

    Every round runs all variants; the order alternates between rounds. An additional first round
    warms up and is not returned.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for round_index in range(rounds + 1):
        for name in list(variants)[:: 1 if round_index % 2 else -1]:
            start = time.perf_counter()
            variants[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(times[1:]) for name, times in seconds.items()}


def paired_ratio(seconds: np.ndarray, baseline: np.ndarray) -> dict[str, Any]:
    """Return the median and the quartiles, over the rounds, of the ratio of two times."""
    low, median, high = np.percentile(seconds / baseline, (25, 50, 75))
    return {"ratio": float(median), "ratio_quartiles": [float(low), float(high)]}


def summarize(seconds: np.ndarray, baseline: np.ndarray) -> dict[str, Any]:
    """Return the median time and its paired ratio to a baseline."""
    return {"milliseconds": 1e3 * float(np.median(seconds))} | paired_ratio(seconds, baseline)


def repeats_for(seconds: float, repeat: Callable[[int], Any]) -> int:
    """Return the number of repeats that take about `seconds`.

    Args:
      seconds: The intended duration.
      repeat: Is called with increasing numbers of repeats.
    """
    repeat(1)
    count, elapsed = 1, 0.0
    while elapsed < seconds / 4:
        count *= 2
        start = time.perf_counter()
        repeat(count)
        elapsed = time.perf_counter() - start
    return max(1, round(count * seconds / elapsed))
