"""The pure functions that a run compiles: one training step, one batch of evaluation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from train import models
from train.data.batch import Batch
from train.data.inputs import standardized, values
from train.engine import attacks, figures
from train.engine.attacks import Attack
from train.engine.figures import StepMetrics
from train.engine.nonfinite import examine
from train.engine.state import MetricSums, TrainState
from train.models import Model

TrainStep = Callable[[TrainState, Batch], TrainState]
EvalStep = Callable[[Any, Any, MetricSums, Batch], MetricSums]

_DROPOUT = 2  # the augmentation splits its keys, numbers 0 and 1, off the same key


class BatchPredictions(NamedTuple):
    """What a network answers to a batch, and which of it counts."""

    logits: jax.Array  # float32, (batch, classes)
    labels: jax.Array  # int32, (batch,)
    mask: jax.Array  # bool, (batch,)


PredictStep = Callable[[Any, Any, Batch], BatchPredictions]


class Steps(NamedTuple):
    """The pure functions of a run, for `ResidentExecutor` and `StreamingExecutor` to compile."""

    train: TrainStep
    figures: Callable[[TrainState], StepMetrics]
    evaluate: EvalStep
    predict: PredictStep
    evaluate_attacked: EvalStep | None = None  # if `config.adversary` attacks the test split


def make(
    config: ConfigDict,
    model: Model,
    tx: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    seed: jax.typing.ArrayLike,
) -> Steps:
    """All that a run computes with its data; `seed` may be traced."""
    attack = attacks.of_evaluation(config)
    return Steps(
        train=make_train_step(config, model, tx, seed),
        figures=lambda state: figures.of(state, learning_rate),
        evaluate=make_eval_step(config, model),
        predict=make_predict_step(config, model),
        evaluate_attacked=make_eval_step(config, model, attack, seed) if attack else None,
    )


def make_train_step(
    config: ConfigDict,
    model: Model,
    tx: optax.GradientTransformation,
    seed: jax.typing.ArrayLike,
) -> TrainStep:
    """Prepare the inputs, attack if `config.adversary` says so, differentiate, update.

    The random numbers are those of (seed, step).

    Where `config.nan_policy` is "skip", a step whose loss or gradient is not finite counts as done
    and changes nothing else. Where `config.optimizer.body_lr_scale` is 0, the body runs as it does when
    it is tested, so that its running statistics stay what they are, and has no backward pass.
    """
    frozen = config.optimizer.body_lr_scale == 0
    attack = attacks.make(attacks.of_training(config), config, model, train=not frozen)

    def train_step(state: TrainState, batch: Batch) -> TrainState:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        pixels = values(batch.inputs, config, key)
        inputs = standardized(attack(key, pixels, batch.labels, state.params, state.stats), config)
        dropout_key = jax.random.fold_in(key, _DROPOUT)

        def loss_fn(params):
            params = models.freeze_body(params) if frozen else params
            logits, stats = model.apply(params, state.stats, inputs, not frozen, dropout_key)
            sums = _score(logits, batch)
            return sums.loss / sums.examples, (stats, sums)

        (loss, (stats, sums)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        health = examine(state.health, state.step, loss, grads)

        # A log line starts its sums anew; which step that is follows from the step alone.
        goes_on = state.step % config.log_every_steps != 0
        old_sums = jax.tree.map(lambda leaf: jnp.where(goes_on, leaf, 0), state.sums)
        old = (state.params, state.stats, state.opt_state, old_sums)
        new = (
            optax.apply_updates(state.params, updates),
            stats,
            opt_state,
            jax.tree.map(jnp.add, old_sums, sums),
        )
        if config.nan_policy == "skip":
            new = jax.tree.map(lambda n, o: jnp.where(health.consecutive, o, n), new, old)
        return TrainState(state.step + 1, *new, health)

    return train_step


def make_eval_step(
    config: ConfigDict,
    model: Model,
    attack: Attack | None = None,
    seed: jax.typing.ArrayLike = 0,
) -> EvalStep:
    """Scores one batch with the running statistics; masked examples count for nothing.

    Under an attack, its random numbers are those of the seed and of the number of examples before
    the batch.
    """
    perturb = attacks.make(attack, config, model, train=False)

    def eval_step(params: Any, stats: Any, sums: MetricSums, batch: Batch) -> MetricSums:
        key = attacks.evaluation_key(seed, sums.examples)
        pixels = perturb(key, values(batch.inputs, config), batch.labels, params, stats)
        logits, _ = model.apply(params, stats, standardized(pixels, config), False)
        return jax.tree.map(jnp.add, sums, _score(logits, batch))

    return eval_step


def make_predict_step(config: ConfigDict, model: Model) -> PredictStep:
    """BatchPredictions one batch with the running statistics."""

    def predict_step(params: Any, stats: Any, batch: Batch) -> BatchPredictions:
        inputs = standardized(values(batch.inputs, config), config)
        logits, _ = model.apply(params, stats, inputs, False)
        return BatchPredictions(logits.astype(jnp.float32), batch.labels, batch.mask)

    return predict_step


def _score(logits: jax.Array, batch: Batch) -> MetricSums:
    """MetricSums over the batch, in float32; a label is in the top k if fewer than k logits reach it."""
    logits = logits.astype(jnp.float32)
    weight = batch.mask.astype(jnp.float32)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
    of_label = jnp.take_along_axis(logits, batch.labels[:, None], axis=1)
    # Ties and NaN count against the label: a net that answers nothing must not be right.
    beaten = jnp.sum(logits < of_label, axis=1)
    better = logits.shape[1] - 1 - beaten
    return MetricSums(
        examples=jnp.sum(weight),
        loss=jnp.sum(weight * loss),
        top1=jnp.sum(weight * (better < 1)),
        top5=jnp.sum(weight * (better < 5)),
    )
