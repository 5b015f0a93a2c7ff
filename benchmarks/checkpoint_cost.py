"""`python -m benchmarks.checkpoint_cost [--model=resnet20]`: what does a checkpoint an epoch cost?

Trains on made-up 32x32 images, in turn an epoch with a checkpoint and one without, and compares
neighbours. All that a checkpoint costs falls into its own epoch: the save is started before the
first step and waited for after the last. Beside the wall clock stands the processor time, which
others on the same machine disturb less.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import jax

from benchmarks import synthetic_data
from benchmarks.machine import machine
from configs import cifar100_resnet20_gc
from train import experiment
from train.checkpoints.manager import Checkpoints
from train.output.timer import Timer


class Training:
    """A run on made-up images that never ends."""

    def __init__(self, model, images):
        config = cifar100_resnet20_gc.get_config()
        config.model.name = model
        self._run = experiment.prepare(config, synthetic_data.dataset(images))
        self.state = self._run.init_state()
        self._programs = self._run.compile(self.state)
        self._done = 0

    def epoch(self, checkpoints=None):
        """Seconds of an epoch: by the wall clock, of the processors, and until `save` returned."""
        first, last = self._done, self._done + self._run.plan.total_steps
        began, cpu_began, save_ended = time.monotonic(), time.process_time(), time.monotonic()
        if checkpoints:
            checkpoints.save(first, self.state, Timer())
            save_ended = time.monotonic()
        while self._done < last:
            step = min(last, self._programs.max_dispatch_step(self._done))
            self.state, _ = self._programs.train(self.state, self._done, step)
            self._done = step
        jax.block_until_ready(self.state)
        if checkpoints:
            checkpoints.wait()
        return time.monotonic() - began, time.process_time() - cpu_began, save_ended - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--images", type=int, default=10_240, help="in an epoch")
    parser.add_argument("--pairs", type=int, default=4, help="of epochs, with and without")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to be measured")
    parser.add_argument("--json", type=Path, default=Path("results/checkpoint_cost.json"))
    arguments = parser.parse_args()
    training = Training(arguments.model, arguments.images)
    training.epoch()
    ratios, cpu_ratios, epoch_seconds, save_seconds = [], [], [], []
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as folder,
        Checkpoints(Path(folder), keep=2) as checkpoints,
    ):
        for pair in range(arguments.pairs):
            times = {}
            for saves in (True, False) if pair % 2 else (False, True):
                times[saves] = training.epoch(checkpoints if saves else None)
            ratios.append(times[False][0] / times[True][0])
            cpu_ratios.append(times[False][1] / times[True][1])
            epoch_seconds.append(times[False][0])
            save_seconds.append(times[True][2])
            print(
                f"pair {pair + 1}: {times[False][0]:.2f} s without, {times[True][0]:.2f} s with: "
                f"{ratios[-1]:.3f} of the images/s, {cpu_ratios[-1]:.3f} by processor time",
                flush=True,
            )
    figures = machine() | {
        "model": arguments.model,
        "state_megabytes": sum(leaf.nbytes for leaf in jax.tree.leaves(training.state)) / 1e6,
        "images_per_epoch": arguments.images,
        "epoch_seconds": statistics.median(epoch_seconds),
        "blocked_in_save_seconds": statistics.median(save_seconds),
        "ratios": ratios,
        "median_ratio": statistics.median(ratios),
        "median_cpu_ratio": statistics.median(cpu_ratios),
    }
    print(
        f"{figures['model']}: {figures['state_megabytes']:.1f} MB of state, an epoch of "
        f"{figures['epoch_seconds']:.1f} s; save() returns after "
        f"{figures['blocked_in_save_seconds']:.3f} s; median {figures['median_ratio']:.3f}, "
        f"by processor time {figures['median_cpu_ratio']:.3f}"
    )
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
