"""Small data sets with the layout of TFDS's COCO, from images with objects; no download."""

import io

import numpy as np
import tensorflow_datasets as tfds

from tests.support import tfds_sets

NAME = "coco/2017"
_CLASSES = 80
_FEATURES = {  # as TFDS stores them; its program defines them with TensorFlow
    "image": tfds.features.Image(encoding_format="jpeg"),
    "image/filename": tfds.features.Text(),
    "image/id": np.int64,
    "objects": tfds.features.Sequence(
        {
            "area": np.int64,
            "bbox": tfds.features.BBoxFeature(),
            "id": np.int64,
            "is_crowd": np.bool_,
            "label": tfds.features.ClassLabel(names=[f"class {i}" for i in range(_CLASSES)]),
        }
    ),
}


def write(root, **splits):
    """Write a split for each list of (image, objects); return the folder of the files.

    The image is a Pillow image, and the objects are those of `train.data.detection.annotations`.
    """
    records = {
        split: [_record(index, *example) for index, example in enumerate(examples)]
        for split, examples in splits.items()
    }
    return tfds_sets.write(root, NAME, _FEATURES, records, version="1.1.0")


def _record(index, image, objects):
    content = io.BytesIO()
    image.save(content, "jpeg", quality=95)
    sides = np.tile(image.size, 2)
    return {
        "image": io.BytesIO(content.getvalue()),
        "image/filename": f"{index}.jpg",
        "image/id": index,
        "objects": [
            {
                "area": round(float(np.prod(box[2:] - box[:2]))),
                "bbox": tfds.features.BBox(*(box / sides)[[1, 0, 3, 2]].tolist()),
                "id": index,
                "is_crowd": bool(crowd),
                "label": int(label),
            }
            for box, label, crowd in zip(objects.boxes, objects.classes, objects.crowd, strict=True)
        ],
    }
