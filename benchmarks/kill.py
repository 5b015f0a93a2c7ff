"""Test whether runs survive SIGKILL.

    python -m benchmarks.kill [--kills 200] [--seed 0] [--json FILE]

Kills runs on the digits (80 steps, a checkpoint every 5 steps) at random moments and restarts them.
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
from tests.support.kills import MOMENTS, kill_many


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("results/kill.json"))
    flags = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcome = kill_many(Path(folder), flags.kills, random.Random(flags.seed), print)
    moments = {
        moment: {
            "kills": sum(kill.moment == moment for kill in outcome.kills),
            "mid_save": sum(kill.mid_save for kill in outcome.kills if kill.moment == moment),
        }
        for moment in MOMENTS
    }
    print("\nkilled while   kills   during a save")
    for moment, counts in moments.items():
        print(f"{moment:14} {counts['kills']:5}   {counts['mid_save']:13}")
    print(
        f"\n{outcome.num_runs} runs, {len(outcome.kills)} kills, {len(outcome.failed)} failed runs"
    )
    report = describe_machine() | {
        "kills": len(outcome.kills),
        "runs": outcome.num_runs,
        "failed": len(outcome.failed),
        "seed": flags.seed,
        "minutes": round((time.monotonic() - start) / 60, 1),
        "moments": moments,
    }
    write_report(flags.json, report)
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())
