"""Detection data for tests: real sets, small folders in COCO format, and predictions."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.data.detection import coco_folder, digits_detection
from train.data.detection.annotations import decode_mask
from train.data.detection.views import ViewOptions, resized_sizes
from train.tasks.detection.predictions import Predictions

REAL_SETS = ("bccd", "nuclei")
MASK_SIDE = 28


def real_folder(name):
    """Return the folder of a real set; skip the test if there is none."""
    root = os.environ.get("OPTAX_GC_DETECTION_DIR")
    if not root or not Path(root, name).is_dir():
        pytest.skip(f"OPTAX_GC_DETECTION_DIR has no data set {name}")
    return Path(root, name)


def open_set(name):
    """Return the training and the test split of the digits or of a real set."""
    if name == "digits":
        return digits_detection.open_splits()
    return coco_folder.open_splits(str(real_folder(name)), masks=name == "nuclei")[:2]


def coco_dict(num_images=2):
    """Return a valid COCO file: images of 20x30 pixels, each with one object of two classes."""
    return {
        "images": [
            {"id": index + 10, "file_name": f"{index}.png", "height": 20, "width": 30}
            for index in range(num_images)
        ],
        "annotations": [
            {
                "id": 2 * index + shift,
                "image_id": index + 10,
                "category_id": 5 + 2 * shift,
                "bbox": [2 + shift, 3, 8, 6],
                "area": 48,
                "iscrowd": 0,
                "segmentation": [[2 + shift, 3, 10 + shift, 3, 10 + shift, 9, 2 + shift, 9]],
            }
            for index in range(num_images)
            for shift in (0, 1)
        ],
        "categories": [{"id": 7, "name": "seven"}, {"id": 5, "name": "five"}],
    }


def write_coco(root, train=None, test=None):
    """Write a folder in COCO format; the splits share their images."""
    images = root / "images"
    images.mkdir(parents=True)
    train, test = train or coco_dict(), test or coco_dict(1)
    for index in range(max(2, len(train.get("images", [])))):
        pixels = np.random.default_rng(index).integers(0, 255, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(images / f"{index}.png")
    for name, content in (("train", train), ("test", test)):
        (root / f"instances_{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def predict(annotations, options=None, noise=0.0, seed=0, masks=True):
    """Return the objects of a split as predictions, and the sizes of the resized images.

    With noise, boxes move and some classes change, scores are random, some objects are missing, and
    some detections have no object.
    """
    options = options or ViewOptions(200, 300)
    rng = np.random.default_rng(seed)
    sizes = resized_sizes(annotations.sizes, options)
    slots = int(np.diff(annotations.starts).max()) + 3
    number = annotations.num_images
    boxes = np.zeros((number, slots, 4), np.float32)
    scores = np.zeros((number, slots), np.float32)
    classes = np.full((number, slots), -1, np.int32)
    cells = np.zeros((number, slots, MASK_SIDE, MASK_SIDE), np.float32)
    for index in range(number):
        objects = annotations.image_objects(index)
        size = annotations.sizes[index]
        scale = np.tile(sizes[index][::-1] / size[::-1], 2)
        for place, box in enumerate(objects.boxes):
            if objects.crowd[place] or rng.random() < noise / 3:
                continue
            side = np.tile(box[2:] - box[:2], 2)
            moved = box + noise * side * rng.uniform(-0.3, 0.3, 4)
            boxes[index, place] = moved * scale
            scores[index, place] = rng.uniform(0.2, 1) if noise else 1
            wrong = rng.random() < noise / 5
            num_classes = int(annotations.classes.max()) + 1
            classes[index, place] = rng.integers(num_classes) if wrong else objects.classes[place]
            if masks and objects.masks:
                cells[index, place] = _cells(objects.masks[place], size, box)
        if noise:
            x, y = rng.uniform(0, 0.5, 2) * sizes[index][::-1]
            boxes[index, -1] = x, y, x + 40, y + 30
            scores[index, -1], classes[index, -1] = rng.uniform(0.2, 1), 0
            cells[index, -1] = 1
    has_masks = masks and annotations.has_masks
    return Predictions(
        boxes, scores, classes, cells if has_masks else None, np.arange(number)
    ), sizes


def _cells(counts, size, box):
    """Return a mask in its box as probabilities, as a perfect network would predict them."""
    mask = decode_mask(counts, *size.tolist()).astype(np.float32)
    image = Image.fromarray(mask)
    shape = (MASK_SIDE, MASK_SIDE)
    return np.asarray(image.resize(shape, Image.Resampling.BILINEAR, tuple(box)))
