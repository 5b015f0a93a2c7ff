"""Measure the cost of GC: in an update of all weights, alone, and in a whole training step.

    python -m benchmarks.centralize [--json FILE] [--rounds N]

- "update" applies one update to the weights of a ResNet-50 and of a transformer with 12 blocks:
  plain SGD; SGD after `optax_gc.centralize`; SGD after `optax.centralize`, which averages over the
  axes of PyTorch's layout and so is comparable in speed only; SGD after `optax_gc.centralize` over
  these same axes; SGD after weight decay and GC, apart and in one pass; and PyTorch's loop with the
  right axes, if torch is installed.
- "projection" centralizes gradients whose means are a million times their spread. A rounding error
  of such a mean is 0.06 of the spread. The table shows how much a second pass would remove, and
  what it would cost.
- "train_step" is the trainer's step of `configs/cifar100_gc.py` on random images.

The variants run interleaved. A ratio is the median over the rounds of the ratio of two times of the
same round, with its quartiles. Compilation is not included. Bytes are those that XLA counts for the
compiled program, over the minimum: every input read once and every output written once.

docs/development/speed.md has the results, and alternatives for the projection that were measured.
"""

import argparse
import functools
import importlib.util
import math
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich.console
import rich.table

import optax_gc
from benchmarks import param_shapes
from benchmarks.param_shapes import Tree, random_arrays
from benchmarks.report import describe_machine, write_report
from benchmarks.timing import summarize, time_interleaved
from configs import cifar100_gc
from train import models
from train.data.batch import Batch
from train.engine import optimizers
from train.engine.state import create
from train.engine.step import make_train_step
from train.runtime import compilation
from train.tasks.classification import Classification

Row = dict[str, Any]
"""The results of one variant."""

_WEIGHT_DECAY = 1e-4
_OPTAX_SGD = "optax.centralize, sgd"
_OPTAX = "optax.centralize"
_GC = "optax_gc.centralize"
_GC_TWICE = "optax_gc.centralize, twice"

_COLUMNS = {  # key in the JSON: title and format in the table
    "milliseconds": ("milliseconds", "{:.1f}"),
    "ratio": ("ratio", "{:.3f}"),
    "ratio_quartiles": ("quartiles", "{0[0]:.3f} .. {0[1]:.3f}"),
    "ratio_to_optax": ("ratio to optax", "{:.3f}"),
    "bytes_over_fewest": ("bytes / minimum", "{:.2f}"),
    "residual_mean": ("residual mean", "{:.1e}"),
}


def measure_updates(shapes: Tree, rounds: int) -> list[Row]:
    """Time an update of all weights; ratios are to plain SGD and to `optax.centralize`."""
    sgd, decay = optax.sgd(1e-9), optax.add_decayed_weights(_WEIGHT_DECAY)
    optax_axes = optax_gc.centralize(optax_gc.first_axis_out)
    chains = {
        "sgd": sgd,
        "optax_gc.centralize, sgd": optax.chain(optax_gc.centralize(), sgd),
        "optax_gc.centralize on optax's axes, sgd": optax.chain(optax_axes, sgd),
        _OPTAX_SGD: optax.chain(optax.centralize(), sgd),
        "decay, sgd": optax.chain(decay, sgd),
        "decay, optax_gc.centralize, sgd": optax.chain(decay, optax_gc.centralize(), sgd),
        "optax_gc.decay_and_centralize, sgd": optax.chain(
            optax_gc.decay_and_centralize(_WEIGHT_DECAY), sgd
        ),
    }
    grads = jax.device_put(random_arrays(shapes, seed=0))
    min_bytes = 3 * _num_bytes(grads)  # read gradients and weights, write weights
    runs, bytes_accessed = {}, {}
    for name, tx in chains.items():
        params = jax.device_put(random_arrays(shapes, seed=1))
        update = jax.jit(functools.partial(_update, tx), donate_argnums=0)
        compiled = update.lower(params, grads).compile()
        runs[name] = _repeat(compiled, params, grads)
        bytes_accessed[name] = _bytes_accessed(compiled)
    seconds = time_interleaved(runs, rounds)
    rows = [
        {"variant": name, "bytes_over_fewest": bytes_accessed[name] / min_bytes}
        | summarize(seconds[name], seconds["sgd"])
        | {"ratio_to_optax": summarize(seconds[name], seconds[_OPTAX_SGD])["ratio"]}
        for name in chains
    ]
    return rows + _measure_torch_updates(shapes, rounds)


def _measure_torch_updates(shapes: Tree, rounds: int) -> list[Row]:
    if not importlib.util.find_spec("torch"):
        return []
    from benchmarks.torch_update import torch_updates

    rows = []
    for name, run in torch_updates(shapes).items():
        # Not interleaved, because PyTorch's idle threads spin and would slow down the others.
        times = time_interleaved({name: run}, rounds)[name]
        rows.append({"variant": name, "milliseconds": 1e3 * float(np.median(times))})
    return rows


def _update(tx: optax.GradientTransformation, params: Tree, grads: Tree) -> Tree:
    updates, _ = tx.update(grads, tx.init(params), params)
    return optax.apply_updates(params, updates)


def measure_projections(shapes: Tree, rounds: int) -> list[Row]:
    """Time `centralize` alone, and measure the means that it leaves of means of 1e6."""
    once = optax_gc.centralize()
    transformations = {
        _OPTAX: optax.centralize(),
        _GC: once,
        "optax_gc.centralize on optax's axes": optax_gc.centralize(optax_gc.first_axis_out),
        _GC_TWICE: optax.chain(once, once),
    }
    grads = jax.device_put(random_arrays(shapes, seed=0, mean=1e6))
    min_bytes = 2 * _num_bytes(grads)
    runs: dict[str, Callable[[], None]] = {}
    rows: dict[str, Row] = {}
    for name, tx in transformations.items():
        compiled = jax.jit(functools.partial(_centralize, tx)).lower(grads).compile()
        row = {"variant": name, "bytes_over_fewest": _bytes_accessed(compiled) / min_bytes}
        if name in (_GC, _GC_TWICE):
            row["residual_mean"] = _largest_fan_in_mean(compiled(grads))
        rows[name] = row
        runs[name] = functools.partial(_run_and_wait, compiled, grads)
    seconds = time_interleaved(runs, rounds)
    return [row | summarize(seconds[name], seconds[_OPTAX]) for name, row in rows.items()]


def _centralize(tx: optax.GradientTransformation, grads: Tree) -> Tree:
    return tx.update(grads, tx.init(grads))[0]


def _largest_fan_in_mean(updates: Tree) -> float:
    """Return the largest absolute fan-in mean, in units of the gradients' spread."""
    leaves = jax.tree_util.tree_flatten_with_path(jax.device_get(updates))[0]
    fan_ins = [(leaf, optax_gc.by_name(path, leaf).axes) for path, leaf in leaves]
    return max(
        float(np.abs(leaf.mean(axes, dtype=np.float64)).max()) for leaf, axes in fan_ins if axes
    )


def measure_train_steps(rounds: int, batch_size: int) -> list[Row]:
    """Time the training step of ResNet-18 with GC and without."""
    variants = {"without gc": False, "with gc": True}
    runs = {name: resnet18_step(gc, batch_size) for name, gc in variants.items()}
    seconds = time_interleaved(runs, rounds)
    baseline = seconds["without gc"]
    return [{"variant": name} | summarize(seconds[name], baseline) for name in variants]


def resnet18_step(gc: bool, batch_size: int) -> Callable[[], None]:
    """Return the trainer's step of `configs/cifar100_gc.py`; each call updates its own state."""
    config = cifar100_gc.get_config()
    config.gc.mode = "all" if gc else "none"
    config.data.batch_size = batch_size
    model = models.build(config, num_classes=100, input_shape=(32, 32, 3))
    tx = optimizers.build(
        config, optax.constant_schedule(0.1), models.fan_in_axes(model), model.last_layer
    )
    task = Classification(config, model)
    rng = np.random.default_rng(0)
    batch = Batch(
        inputs=jnp.asarray(rng.integers(0, 256, (batch_size, 32, 32, 3), np.uint8)),
        labels=jnp.asarray(rng.integers(0, 100, batch_size, np.int32)),
        mask=jnp.ones(batch_size, bool),
    )
    state = jax.jit(lambda: create(task.init, task.metrics, tx, seed=0))()
    train_step = make_train_step(config, task, tx, config.seed)
    step = jax.jit(lambda state, batch: train_step(state, batch)[0], donate_argnums=0)
    compiled = step.lower(state, batch).compile(compiler_options=compilation.options())
    return _repeat(compiled, state, batch)


def _repeat(compiled: Callable[..., Tree], carry: Tree, *args: Tree) -> Callable[[], None]:
    """Return a function that replaces `carry` by the result of `compiled(carry, *args)`."""

    def run() -> None:
        nonlocal carry
        carry = jax.block_until_ready(compiled(carry, *args))

    return run


def _run_and_wait(compiled: Callable[..., Tree], *args: Tree) -> None:
    jax.block_until_ready(compiled(*args))


def _num_bytes(tree: Tree) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def _bytes_accessed(compiled: jax.stages.Compiled) -> float:
    return (compiled.cost_analysis() or {}).get("bytes accessed", math.nan)


def make_table(title: str, rows: list[Row]) -> rich.table.Table:
    """Return a table with the columns that the rows have."""
    columns = [key for key in _COLUMNS if any(key in row for row in rows)]
    table = rich.table.Table(title=title)
    table.add_column("variant", no_wrap=True)
    for key in columns:
        table.add_column(_COLUMNS[key][0], justify="right")
    for row in rows:
        cells = [_COLUMNS[key][1].format(row[key]) if key in row else "" for key in columns]
        table.add_row(row["variant"], *cells)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=pathlib.Path, help="also write the results to this file")
    parser.add_argument(
        "--rounds", type=int, default=15, help="rounds of training steps; three times for updates"
    )
    parser.add_argument("--batch", type=int, default=32, help="batch size of the ResNet-18")
    flags = parser.parse_args()

    console = rich.console.Console(width=None if sys.stdout.isatty() else 120)
    report: dict[str, Any] = describe_machine() | {"rounds": flags.rounds, "batch": flags.batch}
    console.print(report)
    shapes = {
        "ResNet-50": param_shapes.resnet50(),
        "12-block transformer": param_shapes.transformer(),
    }
    sections = {
        "update": (measure_updates, "{}: one update of all weights; ratios to sgd"),
        "projection": (
            measure_projections,
            "{}: centralization alone, gradients of mean 1e6 and deviation 1; ratios to optax",
        ),
    }
    for section, (measure, title) in sections.items():
        report[section] = {}
        for model, model_shapes in shapes.items():
            report[section][model] = measure(model_shapes, 3 * flags.rounds)
            console.print(make_table(title.format(model), report[section][model]))
    report["train_step"] = measure_train_steps(flags.rounds, flags.batch)
    title = f"ResNet-18: one training step, batch size {flags.batch}"
    console.print(make_table(title, report["train_step"]))
    if flags.json:
        write_report(flags.json, report)


if __name__ == "__main__":
    main()
