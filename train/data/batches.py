"""From arrays on the host to batches on the mesh."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from train.data.dataset import Split
from train.data.order import batch_ids


class Batch(NamedTuple):
    """Examples of one step, spread over the mesh along their first axis."""

    images: jax.Array  # uint8, (batch, height, width, channels)
    labels: jax.Array  # int32, (batch,)
    mask: jax.Array  # bool, (batch,): False where evaluation had to pad


def shapes(batch_size: int, image_shape: tuple[int, int, int], sharding) -> Batch:
    """A batch's abstract value, to compile with."""

    def array(dtype, *shape):
        return jax.ShapeDtypeStruct((batch_size, *shape), dtype, sharding=sharding)

    return Batch(array(np.uint8, *image_shape), array(np.int32), array(np.bool_))


def train_batches(
    split: Split, seed: int, batch_size: int, first_step: int, last_step: int, sharding
) -> Iterator[Batch]:
    """The batches of the steps `first_step` (included) to `last_step` (not included)."""
    mask = np.ones(batch_size, np.bool_)
    for step in range(first_step, last_step):
        yield _spread(split, batch_ids(seed, step, batch_size, len(split.labels)), mask, sharding)


def test_batches(split: Split, batch_size: int, sharding) -> Iterator[Batch]:
    """Every example exactly once, in order; the last batch is padded and the padding masked."""
    for start in range(0, len(split.labels), batch_size):
        ids = np.arange(start, start + batch_size)
        mask = ids < len(split.labels)
        yield _spread(split, np.where(mask, ids, start), mask, sharding)


def _spread(split: Split, ids: np.ndarray, mask: np.ndarray, sharding) -> Batch:
    """Gives each device its rows; a process reads only those of its own devices."""
    rows = (
        lambda index: split.images[ids[index[0]]],
        lambda index: split.labels[ids[index[0]]],
        lambda index: mask[index[0]],
    )
    shapes = ((len(ids), *split.images.shape[1:]), (len(ids),), (len(ids),))
    return Batch(
        *(
            jax.make_array_from_callback(shape, sharding, read)
            for shape, read in zip(shapes, rows, strict=True)
        )
    )
