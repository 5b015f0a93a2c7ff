"""A random sample of the boxes of an image, with a fixed size and a share of positive ones."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from train.models.detection.settings import Sampling
from train.tasks.detection.matching import Matches


class Sample(NamedTuple):
    """The sampled boxes of an image; the positive ones are first.

    Attributes:
      indices: int32, (number,).
      positive: bool, (number,); False from `Sampling.max_positive` on.
      used: bool, (number,); False if there are too few boxes.
    """

    indices: jax.Array
    positive: jax.Array
    used: jax.Array


def sample(key: jax.Array, matches: Matches, settings: Sampling) -> Sample:
    """Return a random sample without repetition.

    If there are fewer positive boxes than the share allows, more negative ones are taken.

    Args:
      key: The random key.
      matches: The matches of all boxes.
      settings: The size of the sample.
    """
    count, number = len(matches.positive), settings.number
    order = jax.random.uniform(key, (count,))
    positive, num_positive = _first(order, matches.positive, settings.max_positive)
    negative, num_negative = _first(order, matches.negative, number)
    slot = jnp.arange(number)
    is_positive = slot < num_positive
    positive = jnp.pad(positive, (0, number - len(positive)))
    negative = jnp.pad(negative, (0, number - len(negative)))
    indices = jnp.where(is_positive, positive, negative[jnp.maximum(slot - num_positive, 0)])
    return Sample(indices, is_positive, slot < num_positive + num_negative)


def _first(order: jax.Array, eligible: jax.Array, number: int) -> tuple[jax.Array, jax.Array]:
    """Return the indices of up to `number` eligible boxes, and how many they are."""
    number = min(number, len(order))
    values, indices = jax.lax.top_k(jnp.where(eligible, order, -1), number)
    return indices, jnp.sum(values >= 0)
