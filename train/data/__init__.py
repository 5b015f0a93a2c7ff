"""Where examples come from, in which order, and how they reach the device."""

from ml_collections import ConfigDict

from train.data import digits
from train.data.dataset import Dataset, Description
from train.errors import UserError


def load(config: ConfigDict) -> Dataset:
    """Reads the data set that `config.data` names.

    Raises:
      UserError: there is no such data set, or it does not fit the config.
    """
    if config.data.name == "digits":
        dataset = digits.load()
    else:
        from train.data import tfds_images  # a second to import, and only needed here

        dataset = tfds_images.load(config.data.name, config.data.dir)
    _check_fit(config, dataset.image_shape)
    return dataset


def describe(config: ConfigDict) -> Description:
    """What a program must know of the data set that `config.data` names, which need not be here.

    Raises:
      UserError: there is no such data set, or it does not fit the config.
    """
    if config.data.name == "digits":
        dataset = digits.load()
        known = Description(dataset.num_classes, dataset.image_shape, len(dataset.train.labels))
    else:
        from train.data import tfds_images  # as above

        known = tfds_images.describe(config.data.name, config.data.dir, config.data.image_size)
    _check_fit(config, known.image_shape)
    return known


def _check_fit(config: ConfigDict, image_shape: tuple[int, int, int]) -> None:
    height, width, channels = image_shape
    for field in ("mean", "std"):
        if len(config.data[field]) != channels:
            raise UserError(
                f"config.data.{field} has {len(config.data[field])} numbers; the images of "
                f"{config.data.name} have {channels} channel(s), each needs one"
            )
    if config.data.pad > min(height, width):
        raise UserError(
            f"config.data.pad={config.data.pad} is more than an image of {config.data.name}, which "
            f"is {height}x{width}; a crop could miss it; use at most {min(height, width)}"
        )
