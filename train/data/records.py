"""Records on disk: the interface of encoded images, and the errors that name a bad record."""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from train.data.dataset import Fingerprint
from train.errors import UserError, describe_error


class EncodedImage(NamedTuple):
    """The content of an image file, and its class."""

    content: bytes
    label: int


class EncodedImages(Protocol):
    """A split with random access; threads share it, and it is pickled for processes."""

    @property
    def num_classes(self) -> int: ...

    @property
    def class_names(self) -> Sequence[str]: ...

    @property
    def fix_hint(self) -> str:
        """What a user can do about a bad record."""

    def __len__(self) -> int: ...

    def __hash__(self) -> int: ...

    def __getitem__(self, index: int) -> EncodedImage: ...

    def labels(self) -> np.ndarray | None:
        """Return the label of each example; None if they are only in the records."""

    def record_name(self, index: int) -> str:
        """Return the name of a record for error messages."""

    def fingerprint(self) -> Fingerprint:
        """Return a fingerprint of the names and the sizes of the files."""


class SubsetImages:
    """Some of the examples of a split."""

    def __init__(self, images: EncodedImages, ids: np.ndarray):
        self._images, self._ids = images, ids
        self.num_classes, self.class_names = images.num_classes, images.class_names
        self.fix_hint = images.fix_hint

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> EncodedImage:
        return self._images[int(self._ids[index])]

    def labels(self) -> np.ndarray | None:
        """Return the labels of these examples."""
        labels = self._images.labels()
        return None if labels is None else labels[self._ids]

    def record_name(self, index: int) -> str:
        """Return the name of a record in the whole split."""
        return self._images.record_name(int(self._ids[index]))

    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint of the whole split and of the choice."""
        text = f"{self._images.fingerprint()['sha256']} {self._ids.tolist()}"
        return {"examples": len(self), "sha256": hashlib.sha256(text.encode()).hexdigest()}


class DamagedError(UserError):
    """A record cannot be read or decoded.

    Attributes:
      reason: What another library says about it.
    """

    reason = ""


def decode(
    images: EncodedImages, index: int, crop: Callable[[bytes], np.ndarray]
) -> tuple[np.ndarray, int]:
    """Read, decode and check an image.

    Args:
      images: The split.
      index: The position of the image in the split.
      crop: Decodes the content of a file.

    Returns:
      What `crop` returns, and the label.

    Raises:
      DamagedError: If the image cannot be read or decoded.
      UserError: If its label is not a class.
    """
    try:
        content, label = images[index]
        pixels = crop(content)
    except Exception as error:  # libraries raise many types for damaged files
        raise damaged_error(images.record_name(index), error, images.fix_hint) from error
    if not 0 <= label < images.num_classes:
        raise label_error(images.record_name(index), label, images.num_classes, images.fix_hint)
    return pixels, label


def damaged_error(record: str, error: Exception, fix_hint: str) -> DamagedError:
    """Return the error for a record that cannot be read or decoded."""
    reason = describe_error(error)
    damaged = DamagedError(f"{record} is damaged: {reason}; {fix_hint}")
    damaged.reason = reason
    return damaged


def label_error(record: str, label: int, num_classes: int, fix_hint: str) -> UserError:
    """Return the error for a label that is not a class."""
    return UserError(
        f"{record} has the label {label}, but the {num_classes} classes have the labels 0 to "
        f"{num_classes - 1}; {fix_hint}"
    )
