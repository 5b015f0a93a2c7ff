"""Combine the results of studies that differ only in the draw of the training labels.

    python -m benchmarks.across_draws [FILE ...]

Reads one results file per draw, by default those of docs/studies/transfer.md. The runs of a draw
share its labels, so the mean over their seeds is one observation. Intervals and p-values are those
of Student's t over the draws. The p-values are corrected by Holm's method, separately for the
comparisons of pretrained bodies and for the comparisons of GC.
"""

import itertools
import pathlib
import sys

import numpy as np
import rich.console
import rich.table

from train.studies import results
from train.studies.report import statistics

_DRAWS = "results/study_digits_transfer/draws"
_BASELINE, _BODIES = "scratch", ("slow", "whole")
_VARIANTS = ("scratch", "frozen", "slow", "whole")

Arm = tuple[str, str]
"""The variant and the GC mode."""


def mean_top1(file: pathlib.Path) -> dict[Arm, float]:
    """Return the mean test top-1 accuracy of each arm over its seeds, in %."""
    runs = [line for line in results.read(file) if line["kind"] == "final"]
    top1: dict[Arm, list[float]] = {}
    for run in runs:
        top1.setdefault((run["variant"], run["gc"]), []).append(run["top1"])
    return {arm: 100 * float(np.mean(values)) for arm, values in top1.items()}


def compare(draws: list[dict[Arm, float]], pairs: list[tuple[Arm, Arm]]) -> list[list[str]]:
    """Return a table row for each pair: the second arm compared with the first one."""
    differences = [
        statistics.paired_difference([draw[a] for draw in draws], [draw[b] for draw in draws])
        for a, b in pairs
    ]
    p_values = statistics.holm([difference.p for difference in differences])
    return [
        [
            f"{b[0]}, GC {b[1]}",
            f"{a[0]}, GC {a[1]}",
            f"{difference.mean.value:+.2f} ± {difference.mean.half_width:.2f}",
            f"{p:.3f}",
        ]
        for (a, b), difference, p in zip(pairs, differences, p_values, strict=True)
    ]


def main(argv: list[str]) -> None:
    files = [pathlib.Path(name) for name in argv[1:]] or sorted(
        pathlib.Path(_DRAWS).glob("*.jsonl")
    )
    draws = [mean_top1(file) for file in files]
    body_pairs = [((_BASELINE, gc), (body, gc)) for body in _BODIES for gc in ("none", "all")]
    gc_pairs = [((variant, "none"), (variant, "all")) for variant in _VARIANTS]
    title = f"top-1 accuracy over {len(draws)} draws, percentage points"
    table = rich.table.Table(title=title, title_justify="left")
    for column in ("arm", "compared with", "difference", "p (Holm)"):
        table.add_column(column)
    for row in itertools.chain(compare(draws, body_pairs), compare(draws, gc_pairs)):
        table.add_row(*row)
    rich.console.Console(width=100).print(table)


if __name__ == "__main__":
    main(sys.argv)
