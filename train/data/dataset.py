"""A data set in memory: the arrays that every source returns."""

import hashlib
from typing import Any, NamedTuple

import numpy as np

from train.data.batch import Batch

Fingerprint = dict[str, int | str]
"""What identifies the content of a split: the number of `examples`, and a `sha256`."""


class Split(NamedTuple):
    """The examples of a split, in the order of their source.

    Attributes:
      inputs: uint8 images (examples, height, width, channels), or uint16 token ids
        (examples, length).
      labels: int32, (examples,).
    """

    inputs: np.ndarray
    labels: np.ndarray

    @property
    def num_examples(self) -> int:
        """The number of examples."""
        return len(self.labels)

    def to_batch(self, mask: Any) -> Batch:
        """Return the examples as a batch; `mask` is bool, (examples,), False for padding."""
        inputs: Any = self.inputs
        labels: Any = self.labels
        return Batch(inputs, labels, mask)

    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint of the examples."""
        digest = hashlib.sha256(f"{self.inputs.shape}".encode())
        for array in self:
            digest.update(np.ascontiguousarray(array).data)
        return {"examples": self.num_examples, "sha256": digest.hexdigest()}

    def select(self, ids: np.ndarray) -> "Split":
        """Return some of the examples."""
        return Split(self.inputs[ids], self.labels[ids])


class Signature(NamedTuple):
    """What a network takes and returns, as far as the data determine it.

    Attributes:
      num_classes: The number of classes.
      input_shape: The shape of one example: (height, width, channels), or (length,).
      class_names: The names of the classes; empty if they have none.
      words: The words of the token ids, from `train.data.in_memory.vocabulary.FIRST_WORD`; empty
        for images.
    """

    num_classes: int
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


class Dataset(NamedTuple):
    """A training and a test split with the same classes.

    Attributes:
      train: The training split.
      test: The test split.
      num_classes: The number of classes.
      class_names: The names of the classes; empty if they have none.
      words: The words of the token ids; empty for images. See `Signature`.
    """

    train: Split
    test: Split
    num_classes: int
    class_names: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Return the fingerprint of each split by name."""
        return {"train": self.train.fingerprint(), "test": self.test.fingerprint()}

    @property
    def signature(self) -> Signature:
        """The signature of a network for these data."""
        return Signature(self.num_classes, self.input_shape, self.class_names, self.words)

    @property
    def num_train(self) -> int:
        return self.train.num_examples

    @property
    def num_test(self) -> int:
        return self.test.num_examples

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example: (height, width, channels), or (length,)."""
        return self.train.inputs.shape[1:]


class Description(NamedTuple):
    """What is known about a data set without reading its examples.

    Attributes:
      num_classes: The number of classes.
      input_shape: The shape of one example on the device.
      num_train: The number of training examples; None if the data set is not prepared.
    """

    num_classes: int
    input_shape: tuple[int, ...]
    num_train: int | None
