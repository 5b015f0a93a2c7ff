"""Test whether runs survive SIGKILL.

    python -m benchmarks.kill [--kills 200] [--seed 0] [--json FILE]

Kills runs on the digits (60 steps, a checkpoint every 5 steps) at random moments and restarts them.
Every run must end with exactly the parameters and the `metrics.jsonl` of a run that was not killed.
Takes about 8 seconds per kill. The exit status is 1 if a run failed.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import describe_machine, write_report
from tests.support.killing import MOMENTS, campaign


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("results/kill.json"))
    flags = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = campaign(Path(folder), flags.kills, random.Random(flags.seed), print)
    moments = {
        moment: {
            "kills": sum(kill.moment == moment for kill in result.kills),
            "mid_save": sum(kill.tore for kill in result.kills if kill.moment == moment),
        }
        for moment in MOMENTS
    }
    print("\nkilled while   kills   during a save")
    for moment, counts in moments.items():
        print(f"{moment:14} {counts['kills']:5}   {counts['mid_save']:13}")
    print(f"\n{result.runs} runs, {len(result.kills)} kills, {len(result.spoilt)} failed runs")
    report = describe_machine() | {
        "kills": len(result.kills),
        "runs": result.runs,
        "failed": len(result.spoilt),
        "seed": flags.seed,
        "minutes": round((time.monotonic() - start) / 60, 1),
        "moments": moments,
    }
    write_report(flags.json, report)
    return 1 if result.spoilt else 0


if __name__ == "__main__":
    sys.exit(main())
