"""What makes a convolutional step fast on a CPU: each of the trainer's measures, one by one.

    python -m benchmarks.cpu_step [--json FILE] [--rounds N] [--model NAME] [--batch N]

The training step of `configs/cifar100_gc.py` on random images, first as Flax and XLA have it by
default, one dispatch a step; then with each measure on top of those before it. Variants run in
turn; a ratio is the median over the rounds of images/s over those of the first variant, with its
quartiles. `docs/speed.md` says what the measures are.
"""

import argparse
import contextlib
import json
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

from benchmarks import synthetic_data
from benchmarks.machine import machine
from benchmarks.timing import in_turn, paired
from configs import cifar100_gc
from train import data, experiment
from train.data.batch import Batch
from train.data.dataset import Dataset
from train.engine.state import TrainState
from train.engine.step import make_train_step
from train.models import resnet
from train.models.layers import conv
from train.runtime import compilation

Advance = Callable[[TrainState, int], TrainState]

_BARRIERS = "xla_disable_hlo_passes"


class Variant(NamedTuple):
    """Which measures are taken."""

    loops: bool = False  # all steps in one dispatch
    keeps_activations: bool = False
    own_gradients: bool = False  # of convolutions
    eigen: bool = False  # convolves, and not YNNPACK


VARIANTS = {
    "as it comes": Variant(),
    "activations kept": Variant(keeps_activations=True),
    "Eigen's convolutions": Variant(keeps_activations=True, eigen=True),
    "gradients as plain convolutions": Variant(False, True, True, True),
    "steps in a loop": Variant(True, True, True, True),
}


@contextlib.contextmanager
def measures(variant: Variant) -> Iterator[None]:
    """The trainer with these measures and without the others."""
    options = dict(compilation.options())
    if not variant.keeps_activations:
        options.pop(_BARRIERS, None)
    if not variant.eigen:
        options = {name: value for name, value in options.items() if name == _BARRIERS}
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(compilation, "options", return_value=options))
        if not variant.keeps_activations:
            stack.enter_context(mock.patch.object(resnet, "relu", nnx.relu))
        if not variant.own_gradients:
            stack.enter_context(mock.patch.object(conv, "_convolve", conv._convolve.fun))
        yield


def training(variant: Variant, model: str, batch: int, steps: int) -> Callable[[], None]:
    """So many steps, in the way of a variant."""
    config = cifar100_gc.get_config()
    config.model.name, config.data.batch_size = model, batch
    dataset = synthetic_data.dataset(steps * batch)
    with measures(variant), mock.patch.object(data, "load", return_value=dataset):
        run = experiment.prepare(config)
        state = run.init_state()
        advance = in_a_loop(run, state) if variant.loops else one_by_one(run, state)

    def train() -> None:
        nonlocal state
        state = advance(state, steps)
        jax.block_until_ready(state)

    return train


def in_a_loop(run: experiment.Experiment, like: TrainState) -> Advance:
    """The trainer's program."""
    programs = run.compile(like)
    return lambda state, steps: programs.train(state, 0, steps)[0]


def one_by_one(run: experiment.Experiment, like: TrainState) -> Advance:
    """A dispatch a step, on one batch."""
    count = run.config.data.batch_size
    assert isinstance(run.dataset, Dataset)
    images, labels = (array[:count] for array in run.dataset.train)
    batch = Batch(*jax.device_put((images, labels, np.ones(count, bool))))
    step = jax.jit(
        make_train_step(run.config, run.model, run.tx, run.config.seed), donate_argnums=0
    )
    program, _ = compilation.compile_program(step, like, batch)

    def advance(state: TrainState, steps: int) -> TrainState:
        for _ in range(steps):
            state = program(state, batch)
        return state

    return advance


def costs(variants: dict[str, Variant], model: str, batch: int, steps: int, rounds: int):
    """A row for each variant."""
    names = list(variants)
    seconds = in_turn(
        {name: training(variant, model, batch, steps) for name, variant in variants.items()}, rounds
    )
    rows: list[dict[str, Any]] = []
    for name in names:
        speed = steps * batch / float(np.median(seconds[name]))
        ratios = paired(seconds[names[0]], seconds[name])
        rows.append({"variant": name, "images_per_second": speed} | ratios)
    return rows


def table(title: str, rows: list[dict[str, Any]]) -> rich.table.Table:
    out = rich.table.Table("variant", title=title)
    for column in ("images/s", "ratio", "quartiles"):
        out.add_column(column, justify="right")
    for row in rows:
        low, high = row["ratio_quartiles"]
        speed = f"{row['images_per_second']:,.0f}"
        out.add_row(row["variant"], speed, f"{row['ratio']:.2f}", f"{low:.2f} .. {high:.2f}")
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="resnet20", help="a ResNet of the trainer's")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8, help="timed together")
    flags = parser.parse_args()
    console = rich.console.Console(width=None if sys.stdout.isatty() else 120)
    setting = {"model": flags.model, "batch": flags.batch, "rounds": flags.rounds}
    report: dict[str, Any] = machine() | setting
    console.print(report)
    report["steps"] = costs(VARIANTS, flags.model, flags.batch, flags.steps, flags.rounds)
    title = f"{flags.model}, batch {flags.batch}"
    console.print(table(f"{title}, {flags.steps} steps", report["steps"]))
    if flags.json:
        flags.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
