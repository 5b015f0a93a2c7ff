"""Measure each optimization of the trainer's convolutional step on a CPU, one after another.

    python -m benchmarks.cpu_step [--json FILE] [--rounds N] [--model NAME] [--batch N]

Times the training step of `configs/cifar100_gc.py` on random images: first with the defaults of
Flax and XLA and one dispatch per step, then with each optimization added to those before it. The
variants run interleaved. A ratio is the median over the rounds of the images/s relative to the
first variant, with its quartiles. docs/development/speed.md explains the optimizations.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np
import rich.console
import rich.table
from flax import nnx

from benchmarks.report import describe_machine, write_report
from benchmarks.synthetic_data import random_dataset
from benchmarks.timing import paired_ratio, time_interleaved
from configs import cifar100_gc
from train import experiment
from train.data.batch import Batch
from train.data.dataset import Dataset
from train.engine.state import TrainState
from train.engine.step import make_train_step
from train.models import resnet
from train.models.layers import conv
from train.runtime import compilation

TrainSteps = Callable[[TrainState, int], TrainState]
"""Makes a number of steps."""

_KEEP_BARRIERS = "xla_disable_hlo_passes"


class Variant(NamedTuple):
    """The optimizations in use.

    Attributes:
      loops: All steps run in one dispatch.
      keeps_activations: Activations are not recomputed.
      own_gradients: The gradients of convolutions are written as plain convolutions.
      eigen: Convolutions are computed by Eigen and not by YNNPACK.
    """

    loops: bool = False
    keeps_activations: bool = False
    own_gradients: bool = False
    eigen: bool = False


VARIANTS = {
    "default of Flax and XLA": Variant(),
    "activations kept": Variant(keeps_activations=True),
    "Eigen's convolutions": Variant(keeps_activations=True, eigen=True),
    "gradients as plain convolutions": Variant(False, True, True, True),
    "steps in a loop": Variant(True, True, True, True),
}


@contextlib.contextmanager
def only_optimizations_of(variant: Variant) -> Iterator[None]:
    """Disable the trainer's optimizations that the variant does not use."""
    options = dict(compilation.options())
    if not variant.keeps_activations:
        options.pop(_KEEP_BARRIERS, None)
    if not variant.eigen:
        options = {name: value for name, value in options.items() if name == _KEEP_BARRIERS}
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(compilation, "options", return_value=options))
        if not variant.keeps_activations:
            stack.enter_context(mock.patch.object(resnet, "relu", nnx.relu))
        if not variant.own_gradients:
            stack.enter_context(mock.patch.object(conv, "_convolve", conv._convolve.fun))
        yield


def make_training(
    variant: Variant, model: str, batch_size: int, num_steps: int
) -> Callable[[], None]:
    """Return a function that makes `num_steps` steps of a variant."""
    config = cifar100_gc.get_config()
    config.model.name, config.data.batch_size = model, batch_size
    with only_optimizations_of(variant):
        run = experiment.prepare(config, random_dataset(num_steps * batch_size))
        state = run.init_state()
        train_steps = loop_of_steps(run, state) if variant.loops else single_steps(run, state)

    def train() -> None:
        nonlocal state
        state = train_steps(state, num_steps)
        jax.block_until_ready(state)

    return train


def loop_of_steps(run: experiment.Experiment, state: TrainState) -> TrainSteps:
    """Return the trainer's program, compiled for states like `state`."""
    executor = run.compile(state)
    return lambda state, num_steps: executor.steps(state, 0, num_steps)[0]


def single_steps(run: experiment.Experiment, state: TrainState) -> TrainSteps:
    """Return a program with one dispatch per step, always on the same batch."""
    batch_size = run.config.data.batch_size
    assert isinstance(run.dataset, Dataset)
    images, labels = (array[:batch_size] for array in run.dataset.train)
    batch = Batch(*jax.device_put((images, labels, np.ones(batch_size, bool))))
    train_step = make_train_step(run.config, run.task, run.optimizer, run.config.seed)
    jitted = jax.jit(train_step, donate_argnums=0)
    compiled, _ = compilation.compile_program(jitted, state, batch)

    def train_steps(state: TrainState, num_steps: int) -> TrainState:
        for _ in range(num_steps):
            state, _ = compiled(state, batch)
        return state

    return train_steps


def measure(
    variants: dict[str, Variant], model: str, batch_size: int, num_steps: int, rounds: int
) -> list[dict[str, Any]]:
    """Return the speed of each variant, and its ratio to the first one."""
    runs = {
        name: make_training(variant, model, batch_size, num_steps)
        for name, variant in variants.items()
    }
    seconds = time_interleaved(runs, rounds)
    baseline = seconds[next(iter(variants))]
    rows: list[dict[str, Any]] = []
    for name, times in seconds.items():
        speed = num_steps * batch_size / float(np.median(times))
        row = {"variant": name, "images_per_second": speed}
        rows.append(row | paired_ratio(baseline, times))
    return rows


def make_table(title: str, rows: list[dict[str, Any]]) -> rich.table.Table:
    """Return a table of the rows of `measure`."""
    table = rich.table.Table("variant", title=title)
    for column in ("images/s", "ratio to the first", "quartiles"):
        table.add_column(column, justify="right")
    for row in rows:
        low, high = row["ratio_quartiles"]
        speed = f"{row['images_per_second']:,.0f}"
        table.add_row(row["variant"], speed, f"{row['ratio']:.2f}", f"{low:.2f} .. {high:.2f}")
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="resnet20", help="one of the trainer's ResNets")
    parser.add_argument("--batch", type=int, default=128, help="batch size")
    parser.add_argument("--steps", type=int, default=8, help="steps in one measurement")
    flags = parser.parse_args()
    console = rich.console.Console(width=None if sys.stdout.isatty() else 120)
    settings = {"model": flags.model, "batch": flags.batch, "rounds": flags.rounds}
    report: dict[str, Any] = describe_machine() | settings
    console.print(report)
    report["steps"] = measure(VARIANTS, flags.model, flags.batch, flags.steps, flags.rounds)
    title = f"{flags.model}, batch size {flags.batch}, {flags.steps} steps"
    console.print(make_table(title, report["steps"]))
    if flags.json:
        write_report(flags.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
