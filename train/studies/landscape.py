"""How much the loss and its gradient change along an update: measures of smoothness."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from train.data.batch import Examples, gather_batch
from train.tasks.task import Task

SCALES = (0.5, 1.0, 2.0, 4.0)
"""The points along the update, in multiples of it."""


class Landscape(NamedTuple):
    """The measures of one update; each float32, ().

    Attributes:
      loss_variation: The range of the loss over the points and the start, in nats.
      gradient_change: The largest distance of the gradient at a point from that at the start.
      effective_smoothness: The largest such distance, divided by the distance of the point from
        the start.
    """

    loss_variation: jax.Array
    gradient_change: jax.Array
    effective_smoothness: jax.Array


def measure(loss: Callable[[Any], jax.Array], params: Any, update: Any) -> Landscape:
    """Return the measures of an update.

    Args:
      loss: Returns the loss at some weights, float32, ().
      params: The weights before the update.
      update: What is added to them.

    References:
      Santurkar et al., How Does Batch Normalization Help Optimization?, NeurIPS 2018,
      https://arxiv.org/abs/1805.11604, figure 4
    """
    start_loss, start_gradient = jax.value_and_grad(loss)(params)

    def at(scale: jax.Array) -> tuple[jax.Array, jax.Array]:
        moved = jax.tree.map(lambda weight, step: weight + scale * step, params, update)
        value, gradient = jax.value_and_grad(loss)(moved)
        return value, optax.tree.norm(optax.tree.sub(gradient, start_gradient))

    scales = jnp.array(SCALES)
    losses, changes = jax.lax.map(at, scales)
    losses = jnp.append(losses, start_loss)
    return Landscape(
        loss_variation=losses.max() - losses.min(),
        gradient_change=changes.max(),
        effective_smoothness=(changes / (scales * optax.tree.norm(update))).max(),
    )


def training_loss(
    task: Task, stats: Any, split: Examples, count: int
) -> Callable[[Any], jax.Array]:
    """Return the loss in training mode on `count` examples, without augmentation and decay.

    The examples are the same for all runs: some from all parts of the split.
    """
    ids = jnp.arange(count) * (split.num_examples // count)
    batch = task.prepare(gather_batch(split, ids, jnp.ones(count, bool), None))
    return lambda params: task.loss(params, stats, batch, jax.random.key(0))[0]
