"""Images that do not fit in memory: read, decoded and cropped a few batches ahead, with Grain.

An example of the training sequence is a pure function of its place in the sequence, so that a run
begins at any step, with no iterator to save and nothing to skip.
"""

import dataclasses
import gc
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import grain
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from train.config.types import MAX_INT
from train.data.inputs import check_channels
from train.data.order import example_at
from train.data.streaming import crops, workers
from train.data.streaming.source import EncodedImages, bad_label, damaged
from train.errors import UserError, describe_error

_CHANNELS = 3
_MAX_THREADS = 16  # more of them wait for Python's lock


class HostBatch(NamedTuple):
    """The rows of a step's batch that are this process's."""

    inputs: np.ndarray  # uint8, (rows, height, width, 3)
    labels: np.ndarray  # int32, (rows,)
    mask: np.ndarray  # bool, (rows,): False where evaluation had to pad


class Stream:
    """A data set of any size; a step's batch is split over the processes in their order."""

    def __init__(
        self,
        train: EncodedImages,
        test: EncodedImages,
        config: ConfigDict,
        process_index: int,
        process_count: int,
    ):
        self._train, self._test = train, test
        self._config = config
        self._process = process_index, process_count
        self.num_classes = train.num_classes
        self.class_names = tuple(train.class_names)
        self.num_train, self.num_test = len(train), len(test)
        self.input_shape = (config.data.image_size, config.data.image_size, _CHANNELS)

    def train_batches(self, first_step: int) -> "Batches":
        """The batches of the steps from `first_step` on, without end."""
        seed, data = self._config.seed, self._config.data
        examples = _TrainExamples(
            images=self._train,
            share=_Share.of(data.batch_size, *self._process),
            seed=seed,
            image_size=data.image_size,
            crop_scale=tuple(data.crop_scale),
        )
        return Batches(examples, first_step, data.workers)

    def test_batches(self, batch_size: int) -> "Batches":
        """Every test example once over all processes, in order; the last batch is padded.

        Args:
          batch_size: of all processes together.
        """
        share, image_size = _Share.of(batch_size, *self._process), self._config.data.image_size
        return Batches(_TestExamples(self._test, share, image_size), 0, self._config.data.workers)


def open(config: ConfigDict, process_index: int, process_count: int) -> Stream:
    """Opens the data set that `config.data` names.

    Raises:
      UserError: there is no such data set, or it does not fit the config.
    """
    name, folder = config.data.name, config.data.dir
    check_channels(config, _CHANNELS)
    train: EncodedImages
    test: EncodedImages
    if name == "digits":
        raise UserError(
            "config.data.name='digits' is kept on the device; set config.data.image_size to 0"
        )
    if name == "folder":
        from train.data.streaming import image_folder

        train, test = image_folder.open_splits(folder)
    else:
        from train.data.streaming import tfds_records

        train, test = tfds_records.open_splits(name, folder, config.data.test_share)
    return Stream(train, test, config, process_index, process_count)


class Batches(Iterator[HostBatch]):
    """Batches made ahead from the moment that this is; a context manager that ends what makes them.

    Raises:
      UserError: a record is damaged, or a process that decodes has died.
    """

    def __init__(self, examples: "_Examples", first_step: int, num_workers: int):
        # Batches come before processes are told apart, so that their number changes no batch.
        batches = grain.MapDataset.source(examples).batch(len(examples.share.rows))[first_step:]
        threads = 0 if num_workers else min(os.cpu_count() or 1, _MAX_THREADS)
        _configure_grain()
        ahead = batches.to_iter_dataset(
            grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
        ).mp_prefetch(
            grain.MultiprocessingOptions(num_workers=num_workers), worker_init_fn=workers.begin
        )
        self._iterator: Any = iter(ahead)
        with workers.block_signals():
            self._iterator.get_state()  # else the processes start one by one, each when its turn is
            self._iterator.start_prefetch()

    def __next__(self) -> HostBatch:
        try:
            example = next(self._iterator)
        except UserError as error:
            # The traceback that Grain has rebuilt is a cycle, with a batch in shared memory in it;
            # a process that ends with such a batch is told off on stderr.
            error.__traceback__ = None
            gc.collect()
            raise error from None
        except RuntimeError as error:  # Grain's, for a process that is no more
            raise UserError(
                f"a process that decodes images has died ({describe_error(error)}); it may have been "
                "killed for want of memory, or of room in /dev/shm; use fewer "
                "--config.data.workers, and run the same command again"
            ) from error
        return HostBatch(*map(_ours, example))

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Ends threads and processes; they finish the batches that they are at."""
        # Grain's iterators cannot be deleted as late as at the end of the interpreter.
        iterator, self._iterator = self._iterator, (_ for _ in ())
        iterator.close()


def _configure_grain() -> None:
    flags.FLAGS.mark_as_parsed()  # Grain asks for its own there; ours are not among them
    # Else it wraps its classes once more with every pipeline, and adds its remarks to errors.
    grain.config.update("py_traceback_filtering", "off")


def _ours(array: np.ndarray) -> np.ndarray:
    """A copy of what another process made; shared memory must be given back before the end."""
    shared = isinstance(array, grain.multiprocessing.SharedMemoryArray)
    return np.array(array, subok=False) if shared else array


class _Share(NamedTuple):
    """A process's rows of every batch."""

    batch_size: int  # of all processes together
    rows: range

    @classmethod
    def of(cls, batch_size: int, process_index: int, process_count: int) -> "_Share":
        begin, end = (
            index * batch_size // process_count for index in (process_index, process_index + 1)
        )
        return cls(batch_size, range(begin, end))

    def place(self, index: int) -> int:
        """Where this process's example `index` stands in the sequence of all."""
        step, row = divmod(index, len(self.rows))
        return step * self.batch_size + self.rows[row]


class _Example(NamedTuple):
    """A batch before Grain stacks it."""

    image: np.ndarray
    label: np.int32
    mask: np.bool_


@dataclasses.dataclass(frozen=True)
class _Examples:
    """This process's examples, at random access for Grain."""

    images: EncodedImages
    share: _Share
    image_size: int

    def _example(self, index: int, pixels_of) -> _Example:
        try:
            content, label = self.images[index]
            pixels = pixels_of(content)
        except Exception as error:  # whatever damaged files make a library raise
            raise damaged(self.images, index, error) from error
        if not 0 <= label < self.images.num_classes:
            raise bad_label(self.images, index, label)
        return _Example(pixels, np.int32(label), np.True_)


@dataclasses.dataclass(frozen=True)
class _TrainExamples(_Examples):
    """The training sequence: epoch after epoch without a gap, and without end."""

    seed: int
    crop_scale: tuple[float, float] | tuple[()]

    def __len__(self) -> int:
        return MAX_INT * len(self.share.rows)

    def __getitem__(self, index: int) -> _Example:
        place = self.share.place(index)
        example = example_at(self.seed, place, len(self.images))
        # The other half of the counter's range is free of the order's random numbers.
        rng = np.random.Generator(np.random.Philox(key=[self.seed, place], counter=1 << 255))

        def crop(content: bytes) -> np.ndarray:
            return crops.train_image(content, rng, self.image_size, self.crop_scale)

        return self._example(example, crop)


@dataclasses.dataclass(frozen=True)
class _TestExamples(_Examples):
    """The test split in order, padded to whole batches."""

    def __len__(self) -> int:
        return -(-len(self.images) // self.share.batch_size) * len(self.share.rows)

    def __getitem__(self, index: int) -> _Example:
        place = self.share.place(index)
        if place >= len(self.images):
            black: Any = np.zeros((self.image_size, self.image_size, _CHANNELS), np.uint8)
            return _Example(black, np.int32(0), np.False_)
        return self._example(place, lambda content: crops.test_image(content, self.image_size))
