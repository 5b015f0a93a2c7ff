"""Measure how a study should run on this machine: one run, one per device, or several in a vmap.

    python -m benchmarks.study_width --json results/study_width_cpu.json

Prints the milliseconds per step of each run: the median over rounds in which the layouts run
interleaved.
"""

import argparse
import statistics
from pathlib import Path

import jax

from benchmarks.report import describe_machine, write_report
from configs import digits_gc
from train.data.in_memory import digits
from train.runtime.cores import use_cores
from train.studies.parallel_runs import ParallelRuns

STEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--per-device", type=int, default=5, help="runs in one vmap")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    flags = parser.parse_args()
    use_cores(0)
    config = digits_gc.get_config()
    dataset = digits.load()
    num_devices = jax.device_count()
    layouts = [(1, 1), (1, flags.per_device), (num_devices, 1), (num_devices, flags.per_device)]
    timers = {}
    for devices, per_device in layouts:
        runs = ParallelRuns(config, dataset, jax.devices()[:devices], per_device)
        timers[devices, per_device] = runs.step_timer(0, 0.1, STEPS)
        timers[devices, per_device]()  # warms up
    seconds: dict[tuple[int, int], list[float]] = {layout: [] for layout in layouts}
    for _ in range(flags.rounds):
        for layout in layouts:
            seconds[layout].append(timers[layout]())
    rows = []
    for devices, per_device in layouts:
        median = statistics.median(seconds[devices, per_device])
        per_run = 1000 * median / STEPS / (devices * per_device)
        print(f"{devices} device(s), {per_device} run(s) per device: {per_run:.2f} ms per run step")
        rows.append({"devices": devices, "per_device": per_device, "ms_per_step_of_a_run": per_run})
    if flags.json:
        report = {"machine": describe_machine(), "model": "convnet", "rows": rows}
        write_report(flags.json, report)


if __name__ == "__main__":
    main()
