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
from train.models.last_layer import freeze, freeze_body
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
    changes nothing else.
    """
    differentiate = make_differentiate(config, task)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Any]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        batch = task.augment(key, batch, state.params, state.stats)
        loss, stats, sums, grads = differentiate(state.params, state.stats, batch, key)
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


class Differentiated(NamedTuple):
    """The result of a backward pass.

    Attributes:
      loss: float32, ().
      stats: The new running statistics.
      sums: The sums over the batch.
      grads: The gradient of the loss.
    """

    loss: jax.Array
    stats: Any
    sums: MetricSums
    grads: Any


def make_differentiate(
    config: ConfigDict, task: Task
) -> Callable[[Any, Any, Any, jax.Array], Differentiated]:
    """Return a function of parameters, statistics, a prepared batch and the key of the step.

    Frozen weights have no backward pass: those under `config.optimizer.freeze`, and with
    `config.optimizer.body_lr_scale` 0 all but the last layer.

    With `config.accumulate`, the batch is divided into parts. Their gradients are computed one
    after another and averaged, so a step needs the memory of one part. The gradient is that of the
    whole batch, except for what depends on the batch: batch normalization and dropout.
    """
    settings, parts = config.optimizer, config.accumulate
    last_layer = task.last_layer() if settings.body_lr_scale == 0 else None

    def whole(params: Any, stats: Any, batch: Any, key: jax.Array) -> Differentiated:
        def loss_fn(params):
            params = freeze_body(params, last_layer) if last_layer else params
            params = freeze(params, settings.freeze) if settings.freeze else params
            return task.loss(params, stats, batch, key)

        (loss, (new_stats, sums)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        return Differentiated(loss, new_stats, sums, grads)

    def in_parts(params: Any, stats: Any, batch: Any, key: jax.Array) -> Differentiated:
        # A part has every n-th example, so that each device has an equal share of each part.
        rows = jax.tree.map(lambda array: array.reshape(-1, parts, *array.shape[1:]), batch)

        def part(index: jax.Array | int, stats: Any) -> Differentiated:
            examples = jax.tree.map(lambda array: array[:, index], rows)
            return whole(params, stats, examples, jax.random.fold_in(key, index))

        def add_part(index: jax.Array, total: Differentiated) -> Differentiated:
            new = part(index, total.stats)
            return jax.tree.map(jnp.add, total._replace(stats=()), new._replace(stats=()))._replace(
                stats=new.stats
            )

        total = jax.lax.fori_loop(1, parts, add_part, part(0, stats))
        grads = jax.tree.map(lambda grad: grad / parts, total.grads)
        return total._replace(loss=total.loss / parts, grads=grads)

    return whole if parts == 1 else in_parts


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
    line |= {name: float(value) for name, value in measures.by_name().items()}
    if config.nan_policy == "skip":
        line["skipped"] = int(metrics.nonfinite.skipped)
    return line
