"""The training loss of a classifier: cross-entropy, with smoothed labels, or the user's own."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from train.config import entry_point
from train.config.entry_point import is_entry_point
from train.errors import UserError, describe_error, short_repr

Loss = Callable[[jax.Array, jax.Array], jax.Array]
"""Maps float32 logits (batch, classes) and int32 labels (batch,) to losses, float32 (batch,)."""

cross_entropy: Loss = optax.softmax_cross_entropy_with_integer_labels


def make(config: ConfigDict, class_weights: np.ndarray | None = None) -> Loss:
    """Return the loss that `config.loss` describes.

    Args:
      config: A validated config.
      class_weights: Factors of the losses by class, (classes,); None for 1.

    Raises:
      UserError: If it is an own loss that does not exist, or, when it is called, if it fails or
        does not return one loss for each example.
    """
    loss = cross_entropy
    if is_entry_point(config.loss.name):
        loss = _checked(config.loss.name)
    elif config.loss.label_smoothing:
        loss = functools.partial(smoothed_cross_entropy, smoothing=config.loss.label_smoothing)
    if class_weights is None:
        return loss
    return lambda logits, labels: jnp.asarray(class_weights)[labels] * loss(logits, labels)


def smoothed_cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    """Return the cross-entropy with a share of each label spread evenly over all classes.

    References:
      Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016, section
      7, https://arxiv.org/abs/1512.00567
    """
    uniform = -jnp.mean(jax.nn.log_softmax(logits), axis=1)
    return (1 - smoothing) * cross_entropy(logits, labels) + smoothing * uniform


def _checked(name: str) -> Loss:
    own = entry_point.load("config.loss.name", name)

    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        try:
            losses = own(logits, labels)
        except Exception as error:  # own code can raise anything
            raise UserError(
                f"config.loss.name={short_repr(name)}: calling it with logits {logits.shape} and "
                f"labels {labels.shape} raises {describe_error(error)}; fix it"
            ) from error
        shape = getattr(losses, "shape", None)
        if shape != labels.shape:
            result = f"a {type(losses).__name__}" if shape is None else f"an array of shape {shape}"
            raise UserError(
                f"config.loss.name={short_repr(name)} returns {result}; it must return one loss "
                f"for each example, of shape {labels.shape}"
            )
        return losses

    return loss
