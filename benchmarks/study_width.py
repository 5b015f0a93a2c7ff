"""How a study should run its arms on this machine: alone, one on each device, or under one vmap.

    python -m benchmarks.study_width --json results/study_width_cpu.json

Prints milliseconds per step of each run, the median of some rounds in which all ways take turns.
"""

import argparse
import statistics
from pathlib import Path

import jax

from configs import digits_gc
from train.data.in_memory import digits
from train.output.files import write_json
from train.study import use_cores

STEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--per-device", type=int, default=5, help="runs under one vmap")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    use_cores(0)
    from benchmarks.machine import machine
    from train.studies.parallel_runs import ParallelRuns

    config = digits_gc.get_config()
    dataset = digits.load()
    ways = [(1, 1), (1, arguments.per_device), (jax.device_count(), 1)]
    ways = [*ways, (jax.device_count(), arguments.per_device)]
    watches = {}
    for devices, per_device in ways:
        program = ParallelRuns(config, dataset, jax.devices()[:devices], per_device)
        watches[devices, per_device] = program.step_timer(0, 0.1, STEPS)
        watches[devices, per_device]()  # warms up
    seconds: dict[tuple[int, int], list[float]] = {way: [] for way in ways}
    for _ in range(arguments.rounds):
        for way in ways:
            seconds[way].append(watches[way]())
    rows = []
    for devices, per_device in ways:
        median = statistics.median(seconds[devices, per_device])
        per_run = 1000 * median / STEPS / (devices * per_device)
        print(f"{devices} device(s), {per_device} run(s) on each: {per_run:.2f} ms a step of a run")
        rows.append({"devices": devices, "per_device": per_device, "ms_per_step_of_a_run": per_run})
    if arguments.json:
        write_json(arguments.json, {"machine": machine(), "model": "convnet", "rows": rows})


if __name__ == "__main__":
    main()
