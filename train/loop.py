"""`train()`: the story of a run."""

import time
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from train import config as configs
from train import experiment
from train.checkpoint import Checkpoints
from train.clock import Clock
from train.evaluate import evaluate
from train.experiment import Experiment
from train.optimizers import removed_fraction
from train.report import Report
from train.state import TrainState, restart_sums
from train.workdir import WorkDir


def train(config: ConfigDict, folder: Path) -> dict[str, Any]:
    """Trains what `config` describes, or goes on where an earlier call was stopped.

    Args:
      config: see `train.config.default`.
      folder: the work folder; a finished run's is left as it is.

    Returns:
      The contents of `summary.json`.

    Raises:
      UserError: something that a person can mend; nothing has been written or compiled then.
    """
    clock = Clock()
    configs.validate(config)
    work = WorkDir(folder, config)
    if summary := work.finished():
        print(f"already finished: test top-1 {summary['test_top1']:.4f}; see {work.summary}")
        return summary
    run = experiment.prepare(config)
    work.create()

    with Checkpoints(work.checkpoints, config.checkpoint.keep) as checkpoints:
        now = checkpoints.restore(run.first_state(), clock)
        compile_start = time.monotonic()
        train_step = run.compile_train_step(now)
        eval_step = run.compile_eval_step()
        done = int(now.step)
        with Report(work, run.plan, clock, done) as report:
            report.say(_opening(run, now, time.monotonic() - compile_start))
            while done < run.plan.total_steps:
                stop = run.plan.next_stop(done)
                with clock.training(images=(stop - done) * config.data.batch_size):
                    for batch in run.train_batches(done, stop):
                        now = train_step(now, batch)
                    jax.block_until_ready(now)
                done = stop
                if done in run.plan.log:
                    report.train(done, **_figures(run, now))
                    now = restart_sums(now)
                if done in run.plan.test:
                    report.test(done, **evaluate(eval_step, now, run.test_batches()))
                if done in run.plan.save:
                    checkpoints.save(done, now, clock)
            summary = report.finish(now, _title(config))
    print(f"test top-1 {summary['test_top1']:.4f}\nsummary: {work.summary}\nplot: {work.curves}")
    return summary


def _figures(run: Experiment, now: TrainState) -> dict[str, float]:
    last_step = int(now.step) - 1
    return now.sums.means() | {
        "learning_rate": float(run.learning_rate(last_step)),
        "gc_removed_fraction": float(removed_fraction(now.opt_state)),
    }


def _title(config: ConfigDict) -> str:
    gc = "without GC" if config.gc.mode == "none" else f"GC {config.gc.mode}"
    return f"{config.model.name} on {config.data.name}, {config.optimizer.name}, {gc}"


def _opening(run: Experiment, now: TrainState, compile_seconds: float) -> str:
    examples = len(run.dataset.train.labels), len(run.dataset.test.labels)
    num_params = sum(leaf.size for leaf in jax.tree.leaves(now.params))
    done = int(now.step)
    return (
        f"{_title(run.config)}\n"
        f"{examples[0]:,} images to train on, {examples[1]:,} to test; {num_params:,} parameters\n"
        f"{run.plan.total_steps:,} steps of {run.config.data.batch_size} on "
        f"{run.placement.num_devices} {jax.default_backend()} device(s), "
        f"compiled in {compile_seconds:.1f} s\n"
        + (f"resuming after step {done:,}" if done else "starting at step 0")
    )
