"""The batch of one step, and how it is gathered from a data set on the devices."""

from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import numpy as np
from jax.sharding import NamedSharding
from numpy.typing import DTypeLike


class Batch(NamedTuple):
    """The examples of one step, sharded over the mesh along their first axis.

    Attributes:
      inputs: uint8 images (batch, height, width, channels), or uint16 token ids (batch, length).
      labels: int32, (batch,).
      mask: bool, (batch,); False for the padding of an evaluation batch.
    """

    inputs: jax.Array
    labels: jax.Array
    mask: jax.Array


class Examples(Protocol):
    """The examples of a split: a named tuple of arrays, each with the examples as first axis.

    The arrays are NumPy's on the host, and JAX's on the devices.
    """

    @property
    def num_examples(self) -> int: ...

    def to_batch(self, mask: Any) -> Any:
        """Return the examples as a batch; `mask` is bool, (examples,), False for padding."""


AnyExamples = TypeVar("AnyExamples", bound=Examples)


def abstract_batch(
    batch_size: int,
    input_shape: tuple[int, ...],
    sharding: NamedSharding,
    input_dtype: DTypeLike = np.uint8,
) -> Batch:
    """Return a batch of `jax.ShapeDtypeStruct`s to compile with."""

    def array(dtype, *shape):
        return jax.ShapeDtypeStruct((batch_size, *shape), dtype, sharding=sharding)

    return Batch(array(input_dtype, *input_shape), array(np.int32), array(np.bool_))


def put_split(split: AnyExamples, sharding: NamedSharding) -> AnyExamples:
    """Copy a split to the devices; each process fills its own devices."""

    def put(array: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, split)


def gather_batch(
    split: Examples, ids: jax.Array, mask: jax.Array, sharding: NamedSharding | None
) -> Any:
    """Return the examples `ids` as a batch; each device gathers its own rows.

    Args:
      split: The split, on the devices.
      ids: int32, (batch,); all in range.
      mask: bool, (batch,).
      sharding: The sharding of the batch axis; None for a batch on one device.
    """
    if sharding is not None:
        ids, mask = jax.lax.with_sharding_constraint((ids, mask), sharding)
    examples: Examples = jax.tree.map(
        lambda array: array.at[ids].get(mode="promise_in_bounds"), split
    )
    return examples.to_batch(mask)
