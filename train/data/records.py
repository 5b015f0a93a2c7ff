"""Records on disk: the interface of encoded images, and the errors that name a bad record."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from train.errors import UserError, describe_error


class EncodedImage(NamedTuple):
    """The content of a JPEG or PNG file, and its class."""

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

    def __getitem__(self, index: int) -> EncodedImage: ...

    def record_name(self, index: int) -> str:
        """Return the name of a record for error messages."""


def damaged_error(record: str, error: Exception, fix_hint: str) -> UserError:
    """Return the error for a record that cannot be read or decoded."""
    return UserError(f"{record} is damaged: {describe_error(error)}; {fix_hint}")


def label_error(record: str, label: int, num_classes: int, fix_hint: str) -> UserError:
    """Return the error for a label that is not a class."""
    return UserError(
        f"{record} has the label {label}, but the {num_classes} classes have the labels 0 to "
        f"{num_classes - 1}; {fix_hint}"
    )
