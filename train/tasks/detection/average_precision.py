"""COCO's average precision of boxes and masks, and precision and recall at one threshold."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from train.data.detection.annotations import Annotations
from train.data.detection.coco_api import coco_api
from train.tasks.detection import coco_results
from train.tasks.detection.predictions import Predictions, in_order

_SIZES = "all", "small", "medium", "large"  # below 32x32, below 96x96, and other pixels
_KINDS = {"box": "bbox", "mask": "segm"}


def average_precision(
    annotations: Annotations,
    class_names: Sequence[str],
    predictions: Predictions,
    resized_sizes: np.ndarray,
    *,
    max_detections: int = 100,
    score_threshold: float = 0.5,
) -> dict[str, Any]:
    """Return how well the detections in a split agree with its objects.

    AP is the mean over the classes and over the thresholds 0.50, 0.55 ... 0.95 of the intersection
    over union (IoU). What is undefined, such as the AP of small objects without any, is None.

    Args:
      annotations: The objects of the split, in pixels of the images before they were resized.
      class_names: The names of the classes.
      predictions: The detections, in pixels of the resized images. Each image must occur; if it
        occurs twice, only the first counts.
      resized_sizes: (images, 2); the height and the width of each resized image in the order of the
        split, without its padding.
      max_detections: The number of detections of one class in an image that count: those with the
        highest scores.
      score_threshold: The lowest score of a detection that counts for precision and recall.

    Returns:
      For boxes: `box_ap`, `box_ap50`, `box_ap75`, `box_ap_small`, `box_ap_medium`, `box_ap_large`;
      `box_precision` and `box_recall` over all classes, at an IoU of 0.5 and `score_threshold`. For
      masks the same with `mask_`, if both the objects and the detections have them. In `per_class`
      a dict for each class with `class`, `objects` (a count without crowds), `box_ap`, `box_ap50`,
      `box_precision`, `box_recall`, and the same of masks.

    References:
      Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014, and its evaluation code.
    """
    predictions = in_order(predictions, annotations.num_images)
    boxes = coco_results.to_original(predictions.boxes, annotations.sizes, resized_sizes)
    truth = coco_results.ground_truth(annotations, class_names)
    counts = np.bincount(annotations.classes[~annotations.crowd], minlength=len(class_names))
    result: dict[str, Any] = {}
    rows: list[dict[str, Any]] = [
        {"class": name, "objects": int(count)}
        for name, count in zip(class_names, counts, strict=True)
    ]
    for kind, iou_type in _KINDS.items():
        masks = kind == "mask"
        if masks and (predictions.masks is None or not annotations.has_masks):
            continue
        found = coco_results.detections(predictions, annotations.sizes, boxes, masks)
        figures, class_figures = _figures(truth, found, iou_type, max_detections, score_threshold)
        result |= {f"{kind}_{name}": value for name, value in figures.items()}
        for row, values in zip(rows, class_figures, strict=True):
            row |= {f"{kind}_{name}": value for name, value in values.items()}
    return result | {"per_class": rows}


def _figures(
    truth: dict[str, Any],
    found: list[dict[str, Any]],
    iou_type: str,
    max_detections: int,
    score_threshold: float,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the figures of boxes or of masks: over all classes, and of each one."""
    with contextlib.redirect_stdout(io.StringIO()):  # some libraries report their progress
        evaluation = _evaluate(truth, found, iou_type, max_detections)
        # (IoU thresholds, recall thresholds, classes, sizes, limits); -1 if undefined
        precision = evaluation.eval["precision"][..., 0]
        matches = _count_matches(truth, found, iou_type, max_detections, score_threshold)
    overall = {
        "ap": _mean(precision[..., 0]),
        "ap50": _mean(precision[0, ..., 0]),
        "ap75": _mean(precision[5, ..., 0]),
        **{
            f"ap_{size}": _mean(precision[..., index]) for index, size in enumerate(_SIZES) if index
        },
        **_precision_and_recall(*matches.sum(0)),
    }
    per_class = [
        {
            "ap": _mean(precision[:, :, label, 0]),
            "ap50": _mean(precision[0, :, label, 0]),
            **_precision_and_recall(*matches[label]),
        }
        for label in range(precision.shape[2])
    ]
    return overall, per_class


def _evaluate(
    truth: dict[str, Any],
    found: list[dict[str, Any]],
    iou_type: str,
    max_detections: int,
    **params: Any,
) -> Any:
    api = coco_api()
    objects, results = api.COCO(), api.COCO()
    objects.dataset = truth
    objects.createIndex()
    if found:
        results = objects.loadRes([dict(detection) for detection in found])  # it may add fields
    else:  # which not every library can load
        results.dataset = truth | {"annotations": []}
        results.createIndex()
    evaluation = api.COCOeval(objects, results, iou_type)
    evaluation.params.maxDets = [max_detections]
    for name, value in params.items():
        setattr(evaluation.params, name, value)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _count_matches(
    truth: dict[str, Any],
    found: list[dict[str, Any]],
    iou_type: str,
    max_detections: int,
    score_threshold: float,
) -> np.ndarray:
    """Return the numbers of true positives, detections and objects of each class at an IoU of 0.5.

    Detections that match a crowd are not counted.
    """
    confident = [detection for detection in found if detection["score"] >= score_threshold]
    everything = {"iouThrs": np.array([0.5]), "areaRng": [[0, 1e10]], "areaRngLbl": ["all"]}
    evaluation = _evaluate(truth, confident, iou_type, max_detections, **everything)
    counts: np.ndarray = np.zeros((len(truth["categories"]), 3), np.int64)
    for image in evaluation.evalImgs:
        if image is None:  # an image without objects and detections of the class
            continue
        counted = ~np.array(image["dtIgnore"], np.bool_).reshape(-1)
        matched = np.array(image["dtMatches"]).reshape(-1) > 0
        num_objects = np.count_nonzero(~np.array(image["gtIgnore"], np.bool_))
        counts[image["category_id"]] += [(matched & counted).sum(), counted.sum(), num_objects]
    return counts


def _precision_and_recall(true_positives: int, detections: int, objects: int) -> dict[str, Any]:
    return {
        "precision": float(true_positives / detections) if detections else None,
        "recall": float(true_positives / objects) if objects else None,
    }


def _mean(precision: np.ndarray) -> float | None:
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else None
