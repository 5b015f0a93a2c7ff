"""The pure functions that a run compiles: a training step, evaluation and prediction of a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from train.data.batch import Batch
from train.data.inputs import to_model_inputs
from train.engine import attacks, nonfinite
from train.engine.attacks import Attack
from train.engine.nonfinite import NonFiniteState
from train.engine.optimizers import Measures, Optimizer
from train.engine.state import MetricSums, TrainState
from train.models.functional import Model
from train.models.last_layer import freeze_body

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Any]]
"""Makes one step; returns the new state and the gradient."""
EvalStep = Callable[[Any, Any, MetricSums, Batch], MetricSums]

_DROPOUT = 2  # folded into the step's key; the augmentation's keys are split from the same key


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


class BatchPredictions(NamedTuple):
    """The model's outputs for a batch.

    Attributes:
      logits: float32, (batch, classes).
      labels: int32, (batch,).
      mask: bool, (batch,); False for padding.
    """

    logits: jax.Array
    labels: jax.Array
    mask: jax.Array


PredictStep = Callable[[Any, Any, Batch], BatchPredictions]


class StepFunctions(NamedTuple):
    """The pure functions of a run, which an executor compiles.

    Attributes:
      train: Makes a step.
      metrics: Returns the metrics of a state.
      measure: Returns the measures of a step, from the state before it and its gradient.
      evaluate: Evaluates a batch.
      predict: Predicts a batch.
      evaluate_attacked: Evaluates a batch under attack, if `config.adversary.eval_steps` is set.
    """

    train: TrainStep
    metrics: Callable[[TrainState], StepMetrics]
    measure: Callable[[TrainState, Any], Measures]
    evaluate: EvalStep
    predict: PredictStep
    evaluate_attacked: EvalStep | None = None


def make(
    config: ConfigDict,
    model: Model,
    optimizer: Optimizer,
    seed: jax.typing.ArrayLike,
) -> StepFunctions:
    """Return the functions that a run compiles; `seed` may be traced."""
    attack = attacks.eval_attack(config)
    return StepFunctions(
        train=make_train_step(config, model, optimizer, seed),
        metrics=lambda state: read_metrics(state, optimizer.schedule),
        measure=lambda before, grads: optimizer.measure(grads, *before.of_optimizer)[1],
        evaluate=make_eval_step(config, model),
        predict=make_predict_step(config, model),
        evaluate_attacked=make_eval_step(config, model, attack, seed) if attack else None,
    )


def make_train_step(
    config: ConfigDict,
    model: Model,
    optimizer: Optimizer,
    seed: jax.typing.ArrayLike,
) -> TrainStep:
    """Return the training step: prepare inputs, attack them, differentiate, update.

    All random numbers follow from the seed and the step number.

    With `config.nan_policy` "skip", a step with a non-finite loss or gradient is counted but
    changes nothing else. With `config.optimizer.body_lr_scale` 0, the body is applied as in
    evaluation, so its running statistics do not change, and it has no backward pass.
    """
    frozen = config.optimizer.body_lr_scale == 0
    attack = attacks.make(attacks.train_attack(config), config, model, train=not frozen)
    last_layer = model.last_layer() if frozen else frozenset()

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Any]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        perturb = attack and attack(key, batch.labels, state.params, state.stats)
        inputs = to_model_inputs(batch.inputs, config, key, perturb)

        def loss_fn(params):
            params = freeze_body(params, last_layer) if frozen else params
            dropout_key = jax.random.fold_in(key, _DROPOUT)
            logits, stats = model.apply(params, state.stats, inputs, not frozen, dropout_key)
            sums = _metric_sums(logits, batch)
            return sums.loss / sums.examples, (stats, sums)

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


def make_eval_step(
    config: ConfigDict,
    model: Model,
    attack: Attack | None = None,
    seed: jax.typing.ArrayLike = 0,
) -> EvalStep:
    """Return the evaluation of a batch, which adds to the sums of the batches before it.

    It uses the running statistics and ignores masked examples. The random numbers of an attack
    follow from the seed and from the number of examples before the batch.
    """
    perturb_batch = attacks.make(attack, config, model, train=False)

    def eval_step(params: Any, stats: Any, sums: MetricSums, batch: Batch) -> MetricSums:
        key = attacks.eval_key(seed, sums.examples)
        perturb = perturb_batch and perturb_batch(key, batch.labels, params, stats)
        inputs = to_model_inputs(batch.inputs, config, perturb=perturb)
        logits, _ = model.apply(params, stats, inputs, False)
        return jax.tree.map(jnp.add, sums, _metric_sums(logits, batch))

    return eval_step


def make_predict_step(config: ConfigDict, model: Model) -> PredictStep:
    """Return the prediction of a batch, with the running statistics."""

    def predict_step(params: Any, stats: Any, batch: Batch) -> BatchPredictions:
        logits, _ = model.apply(params, stats, to_model_inputs(batch.inputs, config), False)
        return BatchPredictions(logits.astype(jnp.float32), batch.labels, batch.mask)

    return predict_step


def read_metrics(state: TrainState, schedule: optax.Schedule) -> StepMetrics:
    """Return the metrics of a state, on the device."""
    return StepMetrics(
        sums=state.sums,
        nonfinite=state.nonfinite,
        learning_rate=schedule(state.step - 1 - state.nonfinite.skipped),
    )


def log_line(metrics: StepMetrics, measures: Measures, config: ConfigDict) -> dict[str, float]:
    """Return the values of a training line of `metrics.jsonl`, on the host."""
    line = metrics.sums.means() | {"learning_rate": float(metrics.learning_rate)}
    line |= {name: float(value) for name, value in measures._asdict().items()}
    if config.nan_policy == "skip":
        line["skipped"] = int(metrics.nonfinite.skipped)
    return line


def _metric_sums(logits: jax.Array, batch: Batch) -> MetricSums:
    """Return the sums over a batch.

    A label is in the top k if fewer than k other logits are at least as large as its logit.
    """
    logits = logits.astype(jnp.float32)
    weight = batch.mask.astype(jnp.float32)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
    label_logits = jnp.take_along_axis(logits, batch.labels[:, None], axis=1)
    # Ties and NaN count against the label, so that constant or NaN logits score nothing.
    num_lower = jnp.sum(logits < label_logits, axis=1)
    rank = logits.shape[1] - 1 - num_lower
    return MetricSums(
        examples=jnp.sum(weight),
        loss=jnp.sum(weight * loss),
        top1=jnp.sum(weight * (rank < 1)),
        top5=jnp.sum(weight * (rank < 5)),
    )
