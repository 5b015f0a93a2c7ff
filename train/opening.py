"""What a run says of itself before its first step."""

import jax
from ml_collections import ConfigDict

from train.data.inputs import example_unit
from train.engine.state import TrainState
from train.experiment import Experiment
from train.runtime.compilation import Cost


def title(config: ConfigDict) -> str:
    """One line: the model, the data, the optimizer, with or without GC."""
    gc = "without GC" if config.gc.mode == "none" else f"GC {config.gc.mode}"
    return f"{config.model.name} on {config.data.name}, {config.optimizer.name}, {gc}"


def opening(run: Experiment, now: TrainState, cost: Cost) -> str:
    """Some lines: sizes, devices, what the compiler says of the step, where the run begins."""
    num_train, num_test = run.dataset.num_train, run.dataset.num_test
    num_params = sum(leaf.size for leaf in jax.tree.leaves(now.params))
    done = int(now.step)
    begin = f"resuming after step {done:,}" if done else "starting at step 0"
    if run.initial:
        head = "with its last layer" if run.config.init_head else "the last layer anew"
        begin += f" from {run.initial.source}, {head}"
    return (
        f"{title(run.config)}\n"
        f"{num_train:,} {example_unit(run.config)} to train on, {num_test:,} to test; "
        f"{num_params:,} parameters\n"
        f"{run.plan.total_steps:,} steps of {run.config.data.batch_size} on "
        f"{run.sharding.num_devices} {jax.default_backend()} device(s)\n"
        f"compiled in {cost.compile_seconds:.1f} s; a step takes {cost.flops / 1e9:,.1f} GFLOP, "
        f"{cost.bytes_per_device / 2**20:,.0f} MiB a device with the data\n"
        f"{begin}"
    )
