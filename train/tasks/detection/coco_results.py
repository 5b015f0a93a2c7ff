"""Annotations and predictions in the form that COCO's evaluation takes."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from train.data.detection.annotations import Annotations, encode_mask
from train.tasks.detection.paste import paste_mask
from train.tasks.detection.predictions import Predictions


def to_original(boxes: np.ndarray, sizes: np.ndarray, resized_sizes: np.ndarray) -> np.ndarray:
    """Return boxes in the pixels of the images before they were resized, cut at their edges.

    Args:
      boxes: (images, D, 4); x1, y1, x2, y2 in pixels of the resized images.
      sizes: (images, 2); height and width before resizing.
      resized_sizes: (images, 2); height and width after resizing, without padding.
    """
    widths_heights = np.tile(sizes[:, ::-1], 2).astype(np.float64)
    scale = widths_heights / np.tile(resized_sizes[:, ::-1], 2)
    scaled = boxes.astype(np.float64) * scale[:, None]
    return np.clip(scaled, 0, widths_heights[:, None])


def ground_truth(annotations: Annotations, class_names: Sequence[str]) -> dict[str, Any]:
    """Return the objects of a split as a COCO file, with the image's index and the class as ids."""
    corners = annotations.boxes
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
    image_ids, sizes = annotations.image_ids().tolist(), annotations.sizes.tolist()
    objects = [
        {
            "id": row + 1,  # 0 would mean "no match"
            "image_id": image_id,
            "category_id": int(annotations.classes[row]),
            "bbox": boxes[row],
            "area": float(annotations.areas[row]),
            "iscrowd": int(annotations.crowd[row]),
            **_segmentation(annotations, row, sizes[image_id]),
        }
        for row, image_id in enumerate(image_ids)
    ]
    return {
        "info": {},
        "images": [
            {"id": index, "height": height, "width": width}
            for index, (height, width) in enumerate(sizes)
        ],
        "categories": [{"id": label, "name": name} for label, name in enumerate(class_names)],
        "annotations": objects,
    }


def detections(
    predictions: Predictions, sizes: np.ndarray, boxes: np.ndarray, masks: bool
) -> list[dict[str, Any]]:
    """Return detections in COCO's format of results.

    Args:
      predictions: The predictions of each image, in the order of the split.
      sizes: (images, 2); height and width of each image.
      boxes: The result of `to_original`.
      masks: Whether the detections get their masks, which are what is compared then.
    """
    found = []
    for image_id, place in valid(predictions):
        x1, y1, x2, y2 = boxes[image_id, place].tolist()
        detection: dict[str, Any] = {
            "image_id": image_id,
            "category_id": int(predictions.classes[image_id, place]),
            "score": float(predictions.scores[image_id, place]),
        }
        if masks:
            height, width = sizes[image_id].tolist()
            cells = predictions.masks[image_id, place]
            pasted = paste_mask(cells, boxes[image_id, place], height, width)
            detection["segmentation"] = {"size": [height, width], "counts": encode_mask(pasted)}
        else:
            detection["bbox"] = [x1, y1, x2 - x1, y2 - y1]
        found.append(detection)
    return found


def valid(predictions: Predictions) -> Iterator[tuple[int, int]]:
    """Return the image and the place of each detection that is one and has finite numbers."""
    finite = np.isfinite(predictions.boxes).all(-1) & np.isfinite(predictions.scores)
    return zip(
        *(ids.tolist() for ids in np.nonzero((predictions.classes >= 0) & finite)), strict=True
    )


def _segmentation(annotations: Annotations, row: int, size: list[int]) -> dict[str, Any]:
    if not annotations.has_masks:
        return {}
    return {"segmentation": {"size": size, "counts": annotations.mask(row)}}
