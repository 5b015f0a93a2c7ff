"""The checks of a training config that concern object detection."""

from typing import Any

from ml_collections import ConfigDict

from train.config.detection import DETECTORS, is_detection
from train.config.entry_point import HUGGING_FACE, is_entry_point
from train.config.fields import flatten
from train.config.schema import MEASURE
from train.errors import UserError, short_repr

DATA_NAMES = ("digits_detection", "coco_folder")
"""The values of `config.data.name` that are only for detection; TFDS has more data sets."""

_NUM_LEVELS = {"small": 3}  # of the feature pyramid, with the extra ones
_DEFAULT_NUM_LEVELS = 5
_UNSUPPORTED: dict[str, Any] = {  # the values of fields that detection does not use
    "data.pad": 0,
    "data.augment": "none",
    "data.mixup": 0.0,
    "data.cutmix": 0.0,
    "data.image_size": 0,
    "data.classes": (),
    "data.train_per_class": 0,
    "data.test_share": 0.0,
    "data.sampling": "shuffled",
    "data.vocabulary": 0,
    "model.stem": "3x3",
    "model.widen_factor": 1,
    "model.remat": False,
    "model.dropout": 0.0,
    "loss.name": "cross_entropy",
    "loss.label_smoothing": 0.0,
    "loss.class_weights": "none",
    "adversary.train": "none",
    "adversary.eval_steps": 0,
    "init_head": False,
}


def check_detection(config: ConfigDict) -> None:
    """Check that a detector has data for detection, and only fields that detection uses.

    Raises:
      UserError: If not.
    """
    name = config.data.name
    misfit = f"config.data.name={name!r} does not fit config.model.name={config.model.name!r}; set "
    if not is_detection(config):
        if name in DATA_NAMES:
            raise UserError(f"{misfit}config.model.name to {' or '.join(DETECTORS)}")
        return
    if name in ("digits", "folder") or name.startswith(HUGGING_FACE) or is_entry_point(name):
        names = ", ".join(DATA_NAMES)
        raise UserError(f"{misfit}config.data.name to {names} or a TFDS name such as 'coco/2017'")
    if name not in DATA_NAMES and config.model.name == "mask_rcnn":
        raise UserError(
            f"config.model.name='mask_rcnn' needs masks, but TFDS's {name} has boxes only; set "
            "config.model.name to faster_rcnn, or config.data.name to coco_folder"
        )
    fields = flatten(config)
    for field, allowed in _UNSUPPORTED.items():
        if fields[field] != allowed:
            raise UserError(
                f"config.{field}={short_repr(fields[field])} is not for detection; set it to "
                f"{allowed!r}"
            )
    if MEASURE in (config.data.mean, config.data.std):
        raise UserError(
            "config.data.mean='measure' and config.data.std='measure' are not for detection; set "
            "both to numbers, one for each channel"
        )
    _check_numbers(config)


def _check_numbers(config: ConfigDict) -> None:
    detection = config.detection
    levels = _NUM_LEVELS.get(detection.backbone, _DEFAULT_NUM_LEVELS)
    if len(detection.anchor_sizes) != levels:
        raise UserError(
            f"config.detection.anchor_sizes={short_repr(detection.anchor_sizes)} must have "
            f"{levels} numbers for the backbone {detection.backbone!r}, one for each level"
        )
    if detection.long_side < detection.short_side:
        raise UserError(
            f"config.detection.long_side={detection.long_side} is less than "
            f"config.detection.short_side={detection.short_side}; set it to at least as much"
        )
    in_memory = config.data.in_memory or config.data.name == "digits_detection"
    if detection.scale_jitter and (in_memory or detection.tile):
        raise UserError(
            f"config.detection.scale_jitter={short_repr(detection.scale_jitter)} is for whole "
            "images that are streamed; set it to (), or set config.data.in_memory=False and "
            "config.detection.tile=0"
        )
