"""What the runs of a study say: each arm, and each arm against the first of its setting."""

import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from train.studies import design, tuning
from train.studies.design import Arm
from train.studies.report import statistics
from train.studies.report.statistics import Difference, Mean
from train.studies.results import Line
from train.studies.tuning import Rate


class ArmResult(NamedTuple):
    """The reported runs of one arm; accuracies are in percent.

    Attributes:
      arm: which.
      rate: its learning rate and how it was chosen.
      lines: of `results.jsonl`, in the order of the config's seeds.
      top1: on the test split after the last step.
      gap: top-1 on the training split without augmentation, less that on the test split.
      reached: how many runs reached the target loss.
      steps_to_target: the (lower) median over the seeds; inf if most never reached it.
      removed: the share of the squared gradient norm that GC removed; NaN without GC.
      drift: how far the weights left their hyperplanes, as a share of their norm.
      step_seconds: of a training step, median over the timed pairs; NaN if none was timed.
    """

    arm: Arm
    rate: Rate
    lines: list[Line]
    top1: Mean
    gap: Mean
    reached: int
    steps_to_target: float
    removed: float
    drift: Mean
    step_seconds: float


class Comparison(NamedTuple):
    """An arm against the first of its setting, seed by seed; differences are in points.

    Attributes:
      without: the first arm.
      with_gc: the other.
      difference: of top-1, the other less the first.
      holm_p: its p-value, corrected for all comparisons of the study that are alike.
      time_ratio: seconds of the other over those of the first: median, lower and upper quartile.
      pairs_timed: how many of them.
    """

    without: ArmResult
    with_gc: ArmResult
    difference: Difference
    holm_p: float
    time_ratio: tuple[float, float, float]
    pairs_timed: int


class VariantComparison(NamedTuple):
    """An arm against that of the baseline with the same optimizer and GC, as in `Comparison`."""

    baseline: ArmResult
    variant: ArmResult
    difference: Difference
    holm_p: float


class Summary(NamedTuple):
    """All that a report tells.

    Attributes:
      study: its config.
      arms: what is known of each.
      comparisons: with GC and without.
      variants: each variant with the study's baseline, at the same GC; empty if it has none.
    """

    study: ConfigDict
    arms: list[ArmResult]
    comparisons: list[Comparison]
    variants: list[VariantComparison]


def summarize(study: ConfigDict, lines: Mapping[str, Line]) -> Summary:
    """Reads a study's results; arms that have runs to be made yet are left out.

    Args:
      study: a validated config.
      lines: results by key.
    """
    results: dict[Arm, ArmResult] = {}
    for setting in design.settings(study):
        for arm in design.arms(study, setting):
            if result := _arm(study, arm, lines):
                results[arm] = result
    pairs = [
        (results[first], results[arm])
        for setting in design.settings(study)
        for first, *others in [design.arms(study, setting)]
        for arm in others
        if first in results and arm in results
    ]
    comparisons = []
    for a, b, difference, holm_p in _compared(pairs):
        timed = lines.get(design.timing_key(study, a.arm, b.arm), {}).get("seconds", [])
        ratio = statistics.median_ratio(timed)
        comparisons.append(Comparison(a, b, difference, holm_p, ratio, len(timed)))
    between = [
        (results[first], result)
        for arm, result in results.items()
        for first in [arm._replace(setting=arm.setting._replace(variant=study.baseline))]
        if study.baseline and arm != first and first in results
    ]
    variants = list(itertools.starmap(VariantComparison, _compared(between)))
    return Summary(study, list(results.values()), comparisons, variants)


def _compared(
    pairs: list[tuple[ArmResult, ArmResult]],
) -> list[tuple[ArmResult, ArmResult, Difference, float]]:
    """Each pair, its difference, and the p-value corrected for all of them."""
    differences = [
        statistics.paired_difference(_percent(a.lines, "top1"), _percent(b.lines, "top1"))
        for a, b in pairs
    ]
    corrected = statistics.holm([difference.p for difference in differences])
    return [
        (a, b, difference, holm_p)
        for (a, b), difference, holm_p in zip(pairs, differences, corrected, strict=True)
    ]


def steps_to(target: float, line: Line) -> float:
    """The steps after which the training loss, a mean since the point before, was at most `target`.

    Returns:
      A number of steps; inf if it never was.
    """
    points = zip(line["curve"]["step"], line["curve"]["loss"], strict=True)
    return next((step for step, loss in points if loss is not None and loss <= target), math.inf)


def _arm(study: ConfigDict, arm: Arm, lines: Mapping[str, Line]) -> ArmResult | None:
    if any(run.key not in lines for run in design.tuning_runs(study, arm)):
        return None
    rate = tuning.rate(study, arm, lines)
    runs = design.final_runs(study, arm, rate.value)
    if any(run.key not in lines for run in runs):
        return None
    of_arm = [lines[run.key] for run in runs]
    steps = [steps_to(study.target_loss, line) for line in of_arm]
    top1, train_top1 = _percent(of_arm, "top1"), _percent(of_arm, "train_top1")
    drifts = [_ratio(line["mean_drift"], line["params_norm"]) for line in of_arm]
    removed = [value for line in of_arm for value in line["curve"]["gc_removed_fraction"]]
    measured = [value for value in removed if value is not None]
    return ArmResult(
        arm=arm,
        rate=rate,
        lines=of_arm,
        top1=statistics.mean(top1),
        gap=statistics.mean([a - b for a, b in zip(train_top1, top1, strict=True)]),
        reached=sum(map(math.isfinite, steps)),
        steps_to_target=sorted(steps)[(len(steps) - 1) // 2],
        removed=float(np.mean(measured)) if measured and arm.gc != "none" else math.nan,
        drift=statistics.mean(drifts),
        step_seconds=_step_seconds(study, arm, lines),
    )


def _step_seconds(study: ConfigDict, arm: Arm, lines: Mapping[str, Line]) -> float:
    first, *others = design.arms(study, arm.setting)
    place = 0 if arm == first else 1  # in each pair
    timed = [
        lines.get(design.timing_key(study, first, other), {}).get("seconds", [])
        for other in others
        if arm in (first, other)
    ]
    seconds = [pair[place] for pairs in timed for pair in pairs]
    return float(np.median(seconds)) / study.timing.steps if seconds else math.nan


def _percent(lines: list[Line], figure: str) -> list[float]:
    return [100 * line[figure] for line in lines]


def _ratio(part: float | None, whole: float | None) -> float:
    return math.nan if part is None or not whole else part / whole
