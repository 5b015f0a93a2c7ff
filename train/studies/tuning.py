"""The choice of an arm's learning rate by its runs on the validation split."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from train import tasks
from train.output.files import Line
from train.studies import design
from train.studies.design import Arm
from train.studies.results import is_diverged


class RateScore(NamedTuple):
    """The results of one learning rate on the validation split.

    Attributes:
      rate: The learning rate.
      score: Mean headline metric, such as top-1, over the tuning seeds whose run did not diverge;
        NaN if there are none.
      loss: Mean over the tuning seeds; inf if any run diverged.
      worst: The lowest score of the runs that did not diverge; NaN if there are none.
      diverged: The number of runs that diverged.
    """

    rate: float
    score: float
    loss: float
    worst: float
    diverged: int


class Rate(NamedTuple):
    """A learning rate and how it was chosen.

    Attributes:
      value: The learning rate.
      at_edge: Whether it is the smallest or largest of several, so that a better one may exist
        outside.
      scores: The results of all rates, in increasing order; empty if there was only one.
      largest: The largest rate at which training was stable: the loss of every run was finite, and
        its score at least half of that of the best rate; NaN if there was only one.
    """

    value: float
    at_edge: bool
    scores: tuple[RateScore, ...]
    largest: float = math.nan


def rate(study: ConfigDict, arm: Arm, lines: Mapping[str, Line]) -> Rate | None:
    """Return the rate with the highest mean score on the validation split; of ties, lowest loss.

    Return None if a tuning run of the arm is missing.

    A rate at which a run diverged is chosen only if runs diverged at every rate.

    Args:
      study: A study config.
      arm: The arm.
      lines: The results by key.
    """
    values = design.rates(study, arm.setting)
    if len(values) == 1:
        return Rate(values[0], False, ())
    lines_by_rate: dict[float, list[Line]] = {value: [] for value in values}
    for run in design.tuning_runs(study, arm):
        if run.key not in lines:
            return None
        lines_by_rate[run.learning_rate].append(lines[run.key])
    metric = tasks.task_class(study.base).headline.name
    scores = tuple(_score(value, metric, lines_by_rate[value]) for value in values)
    best = max(scores, key=_preference)
    stable = [s.rate for s in scores if not s.diverged and s.worst >= best.score / 2]
    at_edge = best.rate in (values[0], values[-1])
    return Rate(best.rate, at_edge, scores, max(stable, default=math.nan))


def _score(rate: float, metric: str, lines: list[Line]) -> RateScore:
    finite = [line for line in lines if not is_diverged(line)]
    values = [line[metric] for line in finite] or [math.nan]
    diverged = len(lines) - len(finite)
    loss = math.inf if diverged else float(np.mean([line["loss"] for line in finite]))
    return RateScore(rate, float(np.mean(values)), loss, min(values), diverged)


def _preference(score: RateScore) -> tuple[float, ...]:
    value = -1.0 if math.isnan(score.score) else score.score
    return -score.diverged, value, -score.loss
