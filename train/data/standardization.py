"""The mean and the standard deviation of the pixels, measured on the training split."""

import concurrent.futures
import functools
import math
import os
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from ml_collections import ConfigDict

from train.config.schema import MEASURE
from train.data import records
from train.data.dataset import AnyDataset, Dataset
from train.data.records import EncodedImages
from train.errors import UserError

if TYPE_CHECKING:
    from train.data.streaming.pipeline import StreamingDataset

_LARGEST = 255  # of a pixel
_SAMPLE = 4096  # streamed images; with so many, the mean is right to about 0.003
_CHUNK = 256  # images in memory at once, whose pixels NumPy copies to int64


class Standardization(NamedTuple):
    """The figures of each channel, of pixels in 0..1.

    Attributes:
      mean: The means.
      std: The standard deviations, all above 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


def is_requested(config: ConfigDict) -> bool:
    """Return whether the mean or the standard deviation is to be measured."""
    return MEASURE in (config.data.mean, config.data.std)


def fill_in(config: ConfigDict, figures: Standardization) -> ConfigDict:
    """Return the config with the figures in the place of "measure"."""
    filled = config.copy_and_resolve_references()
    for field, values in figures._asdict().items():
        if filled.data[field] == MEASURE:
            filled.data[field] = values
    return filled


def measure(config: ConfigDict, dataset: AnyDataset) -> Standardization:
    """Measure the training images, without augmentation.

    All images in memory count. Of streamed images it is 4096, drawn independently of the seed, with
    the crop of the test split; all if there are fewer. The sums are integers, so the figures do not
    depend on the order, and are the same in every process.

    Raises:
      UserError: If an image is damaged, or all pixels of a channel have the same value.
    """
    if isinstance(dataset, Dataset):
        images = dataset.train.inputs
        chunks = range(0, len(images), _CHUNK)
        parts = (_histograms(images[start : start + _CHUNK]) for start in chunks)
        histograms = functools.reduce(np.add, parts)
    else:
        data = config.data
        stream = cast("StreamingDataset", dataset)
        histograms = _sample_histograms(stream.train, data.image_size, data.exif_orientation)
    figures = [_figures(counts) for counts in histograms.tolist()]
    if config.data.std == MEASURE and not all(std for _, std in figures):
        raise UserError(
            f"config.data.std='measure' is not possible: in the training images of "
            f"{config.data.name}, all pixels of a channel have the same value; set it to numbers"
        )
    means, stds = zip(*figures, strict=True)
    return Standardization(means, stds)


@functools.lru_cache(maxsize=2)  # a study asks again for each run
def _sample_histograms(
    images: EncodedImages, image_size: int, exif_orientation: bool
) -> np.ndarray:
    """Return the histograms of a sample of the images: int64, (channels, 256)."""
    from train.data.streaming import crops  # imports Pillow

    ids = np.arange(len(images))
    if len(ids) > _SAMPLE:
        ids = np.random.default_rng(0).choice(ids, _SAMPLE, replace=False)

    def histograms(index: int) -> np.ndarray:
        pixels, _ = records.decode(
            images, index, lambda content: crops.center_crop(content, image_size, exif_orientation)
        )
        return _histograms(pixels)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return functools.reduce(np.add, pool.map(histograms, ids.tolist()))


def _histograms(images: np.ndarray) -> np.ndarray:
    """Return the number of pixels of each value in each channel: int64, (channels, 256)."""
    channels = images.reshape(-1, images.shape[-1]).T
    return np.stack([np.bincount(channel, minlength=_LARGEST + 1) for channel in channels])


def _figures(counts: list[int]) -> tuple[float, float]:
    """Return the mean and the standard deviation of the pixels in 0..1 of a histogram."""
    size = sum(counts)
    total = sum(value * count for value, count in enumerate(counts))
    squares = sum(value**2 * count for value, count in enumerate(counts))
    # Python's integers are exact, also where a difference of sums of floats would cancel.
    variance = (size * squares - total**2) / size**2
    return total / (size * _LARGEST), math.sqrt(variance) / _LARGEST
