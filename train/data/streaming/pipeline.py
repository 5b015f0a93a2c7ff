"""Images that do not fit in memory: read, decoded and cropped a few batches ahead, with Grain.

An example of the training sequence is a pure function of its position in the sequence. So a run can
start at any step: there is no iterator to save, and nothing to skip.
"""

import gc
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import grain
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from train.config.entry_point import HUGGING_FACE
from train.data import class_counts
from train.data.dataset import Fingerprint, Signature
from train.data.inputs import check_channels
from train.data.order import HostOrder
from train.data.records import EncodedImages
from train.data.streaming import workers
from train.data.streaming.examples import (
    CHANNELS,
    Examples,
    OrderedExamples,
    ProcessRows,
    TrainExamples,
)
from train.errors import UserError, describe_error

_MAX_THREADS = 16  # more threads only wait for the global interpreter lock


class HostBatch(NamedTuple):
    """The rows of a batch that belong to this process.

    Attributes:
      inputs: uint8, (rows, height, width, 3).
      labels: int32, (rows,).
      mask: bool, (rows,); False for the padding of an evaluation batch.
    """

    inputs: np.ndarray
    labels: np.ndarray
    mask: np.ndarray


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

    def replace(
        self,
        *,
        config: ConfigDict | None = None,
        train: EncodedImages | None = None,
        test: EncodedImages | None = None,
    ) -> "StreamingDataset":
        """Return the data set with another config or with other splits."""
        return StreamingDataset(
            train or self.train, test or self.test, config or self._config, *self._process
        )

    @property
    def signature(self) -> Signature:
        """The signature of a network for these data."""
        return Signature(self.num_classes, self.input_shape, self.class_names)

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Return the fingerprint of each split by name."""
        return {"train": self.train.fingerprint(), "test": self.test.fingerprint()}

    def train_batches(self, first_step: int) -> "BatchIterator":
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


class BatchIterator(Iterator[HostBatch]):
    """Batches that are prepared ahead of time, by threads or by worker processes.

    The threads or processes start with the constructor. Use the iterator as a context manager, or
    call `close`, to stop them.

    Raises:
      UserError: If a record is damaged, or if a worker process died.
    """

    def __init__(self, examples: Examples, first_step: int, num_workers: int):
        # Grain assigns whole batches to workers, so their number does not change the batches.
        batches = grain.MapDataset.source(examples).batch(len(examples.rows.rows))[first_step:]
        threads = 0 if num_workers else min(os.cpu_count() or 1, _MAX_THREADS)
        _configure_grain()
        prefetched = batches.to_iter_dataset(
            grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
        ).mp_prefetch(
            grain.MultiprocessingOptions(num_workers=num_workers),
            worker_init_fn=workers.init_worker,
        )
        self._iterator: Any = iter(prefetched)
        with workers.block_signals():
            # Without this call, each worker starts only when its first batch is needed.
            self._iterator.get_state()
            self._iterator.start_prefetch()

    def __next__(self) -> HostBatch:
        try:
            batch = next(self._iterator)
        except UserError as error:
            # Grain's traceback is a reference cycle that holds a batch in shared memory. Free it
            # now: if the process exits with such a batch, Python prints a warning to stderr.
            error.__traceback__ = None
            gc.collect()
            raise error from None
        except RuntimeError as error:  # Grain raises it if a worker process died
            raise UserError(
                f"a data worker process died ({describe_error(error)}); it may have been killed "
                "because memory or /dev/shm was full; use fewer --config.data.workers, and run "
                "the same command again"
            ) from error
        return HostBatch(*map(_copy_shared, batch))

    def __enter__(self) -> "BatchIterator":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads and processes; they finish their current batches first."""
        # Replace it, because Grain's iterators must be deleted before the interpreter exits.
        iterator, self._iterator = self._iterator, (_ for _ in ())
        iterator.close()


def _configure_grain() -> None:
    # Grain reads its own absl flags, which fails until flags are parsed. We do not use absl flags.
    flags.FLAGS.mark_as_parsed()
    # Traceback filtering wraps Grain's classes again for each pipeline, and adds notes to errors.
    grain.config.update("py_traceback_filtering", "off")


def _copy_shared(array: np.ndarray) -> np.ndarray:
    """Return a copy of an array in shared memory, which must be released before exit."""
    shared = isinstance(array, grain.multiprocessing.SharedMemoryArray)
    return np.array(array, subok=False) if shared else array
