"""Images of any size, decoded once to one size and kept in memory."""

import concurrent.futures
import os
from typing import TYPE_CHECKING

import numpy as np

from train.data import records
from train.data.dataset import Dataset, Split
from train.data.records import EncodedImages
from train.data.streaming import crops
from train.errors import UserError

if TYPE_CHECKING:
    from train.data.streaming.pipeline import StreamingDataset

_MEMORY_SHARE = 0.5  # of the machine's memory; the devices of a CPU get a copy


def load(dataset: "StreamingDataset") -> Dataset:
    """Decode all images of a data set, with the crop of the test split.

    Raises:
      UserError: If the images do not fit in memory, or if one is damaged.
    """
    size, height = dataset.num_train + dataset.num_test, dataset.input_shape[0]
    needed, memory = size * np.prod(dataset.input_shape), _memory()
    if needed > memory * _MEMORY_SHARE:
        raise UserError(
            f"{size:,} images of {height}x{height} pixels need {needed / 2**30:,.1f} GiB, but "
            f"config.data.in_memory=True uses at most half of the memory of {memory / 2**30:,.1f} "
            "GiB; set it to False, or use a smaller config.data.image_size"
        )
    return Dataset(
        train=_decode(dataset.train, height),
        test=_decode(dataset.test, height),
        num_classes=dataset.num_classes,
        class_names=dataset.class_names,
    )


def _memory() -> int:
    """Return the memory of the machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _decode(images: EncodedImages, size: int) -> Split:
    inputs: np.ndarray = np.empty((len(images), size, size, 3), np.uint8)
    labels: np.ndarray = np.empty(len(images), np.int32)

    def decode(index: int) -> None:
        inputs[index], labels[index] = records.decode(
            images, index, lambda content: crops.center_crop(content, size)
        )

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(decode, range(len(images))):
            pass
    return Split(inputs, labels)
