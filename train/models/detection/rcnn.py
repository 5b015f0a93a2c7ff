"""Faster R-CNN (Ren et al. 2015, arXiv 1506.01497) and Mask R-CNN (He et al. 2017, arXiv
1703.06870) with a feature pyramid, as pure functions of their parameters.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from train.models.detection.anchors import level_anchors
from train.models.detection.backbones import BACKBONES, Backbone
from train.models.detection.fpn import FPN
from train.models.detection.heads import BoxHead, MaskHead
from train.models.detection.roi_align import roi_align
from train.models.detection.rpn import RPN, Proposed, propose
from train.models.detection.settings import Proposals, Settings
from train.models.last_layer import Layers

_T = TypeVar("_T")


class RCNN(nnx.Module):
    """The layers of a detector and what they compute for a batch of images.

    Args:
      settings: The hyperparameters.
      rngs: For the initial parameters.
    """

    def __init__(self, settings: Settings, rngs: nnx.Rngs):
        s, dtype = settings, settings.dtype
        architecture = BACKBONES[s.backbone]
        self.backbone = Backbone(architecture, norm=s.norm, dtype=dtype, rngs=rngs)
        self.fpn = FPN(
            architecture.features,
            s.features,
            s.extra_levels,
            norm=s.head_norm,
            dtype=dtype,
            rngs=rngs,
        )
        self.rpn = RPN(s.features, len(s.anchor_ratios), dtype=dtype, rngs=rngs)
        self.box_head = BoxHead(
            s.box_cells,
            s.features,
            s.box_head_convs,
            s.box_head_linears,
            s.box_head_width,
            s.num_classes,
            norm=s.head_norm,
            dtype=dtype,
            rngs=rngs,
        )
        if s.masks:
            self.mask_head = MaskHead(
                s.features,
                s.mask_head_convs,
                s.num_classes,
                norm=s.head_norm,
                dtype=dtype,
                rngs=rngs,
            )
        self.settings = s
        self.strides = architecture.strides

    def pyramid(self, images: jax.Array, train: bool) -> list[jax.Array]:
        """Return the maps of the pyramid, from fine to coarse.

        Args:
          images: float32, standardized, (batch, height, width, 3).
          train: Whether batch normalization may use the statistics of the batch.
        """
        train = train and not self.settings.frozen_statistics
        return self.fpn(self.backbone(images.astype(self.settings.dtype), train))

    def anchors(self, pyramid: Sequence[jax.Array]) -> list[jax.Array]:
        """Return the anchors of each level, float32 (anchors, 4)."""
        s = self.settings
        anchors = []
        for level, (maps, size) in enumerate(zip(pyramid, s.anchor_sizes, strict=True)):
            _, height, width, _ = maps.shape
            stride = self.strides[0] * 2**level
            level_boxes = level_anchors((height, width), stride, size, s.anchor_ratios)
            # Without the barrier, the compiler would compute with the constants for a long time.
            anchors.append(jax.lax.optimization_barrier(jnp.asarray(level_boxes)))
        return anchors

    def propose(
        self,
        logits: Sequence[jax.Array],
        deltas: Sequence[jax.Array],
        anchors: Sequence[jax.Array],
        sizes: jax.Array,
        counts: Proposals,
    ) -> Proposed:
        """Return the proposals of each image, without gradients.

        Args:
          logits: Of each level, as `RPN` returns them.
          deltas: Of each level, as `RPN` returns them.
          anchors: Of each level.
          sizes: The heights and widths of the images, (batch, 2).
          counts: The numbers of boxes.
        """

        def of_image(logits: Any, deltas: Any, size: jax.Array) -> Proposed:
            return propose(logits, deltas, anchors, size, counts, self.settings.nms_threshold)

        return jax.vmap(of_image)(*jax.lax.stop_gradient((logits, deltas)), sizes)

    def classify(
        self, pyramid: Sequence[jax.Array], boxes: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return the logits and deltas of `BoxHead` for boxes (batch, n, 4)."""
        return self.box_head(self._read(pyramid, boxes, self.settings.box_cells))

    def masks(self, pyramid: Sequence[jax.Array], boxes: jax.Array) -> jax.Array:
        """Return the logits of `MaskHead` for boxes (batch, n, 4)."""
        return self.mask_head(self._read(pyramid, boxes, self.settings.mask_cells))

    def _read(self, pyramid: Sequence[jax.Array], boxes: jax.Array, cells: int) -> jax.Array:
        levels = pyramid[: len(self.strides)]  # without the extra ones, which are for anchors
        return roi_align(levels, self.strides, boxes, cells, self.settings.canonical_size)


class Detector(NamedTuple):
    """A detector without its parameters.

    Attributes:
      settings: The hyperparameters.
      init: `key -> (params, stats)`, two nested dicts of arrays: the parameters, and the running
        statistics of batch normalization.
      apply: `(params, stats, function) -> (function(network), stats)`, where the network is an
        `RCNN` with these arrays, and the statistics returned are those after the call.
      last_layer: The paths of the layers whose shapes depend on the number of classes.
    """

    settings: Settings
    init: Callable[[jax.Array], tuple[Any, Any]]
    apply: Callable[[Any, Any, Callable[[RCNN], Any]], tuple[Any, Any]]
    last_layer: Layers


def make(settings: Settings) -> Detector:
    """Return a detector as pure functions."""

    def split(key: jax.Array) -> tuple[nnx.GraphDef, Any, Any]:
        graphdef, *states = nnx.split(RCNN(settings, nnx.Rngs(key)), nnx.Param, ...)
        params, stats = map(nnx.to_pure_dict, states)
        return graphdef, params, stats

    graphdef, _, _ = jax.eval_shape(split, jax.random.key(0))

    def init(key: jax.Array) -> tuple[Any, Any]:
        _, params, stats = split(key)
        return params, stats

    def apply(params: Any, stats: Any, function: Callable[[RCNN], _T]) -> tuple[_T, Any]:
        network = nnx.merge(graphdef, nnx.State(params), nnx.State(stats))
        result = function(network)
        return result, nnx.to_pure_dict(nnx.state(network, nnx.Not(nnx.Param)))

    heads = {("box_head", "logits"), ("box_head", "deltas")}
    heads |= {("mask_head", "logits")} if settings.masks else set()
    return Detector(settings, init, apply, frozenset(heads))
