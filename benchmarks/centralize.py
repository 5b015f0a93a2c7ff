"""What centralizing gradients costs: one weight update, and one whole training step.

    python -m benchmarks.centralize [--json FILE] [--rounds N]

The updates run on the weights of a ResNet-50 and of a 12-block transformer: plain SGD, SGD after
`optax_gc.centralize`, SGD after `optax.centralize` (which averages over PyTorch's axes, so here it
is a yardstick of speed and not of the result), SGD after `optax_gc.centralize` over those same
axes, and, where torch is installed, PyTorch's loop of the right arithmetic on the transposed
weights. XLA:CPU sums over leading axes, Flax's fan-in, somewhat slower than over trailing ones; on
the same axes the two libraries compile to the same arithmetic. The training step is the trainer's,
of `configs/cifar100_gc.py`, on random images.

Variants run in turn, A B A B; a ratio is the median over rounds of times measured one after the
other, with its quartiles. Compilation is left out. "Bytes" are those XLA counts for the compiled
program over the fewest possible: each input read once and each output written once.

What else was tried for the projection, timed alone on two cores of a server CPU with JAX 0.10.2
against `optax.centralize`, on the ResNet-50's gradients and the transformer's:

- the fan-in reshaped to one axis before the mean: 1.00 and 1.10, within the noise;
- the mean as a product with a vector of ones: 0.99 and 0.96, and hundreds of times less exact;
- the mean in two levels: 1.04 and 0.96, within the noise, and no more exact;
- the mean kept from fusing with the subtraction: 0.99 and 0.97, within the noise;
- the residual's mean subtracted once more: 1.6 and 1.4, and a second all-reduce where the fan-in is
  sharded; nor is it always exact (2e-2 is left on the ResNet-50's gradients below), perhaps because
  XLA rounds the first difference in two ways where it computes it twice;
- one element of the fan-in subtracted first: 1.5 and 1.2, and a second all-reduce too;
- a compensated sum in one pass over the bytes: 4.4 and 2.1, for XLA does not vectorize it.

So the library takes one mean and subtracts it. What is left is a rounding of that mean. The second
table shows what a second mean would buy on gradients whose means are a million times their spread
(a rounding of such a mean is 0.06 of the spread), and what it would cost.
"""

import argparse
import functools
import importlib.util
import json
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
from benchmarks.machine import machine
from benchmarks.timing import in_turn, summary
from configs import cifar100_gc
from train import models
from train.data.batch import Batch
from train.engine import optimizers
from train.engine.state import create
from train.engine.step import make_train_step
from train.runtime import compilation

Tree = Any


# The weights


def resnet50() -> Tree:
    """Shapes of a ResNet-50's parameters, 25,557,032 in all, in Flax's layout."""
    shapes: Tree = {"stem": {"kernel": (7, 7, 3, 64)}, "stem_norm": _norm(64)}
    width_in = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(blocks):
            kernels = [(1, 1, width_in, width), (3, 3, width, width), (1, 1, width, 4 * width)]
            if block == 0:
                kernels.append((1, 1, width_in, 4 * width))
            shapes[f"stage{stage}_block{block}"] = {
                f"conv{i}": {"kernel": kernel} for i, kernel in enumerate(kernels)
            } | {f"norm{i}": _norm(kernel[-1]) for i, kernel in enumerate(kernels)}
            width_in = 4 * width
    return shapes | {"head": {"kernel": (width_in, 1000), "bias": (1000,)}}


def transformer(
    width: int = 768, heads: int = 12, words: int = 32_000, positions: int = 1024
) -> Tree:
    """Shapes of a 12-block transformer's parameters, in Flax's layout."""
    head = width // heads
    block = {
        **{
            name: {"kernel": (width, heads, head), "bias": (heads, head)}
            for name in ("query", "key", "value")
        },
        "out": {"kernel": (heads, head, width), "bias": (width,)},
        "up": {"kernel": (width, 4 * width), "bias": (4 * width,)},
        "down": {"kernel": (4 * width, width), "bias": (width,)},
        "norm1": _norm(width),
        "norm2": _norm(width),
    }
    return {
        "embedding": (words, width),
        "pos_embedding": (positions, width),
        **{f"block{i}": block for i in range(12)},
        "norm": _norm(width),
    }


def _norm(width: int) -> Tree:
    return {"scale": (width,), "bias": (width,)}


def _normal(shapes: Tree, seed: int, mean: float = 0.0) -> Tree:
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: rng.standard_normal(shape, np.float32) + np.float32(mean),
        shapes,
        is_leaf=lambda node: isinstance(node, tuple),
    )


# One update


def update_costs(shapes: Tree, rounds: int) -> list[dict[str, Any]]:
    """An update of all weights, against plain SGD and against `optax.centralize`."""
    sgd = optax.sgd(1e-9)
    chains = {
        "sgd": sgd,
        "optax_gc.centralize, sgd": optax.chain(optax_gc.centralize(), sgd),
        "the same on optax's axes": optax.chain(optax_gc.centralize(optax_gc.first_axis_out), sgd),
        "optax.centralize, sgd": optax.chain(optax.centralize(), sgd),
    }
    gradients = jax.device_put(_normal(shapes, seed=0))
    fewest = 3 * sum(leaf.nbytes for leaf in jax.tree.leaves(gradients))  # g and w in, w out
    runs, moved = {}, {}
    for name, tx in chains.items():

        def step(params: Tree, gradients: Tree, tx=tx) -> Tree:
            updates, _ = tx.update(gradients, tx.init(params), params)
            return optax.apply_updates(params, updates)

        params = jax.device_put(_normal(shapes, seed=1))
        compiled = jax.jit(step, donate_argnums=0).lower(params, gradients).compile()
        runs[name] = _repeat(compiled, params, gradients)
        moved[name] = _bytes_accessed(compiled) / fewest
    seconds = in_turn(runs, rounds)
    rows = [
        {"variant": name, "bytes_over_fewest": moved[name]}
        | summary(seconds[name], seconds["sgd"])
        | {"ratio_to_optax": summary(seconds[name], seconds["optax.centralize, sgd"])["ratio"]}
        for name in chains
    ]
    if importlib.util.find_spec("torch"):
        for name, run in _torch_updates(shapes).items():  # alone: its threads spin when they wait
            times = in_turn({name: run}, rounds)[name]
            rows.append({"variant": name, "milliseconds": 1e3 * float(np.median(times))})
    return rows


def _repeat(compiled: Callable[..., Tree], carry: Tree, *args: Tree) -> Callable[[], None]:
    def run():
        nonlocal carry
        carry = jax.block_until_ready(compiled(carry, *args))

    return run


def _finish(compiled: Callable[..., Tree], *args: Tree) -> None:
    jax.block_until_ready(compiled(*args))


def _bytes_accessed(compiled: jax.stages.Compiled) -> float:
    return (compiled.cost_analysis() or {}).get("bytes accessed", math.nan)


def _torch_updates(shapes: Tree) -> dict[str, Callable[[], None]]:
    """The loop of PyTorch's SGD, with and without GC in the authors' way, output axis first."""
    import torch

    def tensors(seed):
        leaves = jax.tree_util.tree_flatten_with_path(_normal(shapes, seed))[0]
        fan_ins = [optax_gc.by_name(path, leaf).axes for path, leaf in leaves]
        arrays = [
            _outputs_first(leaf, axes) for (_, leaf), axes in zip(leaves, fan_ins, strict=True)
        ]
        return [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays], fan_ins

    (params, _), (gradients, fan_ins) = tensors(1), tensors(0)

    @torch.no_grad()
    def sgd(gc: bool) -> None:
        for w, g, axes in zip(params, gradients, fan_ins, strict=True):
            if gc and axes:
                g.sub_(g.mean(tuple(range(1, g.ndim)), keepdim=True))
            w.add_(g, alpha=-1e-9)

    return {
        "torch: sgd": functools.partial(sgd, gc=False),
        "torch: gc, sgd": functools.partial(sgd, gc=True),
    }


def _outputs_first(leaf: np.ndarray, fan_in: tuple[int, ...]) -> np.ndarray:
    if not fan_in:
        return leaf
    moved = np.moveaxis(leaf, fan_in, range(-len(fan_in), 0))
    return moved.reshape(-1, *moved.shape[leaf.ndim - len(fan_in) :])


# The projection alone, once and twice


def projection_costs(shapes: Tree, rounds: int) -> list[dict[str, Any]]:
    """Time, and the error left by means of a million times the spread."""
    once = optax_gc.centralize()
    transformations = {
        "optax.centralize": optax.centralize(),
        "optax_gc.centralize": once,
        "the same on optax's axes": optax_gc.centralize(optax_gc.first_axis_out),
        "optax_gc.centralize twice": optax.chain(once, once),
    }
    gradients = _normal(shapes, seed=0, mean=1e6)
    on_device = jax.device_put(gradients)
    fewest = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(gradients))
    runs: dict[str, Callable[[], None]] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name, tx in transformations.items():

        def centralize(gradients: Tree, tx=tx) -> Tree:
            return tx.update(gradients, tx.init(gradients))[0]

        compiled = jax.jit(centralize).lower(on_device).compile()
        rows[name] = {"variant": name, "bytes_over_fewest": _bytes_accessed(compiled) / fewest}
        if name.startswith("optax_gc"):
            rows[name]["residual_mean"] = _largest_mean(compiled(on_device))
        runs[name] = functools.partial(_finish, compiled, on_device)
    seconds = in_turn(runs, rounds)
    return [
        rows[name] | summary(seconds[name], seconds["optax.centralize"]) for name in transformations
    ]


def _largest_mean(centred: Tree) -> float:
    """The largest fan-in mean that is left, in units of the gradients' spread."""
    leaves = jax.tree_util.tree_flatten_with_path(jax.device_get(centred))[0]
    rules = [(leaf, optax_gc.by_name(path, leaf).axes) for path, leaf in leaves]
    return max(
        float(np.abs(leaf.mean(axes, dtype=np.float64)).max()) for leaf, axes in rules if axes
    )


# A whole training step


def resnet18_step(gc: bool, batch_size: int) -> Callable[[], None]:
    """The trainer's step on `configs/cifar100_gc.py`; it updates its own state at each call."""
    config = cifar100_gc.get_config()
    config.gc.mode = "all" if gc else "none"
    config.data.batch_size = batch_size
    model = models.build(config, num_classes=100, input_shape=(32, 32, 3))
    tx = optimizers.build(config, optax.constant_schedule(0.1), models.fan_in_axes(model))
    rng = np.random.default_rng(0)
    batch = Batch(
        inputs=jnp.asarray(rng.integers(0, 256, (batch_size, 32, 32, 3), np.uint8)),
        labels=jnp.asarray(rng.integers(0, 100, batch_size, np.int32)),
        mask=jnp.ones(batch_size, bool),
    )
    state = jax.jit(lambda: create(model, tx, seed=0))()
    train_step = make_train_step(config, model, tx, config.seed)
    step = jax.jit(train_step, donate_argnums=0)
    compiled = step.lower(state, batch).compile(compiler_options=compilation.options())
    return _repeat(compiled, state, batch)


def step_costs(rounds: int, batch: int) -> list[dict[str, Any]]:
    """The training step with GC against the one without."""
    names = {"without gc": False, "with gc": True}
    seconds = in_turn({name: resnet18_step(gc, batch) for name, gc in names.items()}, rounds)
    return [{"variant": name} | summary(seconds[name], seconds["without gc"]) for name in names]


# Reporting


_COLUMNS = {
    "milliseconds": "{:.1f}",
    "ratio": "{:.3f}",
    "ratio_quartiles": "{0[0]:.3f} .. {0[1]:.3f}",
    "ratio_to_optax": "{:.3f}",
    "bytes_over_fewest": "{:.2f}",
    "residual_mean": "{:.1e}",
}


def table(title: str, rows: list[dict[str, Any]]) -> rich.table.Table:
    columns = [column for column in _COLUMNS if any(column in row for row in rows)]
    out = rich.table.Table(title=title)
    out.add_column("variant", no_wrap=True)
    for column in columns:
        out.add_column(column.replace("_", " "), justify="right")
    for row in rows:
        cells = [
            _COLUMNS[column].format(row[column]) if column in row else "" for column in columns
        ]
        out.add_row(row["variant"], *cells)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here too")
    parser.add_argument("--rounds", type=int, default=15, help="steps timed; three updates to each")
    parser.add_argument("--batch", type=int, default=32, help="images in the ResNet-18's step")
    flags = parser.parse_args()

    console = rich.console.Console(width=None if sys.stdout.isatty() else 120)
    report: dict[str, Any] = machine() | {"rounds": flags.rounds, "batch": flags.batch}
    console.print(report)
    models = {"ResNet-50": resnet50(), "12-block transformer": transformer()}
    for section, title, costs in (
        ("update", "one update of a {}'s weights; ratios to sgd", update_costs),
        (
            "projection",
            "the projection alone on a {}'s gradients of mean 1e6, spread 1; ratios to optax's",
            projection_costs,
        ),
    ):
        report[section] = {}
        for model, shapes in models.items():
            report[section][model] = costs(shapes, 3 * flags.rounds)
            console.print(table(title.format(model), report[section][model]))
    report["train_step"] = step_costs(flags.rounds, flags.batch)
    console.print(table(f"a ResNet-18's step on {flags.batch} images", report["train_step"]))
    if flags.json:
        flags.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
