"""Images grouped by the static shape of their examples, so that each batch has one shape."""

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from train.data.detection.views import ViewOptions, padded, padded_shape, whole_view


class ShapeGroup(NamedTuple):
    """The images of a split whose examples have the same shape.

    Attributes:
      shape: The height and the width of the examples.
      ids: int64, (images,); the indices of the images in their split.
    """

    shape: tuple[int, int]
    ids: np.ndarray


def training_groups(sizes: np.ndarray, options: ViewOptions) -> tuple[ShapeGroup, ...]:
    """Return the groups of training images, which are landscape and portrait, or only one.

    Args:
      sizes: int, (images, 2); the height and the width of each image.
      options: How images become examples.
    """
    shapes = [padded_shape(height, width, options) for height, width in sizes.tolist()]
    return _group(shapes)


def testing_groups(sizes: np.ndarray, options: ViewOptions) -> tuple[ShapeGroup, ...]:
    """Return the groups of test images: if training uses tiles, of whole images.

    The images of a group have nearly the same size, so that they have little padding: group
    normalization computes with it.
    """
    if not options.tile:
        return training_groups(sizes, options)
    views = (whole_view(height, width, options) for height, width in sizes.tolist())
    return _group([(padded(view.height), padded(view.width)) for view in views])


def training_batch(groups: tuple[ShapeGroup, ...], step: int) -> tuple[ShapeGroup, int]:
    """Return the group of a training step, and how many batches of the group come before it.

    The groups take turns, each as often as its share of the images says. So the number of steps in
    an epoch is that of the whole split, and there is no state to save.

    >>> groups = ShapeGroup((32, 64), np.arange(3)), ShapeGroup((64, 32), np.arange(1))
    >>> [training_batch(groups, step)[0].shape for step in range(4)]
    [(32, 64), (32, 64), (32, 64), (64, 32)]
    """
    if len(groups) == 1:
        return groups[0], step
    first, second = groups
    num_images = len(first.ids) + len(second.ids)
    before, after = (count * len(second.ids) // num_images for count in (step, step + 1))
    return (second, before) if after > before else (first, step - before)


def ordered_batch(
    groups: tuple[ShapeGroup, ...], batch_size: int, index: int
) -> tuple[ShapeGroup, int]:
    """Return the group of an evaluation batch, and how many batches of the group come before it."""
    ends = np.cumsum([_num_batches(group, batch_size) for group in groups]).tolist()
    place = bisect.bisect_right(ends, index)
    return groups[place], index - (ends[place - 1] if place else 0)


def num_ordered_batches(groups: tuple[ShapeGroup, ...], batch_size: int) -> int:
    """Return the number of batches in which each image occurs once."""
    return sum(_num_batches(group, batch_size) for group in groups)


def _group(shapes: Sequence[tuple[int, int]]) -> tuple[ShapeGroup, ...]:
    return tuple(
        ShapeGroup(shape, np.flatnonzero([other == shape for other in shapes]))
        for shape in sorted(set(shapes))
    )


def _num_batches(group: ShapeGroup, batch_size: int) -> int:
    return -(-len(group.ids) // batch_size)
