"""The fields of a training config about object detection."""

from typing import Annotated, Literal

from ml_collections import ConfigDict

from train.config.fields import Section, field
from train.config.types import LIST, Check, Count, Positive, PositiveInt

DETECTORS = ("faster_rcnn", "mask_rcnn")
"""The values of `config.model.name` that are networks for detection."""

ScaleJitter = Annotated[
    tuple[Positive, ...],
    LIST,
    Check(
        lambda scale: not scale or (len(scale) == 2 and scale[0] <= scale[1]),
        "() or two numbers above 0, the smaller first",
    ),
]
Sizes = Annotated[tuple[Positive, ...], LIST, Check(bool, "one number above 0 for each level")]


class Detection(Section):
    """Object detection, with the models `faster_rcnn` and `mask_rcnn` only."""

    backbone: Literal["small", "resnet50", "resnet101", "resnext101_32x4d", "resnext101_64x4d"] = (
        field(
            "resnet50",
            "The network below the feature pyramid. `small` is for small images on a CPU and has "
            "small heads; the others have the heads of the papers.",
        )
    )
    anchor_sizes: Sizes = field(
        (32.0, 64.0, 128.0, 256.0, 512.0),
        "Square root of the area of the anchors of each level, in pixels: three for `small`, five "
        "for the others.",
    )
    short_side: PositiveInt = field(800, "The shorter side of a resized image, in pixels.")
    long_side: PositiveInt = field(
        1333, "The longer side; the limit that makes an image smaller counts."
    )
    scale_jitter: ScaleJitter = field(
        (), "Smallest and largest factor of the size of a training image that is streamed."
    )
    tile: Count = field(
        0, "Side of the squares that training images are cut into instead, in pixels; 0: none."
    )
    max_objects: PositiveInt = field(
        100, "Objects of a training image that are learned: the largest ones."
    )
    mask_size: PositiveInt = field(
        112, "Pixels along each side of the masks that `mask_rcnn` learns from."
    )
    rpn_samples: PositiveInt = field(
        256, "Anchors of an image for which the loss is computed, at most half of them positive."
    )
    box_samples: PositiveInt = field(
        512, "Proposals of an image for which it is, at most a quarter of them positive."
    )
    train_proposals: PositiveInt = field(2000, "Proposals for an image in training.")
    test_proposals: PositiveInt = field(1000, "Proposals for an image in evaluation.")
    max_detections: PositiveInt = field(100, "Detections in an image that count, the best ones.")


def is_detection(config: ConfigDict) -> bool:
    """Return whether the config describes object detection."""
    return config.model.name in DETECTORS
