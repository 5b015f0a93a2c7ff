"""Mixup and CutMix: training examples made of two images, with a share of both labels.

References:
  Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018,
  https://arxiv.org/abs/1710.09412
  Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features,
  ICCV 2019, https://arxiv.org/abs/1905.04899
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict


class Mixed(NamedTuple):
    """A batch whose examples are made of two.

    Attributes:
      inputs: float32, (batch, height, width, channels).
      other_labels: int32, (batch,): the label of the second image.
      share: float32, (batch,): the share of the first image, whose label is that of the batch.
    """

    inputs: jax.Array
    other_labels: jax.Array
    share: jax.Array


def mix(key: jax.Array, inputs: jax.Array, labels: jax.Array, config: ConfigDict) -> Mixed:
    """Mix each image with the one before it in the batch, whose order is random.

    `config.data.mixup` and `config.data.cutmix` are the parameters of the Beta distributions of the
    shares. If both are set, each image gets one of the two at random.

    Args:
      key: The random key.
      inputs: float32 images.
      labels: int32, (batch,).
      config: A validated config in which at least one of the two is set.
    """
    data = config.data
    others, other_labels = jnp.roll(inputs, 1, axis=0), jnp.roll(labels, 1)
    mixup_key, cutmix_key, choice_key = jax.random.split(key, 3)
    mixed, share = inputs, jnp.ones(len(labels))
    if data.mixup:
        mixed, share = _mixup(mixup_key, inputs, others, data.mixup)
    if data.cutmix:
        cut, cut_share = _cutmix(cutmix_key, inputs, others, data.cutmix)
        # Half of the images if both are set, otherwise all.
        is_cut = jax.random.bernoulli(choice_key, 0.5 if data.mixup else 1.0, labels.shape)
        mixed = jnp.where(is_cut[:, None, None, None], cut, mixed)
        share = jnp.where(is_cut, cut_share, share)
    return Mixed(mixed, other_labels, share)


def _mixup(
    key: jax.Array, inputs: jax.Array, others: jax.Array, alpha: float
) -> tuple[jax.Array, jax.Array]:
    """Return weighted means of two images each, and the weight of the first."""
    share = jax.random.beta(key, alpha, alpha, (len(inputs),))
    weight = share[:, None, None, None]
    return weight * inputs + (1 - weight) * others, share


def _cutmix(
    key: jax.Array, inputs: jax.Array, others: jax.Array, alpha: float
) -> tuple[jax.Array, jax.Array]:
    """Return images with a box of another image each, and the share of pixels outside it."""
    share_key, center_key = jax.random.split(key)
    count, height, width, _ = inputs.shape
    side = jnp.sqrt(1 - jax.random.beta(share_key, alpha, alpha, (count,)))
    center = jax.random.uniform(center_key, (2, count))

    def is_inside(size: int, middle: jax.Array) -> jax.Array:
        """Return which positions along an axis are in the box: bool, (count, size)."""
        low, high = jnp.round(size * (middle - side / 2)), jnp.round(size * (middle + side / 2))
        positions = jnp.arange(size)[None]
        return (positions >= low[:, None]) & (positions < high[:, None])

    box = is_inside(height, center[0])[:, :, None] & is_inside(width, center[1])[:, None]
    share = 1 - jnp.mean(box.astype(jnp.float32), axis=(1, 2))
    return jnp.where(box[..., None], others, inputs), share
