"""The examples of one process as sequences with random access, which Grain reads in any order."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np

from train.config.types import MAX_INT
from train.data import records
from train.data.batch import Batch
from train.data.order import HostOrder
from train.data.records import EncodedImages
from train.data.streaming import crops
from train.data.streaming.batch_iterator import ProcessRows

CHANNELS = 3


class Example(NamedTuple):
    """One row of a batch; Grain stacks the rows."""

    image: np.ndarray
    label: np.int32
    mask: np.bool_


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of this process, with the random access that Grain needs."""

    batch_type: ClassVar = Batch

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
