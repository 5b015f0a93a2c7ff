"""From a data set on the devices to the batch of one step, inside a compiled program."""

from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from numpy.typing import DTypeLike

from train.data.dataset import Split


class Batch(NamedTuple):
    """Examples of one step, spread over the mesh along their first axis."""

    inputs: jax.Array  # uint8, (batch, height, width, channels); uint16, (batch, words)
    labels: jax.Array  # int32, (batch,)
    mask: jax.Array  # bool, (batch,): False where evaluation had to pad


def shapes(
    batch_size: int,
    input_shape: tuple[int, ...],
    sharding: NamedSharding,
    input_dtype: DTypeLike = np.uint8,
) -> Batch:
    """A batch's abstract value, to compile with."""

    def array(dtype, *shape):
        return jax.ShapeDtypeStruct((batch_size, *shape), dtype, sharding=sharding)

    return Batch(array(input_dtype, *input_shape), array(np.int32), array(np.bool_))


class Examples(NamedTuple):
    """A split on the devices, whole on each."""

    inputs: jax.Array  # as in `Split`
    labels: jax.Array  # as in `Split`


def to_devices(split: Split, sharding: NamedSharding) -> Examples:
    """The split's arrays on the devices; of several processes, each fills its own."""

    def put(array: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return Examples(put(split.inputs), put(split.labels))


def take(
    examples: Examples, ids: jax.Array, mask: jax.Array, sharding: NamedSharding | None
) -> Batch:
    """Those of `ids`, gathered by each device for its own rows.

    Args:
      examples: of which to take.
      ids: int32, (batch,), all in range.
      mask: bool, (batch,).
      sharding: of the batch's first axis; None for a batch that lies on one device.
    """
    if sharding is not None:
        ids, mask = jax.lax.with_sharding_constraint((ids, mask), sharding)
    inputs, labels = (array.at[ids].get(mode="promise_in_bounds") for array in examples)
    return Batch(inputs, labels, mask)
