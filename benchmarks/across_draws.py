"""What studies say together that differ in the labels that were drawn: the draw is what is sampled.

    python -m benchmarks.across_draws [FILE ...]

Reads the results of one study for each draw (by default those of docs/transfer.md). The seeds of a
draw share its labels, so their mean difference is one observation; Student's t over the draws, p by
Holm among the bodies and among the comparisons of GC.
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

Arm = tuple[str, str]  # variant and GC


def of_draw(file: pathlib.Path) -> dict[Arm, float]:
    """The mean test top-1 of each arm over its seeds, in %."""
    final = [line for line in results.read(file) if line["kind"] == "final"]
    arms = sorted({(line["variant"], line["gc"]) for line in final})
    return {
        arm: 100 * float(np.mean([x["top1"] for x in final if (x["variant"], x["gc"]) == arm]))
        for arm in arms
    }


def rows(draws: list[dict[Arm, float]], pairs: list[tuple[Arm, Arm]]) -> list[list[str]]:
    """What the second arm of each pair changes, over the draws."""
    found = [
        statistics.paired_difference([draw[a] for draw in draws], [draw[b] for draw in draws])
        for a, b in pairs
    ]
    corrected = statistics.holm([difference.p for difference in found])
    return [
        [
            f"{b[0]}, GC {b[1]}",
            f"{a[0]}, GC {a[1]}",
            f"{difference.mean.value:+.2f} ± {difference.mean.half_width:.2f}",
            f"{p:.3f}",
        ]
        for (a, b), difference, p in zip(pairs, found, corrected, strict=True)
    ]


def main(argv: list[str]) -> None:
    files = [pathlib.Path(name) for name in argv[1:]] or sorted(
        pathlib.Path(_DRAWS).glob("*.jsonl")
    )
    draws = [of_draw(file) for file in files]
    bodies = [((_BASELINE, gc), (body, gc)) for body in _BODIES for gc in ("none", "all")]
    of_gc = [((body, "none"), (body, "all")) for body in _VARIANTS]
    table = rich.table.Table(title=f"top-1 over {len(draws)} draws, points", title_justify="left")
    for head in ("arm", "instead of", "difference", "p (Holm)"):
        table.add_column(head)
    for row in itertools.chain(rows(draws, bodies), rows(draws, of_gc)):
        table.add_row(*row)
    rich.console.Console(width=100).print(table)


if __name__ == "__main__":
    main(sys.argv)
