"""Compare the trainer's speed with its bare step, with training without GC, and with PyTorch.

    python -m benchmarks.trainer [--config NAME] [--batch N] [--precision P] [--json FILE]

- "whole loop": the work of `train.loop` between two pauses: the order of the examples, batches and
  augmentation on the device, dispatches, reading and checking metrics, lines in `metrics.jsonl`,
  progress. It contains no evaluation and no checkpoint. If steps are too slow for a log line in
  each measurement, only some measurements contain one.
- "bare step": the same jitted step, always on the same batch. It is an upper bound of the speed.
- "steps with GC", "steps without GC": the compiled steps over the data set.
- PyTorch, if torch is installed: eager with batches made on the CPU, like the authors' code, and
  compiled with channels_last and all data on the device; on a GPU also with CUDA graphs. Model,
  batch size, precision, augmentation, optimizer and GC are the same; bfloat16 uses autocast.

All variants run interleaved. A ratio is the median over the rounds of the ratio of two times of the
same round, with its quartiles. Compilation and the first round are not included. The data set is
50,000 random images of CIFAR-100's shape.
"""

import argparse
import functools
import importlib
import importlib.util
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leaves memory for PyTorch

import jax
import numpy as np
import rich.console
import rich.table
from ml_collections import ConfigDict

from benchmarks import jax_loop
from benchmarks.jax_loop import Loop
from benchmarks.report import describe_machine, write_report
from benchmarks.synthetic_data import random_dataset
from benchmarks.timing import paired_ratio, repeats_for, time_interleaved
from train import experiment
from train.config import validate
from train.data.dataset import Dataset
from train.runtime import huge_pages

CONFIGS = ("cifar100_resnet20_gc", "cifar100_gc")
NUM_IMAGES = 50_000

WHOLE, WITH, WITHOUT = "whole loop", "steps with GC", "steps without GC"
PRODUCTS = "matrix products"


def make_torch_loops(
    config: ConfigDict, dataset: Dataset, num_params: int
) -> tuple[dict[str, Loop], dict[str, str]]:
    """Return PyTorch's loops after warm-up, and the reasons why others are left out."""
    if not importlib.util.find_spec("torch"):
        return {}, {"PyTorch": "torch is not installed"}
    import torch

    from benchmarks import torch_loop

    device = {"cpu": "cpu", "gpu": "cuda"}.get(jax.default_backend())
    if device is None or jax.device_count() > 1:
        return {}, {"PyTorch": "it is measured on one GPU or on the CPU only"}
    if device == "cuda" and not torch.cuda.is_available():
        return {}, {"PyTorch": "this torch does not find the GPU"}
    loops: dict[str, Loop] = {}
    skipped = {}
    for name, settings in torch_loop.variants(device).items():
        loop = torch_loop.Loop(config, dataset, device, settings, num_params)
        try:
            loop(3)  # compiles
        except Exception as error:  # torch.compile can raise many types
            skipped[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        else:
            loops[name] = loop
    return loops, skipped


def measure(config: ConfigDict, rounds: int, seconds: float) -> dict[str, Any]:
    """Return the seconds of every variant in every round, and figures about the step."""
    dataset = random_dataset(NUM_IMAGES)
    run = experiment.prepare(config, dataset)
    state = run.init_state()
    executor = run.compile(state)
    num_params = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    config_without = config.copy_and_resolve_references()
    config_without.gc.mode = "none"
    run_without = experiment.prepare(config_without, dataset)
    executor_without = run_without.compile(run_without.init_state())
    loops = {
        WITH: jax_loop.dispatched_steps(run, executor),
        WITHOUT: jax_loop.dispatched_steps(run_without, executor_without),
        **jax_loop.bare_steps(run, dataset),
    }
    torch_loops, skipped = make_torch_loops(config, dataset, num_params)
    num_steps = repeats_for(seconds, loops[WITH])
    if num_steps > config.log_every_steps:
        num_steps -= num_steps % config.log_every_steps
    multiply, product_flops = jax_loop.matrix_products(config.precision)
    num_products = repeats_for(seconds, multiply)
    with (
        tempfile.TemporaryDirectory() as folder,
        jax_loop.whole_loop(run, executor, num_steps, pathlib.Path(folder)) as whole,
    ):
        variants: dict[str, Callable[[], Any]] = {WHOLE: whole}
        for name, loop in (loops | torch_loops).items():
            variants[name] = functools.partial(loop, num_steps)
        variants[PRODUCTS] = functools.partial(multiply, num_products)
        times = time_interleaved(variants, rounds)
    peak = num_products * product_flops / times.pop(PRODUCTS)
    share = executor.cost.flops * num_steps / times[WHOLE] / peak
    return {
        "steps": num_steps,
        "parameters": num_params,
        "flops_per_step": executor.cost.flops,
        "matrix_peak_tflops": float(np.median(peak)) / 1e12,
        "share_of_peak": float(np.median(share)),
        "skipped": skipped,
        "seconds": {name: list(map(float, values)) for name, values in times.items()},
    }


def compute_ratios(seconds: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return ratios of images/s: the whole loop over the others, and with GC over without."""
    bare = sorted((name for name in seconds if "bare" in name), key=lambda n: np.median(seconds[n]))
    torch_names = [name for name in seconds if "PyTorch" in name]
    pairs = [(WHOLE, name) for name in (*bare, *torch_names)] + [(WITH, WITHOUT)]
    return [
        {"images_per_second_of": name, "over": other} | paired_ratio(seconds[other], seconds[name])
        for name, other in pairs
    ]


def compute_rates(
    seconds: dict[str, np.ndarray], num_steps: int, batch_size: int
) -> list[dict[str, Any]]:
    """Return the median speed of each variant."""
    return [
        {
            "variant": name,
            "images_per_second": float(np.median(num_steps * batch_size / times)),
            "milliseconds_per_step": 1e3 * float(np.median(times)) / num_steps,
        }
        for name, times in seconds.items()
    ]


def print_report(console: rich.console.Console, title: str, report: dict[str, Any]) -> None:
    """Print the tables of speeds and ratios, and the share of the peak."""
    speeds = rich.table.Table(title=title)
    for column in ("variant", "images/s", "ms per step"):
        speeds.add_column(column, justify="left" if column == "variant" else "right")
    for row in report["rates"]:
        numbers = row["images_per_second"], row["milliseconds_per_step"]
        speeds.add_row(row["variant"], f"{numbers[0]:,.0f}", f"{numbers[1]:,.2f}")
    console.print(speeds)
    ratios = rich.table.Table(title="ratios of images/s")
    for column in ("variant", "over", "ratio", "quartiles"):
        ratios.add_column(column, justify="right" if column in ("ratio", "quartiles") else "left")
    for row in report["ratios"]:
        low, high = row["ratio_quartiles"]
        names = row["images_per_second_of"], row["over"]
        ratios.add_row(*names, f"{row['ratio']:.3f}", f"{low:.3f} .. {high:.3f}")
    console.print(ratios)
    console.print(
        f"a step has {report['flops_per_step'] / 1e9:,.1f} GFLOP; the whole loop reaches "
        f"{100 * report['share_of_peak']:.1f} % of the {report['matrix_peak_tflops']:,.2f} TFLOP/s "
        f"of large {report['precision']} matrix products"
    )
    for name, reason in report["skipped"].items():
        console.print(f"not measured: {name}: {reason}", markup=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", choices=CONFIGS, default=CONFIGS[0])
    parser.add_argument("--batch", type=int, help="batch size; default: that of the config")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5.0, help="approximate, per measurement")
    parser.add_argument("--json", type=pathlib.Path, help="also write the results to this file")
    flags = parser.parse_args()
    config = importlib.import_module(f"configs.{flags.config}").get_config()
    config.data.batch_size = flags.batch or config.data.batch_size
    config.precision = flags.precision
    validate(config)

    console = rich.console.Console(width=None if sys.stdout.isatty() else 120)
    batch_size = config.data.batch_size
    report: dict[str, Any] = describe_machine() | {
        "config": flags.config,
        "batch": batch_size,
        "precision": config.precision,
        "rounds": flags.rounds,
    }
    console.print(report)
    report |= measure(config, flags.rounds, flags.seconds)
    seconds = {name: np.array(times) for name, times in report["seconds"].items()}
    report["rates"] = compute_rates(seconds, report["steps"], batch_size)
    report["ratios"] = compute_ratios(seconds)
    title = f"{config.model.name}, batch size {batch_size}, {config.precision}"
    print_report(console, title, report)
    if flags.json:
        write_report(flags.json, report)


if __name__ == "__main__":
    huge_pages.enable_huge_pages()  # as the trainer's command does
    main()
