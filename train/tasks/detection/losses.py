"""The losses of a detector, each for the sampled boxes of one image.

Each is a sum divided by the number of sampled boxes, as in Detectron with one image per device. So
the loss of an image does not depend on the rest of the batch.
"""

import jax
import jax.numpy as jnp
import optax

from train.tasks.detection.sampling import Sample


def smooth_l1(errors: jax.Array, beta: float) -> jax.Array:
    """Return the loss of each error, half its square divided by beta up to beta, then linear.

    Girshick 2015, arXiv 1504.08083.
    """
    size = jnp.abs(errors)
    return jnp.where(size < beta, size**2 / (2 * beta), size - beta / 2)


def objectness(logits: jax.Array, sample: Sample) -> jax.Array:
    """Return the mean binary cross-entropy of the sampled anchors.

    Args:
      logits: Of the sampled anchors, (n,).
      sample: The sample.
    """
    loss = optax.sigmoid_binary_cross_entropy(logits, sample.positive.astype(logits.dtype))
    return _over_sample(loss, sample.used, sample)


def classification(logits: jax.Array, classes: jax.Array, sample: Sample) -> jax.Array:
    """Return the mean cross-entropy of the sampled proposals.

    Args:
      logits: (n, classes + 1), the last of which is that of the background.
      classes: int32, (n,); those of the objects, for positive proposals.
      sample: The sample.
    """
    labels = jnp.where(sample.positive, classes, logits.shape[1] - 1)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return _over_sample(loss, sample.used, sample)


def regression(deltas: jax.Array, targets: jax.Array, sample: Sample, beta: float) -> jax.Array:
    """Return the sum of the losses of positive boxes, divided by the size of the sample.

    Args:
      deltas: (n, 4).
      targets: (n, 4).
      sample: The sample.
      beta: Of `smooth_l1`.
    """
    # Zeros instead of the errors of other boxes, whose targets may be infinite.
    errors = jnp.where(sample.positive[:, None], deltas - targets, 0)
    return _over_sample(jnp.sum(smooth_l1(errors, beta), 1), sample.positive, sample)


def masks(logits: jax.Array, targets: jax.Array, positive: jax.Array) -> jax.Array:
    """Return the mean binary cross-entropy of the pixels of positive boxes.

    Args:
      logits: Of the class of each box, (n, height, width).
      targets: 0 or 1, (n, height, width).
      positive: bool, (n,).
    """
    loss = jnp.mean(optax.sigmoid_binary_cross_entropy(logits, targets), (1, 2))
    return jnp.sum(jnp.where(positive, loss, 0)) / jnp.maximum(jnp.sum(positive), 1)


def _over_sample(loss: jax.Array, counted: jax.Array, sample: Sample) -> jax.Array:
    return jnp.sum(jnp.where(counted, loss, 0)) / jnp.maximum(jnp.sum(sample.used), 1)
