"""The table of how GC changed the course of training: norms, oscillation, smoothness."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from train.studies.report import statistics
from train.studies.report.statistics import Difference
from train.studies.report.summary import Comparison, Summary, steps_to
from train.studies.report.tables import Table, arm_cells, arm_head, p_value
from train.studies.results import Line, is_diverged

Measure = Callable[[Line], float]
"""Returns the logarithm of a measure of a run; NaN if its line does not have it."""

_LANDSCAPE_NOTE = (
    " Along the update: at 0.5, 1, 2 and 4 times the update of a logged step, on the same examples "
    "in all runs, without augmentation. Loss variation: range of the loss, in nats. Gradient "
    "change: largest distance of the gradient from that before the update. Effective smoothness: "
    "largest such distance divided by the distance of the weights (Santurkar et al. 2018)."
)


class Dynamic(NamedTuple):
    """One measure of two arms, over the pairs in which both have it.

    Attributes:
      measure: Its name.
      reference: The geometric mean of the first arm.
      other: That of the second arm.
      log_ratio: The mean logarithm of the ratio, second to first, of each pair.
    """

    measure: str
    reference: float
    other: float
    log_ratio: Difference


def mean_of(name: str) -> Measure:
    """Return a function of a line: the mean logarithm of a list of its curve."""

    def mean_log(line: Line) -> float:
        values = line["curve"].get(name, [])
        return _mean_log(values)

    return mean_log


def oscillation_of(name: str) -> Measure:
    """Return a function of a line: the logarithm of the oscillation of a list of its curve.

    It is the root mean square of the second differences of the logarithm. A list that falls or
    rises by the same factor everywhere has none.
    """

    def log_oscillation(line: Line) -> float:
        values = line["curve"].get(name, [])
        if len(values) < 3 or any(value is None or value <= 0 for value in values):
            return math.nan
        changes = np.diff(np.log(values), 2)
        return _mean_log([float(np.sqrt(np.mean(changes**2)))])

    return log_oscillation


MEASURES: dict[str, Measure] = {
    "gradient norm": mean_of("grad_norm"),
    "oscillation of the gradient norm": oscillation_of("grad_norm"),
    "update norm": mean_of("update_norm"),
    "weight norm": mean_of("param_norm"),
    "oscillation of the loss": oscillation_of("loss"),
    "loss variation along the update": mean_of("loss_variation"),
    "gradient change along the update": mean_of("gradient_change"),
    "effective smoothness": mean_of("effective_smoothness"),
}
"""The measures of the course of a run."""


def log_steps_to(target: float) -> Measure:
    """Return the measure of the steps to a training loss."""

    def log_steps(line: Line) -> float:
        steps = steps_to(target, line)
        return math.log(steps) if math.isfinite(steps) else math.nan

    return log_steps


def compare(comparison: Comparison, target_loss: float) -> list[Dynamic]:
    """Return the measures of the arms of a comparison."""
    measures = {f"steps to loss {target_loss:g}": log_steps_to(target_loss), **MEASURES}
    rows = []
    for name, measure in measures.items():
        pairs = [
            (measure(a), measure(b))
            for a, b in zip(comparison.reference.lines, comparison.other.lines, strict=True)
            if not is_diverged(a) and not is_diverged(b)
        ]
        finite = [pair for pair in pairs if all(map(math.isfinite, pair))]
        if not finite:
            continue
        first, second = zip(*finite, strict=True)
        reference, other = (math.exp(float(np.mean(values))) for values in (first, second))
        difference = statistics.paired_difference(first, second)
        rows.append(Dynamic(name, reference, other, difference))
    return rows


def training_dynamics(summary: Summary) -> Table | None:
    """Return the table, or None if no run has the measures."""
    study = summary.study
    found = [
        (row.other.arm, dynamic)
        for row in summary.comparisons
        for dynamic in compare(row, study.target_loss)
    ]
    if not found:
        return None
    corrected = statistics.holm([dynamic.log_ratio.p for _, dynamic in found])
    return Table(
        "How training went",
        [*arm_head(study), "measure", "first arm", "this arm", "ratio", "pairs", "p", "p (Holm)"],
        [
            [
                *arm_cells(arm, study),
                dynamic.measure,
                f"{dynamic.reference:.3g}",
                f"{dynamic.other:.3g}",
                _ratio(dynamic.log_ratio),
                str(dynamic.log_ratio.mean.n),
                p_value(dynamic.log_ratio.p),
                p_value(holm_p),
            ]
            for (arm, dynamic), holm_p in zip(found, corrected, strict=True)
        ],
        "First arm: the one that the others are compared with. Geometric means over the logged "
        "steps of a run and over the pairs; ratio with its 95 % interval; p: paired t-test of the "
        "logarithms; p (Holm): corrected for all rows. Oscillation: root mean square of the second "
        "differences of the logarithm, from log line to log line."
        + (_LANDSCAPE_NOTE if study.landscape_examples else ""),
    )


def _mean_log(values: Sequence[float | None]) -> float:
    """Return the mean logarithm; NaN without values, or if one is not a positive number."""
    if not values or any(value is None or value <= 0 for value in values):
        return math.nan
    return float(np.mean(np.log(np.array(values, float))))


def _ratio(difference: Difference) -> str:
    mean = difference.mean
    text = f"{math.exp(mean.value):.3f}"
    if math.isnan(mean.half_width):
        return text
    low, high = (math.exp(end) for end in mean.interval)
    return f"{text} ({low:.3f} to {high:.3f})"
