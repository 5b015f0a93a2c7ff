"""What a person can quote, generated from the intervals."""

import math

from train.studies.report.summary import Comparison, Summary, VariantComparison
from train.studies.report.tables import interval

_SIGNIFICANT = 0.05


def conclusions(summary: Summary) -> list[str]:
    """A sentence on each comparison, one on the chosen rates, one on time."""
    of_gc = [
        _of(row, _with(row, summary), "gradient centralization", "", len(summary.comparisons))
        for row in summary.comparisons
    ]
    of_variants = [_of_variant(row, len(summary.variants)) for row in summary.variants]
    return [*of_gc, *of_variants, *_edges(summary), *_time(summary)]


def _of_variant(row: VariantComparison, comparisons: int) -> str:
    (setting, gc), baseline = row.variant.arm, row.baseline.arm.setting.variant
    return _of(
        row,
        f"With {setting.optimizer} and GC {gc}",
        f"{setting.variant} in place of {baseline}",
        f" between {setting.variant} and {baseline}",
        comparisons,
    )


def _of(
    row: Comparison | VariantComparison, what: str, cause: str, between: str, comparisons: int
) -> str:
    difference = row.difference.mean
    figures = f"{interval(difference, signed=True)} points"
    if math.isnan(row.difference.p):
        return f"{what}, one pair of runs{between} gave {figures}: nothing follows from one pair."
    p = "p < 0.001" if row.holm_p < 0.001 else f"p = {row.holm_p:.2g}"
    known = f"{figures}, {difference.n} pairs, {p}"
    if row.holm_p < _SIGNIFICANT:
        verb = "raised" if difference.value > 0 else "lowered"
        return f"{what}, {cause} {verb} test top-1 ({known})."
    if row.difference.p < _SIGNIFICANT:
        return (
            f"{what}, no difference{between} could be shown once {comparisons} comparisons "
            f"are allowed for ({known})."
        )
    return f"{what}, no difference{between} could be shown ({known})."


def _with(row: Comparison, summary: Summary) -> str:
    setting, study = row.with_gc.arm.setting, summary.study
    settings = [setting.label]
    if len(study.weight_decays) > 1:
        settings.append(f"weight decay {setting.weight_decay:g}")
    if len(study.batch_sizes) > 1:
        settings.append(f"batch {setting.batch_size}")
    if len(study.gc) > 2:
        settings.append(f"GC {row.with_gc.arm.gc}")
    return f"With {', '.join(settings)}"


def _edges(summary: Summary) -> list[str]:
    at_edge = [
        f"{row.arm.setting.label} GC {row.arm.gc} ({row.rate.value:g})"
        for row in summary.arms
        if row.rate.at_edge
    ]
    if not at_edge:
        return []
    return [
        f"The best rate lay at the edge of the grid for {', '.join(at_edge)}; there the comparison "
        "could change with a wider grid."
    ]


def _time(summary: Summary) -> list[str]:
    ratios = [row.time_ratio[0] for row in summary.comparisons if row.pairs_timed]
    if not ratios:
        return []
    low, high = min(ratios), max(ratios)
    times = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
    return [f"A training step with gradient centralization took {times} times as long as without."]
