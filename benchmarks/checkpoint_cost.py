"""`python -m benchmarks.checkpoint_cost [--model=resnet20]`: what does a checkpoint an epoch cost?

Trains on made-up 32x32 images, once with a checkpoint after every epoch and once without, in turn;
compares the images per second of the training loop, with all waiting for checkpoints counted in.
Beside the wall clock stands the processor time, which others on the same machine disturb less.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from configs import cifar100_resnet20_gc
from train import data, experiment
from train.checkpoint import Checkpoints
from train.clock import Clock
from train.data.dataset import Dataset, Split


def prepare(model, images, epochs):
    rng = np.random.default_rng(0)

    def split(count):
        pixels = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        return Split(pixels, rng.integers(0, 100, count).astype(np.int32))

    data.load = lambda config: Dataset(split(images), split(500), num_classes=100)
    config = cifar100_resnet20_gc.get_config()
    config.model.name, config.num_epochs = model, epochs
    return experiment.prepare(config)


def seconds(run, train_step, folder, every_epoch):
    """Of the training loop: by the wall clock, of the processors, and in `save`."""
    state, clock, steps = run.first_state(), Clock(), run.plan.total_steps
    jax.block_until_ready(train_step(run.first_state(), next(run.train_batches(0, 1))))
    saving, done = 0.0, 0
    with tempfile.TemporaryDirectory(dir=folder) as name, Checkpoints(Path(name), 2) as checkpoints:
        began, cpu_began = time.monotonic(), time.process_time()
        for stop in sorted(run.plan.test):
            for batch in run.train_batches(done, stop):
                state = train_step(state, batch)
            jax.block_until_ready(state)
            done = stop
            if every_epoch:
                save_began = time.monotonic()
                checkpoints.save(done, state, clock)
                saving += time.monotonic() - save_began
        checkpoints.wait()
        assert done == steps
        return time.monotonic() - began, time.process_time() - cpu_began, saving


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--images", type=int, default=1280, help="in an epoch")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to be measured")
    parser.add_argument("--out", type=Path, default=Path("results/checkpoint_cost.json"))
    arguments = parser.parse_args()
    run = prepare(arguments.model, arguments.images, arguments.epochs)
    state = run.first_state()
    train_step = run.compile_train_step(state)
    ratios, cpu_ratios, epoch_seconds, save_seconds = [], [], [], []
    for pair in range(arguments.pairs):
        times, cpu_times = {}, {}
        for every_epoch in (True, False) if pair % 2 else (False, True):
            times[every_epoch], cpu_times[every_epoch], saving = seconds(
                run, train_step, arguments.folder, every_epoch
            )
            if every_epoch:
                save_seconds.append(saving / arguments.epochs)
        ratios.append(times[False] / times[True])
        cpu_ratios.append(cpu_times[False] / cpu_times[True])
        epoch_seconds.append(times[False] / arguments.epochs)
        print(
            f"pair {pair + 1}: {times[False]:.2f} s without, {times[True]:.2f} s with checkpoints: "
            f"{ratios[-1]:.3f} of the images/s, "
            f"{cpu_ratios[-1]:.3f} by processor time",
            flush=True,
        )
    figures = {
        "model": arguments.model,
        "state_megabytes": sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / 1e6,
        "images_per_epoch": arguments.images,
        "epoch_seconds": statistics.median(epoch_seconds),
        "blocked_in_save_seconds": statistics.median(save_seconds),
        "ratios": ratios,
        "median_ratio": statistics.median(ratios),
        "median_cpu_ratio": statistics.median(cpu_ratios),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    }
    print(
        f"{figures['model']}: {figures['state_megabytes']:.1f} MB of state, an epoch of "
        f"{figures['epoch_seconds']:.1f} s; save() returns after "
        f"{figures['blocked_in_save_seconds']:.3f} s; median {figures['median_ratio']:.3f}, "
        f"by processor time {figures['median_cpu_ratio']:.3f}"
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
