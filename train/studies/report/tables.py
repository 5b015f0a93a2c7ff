"""The tables of a report, as rows of text."""

import math
from typing import NamedTuple

from ml_collections import ConfigDict

from train.studies.design import Arm
from train.studies.report import statistics
from train.studies.report.labels import gc_label, score_label
from train.studies.report.statistics import Mean
from train.studies.report.summary import ArmResult, Comparison, Summary


class Table(NamedTuple):
    """A table of text.

    Attributes:
      title: The heading above the table.
      head: The heading of each column.
      rows: The cells of each row.
      note: Explanation of the columns.
    """

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str


def comparisons(summary: Summary) -> Table:
    """Return the table of accuracies with and without GC, and of their differences."""
    study, label = summary.study, summary.headline.label
    reference, other = _compared_arms(study)
    measured = ["pairs", "difference", "detectable", "p", "p (Holm)", "time ratio"]
    return Table(
        "Does it help?",
        [*arm_head(study), f"{label} {reference}", f"{label} {other}", *measured],
        [
            [*arm_cells(row.other.arm, study), *_difference_cells(row), _time_ratio(row)]
            for row in summary.comparisons
        ],
        f"{_start(label)}: on the test split after the last step in %, mean ± half of the 95 % "
        "interval (Student's t) over the pairs. Pairs: runs of the same seed that both stayed "
        f"finite, of {len(study.seeds)} seeds. Difference: in points, over the pairs. Detectable: "
        "the true difference that such a study finds in 80 % of cases, before correction. p: "
        "paired t-test; p (Holm): corrected for all rows. Time ratio: seconds per step of the "
        "second arm divided by those of the first, median of the timed pairs (quartiles).",
    )


def variants(summary: Summary) -> Table:
    """Return the table that compares each variant with the baseline."""
    study, label = summary.study, summary.headline.label
    measured = ["pairs", "difference", "detectable", "p", "p (Holm)"]
    return Table(
        f"Variants compared with {study.baseline}",
        [*arm_head(study), f"{label} of {study.baseline}", f"{label} of the variant", *measured],
        [[*arm_cells(row.other.arm, study), *_difference_cells(row)] for row in summary.variants],
        "Columns as in the table above; the runs of a pair have the same seed and the same GC.",
    )


def robust(summary: Summary) -> Table:
    """Return the table of accuracies under attack, and of their differences."""
    study, label = summary.study, summary.headline.label
    adversary = study.base.adversary
    measured = ["pairs", "difference", "detectable", "p", "p (Holm)"]
    return Table(
        "Under attack",
        [*arm_head(study), f"{label} of the first arm", f"{label} of this arm", *measured],
        [[*arm_cells(row.other.arm, study), *_difference_cells(row)] for row in summary.robust],
        f"{_start(label)} on test images under projected gradient descent: "
        f"{adversary.eval_steps} steps of {adversary.step_size:.3g}, within "
        f"{adversary.epsilon:.3g} of each pixel in 0..1. Columns as in the first table.",
    )


def scores(summary: Summary) -> Table:
    """Return the table of the scores beside the headline metric, and of their differences."""
    study = summary.study
    measured = ["pairs", "difference", "detectable", "p"]
    return Table(
        "Other scores",
        ["score", *arm_head(study), *_compared_arms(study), *measured],
        [
            [score_label(name), *arm_cells(row.other.arm, study), *_difference_cells(row)[:-1]]
            for name, rows in summary.scores.items()
            for row in rows
        ],
        "Columns as in the first table. The scores depend on each other, and p is not corrected "
        f"for their number; the study compares {summary.headline.label}.",
    )


def arms(summary: Summary) -> Table:
    """Return the table of how each arm trained."""
    study = summary.study
    has_diverged = any(row.diverged for row in summary.arms)
    has_train_scores = any(not math.isnan(row.train_score.value) for row in summary.arms)
    columns = [
        *(["diverged"] if has_diverged else []),
        *("learning rate", "largest stable rate", f"steps to loss {study.target_loss:g}"),
        *([f"train {summary.headline.label}", "gap"] if has_train_scores else []),
        *("removed", "drift", "ms per step"),
    ]
    return Table(
        "How the arms trained",
        [*arm_head(study), *columns],
        [
            [
                *arm_cells(row.arm, study),
                *([_diverged(row)] if has_diverged else []),
                f"{row.rate.value:g}{' !' if row.rate.at_edge else ''}",
                _largest_stable_rate(row),
                _steps_to_target(row),
                *([_fixed(row.train_score.value), interval(row.gap)] if has_train_scores else []),
                "-" if math.isnan(row.removed) else f"{100 * row.removed:.1f} %",
                _scientific(row.drift.value),
                _milliseconds(row.step_seconds),
            ]
            for row in summary.arms
        ],
        _arms_note(summary, has_diverged, has_train_scores),
    )


def markdown(table: Table) -> str:
    """Return a table as Markdown, with aligned columns."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in (table.head, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([f"## {table.title}\n", lines[0], rule, *lines[1:], f"\n{table.note}\n"])


def interval(mean: Mean, signed: bool = False) -> str:
    """Return a mean and half of its interval: `93.1 ± 0.4`; a difference has a sign."""
    if math.isnan(mean.value):
        return "-"
    value = 0.0 if abs(mean.value) < 0.005 else mean.value  # no "-0.00"
    text = f"{value:{'+' if signed and value else ''}.2f}".replace("-", "−")
    return text if math.isnan(mean.half_width) else f"{text} ± {mean.half_width:.2f}"


def _arms_note(summary: Summary, has_diverged: bool, has_train_scores: bool) -> str:
    label = summary.headline.label
    train_score = (
        f"Train {label}: on the training split, without augmentation, in %. Gap: train {label} "
        f"minus test {label}, in points. "
    )
    diverged = "Diverged: runs whose loss is not finite; all other columns leave them out. "
    at_edge = " (! = at the edge of the grid; a better rate may be outside)"
    has_edge = any(row.rate.at_edge for row in summary.arms)
    return (
        (diverged if has_diverged else "")
        + f"Learning rate: chosen on the validation split{at_edge if has_edge else ''}. "
        "Largest stable rate: the largest rate at which every tuning run stayed finite and reached "
        f"half of the {label} of the best rate (≥: the largest of the grid). Steps: (lower) median "
        "over the seeds (number of runs that reached the loss, if not all). "
        + (train_score if has_train_scores else "")
        + "Removed: fraction of the squared gradient norm that GC removed. Drift: distance of the "
        "weights from the hyperplanes that they started in, divided by their norm. Ms per step: "
        "median of runs side by side, one or more on each device; only the two arms of a "
        "comparison were timed in alternation."
    )


def arm_head(study: ConfigDict) -> list[str]:
    """Return the headings of the columns that name an arm: the fields that the study varies."""
    return [name for name, is_shown, _ in _arm_columns(study, None) if is_shown]


def arm_cells(arm: Arm, study: ConfigDict) -> list[str]:
    """Return the cells of the columns of `arm_head`."""
    return [cell for _, is_shown, cell in _arm_columns(study, arm) if is_shown]


def _arm_columns(study: ConfigDict, arm: Arm | None) -> list[tuple[str, bool, str]]:
    """Return heading, visibility and cell of each column that can name an arm."""
    variant, optimizer, decay, batch, gc = "", "", "", "", ""
    if arm:
        variant, optimizer, gc = arm.setting.variant, arm.setting.optimizer, arm.gc
        decay, batch = f"{arm.setting.weight_decay:g}", str(arm.setting.batch_size)
    return [
        ("variant", bool(study.variants), variant),
        ("optimizer", True, optimizer),
        ("weight decay", len(study.weight_decays) > 1, decay),
        ("batch size", len(study.batch_sizes) > 1, batch),
        ("GC", True, gc),
    ]


def _compared_arms(study: ConfigDict) -> tuple[str, str]:
    """Return the labels of the first arm of a setting, and of the arms compared with it."""
    other = gc_label(study.gc[1], study) if len(study.gc) == 2 else "with the GC of the row"
    return gc_label(study.gc[0], study), other


def _difference_cells(row: Comparison) -> list[str]:
    return [
        interval(statistics.mean(row.reference_scores)),
        interval(statistics.mean(row.other_scores)),
        str(row.difference.mean.n),
        interval(row.difference.mean, signed=True),
        _fixed(statistics.detectable(row.difference.mean)),
        p_value(row.difference.p),
        p_value(row.holm_p),
    ]


def p_value(value: float) -> str:
    """Return a p-value with three decimals."""
    if math.isnan(value):
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _time_ratio(row: Comparison) -> str:
    if not row.timed_pairs:
        return "-"
    median, low, high = row.time_ratio
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def _diverged(row: ArmResult) -> str:
    text = f"{len(row.diverged)} of {len(row.lines)}"
    if not row.diverged:
        return text
    plural = "seeds" if len(row.diverged) > 1 else "seed"
    return f"{text} ({plural} {', '.join(map(str, row.diverged))})"


def _steps_to_target(row: ArmResult) -> str:
    if math.isnan(row.steps_to_target):
        return "-"
    finite_runs = len(row.finite_lines)
    share = "" if row.reached == finite_runs else f" ({row.reached} of {finite_runs})"
    if math.isinf(row.steps_to_target):
        return f"not reached{share}"
    return f"{row.steps_to_target:.0f}{share}"


def _largest_stable_rate(row: ArmResult) -> str:
    if math.isnan(row.rate.largest):
        return "-"
    is_last = row.rate.largest == row.rate.scores[-1].rate
    return f"{'≥ ' if is_last else ''}{row.rate.largest:g}"


def _start(label: str) -> str:
    """Return a label as the start of a sentence."""
    return label[0].upper() + label[1:]


def _milliseconds(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{1000 * seconds:.3g}"


def _fixed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _scientific(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1e}".replace("e-0", "e-")
