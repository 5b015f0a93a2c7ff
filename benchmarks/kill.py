"""`python -m benchmarks.kill [--kills=200] [--seed=0] [--json=FILE]`: does a run survive SIGKILL?

Digits runs of 60 steps with a checkpoint every 5 are killed at random moments and started again.
Every run must end with the parameters and the metrics.jsonl, to the bit, of one that nobody
killed. Takes about 8 seconds a kill; exit status 1 if a run was spoilt.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import machine
from tests.support.killing import MOMENTS, campaign


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("results/kill.json"))
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        done = campaign(
            Path(folder), arguments.kills, random.Random(arguments.seed), lambda line: print(line)
        )
    rows = {
        moment: {
            "kills": sum(kill.moment == moment for kill in done.kills),
            "tore_a_checkpoint": sum(kill.tore for kill in done.kills if kill.moment == moment),
        }
        for moment in MOMENTS
    }
    print("\nkilled while   kills   a checkpoint was being written")
    for moment, row in rows.items():
        print(f"{moment:14} {row['kills']:5}   {row['tore_a_checkpoint']:5}")
    print(f"\n{done.runs} runs, {len(done.kills)} kills, {len(done.spoilt)} runs spoilt")
    figures = machine() | {
        "kills": len(done.kills),
        "runs": done.runs,
        "spoilt": len(done.spoilt),
        "seed": arguments.seed,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "moments": rows,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if done.spoilt else 0


if __name__ == "__main__":
    sys.exit(main())
