"""The examples of one process as sequences with random access, which Grain reads in any order."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from train.config.types import MAX_INT
from train.data import records
from train.data.order import HostOrder
from train.data.records import EncodedImages
from train.data.streaming import crops

CHANNELS = 3


class ProcessRows(NamedTuple):
    """The rows of each batch that belong to one process.

    Attributes:
      batch_size: The batch size of all processes together.
      rows: The rows of the process.
    """

    batch_size: int
    rows: range

    @classmethod
    def create(cls, batch_size: int, process_index: int, process_count: int) -> "ProcessRows":
        """Split a batch over the processes as evenly as possible."""
        start, stop = (
            index * batch_size // process_count for index in (process_index, process_index + 1)
        )
        return cls(batch_size, range(start, stop))

    def position(self, index: int) -> int:
        """Return the position of this process's example `index` in the global sequence."""
        step, row = divmod(index, len(self.rows))
        return step * self.batch_size + self.rows[row]


class Example(NamedTuple):
    """One row of a batch; Grain stacks the rows."""

    image: np.ndarray
    label: np.int32
    mask: np.bool_


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of this process, with the random access that Grain needs."""

    images: EncodedImages
    rows: ProcessRows
    image_size: int
    exif_orientation: bool

    def _load(self, index: int, crop: Callable[[bytes], np.ndarray]) -> Example:
        """Read, decode and check an image."""
        pixels, label = records.decode(self.images, index, crop)
        return Example(pixels, np.int32(label), np.True_)


@dataclasses.dataclass(frozen=True)
class TrainExamples(Examples):
    """The training sequence: epoch after epoch, without a gap and without end."""

    order: HostOrder
    crop_scale: tuple[float, float] | tuple[()]

    def __len__(self) -> int:
        return MAX_INT * len(self.rows.rows)

    def __getitem__(self, index: int) -> Example:
        position = self.rows.position(index)
        # The counter starts at 2**255, so these numbers differ from those of the order.
        rng = np.random.Generator(
            np.random.Philox(key=[self.order.seed, position], counter=1 << 255)
        )

        def crop(content: bytes) -> np.ndarray:
            return crops.random_resized_crop(
                content, rng, self.image_size, self.crop_scale, self.exif_orientation
            )

        return self._load(self.order.example_at(position), crop)


@dataclasses.dataclass(frozen=True)
class OrderedExamples(Examples):
    """A split in order, padded to whole batches."""

    def __len__(self) -> int:
        return -(-len(self.images) // self.rows.batch_size) * len(self.rows.rows)

    def __getitem__(self, index: int) -> Example:
        position = self.rows.position(index)
        if position >= len(self.images):
            black: Any = np.zeros((self.image_size, self.image_size, CHANNELS), np.uint8)
            return Example(black, np.int32(0), np.False_)
        return self._load(
            position,
            lambda content: crops.center_crop(content, self.image_size, self.exif_orientation),
        )
