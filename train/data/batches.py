"""From a data set on the devices to the batch of one step, inside a compiled program."""

from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding

from train.data.dataset import Split


class Batch(NamedTuple):
    """Examples of one step, spread over the mesh along their first axis."""

    images: jax.Array  # uint8, (batch, height, width, channels)
    labels: jax.Array  # int32, (batch,)
    mask: jax.Array  # bool, (batch,): False where evaluation had to pad


def to_devices(split: Split, sharding: NamedSharding) -> Split:
    """The split's arrays on the devices; of several processes, each fills its own."""

    def put(array: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return Split(put(split.images), put(split.labels))


def take(split: Split, ids: jax.Array, mask: jax.Array, sharding: NamedSharding) -> Batch:
    """The examples `ids`, gathered by each device for its own rows.

    Args:
      split: arrays on every device.
      ids: int32, (batch,), all in range.
      mask: bool, (batch,).
      sharding: of the batch's first axis.
    """
    ids, mask = jax.lax.with_sharding_constraint((ids, mask), sharding)
    rows = [array.at[ids].get(mode="promise_in_bounds") for array in split]
    return Batch(*rows, mask)
