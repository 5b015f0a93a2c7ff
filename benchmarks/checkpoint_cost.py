"""Measure the cost of one checkpoint per epoch.

    python -m benchmarks.checkpoint_cost [--model resnet20] [--json FILE]

Trains on random 32x32 images, alternating epochs with a checkpoint and without, and compares each
pair. All costs of a checkpoint fall into its own epoch: the save starts before the first step, and
the epoch ends when the save has finished. Processor time is reported too, because other load on
the machine affects it less than wall time.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jax

from benchmarks.report import describe_machine, write_report
from benchmarks.synthetic_data import random_dataset
from configs import cifar100_resnet20_gc
from train import experiment
from train.checkpoints.manager import Checkpoints
from train.output.timer import Timer


class EpochTimes(NamedTuple):
    """Seconds of one epoch.

    Attributes:
      wall: Wall time.
      cpu: Processor time of this process.
      save: Wall time until `save` returned.
    """

    wall: float
    cpu: float
    save: float


class Training:
    """A run on random images without an end."""

    def __init__(self, model: str, num_images: int):
        config = cifar100_resnet20_gc.get_config()
        config.model.name = model
        self._run = experiment.prepare(config, random_dataset(num_images))
        self.state = self._run.init_state()
        self._executor = self._run.compile(self.state)
        self._step = 0

    def train_epoch(self, checkpoints: Checkpoints | None = None) -> EpochTimes:
        """Train one epoch; save before it if `checkpoints` is given."""
        last_step = self._step + self._run.plan.total_steps
        start, cpu_start, save_stop = time.monotonic(), time.process_time(), time.monotonic()
        if checkpoints:
            checkpoints.save(self._step, self.state, Timer())
            save_stop = time.monotonic()
        while self._step < last_step:
            stop = min(last_step, self._executor.max_dispatch_step(self._step))
            self.state, *_ = self._executor.steps(self.state, self._step, stop)
            self._step = stop
        jax.block_until_ready(self.state)
        if checkpoints:
            checkpoints.wait()
        return EpochTimes(
            time.monotonic() - start, time.process_time() - cpu_start, save_stop - start
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--images", type=int, default=10_240, help="images in an epoch")
    parser.add_argument("--pairs", type=int, default=4, help="pairs of epochs, with and without")
    parser.add_argument("--folder", type=Path, default=None, help="a folder on the disk to measure")
    parser.add_argument("--json", type=Path, default=Path("results/checkpoint_cost.json"))
    flags = parser.parse_args()
    training = Training(flags.model, flags.images)
    training.train_epoch()  # warms up
    pairs: list[tuple[EpochTimes, EpochTimes]] = []  # without and with a checkpoint
    with (
        tempfile.TemporaryDirectory(dir=flags.folder) as folder,
        Checkpoints(Path(folder), keep=2) as checkpoints,
    ):
        for index in range(flags.pairs):
            times = {}
            for saves in (True, False) if index % 2 else (False, True):
                times[saves] = training.train_epoch(checkpoints if saves else None)
            without, with_save = times[False], times[True]
            pairs.append((without, with_save))
            print(
                f"pair {index + 1}: {without.wall:.2f} s without, {with_save.wall:.2f} s with a "
                f"checkpoint: {without.wall / with_save.wall:.3f} of the images/s, "
                f"{without.cpu / with_save.cpu:.3f} by processor time",
                flush=True,
            )
    ratios = [without.wall / with_save.wall for without, with_save in pairs]
    cpu_ratios = [without.cpu / with_save.cpu for without, with_save in pairs]
    report = describe_machine() | {
        "model": flags.model,
        "state_megabytes": sum(leaf.nbytes for leaf in jax.tree.leaves(training.state)) / 1e6,
        "images_per_epoch": flags.images,
        "epoch_seconds": statistics.median(without.wall for without, _ in pairs),
        "blocked_in_save_seconds": statistics.median(with_save.save for _, with_save in pairs),
        "ratios": ratios,
        "median_ratio": statistics.median(ratios),
        "median_cpu_ratio": statistics.median(cpu_ratios),
    }
    print(
        f"{report['model']}: state of {report['state_megabytes']:.1f} MB, epoch of "
        f"{report['epoch_seconds']:.1f} s; save() returns after "
        f"{report['blocked_in_save_seconds']:.3f} s; median ratio {report['median_ratio']:.3f}, "
        f"by processor time {report['median_cpu_ratio']:.3f}"
    )
    write_report(flags.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
