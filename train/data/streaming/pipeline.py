"""Images that do not fit in memory: read, decoded and cropped a few batches ahead, with Grain.

An example of the training sequence is a pure function of its position in the sequence. So a run can
start at any step: there is no iterator to save, and nothing to skip.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from train.config.entry_point import HUGGING_FACE
from train.config.types import MAX_INT
from train.data import records
from train.data.batch import Batch, abstract_batch
from train.data.dataset import Fingerprint, Signature
from train.data.inputs import check_channels
from train.data.order import example_at
from train.data.records import EncodedImages, SubsetImages
from train.data.streaming import crops
from train.data.streaming.batch_iterator import BatchIterator, ProcessRows
from train.errors import UserError

_CHANNELS = 3


class StreamingDataset:
    """A data set of any size, whose batches are split over the processes in order.

    Attributes:
      train: The training split.
      test: The test split.
      num_classes: The number of classes.
      class_names: The names of the classes.
      num_train: The number of training examples.
      num_test: The number of test examples.
      input_shape: The shape of one example after the crop, (height, width, channels).
      note: One line about what was read, and what was not; or empty.
    """

    def __init__(
        self,
        train: EncodedImages,
        test: EncodedImages,
        config: ConfigDict,
        process_index: int,
        process_count: int,
        note: str = "",
    ):
        self.train, self.test = train, test
        self._config = config
        self._process = process_index, process_count
        self.note = note
        self.num_classes = train.num_classes
        self.class_names = tuple(train.class_names)
        self.num_train, self.num_test = len(train), len(test)
        self.input_shape = (config.data.image_size, config.data.image_size, _CHANNELS)

    def with_config(self, config: ConfigDict) -> "StreamingDataset":
        """Return the data set for another seed or batch size."""
        return StreamingDataset(self.train, self.test, config, *self._process)

    def train_labels(self) -> np.ndarray | None:
        """Return the labels of the training examples; None if they are only in the records."""
        return self.train.labels()

    def divide(self, rest: np.ndarray, validation: np.ndarray) -> "StreamingDataset":
        """Return the training split as a training and a test split; see `AnyDataset`."""
        train, test = (SubsetImages(self.train, ids) for ids in (rest, validation))
        return StreamingDataset(train, test, self._config, *self._process)

    @property
    def num_divisible(self) -> int:
        return self.num_train

    @property
    def signature(self) -> Signature:
        """The signature of a network for these data."""
        return Signature(self.num_classes, self.input_shape, self.class_names)

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Return the fingerprint of each split by name."""
        return {"train": self.train.fingerprint(), "test": self.test.fingerprint()}

    def abstract_batches(self, sharding: NamedSharding) -> list[Batch]:
        """Return a training batch of each shape, of which there is one; see `Stream`."""
        return [abstract_batch(self._config.data.batch_size, self.input_shape, sharding)]

    def train_batches(self, first_step: int) -> "BatchIterator":
        """Return the batches of all steps from `first_step`, without end."""
        seed, data = self._config.seed, self._config.data
        examples = _TrainExamples(
            images=self.train,
            rows=ProcessRows.create(data.batch_size, *self._process),
            seed=seed,
            image_size=data.image_size,
            exif_orientation=data.exif_orientation,
            crop_scale=tuple(data.crop_scale),
        )
        return BatchIterator(examples, first_step, data.workers)

    def test_batches(self, batch_size: int) -> "BatchIterator":
        """Return the test examples in order; over all processes, each one occurs once.

        The last batch is padded.

        Args:
          batch_size: The batch size of all processes together.
        """
        return self._in_order(self.test, batch_size)

    def train_batches_in_order(self, batch_size: int) -> "BatchIterator":
        """Return the training examples as `test_batches` returns the test examples."""
        return self._in_order(self.train, batch_size)

    def _in_order(self, images: EncodedImages, batch_size: int) -> "BatchIterator":
        data = self._config.data
        rows = ProcessRows.create(batch_size, *self._process)
        examples = _OrderedExamples(images, rows, data.image_size, data.exif_orientation)
        return BatchIterator(examples, 0, data.workers)


def open_dataset(config: ConfigDict, process_index: int, process_count: int) -> StreamingDataset:
    """Open the data set that `config.data` describes.

    Raises:
      UserError: If there is no such data set, or if it does not fit the config.
    """
    name = config.data.name
    check_channels(config, _CHANNELS)
    train: EncodedImages
    test: EncodedImages
    note = ""
    if name == "digits":
        raise UserError(
            "config.data.name='digits' cannot be streamed, it is stored on the device; set "
            "config.data.image_size to 0"
        )
    if name == "folder":
        from train.data.streaming import image_folder

        train, test, note = image_folder.open_splits(config)
    elif name.startswith(HUGGING_FACE):
        from train.data.streaming import hugging_face

        train, test = hugging_face.open_splits(config.data)
    else:
        from train.data.streaming import tfds_records

        train, test = tfds_records.open_splits(config.data)
    return StreamingDataset(train, test, config, process_index, process_count, note)


class _Example(NamedTuple):
    """One row of a batch; Grain stacks the rows."""

    image: np.ndarray
    label: np.int32
    mask: np.bool_


@dataclasses.dataclass(frozen=True)
class _Examples:
    """The examples of this process, with the random access that Grain needs."""

    batch_type: ClassVar = Batch

    images: EncodedImages
    rows: ProcessRows
    image_size: int
    exif_orientation: bool

    def _load(self, index: int, crop: Callable[[bytes], np.ndarray]) -> _Example:
        """Read, decode and check an image."""
        pixels, label = records.decode(self.images, index, crop)
        return _Example(pixels, np.int32(label), np.True_)


@dataclasses.dataclass(frozen=True)
class _TrainExamples(_Examples):
    """The training sequence: epoch after epoch, without a gap and without end."""

    seed: int
    crop_scale: tuple[float, float] | tuple[()]

    def __len__(self) -> int:
        return MAX_INT * len(self.rows.rows)

    def __getitem__(self, index: int) -> _Example:
        position = self.rows.position(index)
        example_id = example_at(self.seed, position, len(self.images))
        # The counter starts at 2**255, so these numbers differ from those of the order.
        rng = np.random.Generator(np.random.Philox(key=[self.seed, position], counter=1 << 255))

        def crop(content: bytes) -> np.ndarray:
            return crops.random_resized_crop(
                content, rng, self.image_size, self.crop_scale, self.exif_orientation
            )

        return self._load(example_id, crop)


@dataclasses.dataclass(frozen=True)
class _OrderedExamples(_Examples):
    """A split in order, padded to whole batches."""

    def __len__(self) -> int:
        return -(-len(self.images) // self.rows.batch_size) * len(self.rows.rows)

    def __getitem__(self, index: int) -> _Example:
        position = self.rows.position(index)
        if position >= len(self.images):
            black: Any = np.zeros((self.image_size, self.image_size, _CHANNELS), np.uint8)
            return _Example(black, np.int32(0), np.False_)
        return self._load(
            position,
            lambda content: crops.center_crop(content, self.image_size, self.exif_orientation),
        )
