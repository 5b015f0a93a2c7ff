"""Measure the time to the first training step, without and with the cache of earlier starts.

    python -m benchmarks.start [--config NAME] [--starts N] [--json FILE]

Runs the trainer's command with an empty cache folder, then again with what the first start left in
it. Measures the seconds from the start of the process to the line of the first step in
`metrics.jsonl`. The data set must be prepared, as for training.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import rich.console

from benchmarks.report import describe_machine, write_report

_ROOT = pathlib.Path(__file__).parents[1]
_POLL_SECONDS = 0.01


def seconds_to_first_step(config: str, workdir: pathlib.Path, cache_dir: pathlib.Path) -> float:
    """Start the trainer, wait for the line of its first step, and kill it."""
    command = [sys.executable, "-m", "train", "--config", f"configs/{config}.py"]
    flags = ["--workdir", str(workdir), "--config.num_steps=1"]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache_dir)}
    metrics = workdir / "metrics.jsonl"
    start = time.perf_counter()
    with subprocess.Popen(
        [*command, *flags], cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL
    ) as trainer:
        while not (metrics.exists() and metrics.read_bytes()):
            if trainer.poll() is not None:
                raise SystemExit(
                    f"the trainer ended before its first step, with status {trainer.returncode}"
                )
            time.sleep(_POLL_SECONDS)
        seconds = time.perf_counter() - start
        trainer.kill()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="cifar100_resnet20_gc")
    parser.add_argument(
        "--starts", type=int, default=4, help="number of starts; the first one has no cache"
    )
    parser.add_argument("--json", type=pathlib.Path, help="also write the results to this file")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        starts = [
            seconds_to_first_step(flags.config, root / f"run{index}", root / "cache")
            for index in range(flags.starts)
        ]
    report = describe_machine() | {"config": flags.config, "seconds_to_first_step": starts}
    console = rich.console.Console()
    console.print(report)
    for index, seconds in enumerate(starts, 1):
        console.print(f"start {index}: {seconds:.1f} s to the first step", highlight=False)
    if flags.json:
        write_report(flags.json, report)


if __name__ == "__main__":
    main()
