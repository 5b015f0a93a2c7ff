"""Images of any size, decoded once to one size and kept in memory."""

import concurrent.futures
import os
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import ConfigDict

from train.data import records
from train.data.dataset import Dataset, Split
from train.data.records import EncodedImages
from train.data.streaming import crops
from train.data.streaming.image_check import shown, unreadable_error
from train.errors import UserError

if TYPE_CHECKING:
    from train.data.streaming.pipeline import StreamingDataset

_MEMORY_SHARE = 0.5  # of the machine's memory; the devices of a CPU get a copy


def load(config: ConfigDict, dataset: "StreamingDataset") -> tuple[Dataset, str]:
    """Decode all images of a data set, with the crop of the test split.

    Returns:
      The data set, and the end of a line about images that were left out; or an empty text.

    Raises:
      UserError: If the images do not fit in memory, if all images of a class are damaged, or if
        one is damaged and `config.data.on_error` is "raise".
    """
    size, height = dataset.num_train + dataset.num_test, dataset.input_shape[0]
    needed, memory = size * np.prod(dataset.input_shape), _memory()
    if needed > memory * _MEMORY_SHARE:
        raise UserError(
            f"{size:,} images of {height}x{height} pixels need {needed / 2**30:,.1f} GiB, but "
            f"config.data.in_memory=True uses at most half of the memory of {memory / 2**30:,.1f} "
            "GiB; set it to False, or use a smaller config.data.image_size"
        )
    train, train_problems = _decode(config, dataset.train)
    test, test_problems = _decode(config, dataset.test)
    decoded = Dataset(train, test, dataset.num_classes, dataset.class_names)
    problems = train_problems | test_problems
    if not problems:
        return decoded, ""
    fix_hint = ""
    if config.data.name != "folder":
        fix_hint = dataset.train.fix_hint
    elif config.data.on_error == "raise":
        fix_hint = "replace or remove them, or set --config.data.on_error=skip to leave them out"
    elif not len(test.labels) or len(np.unique(train.labels)) < dataset.num_classes:
        fix_hint = "a class, or the test split, has no other images; add some"
    if fix_hint:
        raise unreadable_error(problems, size, fix_hint)
    return decoded, f"; left out damaged images ({len(problems):,}): {shown(problems)}"


def _memory() -> int:
    """Return the memory of the machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _decode(config: ConfigDict, images: EncodedImages) -> tuple[Split, dict[str, str]]:
    """Return the images that can be decoded, and why the others cannot, by name."""
    size = config.data.image_size
    inputs: np.ndarray = np.empty((len(images), size, size, 3), np.uint8)
    labels: np.ndarray = np.empty(len(images), np.int32)

    def crop(content: bytes) -> np.ndarray:
        return crops.center_crop(content, size, config.data.exif_orientation)

    def decode(index: int) -> str:
        try:
            inputs[index], labels[index] = records.decode(images, index, crop)
        except records.DamagedError as error:
            return error.reason
        return ""

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        reasons = list(pool.map(decode, range(len(images))))
    problems = {images.record_name(index): text for index, text in enumerate(reasons) if text}
    split = Split(inputs, labels)
    if problems:
        split = split.select(np.flatnonzero([not reason for reason in reasons]))
    return split, problems
