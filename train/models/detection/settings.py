"""The hyperparameters of a detector."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from train.models.layers.norm import Normalization


class Matching(NamedTuple):
    """When a box belongs to an object, by intersection over union.

    Attributes:
      positive: The smallest value for a positive box.
      negative: Below this value, a box is negative; between both it is ignored.
      lowest_best: The boxes with the highest value of an object are positive if that is at least
        this large; None for no such boxes.
      crowd: A box that is not positive is ignored if at least this share of it is in a crowd
        region.
    """

    positive: float
    negative: float
    lowest_best: float | None = None
    crowd: float = 0.7


class Sampling(NamedTuple):
    """How many boxes of an image the loss is computed for.

    Attributes:
      number: The number of boxes.
      positive_share: The largest share of positive boxes.
    """

    number: int
    positive_share: float

    @property
    def max_positive(self) -> int:
        """The largest number of positive boxes."""
        return int(self.number * self.positive_share)


class Proposals(NamedTuple):
    """How many proposals an image has.

    Attributes:
      candidates: The number of boxes with the highest scores on each level, before NMS.
      number: The number of boxes with the highest scores, after NMS.
    """

    candidates: int
    number: int


_RPN_MATCHING = Matching(0.7, 0.3, lowest_best=0.3)
_BOX_MATCHING = Matching(0.5, 0.5)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The hyperparameters of a detector; `paper` and `small` return complete ones.

    Attributes:
      num_classes: The number of classes, without the background.
      masks: Whether to predict masks, as Mask R-CNN does.
      backbone: A name in `train.models.detection.backbones.BACKBONES`.
      norm: The normalization of the backbone.
      head_norm: The normalization of the convolutions of the pyramid, the box head and the mask
        head.
      frozen_statistics: Whether batch normalization uses its running statistics in training too.
      features: The features of the pyramid, of the RPN and of the convolutions of the mask head.
      extra_levels: The number of levels of the pyramid that are coarser than the backbone's.
      box_head_convs: The number of convolutions before the first fully connected layer.
      box_head_linears: The number of fully connected layers.
      box_head_width: The units of each fully connected layer.
      mask_head_convs: The number of convolutions before the upsampling.
      anchor_sizes: The square root of the area of the anchors of each level.
      anchor_ratios: Their heights divided by their widths.
      anchor_border: The pixels by which an anchor of the loss may extend beyond the image; None for
        any number.
      canonical_size: The square root of the area of the smallest boxes that are read from the level
        of stride 16.
      box_cells: The cells along each side of the features of a box.
      mask_cells: The same for masks; a mask has twice as many pixels.
      box_weights: The weights of the deltas of the box head.
      rpn_matching: Of anchors to objects.
      rpn_sampling: Of anchors.
      rpn_beta: Of the smooth L1 loss of anchors.
      box_matching: Of proposals to objects.
      box_sampling: Of proposals.
      box_beta: Of the smooth L1 loss of proposals.
      train_proposals: The proposals in training.
      test_proposals: The proposals in evaluation.
      nms_threshold: The largest intersection over union of two proposals.
      score_threshold: The smallest score of a detection.
      test_candidates: The number of boxes with the highest scores, before NMS.
      test_nms_threshold: The largest intersection over union of two detections of a class.
      max_detections: The number of detections of an image.
      dtype: The dtype of the activations.
    """

    num_classes: int
    masks: bool
    backbone: str
    norm: Normalization
    head_norm: Normalization
    frozen_statistics: bool
    features: int
    extra_levels: int
    box_head_convs: int
    box_head_linears: int
    box_head_width: int
    mask_head_convs: int
    anchor_sizes: tuple[float, ...]
    anchor_border: float | None
    canonical_size: float
    rpn_sampling: Sampling
    box_sampling: Sampling
    train_proposals: Proposals
    test_proposals: Proposals
    test_candidates: int
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    box_cells: int = 7
    mask_cells: int = 14
    box_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    rpn_matching: Matching = _RPN_MATCHING
    rpn_beta: float = 1 / 9
    box_matching: Matching = _BOX_MATCHING
    box_beta: float = 1.0
    nms_threshold: float = 0.7
    score_threshold: float = 0.05
    test_nms_threshold: float = 0.5
    max_detections: int = 100
    dtype: Any = jnp.float32


def paper(num_classes: int, masks: bool, backbone: str = "resnet50", **changes: Any) -> Settings:
    """Return the settings of the papers for COCO, as in Detectron and mmdetection.

    With `norm=Normalization("group")`, the box head has four convolutions and one fully connected
    layer, and the pyramid and the heads are normalized too, as in Wu and He 2018 (arXiv
    1803.08494).

    Args:
      num_classes: The number of classes; 80 in COCO.
      masks: Whether to predict masks.
      backbone: The name of the backbone.
      **changes: Other fields of `Settings`.
    """
    norm = changes.get("norm", Normalization())
    group = norm.name == "group"
    settings = Settings(
        num_classes=num_classes,
        masks=masks,
        backbone=backbone,
        norm=norm,
        head_norm=norm if group else Normalization("none"),
        frozen_statistics=norm.name == "batch",
        features=256,
        extra_levels=1,
        box_head_convs=4 if group else 0,
        box_head_linears=1 if group else 2,
        box_head_width=1024,
        mask_head_convs=4,
        anchor_sizes=(32, 64, 128, 256, 512),
        anchor_border=0,
        canonical_size=224,
        rpn_sampling=Sampling(256, 0.5),
        box_sampling=Sampling(512, 0.25),
        train_proposals=Proposals(2000, 2000),
        test_proposals=Proposals(1000, 1000),
        test_candidates=2000,
    )
    return dataclasses.replace(settings, **changes)


def small(num_classes: int, masks: bool, **changes: Any) -> Settings:
    """Return settings for images of 64x64 to 160x160 pixels, trained from scratch on a CPU.

    Args:
      num_classes: The number of classes.
      masks: Whether to predict masks.
      **changes: Other fields of `Settings`.
    """
    settings = Settings(
        num_classes=num_classes,
        masks=masks,
        backbone="small",
        norm=Normalization("group"),
        head_norm=Normalization("none"),
        frozen_statistics=False,
        features=64,
        extra_levels=0,
        box_head_convs=0,
        box_head_linears=2,
        box_head_width=128,
        mask_head_convs=2,
        anchor_sizes=(12, 24, 48),
        anchor_border=None,
        canonical_size=64,
        rpn_sampling=Sampling(64, 0.5),
        box_sampling=Sampling(32, 0.25),
        train_proposals=Proposals(64, 64),
        test_proposals=Proposals(64, 64),
        test_candidates=128,
        mask_cells=7,
        max_detections=20,
    )
    return dataclasses.replace(settings, **changes)
