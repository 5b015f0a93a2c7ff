"""The pure functions of training that a run compiles: the step, its metrics and its measures."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from train.data.batch import Batch
from train.engine import nonfinite
from train.engine.nonfinite import NonFiniteState
from train.engine.optimizers import Measures, Optimizer
from train.engine.state import TrainState
from train.models.last_layer import freeze_body
from train.tasks.task import MetricSums, Task, means

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Any]]
"""Makes one step; returns the new state and the gradient."""


class StepMetrics(NamedTuple):
    """What the host reads after a dispatch; a copy, because the next dispatch reuses the state.

    Attributes:
      sums: The sums since the last log line.
      nonfinite: The record of non-finite steps.
      learning_rate: float32, (); of the last step that was not skipped.
    """

    sums: MetricSums
    nonfinite: NonFiniteState
    learning_rate: jax.Array


class StepFunctions(NamedTuple):
    """The pure functions of training, which an executor compiles.

    Attributes:
      train: Makes a step.
      metrics: Returns the metrics of a state.
      measure: Returns the measures of a step, from the state before it and its gradient.
    """

    train: TrainStep
    metrics: Callable[[TrainState], StepMetrics]
    measure: Callable[[TrainState, Any], Measures]


def make(
    config: ConfigDict,
    task: Task,
    optimizer: Optimizer,
    seed: jax.typing.ArrayLike,
) -> StepFunctions:
    """Return the functions that a run compiles; `seed` may be traced."""
    return StepFunctions(
        train=make_train_step(config, task, optimizer, seed),
        metrics=lambda state: read_metrics(state, optimizer.schedule),
        measure=lambda before, grads: optimizer.measure(grads, *before.of_optimizer)[1],
    )


def make_train_step(
    config: ConfigDict,
    task: Task,
    optimizer: Optimizer,
    seed: jax.typing.ArrayLike,
) -> TrainStep:
    """Return the training step: augment, differentiate, update.

    All random numbers follow from the seed and the step number.

    With `config.nan_policy` "skip", a step with a non-finite loss or gradient is counted but
    changes nothing else. With `config.optimizer.body_lr_scale` 0, the body has no backward pass.
    """
    frozen = config.optimizer.body_lr_scale == 0
    last_layer = task.last_layer() if frozen else frozenset()

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Any]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        batch = task.augment(key, batch, state.params, state.stats)

        def loss_fn(params):
            params = freeze_body(params, last_layer) if frozen else params
            return task.loss(params, state.stats, batch, key)

        (loss, (stats, sums)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)

        # The sums start again after a log line, also in the first step of a resumed run.
        keep_sums = state.step % config.log_every_steps != 0
        old_sums = jax.tree.map(lambda leaf: jnp.where(keep_sums, leaf, 0), state.sums)
        sums = jax.tree.map(jnp.add, old_sums, sums)

        new = (params, stats, opt_state, sums)
        finiteness = nonfinite.update(state.nonfinite, state.step, loss, grads, optimizer.axes)
        if config.nan_policy == "skip":
            old = (state.params, state.stats, state.opt_state, old_sums)
            skip = finiteness.consecutive > 0
            new = jax.tree.map(lambda new, old: jnp.where(skip, old, new), new, old)
        return TrainState(state.step + 1, *new, finiteness), grads

    return train_step


def read_metrics(state: TrainState, schedule: optax.Schedule) -> StepMetrics:
    """Return the metrics of a state, on the device."""
    return StepMetrics(
        sums=state.sums,
        nonfinite=state.nonfinite,
        learning_rate=schedule(state.step - 1 - state.nonfinite.skipped),
    )


def log_line(metrics: StepMetrics, measures: Measures, config: ConfigDict) -> dict[str, float]:
    """Return the values of a training line of `metrics.jsonl`, on the host."""
    line = means(metrics.sums) | {"learning_rate": float(metrics.learning_rate)}
    line |= {name: float(value) for name, value in measures._asdict().items()}
    if config.nan_policy == "skip":
        line["skipped"] = int(metrics.nonfinite.skipped)
    return line
