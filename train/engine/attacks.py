"""Adversarial examples: images changed a little, so that the loss at them rises.

A pixel, from 0 to 1, is changed by at most epsilon, and stays within 0 and 1. Projected gradient
descent (PGD; Madry et al. 2018, arXiv 1706.06083) goes step by step along the sign of the loss's
gradient; the fast gradient sign method (FGSM; Goodfellow et al. 2015, arXiv 1412.6572) makes one
step, of epsilon, or from a random start of 1.25 epsilon (Wong et al. 2020, arXiv 2001.03994).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from train.data.augment import standardize
from train.models import Model

_KEY = 2**32 - 2  # neither a step's number nor that of the order of examples

Perturb = Callable[[jax.Array, jax.Array, jax.Array, Any, Any], jax.Array]


class Attack(NamedTuple):
    """What PGD may do, in units of pixels from 0 to 1.

    Attributes:
      epsilon: how far it goes at most, in each pixel.
      step_size: of one step, in each pixel.
      steps: how many.
      random_start: whether it starts anywhere within epsilon, and not at the image.
    """

    epsilon: float
    step_size: float
    steps: int
    random_start: bool


def of_training(config: ConfigDict) -> Attack | None:
    """The attack that `config.adversary` trains under; None if there is none."""
    settings = config.adversary
    epsilon, random_start = settings.epsilon, settings.random_start
    match settings.train:
        case "fgsm":
            return Attack(epsilon, epsilon * (1.25 if random_start else 1.0), 1, random_start)
        case "pgd":
            return Attack(epsilon, settings.step_size, settings.steps, random_start)
    return None


def of_evaluation(config: ConfigDict) -> Attack | None:
    """The attack under which `config.adversary` scores the test split; None if there is none."""
    settings = config.adversary
    if not settings.eval_steps:
        return None
    return Attack(settings.epsilon, settings.step_size, settings.eval_steps, settings.random_start)


def make(attack: Attack | None, config: ConfigDict, model: Model, train: bool) -> Perturb:
    """An attack on a network.

    Args:
      attack: if None, images stay as they are.
      config: normalizes the images.
      model: that is attacked.
      train: how batch normalization works under attack. If true as in training, with the statistics
        of the batch as it is at each step of the attack, and the running ones are not changed; else
        with the running ones.

    Returns:
      `(key, pixels, labels, params, stats) -> pixels`.
    """
    if attack is None:
        return lambda key, pixels, labels, params, stats: pixels

    def perturb_batch(
        key: jax.Array, pixels: jax.Array, labels: jax.Array, params: Any, stats: Any
    ) -> jax.Array:
        def loss(pixels: jax.Array) -> jax.Array:
            logits, _ = model.apply(params, stats, standardize(pixels, config), train)
            logits = logits.astype(jnp.float32)
            return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

        return perturb(attack, jax.random.fold_in(key, _KEY), pixels, loss)

    return perturb_batch


def perturb(
    attack: Attack, key: jax.Array, pixels: jax.Array, loss: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """Images near `pixels` at which the loss is higher.

    Args:
      attack: how.
      key: of the random start.
      pixels: float32, from 0 to 1.
      loss: of images, a scalar: the sum or the mean over them.
    """
    lowest = jnp.maximum(pixels - attack.epsilon, 0)
    highest = jnp.minimum(pixels + attack.epsilon, 1)
    first = pixels
    if attack.random_start:
        noise = jax.random.uniform(key, pixels.shape, minval=-1, maxval=1)
        first = jnp.clip(pixels + attack.epsilon * noise, lowest, highest)

    def step(_: jax.Array, changed: jax.Array) -> jax.Array:
        uphill = jnp.sign(jax.grad(loss)(changed))
        return jnp.clip(changed + attack.step_size * uphill, lowest, highest)

    return jax.lax.fori_loop(0, attack.steps, step, first)


def evaluation_key(seed: jax.typing.ArrayLike, place: jax.Array) -> jax.Array:
    """The key of a batch of the test split, whatever step the run is at.

    Args:
      seed: of the run.
      place: how many examples of the split come before it.
    """
    return jax.random.fold_in(
        jax.random.fold_in(jax.random.key(seed), _KEY), place.astype(jnp.int32)
    )
