"""Images that do not fit in memory: read, decoded and cropped a few batches ahead, with Grain.

An example of the training sequence is a pure function of its position in the sequence. So a run can
start at any step: there is no iterator to save, and nothing to skip.
"""

import numpy as np
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from train.config.entry_point import HUGGING_FACE
from train.data import class_counts
from train.data.batch import Batch, abstract_batch
from train.data.dataset import Fingerprint, Signature
from train.data.inputs import check_channels
from train.data.order import HostOrder
from train.data.records import EncodedImages, SubsetImages
from train.data.streaming.batch_iterator import BatchIterator, ProcessRows
from train.data.streaming.examples import CHANNELS, OrderedExamples, TrainExamples
from train.errors import UserError


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
        self.input_shape = (config.data.image_size, config.data.image_size, CHANNELS)

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

    def train_batches(self, first_step: int) -> BatchIterator:
        """Return the batches of all steps from `first_step`, without end."""
        data = self._config.data
        classes = class_counts.for_sampling(self._config, self)
        examples = TrainExamples(
            images=self.train,
            rows=ProcessRows.create(data.batch_size, *self._process),
            order=HostOrder(self._config.seed, self.num_train, classes),
            image_size=data.image_size,
            exif_orientation=data.exif_orientation,
            crop_scale=tuple(data.crop_scale),
        )
        return BatchIterator(examples, first_step, data.workers)

    def test_batches(self, batch_size: int) -> BatchIterator:
        """Return the test examples in order; over all processes, each one occurs once.

        The last batch is padded.

        Args:
          batch_size: The batch size of all processes together.
        """
        return self._in_order(self.test, batch_size)

    def train_batches_in_order(self, batch_size: int) -> BatchIterator:
        """Return the training examples as `test_batches` returns the test examples."""
        return self._in_order(self.train, batch_size)

    def _in_order(self, images: EncodedImages, batch_size: int) -> BatchIterator:
        data = self._config.data
        rows = ProcessRows.create(batch_size, *self._process)
        examples = OrderedExamples(images, rows, data.image_size, data.exif_orientation)
        return BatchIterator(examples, 0, data.workers)


def open_dataset(config: ConfigDict, process_index: int, process_count: int) -> StreamingDataset:
    """Open the data set that `config.data` describes.

    Raises:
      UserError: If there is no such data set, or if it does not fit the config.
    """
    name = config.data.name
    check_channels(config, CHANNELS)
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
