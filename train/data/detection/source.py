"""The interface of a split: images with objects, read one at a time."""

import hashlib
from typing import Protocol

import numpy as np
from PIL import Image

from train.data.dataset import Fingerprint
from train.data.detection.annotations import Annotations


class DetectionImages(Protocol):
    """A split with random access; threads share it, and it is pickled for processes."""

    @property
    def annotations(self) -> Annotations:
        """The objects of all images, in the order of the images."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def image(self, index: int) -> Image.Image:
        """Return an image in RGB, with the size in the annotations.

        Raises:
          UserError: If it cannot be read.
        """

    def fingerprint(self) -> Fingerprint:
        """Return a fingerprint of the images and the objects."""


class StoredImages:
    """A split whose images are in memory.

    Attributes:
      annotations: The objects of all images.
      class_names: The names of the classes.
    """

    def __init__(self, pixels: np.ndarray, annotations: Annotations, class_names: tuple[str, ...]):
        """Keep the images uint8 (images, height, width, 3)."""
        self._pixels, self.annotations, self.class_names = pixels, annotations, class_names

    def image(self, index: int) -> Image.Image:
        """Return an image in RGB."""
        return Image.fromarray(self._pixels[index])

    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint of the pixels and the objects."""
        digest = hashlib.sha256(digest_objects(self.annotations, self.class_names).encode())
        digest.update(np.ascontiguousarray(self._pixels).data)
        return {"examples": len(self._pixels), "sha256": digest.hexdigest()}


class SubsetImages:
    """Some images of a split.

    Attributes:
      annotations: The objects of these images.
      class_names: The names of the classes.
    """

    def __init__(self, images: DetectionImages, ids: np.ndarray):
        """Choose the images `ids` of a split."""
        self._images, self._ids = images, ids
        self.annotations = images.annotations.select(ids)
        self.class_names = images.class_names

    def image(self, index: int) -> Image.Image:
        """Return an image in RGB; see `DetectionImages`."""
        return self._images.image(int(self._ids[index]))

    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint of the whole split and of the choice."""
        text = f"{self._images.fingerprint()['sha256']} {self._ids.tolist()}"
        return {"examples": len(self._ids), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def digest_objects(annotations: Annotations, class_names: tuple[str, ...]) -> str:
    """Return a SHA-256 digest of the objects of a split and of the names of their classes."""
    digest = hashlib.sha256(repr(class_names).encode())
    for field, array in zip(annotations._fields, annotations, strict=True):
        digest.update(f"\n{field} {array.shape} {array.dtype}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
