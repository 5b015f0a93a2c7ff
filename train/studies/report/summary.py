"""The results of a study: the figures of each arm, and the comparisons between arms."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from train import tasks
from train.studies import design, tuning
from train.studies.design import Arm
from train.studies.report import statistics
from train.studies.report.statistics import Difference, Mean, Ratio
from train.studies.results import Line, is_diverged
from train.studies.tuning import Rate
from train.tasks.task import Headline


class ArmResult(NamedTuple):
    """The reported runs of one arm; scores are in percent.

    All figures leave out the runs that diverged.

    Attributes:
      arm: The arm.
      rate: Its learning rate and how it was chosen.
      lines: Its lines of `results.jsonl`, in the order of the config's seeds, with the runs that
        diverged.
      diverged: The seeds of the runs that diverged.
      score: The headline metric, such as top-1, on the test split after the last step.
      train_score: The same on the training split, without augmentation; NaN if the task does not
        measure it there.
      gap: The score on the training split minus that on the test split.
      reached: The number of runs that reached the target loss.
      steps_to_target: The (lower) median over the seeds; inf if most runs did not reach it, NaN
        without finite runs.
      removed: The fraction of the squared gradient norm that GC removed; NaN without GC.
      drift: The distance of the weights from the hyperplanes that they started in, divided by
        their norm.
      step_seconds: Seconds per training step, median over the timed pairs; NaN if there are none.
    """

    arm: Arm
    rate: Rate
    lines: list[Line]
    diverged: list[int]
    score: Mean
    train_score: Mean
    gap: Mean
    reached: int
    steps_to_target: float
    removed: float
    drift: Mean
    step_seconds: float

    @property
    def finite_lines(self) -> list[Line]:
        """The lines of the runs that did not diverge."""
        return [line for line in self.lines if not is_diverged(line)]


class Comparison(NamedTuple):
    """Two arms, compared over the seeds for which neither run diverged.

    Attributes:
      reference: The arm that the other is compared with.
      other: The other arm.
      reference_scores: The headline metric in percent of the reference in each pair.
      other_scores: The same of the other arm.
      difference: The metric of the other arm minus that of the reference, in points.
      holm_p: The p-value, corrected for all comparisons of the same kind in the study.
      time_ratio: Seconds per step of the other arm divided by those of the reference.
      timed_pairs: The number of pairs in `time_ratio`; 0 if the arms were not timed together.
    """

    reference: ArmResult
    other: ArmResult
    reference_scores: list[float]
    other_scores: list[float]
    difference: Difference
    holm_p: float
    time_ratio: Ratio
    timed_pairs: int


class Summary(NamedTuple):
    """The content of a report, as numbers.

    Attributes:
      study: The study config.
      headline: The metric that the arms are compared by.
      arms: The result of each arm whose runs are complete.
      comparisons: Each arm with the first arm of its setting, usually the one without GC.
      variants: Each variant with the baseline of the study, at the same optimizer and GC; empty if
        the study has no baseline.
      robust: As `comparisons`, with the metric under attack; empty if the study has no attack.
      scores: As `comparisons`, for each other score of the task, such as `box_ap50`, by its name;
        without the scores that are undefined for this data set.
    """

    study: ConfigDict
    headline: Headline
    arms: list[ArmResult]
    comparisons: list[Comparison]
    variants: list[Comparison]
    robust: list[Comparison]
    scores: dict[str, list[Comparison]]


def summarize(study: ConfigDict, lines: Mapping[str, Line]) -> Summary:
    """Return the results of a study, without the arms that have missing runs.

    Args:
      study: A validated config.
      lines: Lines of `results.jsonl` by key.
    """
    task = tasks.task_class(study.base)
    headline = task.headline
    results: dict[Arm, ArmResult] = {}
    for setting in design.settings(study):
        for arm in design.arms(study, setting):
            if result := _summarize_arm(study, arm, lines):
                results[arm] = result
    gc_pairs = [
        (results[first], results[arm])
        for setting in design.settings(study)
        for first, *others in [design.arms(study, setting)]
        for arm in others
        if first in results and arm in results
    ]
    variant_pairs = [
        (results[first], result)
        for arm, result in results.items()
        for first in [arm._replace(setting=arm.setting._replace(variant=study.baseline))]
        if study.baseline and arm != first and first in results
    ]
    scores = {
        name: rows
        for name in task.scores
        if name != headline.name
        for rows in [_compare(study, gc_pairs, {}, name)]
        if any(row.difference.mean.n for row in rows)
    }
    return Summary(
        study,
        headline,
        list(results.values()),
        _compare(study, gc_pairs, lines, headline.name),
        _compare(study, variant_pairs, {}, headline.name),
        _compare(study, gc_pairs, {}, f"robust_{headline.name}")
        if study.base.adversary.eval_steps
        else [],
        scores,
    )


def steps_to(target: float, line: Line) -> float:
    """Return the first logged step at which the training loss was at most `target`.

    The loss of a point of the curve is the mean since the point before.

    Returns:
      A number of steps; inf if the loss stayed above the target.
    """
    points = zip(line["curve"]["step"], line["curve"]["loss"], strict=True)
    return next((step for step, loss in points if loss is not None and loss <= target), math.inf)


def _compare(
    study: ConfigDict,
    pairs: list[tuple[ArmResult, ArmResult]],
    lines: Mapping[str, Line],
    metric: str,
) -> list[Comparison]:
    """Compare a metric of the arms of each pair; correct the p-values for the number of pairs."""
    comparisons = []
    for reference, other in pairs:
        finite_pairs = [
            (100 * a[metric], 100 * b[metric])
            for a, b in zip(reference.lines, other.lines, strict=True)
            if not is_diverged(a) and not is_diverged(b)
            if a.get(metric) is not None and b.get(metric) is not None
        ]
        first, second = [a for a, _ in finite_pairs], [b for _, b in finite_pairs]
        difference = statistics.paired_difference(first, second)
        timed = _timed_pairs(study, other.arm, lines)
        ratio = statistics.median_ratio(timed)
        comparisons.append(
            Comparison(reference, other, first, second, difference, math.nan, ratio, len(timed))
        )
    corrected = statistics.holm([row.difference.p for row in comparisons])
    return [row._replace(holm_p=p) for row, p in zip(comparisons, corrected, strict=True)]


def _summarize_arm(study: ConfigDict, arm: Arm, lines: Mapping[str, Line]) -> ArmResult | None:
    """Return the result of an arm, or None if runs are missing."""
    rate = tuning.rate(study, arm, lines)
    if rate is None:
        return None
    runs = design.final_runs(study, arm, rate.value)
    if any(run.key not in lines for run in runs):
        return None
    arm_lines = [lines[run.key] for run in runs]
    finite = [line for line in arm_lines if not is_diverged(line)]
    steps = sorted(steps_to(study.target_loss, line) for line in finite)
    metric = tasks.task_class(study.base).headline.name
    test = [100 * line[metric] for line in finite]
    train = [100 * line.get(f"train_{metric}", math.nan) for line in finite]
    removed = [value for line in finite for value in line["curve"]["gc_removed_fraction"]]
    measured = [value for value in removed if value is not None]
    return ArmResult(
        arm=arm,
        rate=rate,
        lines=arm_lines,
        diverged=[run.seed for run, line in zip(runs, arm_lines, strict=True) if is_diverged(line)],
        score=statistics.mean(test),
        train_score=statistics.mean(train),
        gap=statistics.mean([a - b for a, b in zip(train, test, strict=True)]),
        reached=sum(map(math.isfinite, steps)),
        steps_to_target=steps[(len(steps) - 1) // 2] if steps else math.nan,
        removed=float(np.mean(measured)) if measured and arm.gc != "none" else math.nan,
        drift=statistics.mean([_ratio(line["mean_drift"], line["params_norm"]) for line in finite]),
        step_seconds=_step_seconds(study, arm, lines),
    )


def _step_seconds(study: ConfigDict, arm: Arm, lines: Mapping[str, Line]) -> float:
    first = design.arms(study, arm.setting)[0]
    position = 0 if arm == first else 1  # in each pair
    seconds = [
        pair[position]
        for other in design.timed_arms(study, arm.setting)
        if arm in (first, other)
        for pair in _timed_pairs(study, other, lines)
    ]
    return float(np.median(seconds)) / study.timing.steps if seconds else math.nan


def _timed_pairs(
    study: ConfigDict, other: Arm, lines: Mapping[str, Line]
) -> list[tuple[float, float]]:
    return lines.get(design.timing_key(study, other), {}).get("seconds", [])


def _ratio(part: float | None, whole: float | None) -> float:
    return math.nan if part is None or not whole else part / whole
