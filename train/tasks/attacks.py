"""Adversarial examples: images changed slightly so that the loss rises.

Each pixel, in 0..1, changes by at most epsilon and stays in 0..1. Projected gradient descent (PGD;
Madry et al. 2018, arXiv 1706.06083) takes several steps along the sign of the loss gradient. The
fast gradient sign method (FGSM; Goodfellow et al. 2015, arXiv 1412.6572) takes one step of epsilon,
or one step of 1.25 epsilon from a random start (Wong et al. 2020, arXiv 2001.03994).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from train.data.inputs import standardize
from train.models import Model

_KEY = 2**32 - 2  # neither a step number nor the number of the example order
_DROPOUT = 2**32 - 3

Perturb = Callable[[jax.Array], jax.Array]
"""Maps float32 pixels in 0..1 to perturbed ones."""


class Attack(NamedTuple):
    """A PGD attack, in units of pixels in 0..1.

    Attributes:
      epsilon: The largest change of a pixel.
      step_size: The change of a pixel in one step.
      steps: The number of steps.
      random_start: Whether to start at a random point within epsilon instead of at the image.
    """

    epsilon: float
    step_size: float
    steps: int
    random_start: bool


def train_attack(config: ConfigDict) -> Attack | None:
    """Return the attack that `config.adversary` trains with, or None."""
    settings = config.adversary
    epsilon, random_start = settings.epsilon, settings.random_start
    match settings.train:
        case "fgsm":
            return Attack(epsilon, epsilon * (1.25 if random_start else 1.0), 1, random_start)
        case "pgd":
            return Attack(epsilon, settings.step_size, settings.steps, random_start)
    return None


def eval_attack(config: ConfigDict) -> Attack | None:
    """Return the attack that `config.adversary` evaluates with, or None."""
    settings = config.adversary
    if not settings.eval_steps:
        return None
    return Attack(settings.epsilon, settings.step_size, settings.eval_steps, settings.random_start)


def make(
    attack: Attack | None, config: ConfigDict, model: Model, train: bool
) -> Callable[[jax.Array, jax.Array, Any, Any], Perturb] | None:
    """Return an attack on a model as `(key, labels, params, stats) -> Perturb`, or None.

    Args:
      attack: The attack, or None.
      config: Its `data` field standardizes the pixels.
      model: The model under attack.
      train: Whether batch normalization uses the statistics of the perturbed batch, as in
        training, or the running statistics. The running statistics never change.
    """
    if attack is None:
        return None

    def perturb_with(key: jax.Array, labels: jax.Array, params: Any, stats: Any) -> Perturb:
        def loss(pixels: jax.Array) -> jax.Array:
            logits, _ = model.apply(
                params, stats, standardize(pixels, config), train, jax.random.fold_in(key, _DROPOUT)
            )
            logits = logits.astype(jnp.float32)
            return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

        return lambda pixels: perturb(attack, jax.random.fold_in(key, _KEY), pixels, loss)

    return perturb_with


def perturb(
    attack: Attack, key: jax.Array, pixels: jax.Array, loss: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """Return images near `pixels` with a higher loss.

    Args:
      attack: The attack.
      key: The random key of the start.
      pixels: float32 images in 0..1.
      loss: Maps images to a scalar, the sum or the mean of their losses.
    """
    lowest = jnp.maximum(pixels - attack.epsilon, 0)
    highest = jnp.minimum(pixels + attack.epsilon, 1)
    start = pixels
    if attack.random_start:
        noise = jax.random.uniform(key, pixels.shape, minval=-1, maxval=1)
        start = jnp.clip(pixels + attack.epsilon * noise, lowest, highest)

    def step(_: jax.Array, perturbed: jax.Array) -> jax.Array:
        direction = jnp.sign(jax.grad(loss)(perturbed))
        return jnp.clip(perturbed + attack.step_size * direction, lowest, highest)

    return jax.lax.fori_loop(0, attack.steps, step, start)


def eval_key(seed: jax.typing.ArrayLike, num_before: jax.Array) -> jax.Array:
    """Return the random key of an evaluation batch, the same at every step of a run.

    Args:
      seed: The seed of the run.
      num_before: The number of examples of the split before the batch.
    """
    return jax.random.fold_in(
        jax.random.fold_in(jax.random.key(seed), _KEY), num_before.astype(jnp.int32)
    )
