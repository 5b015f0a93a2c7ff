"""The tables of a report, as rows of text."""

import math
from typing import NamedTuple

from train.studies.report.statistics import Mean
from train.studies.report.summary import ArmResult, Comparison, Summary


class Table(NamedTuple):
    """Text in rows and columns.

    Attributes:
      title: what it shows.
      head: one text for each column.
      rows: as many texts each.
      note: how to read it.
    """

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str


def comparisons(summary: Summary) -> Table:
    """Accuracy with and without GC, and what is known of the difference."""
    named = _Names(summary)
    head = ["top-1 without", "top-1 with", "difference", "p", "p (Holm)", "time"]
    return Table(
        "Does it help?",
        [*named.head, *head],
        [
            [
                *named.of(row.with_gc),
                interval(row.without.top1),
                interval(row.with_gc.top1),
                interval(row.difference.mean, signed=True),
                _p(row.difference.p),
                _p(row.holm_p),
                _ratio(row),
            ]
            for row in summary.comparisons
        ],
        "Test top-1 after the last step in %, mean ± half of the 95 % interval over "
        f"{len(summary.study.seeds)} seeds (Student's t); difference in points over pairs of the "
        "same seed, p by the paired t-test, then corrected for all rows (Holm). Time: seconds of "
        "a step with GC over seconds without, median of pairs (quartiles).",
    )


def variants(summary: Summary) -> Table:
    """Accuracy of each variant beside the baseline's, and what is known of the difference."""
    named, baseline = _Names(summary), summary.study.baseline
    return Table(
        f"What the variants change, beside {baseline}",
        [*named.head, f"top-1 of {baseline}", "top-1", "difference", "p", "p (Holm)"],
        [
            [
                *named.of(row.variant),
                interval(row.baseline.top1),
                interval(row.variant.top1),
                interval(row.difference.mean, signed=True),
                _p(row.difference.p),
                _p(row.holm_p),
            ]
            for row in summary.variants
        ],
        "As in the table before; pairs share their seed and GC.",
    )


def arms(summary: Summary) -> Table:
    """How each arm trained."""
    named = _Names(summary)
    target = f"steps to loss {summary.study.target_loss:g}"
    head = ["rate", "largest", target, "train top-1", "gap", "removed", "drift", "ms a step"]
    flagged = any(row.rate.at_edge for row in summary.arms)
    return Table(
        "How the arms trained",
        [*named.head, *head],
        [
            [
                *named.of(row),
                f"{row.rate.value:g}{' !' if row.rate.at_edge else ''}",
                _largest(row),
                _steps(row),
                f"{row.top1.value + row.gap.value:.2f}",
                interval(row.gap),
                "-" if math.isnan(row.removed) else f"{100 * row.removed:.1f} %",
                _small(row.drift.value),
                _milliseconds(row.step_seconds),
            ]
            for row in summary.arms
        ],
        "Rate: chosen on the validation split"
        + (", ! at the edge of those tried: a better one may lie outside" if flagged else "")
        + ". Largest: the greatest rate at which every tuning run stayed finite and reached half "
        "of the best rate's top-1 (≥: of all that were tried). Steps: (lower) median over the "
        "seeds (how many reached it, if not all). Gap: top-1 on the training split, without "
        "augmentation, less that on the test split, in points. Removed: share of the squared "
        "gradient norm that GC took. Drift: how far the weights left the hyperplanes that they "
        "started in, as a share of their norm. Ms a step: median of runs side by side, one or "
        "more on each device; only rows of the same comparison were timed in turn.",
    )


def markdown(table: Table) -> str:
    """As Markdown, aligned for those who read it as it is."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in (table.head, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([f"## {table.title}\n", lines[0], rule, *lines[1:], f"\n{table.note}\n"])


def interval(mean: Mean, signed: bool = False) -> str:
    """`93.1 ± 0.4`, with a sign in front if it is a difference."""
    value = 0.0 if abs(mean.value) < 0.005 else mean.value  # no "-0.00"
    text = f"{value:{'+' if signed and value else ''}.2f}".replace("-", "−")
    return text if math.isnan(mean.half_width) else f"{text} ± {mean.half_width:.2f}"


class _Names:
    """The columns that say which arm: those that the study varies."""

    def __init__(self, summary: Summary):
        study = summary.study
        self._decay, self._batch = len(study.weight_decays) > 1, len(study.batch_sizes) > 1
        self._variant = bool(study.variants)
        varied = [
            ("variant", self._variant),
            ("optimizer", True),
            ("decay", self._decay),
            ("batch", self._batch),
        ]
        self.head = [*(name for name, shown in varied if shown), "GC"]

    def of(self, row: ArmResult) -> list[str]:
        setting = row.arm.setting
        varied = [
            (setting.variant, self._variant),
            (setting.optimizer, True),
            (f"{setting.weight_decay:g}", self._decay),
            (str(setting.batch_size), self._batch),
        ]
        return [*(text for text, shown in varied if shown), row.arm.gc]


def _p(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _ratio(row: Comparison) -> str:
    if not row.pairs_timed:
        return "-"
    median, low, high = row.time_ratio
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def _steps(row: ArmResult) -> str:
    seeds = len(row.lines)
    some = "" if row.reached == seeds else f" ({row.reached} of {seeds})"
    return (
        f"not reached{some}"
        if math.isinf(row.steps_to_target)
        else f"{row.steps_to_target:.0f}{some}"
    )


def _largest(row: ArmResult) -> str:
    if math.isnan(row.rate.largest):
        return "-"
    at_end = row.rate.largest == row.rate.scores[-1].rate
    return f"{'≥ ' if at_end else ''}{row.rate.largest:g}"


def _milliseconds(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{1000 * seconds:.3g}"


def _small(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1e}".replace("e-0", "e-")
