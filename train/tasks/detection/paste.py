"""Masks of boxes, put back into the image."""

import numpy as np


def paste_mask(mask: np.ndarray, box: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the pixels of an image where the mask of a box is at least 1/2.

    The mask is interpolated at the center of each pixel. Cells have their values at their centers,
    and outside of the box the mask is 0.

    Args:
      mask: float, (side, side); the probability of each cell of the box.
      box: float, (4,); x1, y1, x2, y2 in pixels of the image.
      height: The height of the image.
      width: The width of the image.

    Returns:
      bool, (height, width).

    References:
      He et al., Mask R-CNN, ICCV 2017, section 3.1. The rule for the centers is Detectron2's.
    """
    pasted = np.zeros((height, width), np.bool_)
    left, top = np.maximum(np.floor(box[:2]), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(box[2:]), [width, height]).astype(int).tolist()
    if left < right and top < bottom:
        down = _weights(top, bottom, box[1], box[3], mask.shape[0])
        across = _weights(left, right, box[0], box[2], mask.shape[1])
        pasted[top:bottom, left:right] = down @ mask @ across.T >= 0.5
    return pasted


def _weights(start: int, stop: int, low: float, high: float, cells: int) -> np.ndarray:
    """Return the weight of each cell (columns) at the center of each pixel (rows)."""
    places = (np.arange(start, stop) + 0.5 - low) / max(high - low, 1e-6) * cells - 0.5
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(cells)[None])).astype(np.float32)
