"""The pure functions that a run compiles: one training step, one batch of evaluation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from train.data.augment import augment, normalize
from train.data.batches import Batch
from train.models import Model
from train.state import Sums, TrainState

TrainStep = Callable[[TrainState, Batch], TrainState]
EvalStep = Callable[[Any, Any, Batch], Sums]


def make_train_step(
    config: ConfigDict, model: Model, tx: optax.GradientTransformation
) -> TrainStep:
    """Augment, differentiate, update. The random numbers are those of (seed, step)."""

    def train_step(state: TrainState, batch: Batch) -> TrainState:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        images = normalize(augment(key, batch.images, config), config)

        def loss_fn(params):
            logits, stats = model.apply(params, state.stats, images, True)
            sums = _score(logits, batch)
            return sums.loss / sums.examples, (stats, sums)

        grads, (stats, sums) = jax.grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        return TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            stats=stats,
            opt_state=opt_state,
            sums=jax.tree.map(jnp.add, state.sums, sums),
        )

    return train_step


def make_eval_step(config: ConfigDict, model: Model) -> EvalStep:
    """Scores one batch with the running statistics; masked examples count for nothing."""

    def eval_step(params: Any, stats: Any, batch: Batch) -> Sums:
        logits, _ = model.apply(params, stats, normalize(batch.images, config), False)
        return _score(logits, batch)

    return eval_step


def _score(logits: jax.Array, batch: Batch) -> Sums:
    """Sums over the batch, in float32; a label is in the top k if fewer than k logits reach it."""
    logits = logits.astype(jnp.float32)
    weight = batch.mask.astype(jnp.float32)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
    of_label = jnp.take_along_axis(logits, batch.labels[:, None], axis=1)
    # Ties and NaN count against the label: a net that answers nothing must not be right.
    beaten = jnp.sum(logits < of_label, axis=1)
    better = logits.shape[1] - 1 - beaten
    return Sums(
        examples=jnp.sum(weight),
        loss=jnp.sum(weight * loss),
        top1=jnp.sum(weight * (better < 1)),
        top5=jnp.sum(weight * (better < 5)),
    )
