"""The check that every training config passes before anything else is done."""

import importlib.util
from typing import Any

from ml_collections import ConfigDict

from train.config.detection import is_detection
from train.config.detection_checks import check_detection
from train.config.entry_point import HUGGING_FACE, is_entry_point
from train.config.fields import (
    check_names,
    check_values,
    field_specs,
    flatten,
    invalid_field,
    to_plain_values,
)
from train.config.paths import local_path
from train.config.schema import MEASURE, Config
from train.errors import UserError, short_repr

_TOKEN_IDS = (3, 2**16)  # padding, unknown and one word; token ids are uint16
_TRACKERS = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}  # the packages
_IMAGE_ONLY: dict[
    str, Any
] = {  # the values that fields for images must have if the inputs are texts
    "data.pad": 0,
    "data.flip": False,
    "data.image_size": 0,
    "data.in_memory": False,
    "data.augment": "none",
    "data.mixup": 0.0,
    "data.cutmix": 0.0,
    "adversary.train": "none",
    "adversary.eval_steps": 0,
}


def validate(config: ConfigDict) -> None:
    """Check everything that can be checked without the data.

    Numbers of NumPy and paths are replaced by Python's numbers and texts in `config`.

    Raises:
      UserError: If a field is missing, unknown, of the wrong type or out of range, or if fields
        contradict each other.
    """
    if isinstance(config.get("base"), ConfigDict):
        raise UserError("the config has a base, so it is a study's; use python -m train.study")
    to_plain_values(config, Config)
    check_names(flatten(config), field_specs(Config), "train.config.default_config()")
    check_values(config.to_dict(), Config)
    local_path("config.data.dir", config.data.dir)
    local_path("config.init_from", config.init_from)
    check_detection(config)
    _check_run(config)
    if not is_detection(config):
        _check_streaming(config)
    if config.data.vocabulary:
        _check_text(config)


def _check_run(config: ConfigDict) -> None:
    if not config.num_epochs and not config.num_steps:
        raise UserError("config.num_epochs and config.num_steps are both 0; set one of them")
    if config.init_head and not config.init_from:
        raise UserError("config.init_head=True needs config.init_from; set it, or use False")
    is_own, is_folder = is_entry_point(config.data.name), config.data.name == "folder"
    if config.data.test_share and (config.data.name == "digits" or is_own):
        raise UserError(
            f"config.data.test_share={config.data.test_share} is for data sets without a test "
            f"split, but {config.data.name} has one; set it to 0"
        )
    has_label = config.data.name not in ("digits", "folder") and not is_own
    if config.data.label != "label" and (is_detection(config) or not has_label):
        raise UserError(
            f"config.data.label={config.data.label!r} is for classification with TFDS data sets; "
            "set it to 'label'"
        )
    can_skip = config.data.name != "digits_detection" if is_detection(config) else is_folder
    if config.data.on_error == "skip" and not can_skip:
        raise UserError(
            "config.data.on_error='skip' is for config.data.name='folder' and for images with "
            "objects; set it to 'raise'"
        )
    if config.data.batch_size % config.accumulate:
        raise UserError(
            f"config.accumulate={config.accumulate} does not divide config.data.batch_size="
            f"{config.data.batch_size}; use one of its divisors"
        )
    if config.loss.label_smoothing and config.loss.name != "cross_entropy":
        raise UserError(
            f"config.loss.label_smoothing={config.loss.label_smoothing} is for the cross-entropy, "
            f"not for {config.loss.name}; set it to 0, or smooth the labels in that function"
        )
    averages = ("lookahead", "ranger", "schedule_free_sgd", "schedule_free_adamw")
    if config.optimizer.ema and config.optimizer.name in averages:
        raise UserError(
            f"config.optimizer.ema={config.optimizer.ema} is not for {config.optimizer.name}, "
            "which evaluates an average of its own; set it to 0"
        )
    for field, package in _TRACKERS.items():
        value = config.report[field]
        if value and importlib.util.find_spec(package) is None:
            raise UserError(
                f"config.report.{field}={short_repr(value)} needs {package}; run python -m pip "
                f"install {package}, or leave it out"
            )


def _check_streaming(config: ConfigDict) -> None:
    data = config.data
    if data.in_memory and not data.image_size:
        raise UserError(
            "config.data.in_memory=True is for images of any size; set config.data.image_size to "
            "their size in memory, or use False"
        )
    streams = data.name == "folder" or data.name.startswith(HUGGING_FACE)
    if streams and not data.image_size:
        raise UserError(
            f"config.data.name={data.name!r} needs config.data.image_size, the size of a crop in "
            "pixels, such as 224"
        )
    if data.image_size and is_entry_point(data.name):
        raise UserError(
            f"config.data.image_size={data.image_size} is for images of any size, but the function "
            f"{data.name} returns images of one size; set it to 0"
        )
    if not data.image_size or data.in_memory:
        return
    if data.pad:
        raise UserError(
            f"config.data.pad={data.pad} is for images on the device, but "
            f"config.data.image_size={data.image_size} streams crops by config.data.crop_scale; "
            "set config.data.pad to 0, or config.data.in_memory to True"
        )
    if data.classes or data.train_per_class:
        raise UserError(
            "config.data.classes and config.data.train_per_class are for images on the device; "
            "leave them out, or set config.data.in_memory to True"
        )


def _check_text(config: ConfigDict) -> None:
    vocabulary, name = config.data.vocabulary, config.data.name
    least, most = _TOKEN_IDS
    if not least <= vocabulary <= most:
        limits = f"0 for images, or from {least} to {most} for texts"
        raise invalid_field("data.vocabulary", vocabulary, limits)
    if name in ("digits", "folder") or name.startswith(HUGGING_FACE):
        raise UserError(
            f"config.data.name={name!r} is a set of images, but config.data.vocabulary is for "
            "texts; set it to 0, or name a TFDS set of texts such as 'imdb_reviews/plain_text'"
        )
    values = flatten(config)
    for field in ("data.mean", "data.std"):
        if values[field] == MEASURE:
            raise UserError(
                f"config.{field}='measure' is for images, but config.data.vocabulary is for texts; "
                "leave it out, or set the vocabulary to 0"
            )
    for field, allowed in _IMAGE_ONLY.items():
        if values[field] != allowed:
            raise UserError(
                f"config.{field}={short_repr(values[field])} is for images, but "
                f"config.data.vocabulary is for texts; set it to {allowed!r}, or the vocabulary "
                "to 0"
            )
