"""How fast the trainer is: against its own bare step, without GC, and against PyTorch.

    python -m benchmarks.trainer [--config NAME] [--batch N] [--precision P] [--json FILE]

"whole loop" is what `train.loop` does between two pauses: order, batches and augmentation on the
device, dispatches, figures read and checked, lines in `metrics.jsonl`, progress; no evaluation and
no checkpoint. "bare step" is the same jitted step on one batch that never changes: nothing but the
step can be faster. "steps with GC" and "without" are the compiled steps over the data set.

Where torch is installed the same training is written in PyTorch: eager, batches made on the CPU,
as the authors' code does in spirit, and compiled, channels_last, with everything on the device (on
a GPU also with CUDA graphs). Model, batch, precision, augmentation, optimizer and GC are the same;
bfloat16 is PyTorch's autocast.

All of them run in turn, and a ratio is the median over rounds of two times of the same round, with
its quartiles. Compilation and the first round are left out. The images are made up, 50,000 as
CIFAR-100 has. Of steps too slow for a log line in each measurement, only some have one.
"""

import argparse
import functools
import importlib
import importlib.util
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # so that PyTorch has memory too

import jax
import numpy as np
import rich.console
import rich.table
from ml_collections import ConfigDict

from benchmarks import jax_loop, synthetic_data
from benchmarks.jax_loop import Loop
from benchmarks.machine import machine
from benchmarks.timing import count_for, in_turn, paired
from train import experiment
from train.config import validate
from train.data.dataset import Dataset
from train.runtime import huge_pages

CONFIGS = ("cifar100_resnet20_gc", "cifar100_gc")
IMAGES = 50_000

WHOLE, WITH, WITHOUT = "whole loop", "steps with GC", "steps without GC"
PRODUCTS = "matrix products"


def torch_loops(
    config: ConfigDict, dataset: Dataset, num_params: int
) -> tuple[dict[str, Loop], dict[str, str]]:
    """PyTorch's loops, each past its first steps, and why others are left out."""
    if not importlib.util.find_spec("torch"):
        return {}, {"PyTorch": "torch is not installed"}
    import torch

    from benchmarks import torch_loop

    device = {"cpu": "cpu", "gpu": "cuda"}.get(jax.default_backend())
    if device is None or jax.device_count() > 1:
        return {}, {"PyTorch": "is compared on one GPU or on the CPU"}
    if device == "cuda" and not torch.cuda.is_available():
        return {}, {"PyTorch": "this torch does not see the GPU"}
    loops: dict[str, Loop] = {}
    skipped = {}
    for name, way in torch_loop.ways(device).items():
        loop = torch_loop.Loop(config, dataset, device, way, num_params)
        try:
            loop(3)  # compiles
        except Exception as error:  # whatever torch.compile can raise on a machine unknown to us
            skipped[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        else:
            loops[name] = loop
    return loops, skipped


def measure(config: ConfigDict, rounds: int, seconds: float) -> dict[str, Any]:
    """Seconds of every variant in every round, and what they are of."""
    dataset = synthetic_data.dataset(IMAGES)
    run = experiment.prepare(config, dataset)
    first = run.init_state()
    programs = run.compile(first)
    num_params = sum(leaf.size for leaf in jax.tree.leaves(first.params))
    without = config.copy_and_resolve_references()
    without.gc.mode = "none"
    run_without = experiment.prepare(without, dataset)
    loops = {
        WITH: jax_loop.dispatched(run, programs),
        WITHOUT: jax_loop.dispatched(run_without, run_without.compile(run_without.init_state())),
        **jax_loop.bare_steps(run, dataset),
    }
    torchs, skipped = torch_loops(config, dataset, num_params)
    steps = count_for(seconds, loops[WITH])
    steps -= steps % config.log_every_steps if steps > config.log_every_steps else 0
    multiply, product_flops = jax_loop.products(config.precision)
    count = count_for(seconds, multiply)
    with (
        tempfile.TemporaryDirectory() as folder,
        jax_loop.whole_loop(run, programs, steps, pathlib.Path(folder)) as whole,
    ):
        variants: dict[str, Callable[[], Any]] = {WHOLE: whole}
        for name, loop in (loops | torchs).items():
            variants[name] = functools.partial(loop, steps)
        variants[PRODUCTS] = functools.partial(multiply, count)
        times = in_turn(variants, rounds)
    peak = count * product_flops / times.pop(PRODUCTS)
    return {
        "steps": steps,
        "parameters": num_params,
        "flops_per_step": programs.cost.flops,
        "matrix_peak_tflops": float(np.median(peak)) / 1e12,
        "share_of_peak": float(np.median(programs.cost.flops * steps / times[WHOLE] / peak)),
        "skipped": skipped,
        "seconds": {name: list(map(float, values)) for name, values in times.items()},
    }


def comparisons(seconds: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Ratios of images per second, of which those to the faster bare step count."""
    bare = sorted((name for name in seconds if "bare" in name), key=lambda n: np.median(seconds[n]))
    others = [name for name in seconds if "PyTorch" in name]
    pairs = [(WHOLE, name) for name in (*bare, *others)] + [(WITH, WITHOUT)]
    return [
        {"images_per_second_of": name, "over": other} | paired(seconds[other], seconds[name])
        for name, other in pairs
    ]


def rates(seconds: dict[str, np.ndarray], steps: int, batch: int) -> list[dict[str, Any]]:
    """Medians of each variant."""
    return [
        {
            "variant": name,
            "images_per_second": float(np.median(steps * batch / times)),
            "milliseconds_per_step": 1e3 * float(np.median(times)) / steps,
        }
        for name, times in seconds.items()
    ]


def show(console: rich.console.Console, title: str, report: dict[str, Any]) -> None:
    speeds = rich.table.Table(title=title)
    for column in ("variant", "images/s", "ms a step"):
        speeds.add_column(column, justify="left" if column == "variant" else "right")
    for row in report["rates"]:
        numbers = row["images_per_second"], row["milliseconds_per_step"]
        speeds.add_row(row["variant"], f"{numbers[0]:,.0f}", f"{numbers[1]:,.2f}")
    console.print(speeds)
    ratios = rich.table.Table(title="images/s of one over the other's")
    for column in ("of", "over", "ratio", "quartiles"):
        ratios.add_column(column, justify="right" if column in ("ratio", "quartiles") else "left")
    for row in report["ratios"]:
        low, high = row["ratio_quartiles"]
        names = row["images_per_second_of"], row["over"]
        ratios.add_row(*names, f"{row['ratio']:.3f}", f"{low:.3f} .. {high:.3f}")
    console.print(ratios)
    console.print(
        f"{report['flops_per_step'] / 1e9:,.1f} GFLOP a step: the whole loop makes "
        f"{100 * report['share_of_peak']:.1f} % of the {report['matrix_peak_tflops']:,.2f} TFLOP/s "
        f"of large {report['precision']} matrix products"
    )
    for name, reason in report["skipped"].items():
        console.print(f"not measured: {name}: {reason}", markup=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", choices=CONFIGS, default=CONFIGS[0])
    parser.add_argument("--batch", type=int, help="images in a step; default: the config's")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement, about")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here too")
    flags = parser.parse_args()
    config = importlib.import_module(f"configs.{flags.config}").get_config()
    config.data.batch_size = flags.batch or config.data.batch_size
    config.precision = flags.precision
    validate(config)

    console = rich.console.Console(width=None if sys.stdout.isatty() else 120)
    batch = config.data.batch_size
    report: dict[str, Any] = machine() | {
        "config": flags.config,
        "batch": batch,
        "precision": config.precision,
        "rounds": flags.rounds,
    }
    console.print(report)
    report |= measure(config, flags.rounds, flags.seconds)
    seconds = {name: np.array(times) for name, times in report["seconds"].items()}
    report["rates"] = rates(seconds, report["steps"], batch)
    report["ratios"] = comparisons(seconds)
    show(console, f"{config.model.name}, {batch} images a step, {config.precision}", report)
    if flags.json:
        flags.json.parent.mkdir(parents=True, exist_ok=True)
        flags.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    huge_pages.enable_huge_pages()  # as the trainer's own command does
    main()
