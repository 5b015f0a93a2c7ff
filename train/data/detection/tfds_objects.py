"""Any prepared TFDS data set with boxes, such as `coco/2017` or `voc`, without TensorFlow."""

import concurrent.futures
import functools
import hashlib
import io
import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from PIL import Image

from train.data import records, tfds_builder
from train.data.dataset import Fingerprint
from train.data.decoded_cache import cached
from train.data.detection import coco_objects
from train.data.detection.annotations import Annotations
from train.data.detection.coco_json import CocoImage, CocoObject
from train.data.detection.coco_objects import Problems
from train.data.detection.source import digest_objects
from train.data.streaming import decoding
from train.errors import UserError

_SAMPLE = 100  # records that tell whether a split has objects
_THREADS = 16  # on a network file system most of the time is waiting
_VERSION = 1  # of the cached objects; increase it when `_Objects` changes


class TfdsImages:
    """A split of a prepared data set; see `train.data.detection.source.DetectionImages`.

    Attributes:
      annotations: The objects of all images, in the order of the records.
      class_names: The names of the classes.
    """

    def __init__(self, split: "_Split", annotations: Annotations):
        self.annotations, self.class_names = annotations, split.class_names
        self._split = split

    def image(self, index: int) -> Image.Image:
        """Return an image in RGB.

        Raises:
          DamagedError: If it cannot be read.
        """
        try:
            with Image.open(io.BytesIO(self._split.source[index]["image"])) as image:
                return decoding.to_rgb(image)
        except Exception as error:  # TFDS and Pillow raise many types for damaged records
            raise self._split.damaged_error(index, error) from error

    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint of the objects and of the names and the sizes of the files."""
        digest = hashlib.sha256(digest_objects(self.annotations, self.class_names).encode())
        digest.update(self._split.version.encode())
        for file in sorted(self._split.files):
            digest.update(f"\n{file.name} {file.stat().st_size}".encode())
        return {"examples": self.annotations.num_images, "sha256": digest.hexdigest()}


class TfdsSplits(NamedTuple):
    """The splits of a data set; `note` is one line about what was read, and what was not."""

    train: TfdsImages
    test: TfdsImages
    note: str


def open_splits(data: ConfigDict) -> TfdsSplits:
    """Open the training split, and the first of `test` and `validation` that has objects.

    The boxes of all records are read when a data set is opened for the first time, and cached.

    Args:
      data: The `data` fields of a config.

    Raises:
      UserError: See `tfds_builder.open_prepared`. Also if the data set has no boxes, or if some are
        wrong and `data.on_error` is "raise".
    """
    num_classes(data)  # raises for sets without boxes, before they are prepared
    builder = tfds_builder.open_prepared(data)
    train_name, test_names = tfds_builder.split_names(builder.info.splits, 0.0)
    tests = [_Split(builder, data.name, name) for name in test_names]
    test = next((split for split in tests if split.has_objects()), None)
    if test is None:
        raise UserError(
            f"{data.name} has no test split with objects; choose another --config.data.name"
        )
    opened, notes = [], []
    for split in (_Split(builder, data.name, train_name), test):
        problems = Problems()
        annotations = _convert(split, problems)
        if problems and data.on_error == "raise":
            raise UserError(
                f"{split.name} has {problems.describe()}; set --config.data.on_error=skip to leave "
                "these annotations out"
            )
        opened.append(TfdsImages(split, annotations))
        notes.append(
            f"{split.name}: {annotations.num_images:,} images, {annotations.num_objects:,} objects"
        )
        notes += [f"left out {problems.describe()}"] if problems else []
    return TfdsSplits(opened[0], opened[1], "; ".join(notes))


def num_classes(data: ConfigDict) -> int:
    """Return the number of classes of a data set, prepared or not.

    Raises:
      UserError: If TFDS does not know the data set, or if it has no images with boxes and classes.
    """
    features = dict(tfds_builder.open_builder(data).info.features.items())
    objects = getattr(features.get("objects"), "feature", None)
    of_object = dict(objects.items()) if isinstance(objects, tfds.features.FeaturesDict) else {}
    is_image = isinstance(features.get("image"), tfds.features.Image)
    if (
        not is_image
        or not isinstance(of_object.get("bbox"), tfds.features.BBoxFeature)
        or not isinstance(of_object.get("label"), tfds.features.ClassLabel)
    ):
        raise UserError(
            f"{data.name} is not for detection: it needs the features 'image' and 'objects' with "
            f"'bbox' and 'label', but has {', '.join(features)}; choose another --config.data.name"
        )
    return int(of_object["label"].num_classes)


class _Objects(NamedTuple):
    """What the records of a split say; it is cached.

    Attributes:
      sizes: int32, (images, 2); the height and the width of each image.
      starts: int64, (images + 1,); see `Annotations`.
      boxes: float64, (objects, 4); top, left, bottom and right as shares of the image.
      labels: int64, (objects,).
      crowd: bool, (objects,); False if the data set does not say it.
      areas: float64, (objects,); in pixels, NaN if the data set does not say it.
    """

    sizes: np.ndarray
    starts: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray


class _Split:
    """The records of a split."""

    def __init__(self, builder: Any, name: str, split: str):
        self.class_names = tuple(builder.info.features["objects"]["label"].names)
        self.name = tfds_builder.describe_split(builder, name, split)
        self.version = f"{builder.info.full_name} {split}"
        self.files = tfds_builder.record_files(builder, split)
        decoders = {"image": tfds.decode.SkipDecoding()}
        self.source = tfds_builder.open_split(builder, name, split, decoders)

    def has_objects(self) -> bool:
        """Return whether the first records have objects; those of a competition have none."""
        first = range(min(_SAMPLE, len(self.source)))
        return any(len(self._read(index)[1]["label"]) for index in first)

    def objects(self) -> _Objects:
        """Return the objects of all records."""
        content = f"objects {_VERSION} {self.version}"
        return cached(_Objects, content, self.files, self._read_all)

    def damaged_error(self, index: int, error: Exception) -> UserError:
        """Return the error for a record that cannot be read."""
        return records.damaged_error(f"record {index} of {self.name}", error, tfds_builder.FIX_HINT)

    def _read(self, index: int) -> tuple[tuple[int, int], dict[str, np.ndarray]]:
        """Return height and width of an image, and the fields of its objects."""
        try:
            example = self.source[index]
            with Image.open(io.BytesIO(example["image"])) as image:
                return (image.height, image.width), example["objects"]
        except Exception as error:  # TFDS and Pillow raise many types for damaged records
            raise self.damaged_error(index, error) from error

    def _read_all(self) -> _Objects:
        print(f"reading the boxes of {self.name}")
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            examples = list(pool.map(self._read, range(len(self.source))))
        counts = [len(objects["label"]) for _, objects in examples]
        column = functools.partial(_column, [objects for _, objects in examples], counts)
        return _Objects(
            sizes=np.array([size for size, _ in examples], np.int32).reshape(-1, 2),
            starts=np.cumsum([0, *counts], dtype=np.int64),
            boxes=column("bbox", np.zeros(4)).astype(np.float64),
            labels=column("label", 0).astype(np.int64),
            crowd=column("is_crowd", False).astype(np.bool_),
            areas=column("area", math.nan).astype(np.float64),
        )


def _column(
    objects: list[dict[str, np.ndarray]], counts: list[int], name: str, default: Any
) -> np.ndarray:
    """Return a field of all objects; `default` for each of them if the data set lacks it."""
    shape = np.shape(default)
    rows = [
        each[name] if name in each and count else np.broadcast_to(default, (count, *shape))
        for each, count in zip(objects, counts, strict=True)
    ]
    return np.concatenate([np.zeros((0, *shape)), *rows])


def _convert(split: _Split, problems: Problems) -> Annotations:
    """Return the objects of a split in pixels, checked like those of a folder."""
    stored = split.objects()
    images = [
        CocoImage(id=index, file_name=f"record {index}", height=height, width=width)
        for index, (height, width) in enumerate(stored.sizes.tolist())
    ]
    ids = np.repeat(np.arange(len(images)), np.diff(stored.starts))
    top, left, bottom, right = stored.boxes.T
    height, width = stored.sizes[ids].T
    boxes = np.stack([left * width, top * height, (right - left) * width, (bottom - top) * height])
    objects = [
        CocoObject(
            image_id=image_id,
            category_id=label,
            bbox=box,
            area=None if math.isnan(area) else area,
            iscrowd=crowd,
        )
        for image_id, label, box, area, crowd in zip(
            ids.tolist(),
            stored.labels.tolist(),
            boxes.T.tolist(),
            stored.areas.tolist(),
            stored.crowd.tolist(),
            strict=True,
        )
    ]
    labels = {label: label for label in range(len(split.class_names))}
    known = {image.id for image in images}
    return coco_objects.convert(images, known, objects, labels, False, problems)
