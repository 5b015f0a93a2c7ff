"""How long a start takes: the first one of a config on a machine, and those after it.

    python -m benchmarks.start [--config NAME] [--starts N] [--json FILE]

Runs the trainer's own command with an empty cache folder, then again with what the first start left
there, and says how many seconds pass from the start of the process to the line that its first
step leaves in `metrics.jsonl`. The data set must be there, as for training.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import rich.console

from benchmarks.machine import machine

_ROOT = pathlib.Path(__file__).parents[1]
_POLL = 0.01  # seconds


def seconds_to_first_step(config: str, workdir: pathlib.Path, cache: pathlib.Path) -> float:
    """Starts the trainer, waits for its first step's line, and ends it."""
    command = [sys.executable, "-m", "train", "--config", f"configs/{config}.py"]
    flags = ["--workdir", str(workdir), "--config.num_steps=1"]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    metrics = workdir / "metrics.jsonl"
    began = time.perf_counter()
    with subprocess.Popen(
        [*command, *flags], cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL
    ) as trainer:
        while not (metrics.exists() and metrics.read_bytes()):
            if trainer.poll() is not None:
                raise SystemExit(f"the trainer ended before its first step: {trainer.returncode}")
            time.sleep(_POLL)
        seconds = time.perf_counter() - began
        trainer.kill()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="cifar100_resnet20_gc")
    parser.add_argument("--starts", type=int, default=4, help="of which the first finds no cache")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here too")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        starts = [
            seconds_to_first_step(flags.config, root / f"run{index}", root / "cache")
            for index in range(flags.starts)
        ]
    report = machine() | {"config": flags.config, "seconds_to_first_step": starts}
    console = rich.console.Console()
    console.print(report)
    for index, seconds in enumerate(starts, 1):
        console.print(f"start {index}: {seconds:.1f} s to the first step", highlight=False)
    if flags.json:
        flags.json.parent.mkdir(parents=True, exist_ok=True)
        flags.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
