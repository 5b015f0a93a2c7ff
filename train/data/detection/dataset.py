"""A detection data set in memory: training examples of one static shape."""

import concurrent.futures
import hashlib
import itertools
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from train.data.dataset import Fingerprint, Signature
from train.data.detection import ordered
from train.data.detection.annotations import Annotations
from train.data.detection.batch import DetectionBatch
from train.data.detection.example import empty_example, make_example
from train.data.detection.loaded_image import load_image, visible_objects
from train.data.detection.source import DetectionImages, SubsetImages
from train.data.detection.views import (
    View,
    ViewOptions,
    grid_tiles,
    smallest_shape,
    whole_view,
)
from train.data.streaming.batch_iterator import BatchIterator
from train.errors import UserError

_MEMORY_SHARE = 0.5  # of the machine's memory; the devices of a CPU get a copy


class DetectionSplit(NamedTuple):
    """Examples as arrays: the fields of `DetectionBatch` but its `mask`, in the same order.

    With tiles, an image has several examples, which have its index as id.
    """

    inputs: np.ndarray
    sizes: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    masks: np.ndarray
    ids: np.ndarray

    @property
    def num_examples(self) -> int:
        """The number of examples."""
        return len(self.ids)

    def to_batch(self, mask: Any) -> DetectionBatch:
        """Return the examples as a batch; `mask` is bool, (examples,), False for padding."""
        return DetectionBatch(*self, mask)

    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint of the examples."""
        digest = hashlib.sha256()
        for array in self:
            digest.update(f"{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return {"examples": self.num_examples, "sha256": digest.hexdigest()}

    def select(self, rows: np.ndarray) -> "DetectionSplit":
        """Return some of the examples."""
        return DetectionSplit(*(array[rows] for array in self))


class DetectionDataset(NamedTuple):
    """A training and a test split with the same classes.

    Attributes:
      train: The training split.
      test_images: The test images, which are decoded anew for each evaluation: they can have
        several shapes.
      annotations: All objects of the test images at their own size, which predictions are scored
        against.
      class_names: The names of the classes.
      images: The training images.
      options: How they became examples.
      note: One line about objects that had no room, or empty.
    """

    train: DetectionSplit
    test_images: DetectionImages
    annotations: Annotations
    class_names: tuple[str, ...]
    images: DetectionImages
    options: ViewOptions
    note: str = ""

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Return the fingerprint of each split by name."""
        return {"train": self.train.fingerprint(), "test": self.test_images.fingerprint()}

    def test_batches(self, batch_size: int) -> BatchIterator:
        """Return the test examples; over all processes, each one occurs once.

        Args:
          batch_size: The batch size of all processes together.
        """
        process = jax.process_index(), jax.process_count()
        return ordered.batches(self.test_images, self.options, batch_size, process)

    def test_examples(self, count: int) -> DetectionBatch:
        """Return some of the test images, as NumPy arrays."""
        with ordered.batches(self.test_images, self.options, count, (0, 1)) as batches:
            return next(batches)

    def train_labels(self) -> None:
        """Return None: an image has objects of several classes."""

    def divide(self, rest: np.ndarray, validation: np.ndarray) -> "DetectionDataset":
        """Return the training images as a training and a test split; see `AnyDataset`."""
        train, test = (SubsetImages(self.images, ids) for ids in (rest, validation))
        return load(train, test, self.options)

    @property
    def num_divisible(self) -> int:
        return self.images.annotations.num_images

    @property
    def signature(self) -> Signature:
        """The signature of a network for these data."""
        return Signature(self.num_classes, self.input_shape, self.class_names)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def num_train(self) -> int:
        return self.train.num_examples

    @property
    def num_test(self) -> int:
        return self.test_images.annotations.num_images

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of a training example: (height, width, 3)."""
        return self.train.inputs.shape[1:]


def load(train: DetectionImages, test: DetectionImages, options: ViewOptions) -> DetectionDataset:
    """Decode, cut and resize the training images. Flips are left to the device; see `flip`.

    The split has the smallest static shape that holds its examples. `options.scale_jitter` is not
    used: it needs a stream.

    Raises:
      UserError: If an image cannot be read.
    """
    train_views = _all_views(train, options)
    return DetectionDataset(
        train=_make_split(train, train_views, options),
        test_images=test,
        annotations=test.annotations,
        class_names=test.class_names,
        images=train,
        options=options,
        note=surplus_note(train.annotations, train_views, options.max_objects),
    )


def _all_views(images: DetectionImages, options: ViewOptions) -> list[list[View]]:
    """Return the views of each image: one for each example."""
    return [
        grid_tiles(height, width, options.tile)
        if options.tile
        else [whole_view(height, width, options)]
        for height, width in images.annotations.sizes.tolist()
    ]


def surplus_note(annotations: Annotations, views: Sequence[list[View]], max_objects: int) -> str:
    """Return a line about training examples with too many objects; empty if there are none.

    Args:
      annotations: The objects of the split.
      views: The views of each image.
      max_objects: The number of objects for which an example has room.
    """
    counts = [
        len(visible_objects(annotations.image_objects(index), [], view).classes)
        for index, image_views in enumerate(views)
        for view in image_views
    ]
    surplus = [count for count in counts if count > max_objects]
    if not surplus:
        return ""
    return (
        f"training examples with more than {max_objects} objects, of which the largest are learned "
        f"({len(surplus):,}, with up to {max(surplus):,} objects)"
    )


def _make_split(
    images: DetectionImages, views: Sequence[list[View]], options: ViewOptions
) -> DetectionSplit:
    num_examples = sum(map(len, views))
    shape = smallest_shape(itertools.chain.from_iterable(views))
    fields = empty_example(shape, options)._asdict()
    fields.pop("mask")
    _check_memory(num_examples, shape, sum(array.nbytes for array in fields.values()))
    split = DetectionSplit(
        **{
            name: np.empty((num_examples, *array.shape), array.dtype)
            for name, array in fields.items()
        }
    )

    def fill(index: int, first_row: int) -> None:
        loaded = load_image(images, index, options.mask_size)
        for row in range(first_row, first_row + len(views[index])):
            example = make_example(loaded, views[index][row - first_row], shape, options)
            for name, array in split._asdict().items():
                array[row] = getattr(example, name)

    first_rows = np.cumsum([0, *map(len, views[:-1])]).tolist()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(fill, range(len(views)), first_rows):
            pass
    return split


def _check_memory(examples: int, shape: tuple[int, int], example_bytes: int) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if examples * example_bytes > memory * _MEMORY_SHARE:
        raise UserError(
            f"{examples:,} examples of {shape[0]}x{shape[1]} pixels need "
            f"{examples * example_bytes / 2**30:,.1f} GiB, but at most half of the memory of "
            f"{memory / 2**30:,.1f} GiB is used; stream them, or make them smaller"
        )
