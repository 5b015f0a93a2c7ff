"""Small data sets with the layout and the classes of the fine-grained ones; no download."""

import io
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from tests.support.imagenet import jpeg

FOLDER_CLASSES = 100  # of FGVC Aircraft


def write(name, root, train, test):
    """Write `train` and `test` images of the TFDS data set `name`; the labels cycle."""
    builder = tfds.builder(name, data_dir=root, file_format="array_record")
    Path(builder.data_dir).mkdir(parents=True)
    writer = tfds.core.SequentialWriter(builder.info, 500, file_format="array_record")
    writer.initialize_splits(["train", "test"])
    classes = builder.info.features["label"].num_classes
    make = {"cars196": _car, "caltech_birds2011": _bird, "stanford_dogs": _dog}[name]
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        examples = [
            make(index) | {"image": io.BytesIO(jpeg(rng, 40, 30)), "label": index % classes}
            for index in range(count)
        ]
        writer.add_examples({split: examples})
    writer.close_all()


def write_folder(root, train_per_class):
    """Write root/train/CLASS/*.jpg, and one image per class in root/test/CLASS."""
    content = jpeg(np.random.default_rng(0), 40, 30)
    for split, count in (("train", train_per_class), ("test", 1)):
        for label in range(FOLDER_CLASSES):
            folder = root / split / f"variant{label:03}"
            folder.mkdir(parents=True)
            for index in range(count):
                (folder / f"{index}.jpg").write_bytes(content)


_BOX = tfds.features.BBox(0.1, 0.1, 0.9, 0.9)


def _car(index):
    return {"bbox": _BOX, "id": f"{index}"}


def _bird(index):
    mask = io.BytesIO()
    Image.fromarray(np.full((30, 40), 255, np.uint8)).save(mask, "png")
    mask.seek(0)
    names = {"image/filename": f"{index}.jpg", "label_name": f"{index}"}
    return {"bbox": _BOX, "segmentation_mask": mask} | names


def _dog(index):
    return {"image/filename": f"{index}.jpg", "objects": [{"bbox": _BOX}]}
