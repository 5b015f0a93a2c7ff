"""Detection data that do not fit in memory: batches that the host prepares ahead of time.

As in `train.data.streaming.pipeline`, a training example is a pure function of its position in the
training sequence. So a run can start at any step.
"""

import dataclasses

import numpy as np
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from train.config.types import MAX_INT
from train.data.dataset import Fingerprint, Signature
from train.data.detection import ordered, shape_groups
from train.data.detection.batch import DetectionBatch
from train.data.detection.dataset import surplus_note
from train.data.detection.example import abstract_batch, make_example
from train.data.detection.loaded_image import load_image
from train.data.detection.ordered import Examples
from train.data.detection.source import DetectionImages, SubsetImages
from train.data.detection.views import ViewOptions, random_view, whole_view
from train.data.order import HostOrder
from train.data.streaming.batch_iterator import BatchIterator, ProcessRows


class DetectionStream:
    """A data set of any size, whose batches are split over the processes in order.

    All examples of a batch have the same shape. There are at most two shapes, of landscape and of
    portrait images.

    Attributes:
      annotations: All objects of the test images at their own size, which predictions are scored
        against.
      class_names: The names of the classes.
      num_classes: The number of classes.
      num_train: The number of training images.
      num_test: The number of test images.
      train_shapes: The heights and widths of training batches.
      note: One line about objects that have no room, or empty.
    """

    def __init__(
        self,
        train: DetectionImages,
        test: DetectionImages,
        options: ViewOptions,
        *,
        batch_size: int,
        seed: int,
        workers: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ):
        """Group the images by their shapes; nothing is read.

        Args:
          train: The training split.
          test: The test split.
          options: How images become examples.
          batch_size: The training batch size of all processes together.
          seed: The seed of the order and of the random views and flips.
          workers: The number of processes that prepare batches; 0 for threads.
          process_index: The index of this process.
          process_count: The number of processes.
        """
        self._train, self._test, self._options = train, test, options
        self._batch_size, self._seed, self._workers = batch_size, seed, workers
        self._process = process_index, process_count
        self._train_groups = shape_groups.training_groups(train.annotations.sizes, options)
        self.annotations = test.annotations
        self.class_names = test.class_names
        self.num_classes = len(test.class_names)
        self.num_train = train.annotations.num_images
        self.num_test = test.annotations.num_images
        self.train_shapes = tuple(group.shape for group in self._train_groups)
        self.note = _note(train, options)

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Return the fingerprint of each split by name."""
        return {"train": self._train.fingerprint(), "test": self._test.fingerprint()}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of an image in the first kind of training batches: (height, width, 3)."""
        return (*self.train_shapes[0], 3)

    @property
    def signature(self) -> Signature:
        """The signature of a network for these data."""
        return Signature(self.num_classes, self.input_shape, self.class_names)

    def abstract_batches(self, sharding: NamedSharding) -> list[DetectionBatch]:
        """Return a training batch of each shape; see `train.data.dataset.Stream`."""
        return [
            abstract_batch(self._batch_size, shape, self._options, sharding)
            for shape in self.train_shapes
        ]

    def with_config(self, config: ConfigDict) -> "DetectionStream":
        """Return the data set for another seed or batch size."""
        return self._replace(self._train, self._test, config.data.batch_size, config.seed)

    def test_examples(self, count: int) -> DetectionBatch:
        """Return some of the test images, as NumPy arrays."""
        with ordered.batches(self._test, self._options, count, (0, 1)) as batches:
            return next(batches)

    def train_labels(self) -> None:
        """Return None: an image has objects of several classes."""

    def divide(self, rest: np.ndarray, validation: np.ndarray) -> "DetectionStream":
        """Return the training images as a training and a test split; see `AnyDataset`."""
        train, test = (SubsetImages(self._train, ids) for ids in (rest, validation))
        return self._replace(train, test, self._batch_size, self._seed)

    @property
    def num_divisible(self) -> int:
        return self.num_train

    def _replace(
        self, train: DetectionImages, test: DetectionImages, batch_size: int, seed: int
    ) -> "DetectionStream":
        process_index, process_count = self._process
        return DetectionStream(
            train,
            test,
            self._options,
            batch_size=batch_size,
            seed=seed,
            workers=self._workers,
            process_index=process_index,
            process_count=process_count,
        )

    def train_shape(self, step: int) -> tuple[int, int]:
        """Return the height and the width of the batch of a step."""
        return shape_groups.training_batch(self._train_groups, step)[0].shape

    def train_batches(self, first_step: int) -> BatchIterator:
        """Return the batches of all steps from `first_step`, without end: `DetectionBatch`es."""
        rows = ProcessRows.create(self._batch_size, *self._process)
        groups = self._train_groups
        orders = {group.shape: HostOrder(self._seed, len(group.ids)) for group in groups}
        examples = _TrainExamples(self._train, rows, self._options, groups, self._seed, orders)
        return BatchIterator(examples, first_step, self._workers)

    def test_batches(self, batch_size: int) -> BatchIterator:
        """Return the test examples; over all processes, each one occurs once.

        Each group of images with the same shape is in order, and its last batch is padded.

        Args:
          batch_size: The batch size of all processes together.
        """
        return ordered.batches(self._test, self._options, batch_size, self._process, self._workers)

    def train_batches_in_order(self, batch_size: int) -> BatchIterator:
        """Return whole training images, without changes, as `test_batches` returns test images."""
        return ordered.batches(self._train, self._options, batch_size, self._process, self._workers)


@dataclasses.dataclass(frozen=True)
class _TrainExamples(Examples):
    """The training sequence: epoch after epoch, without a gap and without end."""

    seed: int
    orders: dict[tuple[int, int], HostOrder]

    def __len__(self) -> int:
        return MAX_INT * len(self.rows.rows)

    def __getitem__(self, index: int) -> DetectionBatch:
        position = self.rows.position(index)
        step, row = divmod(position, self.rows.batch_size)
        group, number = shape_groups.training_batch(self.groups, step)
        place = self.orders[group.shape].example_at(number * self.rows.batch_size + row)
        image_id = int(group.ids[place])
        # The counter starts at 2**255, so these numbers differ from those of the order.
        rng = np.random.Generator(np.random.Philox(key=[self.seed, position], counter=1 << 255))
        height, width = self.images.annotations.sizes[image_id].tolist()
        view = random_view(rng, height, width, self.options)
        flipped = self.options.flip and rng.random() < 0.5
        loaded = load_image(self.images, image_id, self.options.mask_size)
        return make_example(loaded, view, group.shape, self.options, flipped)


def _note(train: DetectionImages, options: ViewOptions) -> str:
    if options.tile or options.scale_jitter != (1, 1):  # random views show fewer objects
        return ""
    sizes = train.annotations.sizes.tolist()
    views = [[whole_view(height, width, options)] for height, width in sizes]
    return surplus_note(train.annotations, views, options.max_objects)
