"""Choosing an arm's learning rate by its runs on the validation split."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from train.studies import design
from train.studies.design import Arm
from train.studies.results import Line


class RateScore(NamedTuple):
    """One rate on the validation split: means over the tuning seeds."""

    rate: float
    top1: float
    loss: float  # inf if any run's was not finite
    worst: float  # the least top-1 of any run


class Rate(NamedTuple):
    """A learning rate and how it was found.

    Attributes:
      value: the rate.
      at_edge: whether it is the least or the greatest of those tried, so that a better one may lie
        outside; False if there was no choice.
      tried: all rates, in rising order; empty if there was no choice.
      largest: the greatest of them at which training was stable: every run's loss was finite, and
        its top-1 at least half of what the best rate reached; NaN if there was no choice.
    """

    value: float
    at_edge: bool
    scores: tuple[RateScore, ...]
    largest: float = math.nan


def rate(study: ConfigDict, arm: Arm, lines: Mapping[str, Line]) -> Rate:
    """The rate with the highest mean top-1 on the validation split; of equals, the least loss.

    Args:
      study: a study's config.
      arm: for which to choose.
      lines: results by key; those of all tuning runs of the arm must be among them.
    """
    values = design.rates(study, arm.setting)
    if len(values) == 1:
        return Rate(values[0], False, ())
    of_rate: dict[float, list[Line]] = {value: [] for value in values}
    for run in design.tuning_runs(study, arm):
        of_rate[run.learning_rate].append(lines[run.key])
    tried = tuple(_tried(value, of_rate[value]) for value in values)
    best = max(tried, key=lambda each: (each.top1, -each.loss))
    stable = [t.rate for t in tried if math.isfinite(t.loss) and t.worst >= best.top1 / 2]
    at_edge = best.rate in (values[0], values[-1])
    return Rate(best.rate, at_edge, tried, max(stable, default=math.nan))


def _tried(rate: float, lines: list[Line]) -> RateScore:
    losses = [math.inf if line["loss"] is None else line["loss"] for line in lines]
    top1 = [line["top1"] for line in lines]
    return RateScore(rate, float(np.mean(top1)), float(np.mean(losses)), min(top1))
