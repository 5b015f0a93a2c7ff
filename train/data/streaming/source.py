"""What every source of streamed images yields."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from train.errors import UserError, describe_error


class EncodedImage(NamedTuple):
    """An image as it lies on the disk, a JPEG or PNG file, and its class."""

    content: bytes
    label: int


class EncodedImages(Protocol):
    """A split at random access, for threads and for processes to which it is pickled."""

    @property
    def num_classes(self) -> int: ...

    @property
    def class_names(self) -> Sequence[str]: ...

    @property
    def fix_hint(self) -> str:
        """What a person can do about a record that is no good."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> EncodedImage: ...

    def where(self, index: int) -> str:
        """What an error calls the record."""


def bad_label(images: EncodedImages, index: int, label: int) -> UserError:
    """The mistake of a label that is no class."""
    return UserError(
        f"{images.where(index)} has the label {label}, and the set has {images.num_classes} "
        f"classes: labels must be from 0 to {images.num_classes - 1}; {images.fix_hint}"
    )


def damaged(images: EncodedImages, index: int, error: Exception) -> UserError:
    """The mistake of a record that cannot be read or decoded."""
    return UserError(
        f"{images.where(index)} is damaged: {describe_error(error)}; {images.fix_hint}"
    )
