"""`summary.json`: the results of a finished run."""

from typing import Any

import jax
import numpy as np

from train.engine.averaging import eval_params
from train.engine.plan import Plan
from train.engine.state import TrainState, sha256
from train.output.metrics import MetricsFile
from train.output.timer import Timer
from train.tasks.task import Task, summary_name


def make_summary(
    metrics: MetricsFile, task: type[Task], state: TrainState, plan: Plan, timer: Timer
) -> dict[str, Any]:
    """Return the summary of a run from its last lines, its last state and its times."""
    train_lines, test_line = metrics.of_split("train"), metrics.of_split("test")[-1]
    removed = [line["gc_removed_fraction"] for line in train_lines]
    removed = [share for share in removed if share is not None]
    first = task.headline.name
    not_metrics = {first, "step", "split", "epoch"}
    names = [first, *(name for name in test_line if name not in not_metrics)]
    timer.tick()
    return {
        **{summary_name(task, name): test_line[name] for name in names},
        "train_loss": train_lines[-1]["loss"] if train_lines else None,
        "steps": int(state.step),
        "epochs": plan.epoch(int(state.step)),
        "images_per_second": timer.examples_per_second(),
        "train_seconds": timer.train_seconds,
        "wall_seconds": timer.wall_seconds,
        "gc_removed_fraction": float(np.mean(removed)) if removed else None,
        "num_params": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "params_sha256": sha256(eval_params(state.opt_state, state.params)),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
    }
