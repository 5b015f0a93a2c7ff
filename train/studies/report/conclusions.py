"""The conclusions of a study in words, generated from the intervals and p-values."""

import math

from train.studies.report import statistics
from train.studies.report.labels import gc_label, setting_label
from train.studies.report.summary import Comparison, Summary
from train.studies.report.tables import interval
from train.studies.results import machine

_SIGNIFICANCE_LEVEL = 0.05


def conclusions(summary: Summary) -> list[str]:
    """Return sentences on diverged runs, on each comparison, on the chosen rates and on time."""
    return [
        *_divergence(summary),
        *_different_machines(summary),
        *(_gc_conclusion(row, summary) for row in _with_finite_arms(summary.comparisons)),
        *(_variant_conclusion(row, summary) for row in _with_finite_arms(summary.variants)),
        *_rates_at_edge(summary),
        *_time(summary),
    ]


def _divergence(summary: Summary) -> list[str]:
    compared = [
        arm
        for row in (*summary.comparisons, *summary.variants)
        for arm in (row.reference.arm, row.other.arm)
    ]
    sentences = []
    for row in summary.arms:
        if not row.diverged:
            continue
        is_compared = row.arm in compared
        start = f"With {setting_label(row.arm.setting, summary.study)}, "
        gc = gc_label(row.arm.gc, summary.study)
        failed, total = len(row.diverged), len(row.lines)
        if failed == total:
            end = "no comparison is possible" if is_compared else "it has no results"
            sentences.append(f"{start}all runs {gc} diverged; {end}.")
            continue
        seeds = ", ".join(map(str, row.diverged))
        plural = "seeds" if failed > 1 else "seed"
        end = "they are" if failed > 1 else "it is"
        end += " left out of the comparison" if is_compared else " left out of the means"
        sentences.append(
            f"{start}{failed} of {total} runs {gc} diverged ({plural} {seeds}); {end}."
        )
    return sentences


def _different_machines(summary: Summary) -> list[str]:
    """Return a sentence if machines can cause a part of the differences between the arms."""
    seeds = {
        seed
        for row in (*summary.comparisons, *summary.variants)
        for seed, *pair in zip(
            summary.study.seeds, row.reference.lines, row.other.lines, strict=True
        )
        if len({(machine(line), line["jax"]) for line in pair}) > 1
    }
    if not seeds:
        return []
    names = ", ".join(str(seed) for seed in summary.study.seeds if seed in seeds)
    return [
        "The runs of one pair come from different processors or versions of JAX for seeds "
        f"{names}. Repeat these seeds on one type of machine."
    ]


def _with_finite_arms(rows: list[Comparison]) -> list[Comparison]:
    """Return the comparisons of arms with finite runs; `_divergence` names the other arms."""
    return [row for row in rows if row.reference.finite_lines and row.other.finite_lines]


def _gc_conclusion(row: Comparison, summary: Summary) -> str:
    study, reference, gc = summary.study, row.reference.arm.gc, row.other.arm.gc
    context = f"With {setting_label(row.other.arm.setting, study)}"
    several = len(study.gc) > 2
    if reference == "none":
        cause = f"gradient centralization ({gc})" if several else "gradient centralization"
        between = f" between GC {gc} and no GC" if several else ""
    else:
        cause = f"GC {gc} instead of {reference}"
        between = f" between GC {gc} and {reference}"
    return _conclusion(row, summary, context, cause, between, len(summary.comparisons))


def _variant_conclusion(row: Comparison, summary: Summary) -> str:
    setting, baseline = row.other.arm.setting, row.reference.arm.setting.variant
    varied = setting_label(setting._replace(variant=""), summary.study)
    return _conclusion(
        row,
        summary,
        f"With {varied}, {gc_label(row.other.arm.gc, summary.study)}",
        f"{setting.variant} instead of {baseline}",
        f" between {setting.variant} and {baseline}",
        len(summary.variants),
    )


def _conclusion(
    row: Comparison, summary: Summary, context: str, cause: str, between: str, comparisons: int
) -> str:
    difference = row.difference.mean
    if difference.n == 0:
        return (
            f"{context}, no seed has a finite run in both arms; no comparison{between} is possible."
        )
    points = f"{interval(difference, signed=True)} points"
    if math.isnan(row.difference.p):
        return (
            f"{context}, one pair of runs{between} differed by {points}; "
            "one pair is not enough for a conclusion."
        )
    p = "p (Holm) < 0.001" if row.holm_p < 0.001 else f"p (Holm) = {row.holm_p:.2g}"
    evidence = f"{points}, {difference.n} pairs, {p}"
    if row.holm_p < _SIGNIFICANCE_LEVEL:
        verb = "raised" if difference.value > 0 else "lowered"
        return f"{context}, {cause} {verb} test {summary.headline.label} ({evidence})."
    if row.difference.p < _SIGNIFICANCE_LEVEL:
        return (
            f"{context}, the difference{between} is not significant after correction for "
            f"{comparisons} comparisons ({evidence})."
        )
    detectable = f"{statistics.detectable(difference):.2f}"
    return (
        f"{context}, no significant difference{between} was found ({evidence}; a true difference "
        f"of {detectable} points would have been found in 80 % of such studies)."
    )


def _rates_at_edge(summary: Summary) -> list[str]:
    at_edge = [
        f"{setting_label(row.arm.setting, summary.study)} {gc_label(row.arm.gc, summary.study)} "
        f"({row.rate.value:g})"
        for row in summary.arms
        if row.rate.at_edge
    ]
    if not at_edge:
        return []
    return [
        f"The best learning rate is at the edge of the grid for {'; '.join(at_edge)}. A wider grid "
        "could change these comparisons."
    ]


def _time(summary: Summary) -> list[str]:
    ratios = [row.time_ratio.median for row in summary.comparisons if row.timed_pairs]
    if not ratios:
        return []
    low, high = f"{min(ratios):.2f}", f"{max(ratios):.2f}"
    times = low if low == high else f"{low} to {high}"
    reference = gc_label(summary.study.gc[0], summary.study)
    others = "with gradient centralization" if reference == "without GC" else "of the other arms"
    return [f"A training step {others} took {times} times as long as a step {reference}."]
