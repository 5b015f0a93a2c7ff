"""A data set in memory: the arrays that every source returns."""

import hashlib
from typing import Any, NamedTuple, Protocol, TypeGuard

import numpy as np
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from train.data.batch import Batch, Examples

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


class AnyDataset(Protocol):
    """A data set: in memory, or streamed by the host."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def num_train(self) -> int: ...

    @property
    def num_test(self) -> int: ...

    @property
    def input_shape(self) -> tuple[int, ...]: ...

    @property
    def signature(self) -> "Signature": ...

    def fingerprints(self) -> dict[str, Fingerprint]: ...

    @property
    def num_divisible(self) -> int:
        """The number of the parts that `divide` takes: training examples, or images of several."""

    def train_labels(self) -> np.ndarray | None:
        """Return the label of each of these parts; None if it is unknown, or there are several."""

    def divide(self, rest: np.ndarray, validation: np.ndarray) -> "AnyDataset":
        """Return a data set that trains on a part of the training split and tests on another.

        Args:
          rest: The indices of the first part, in increasing order.
          validation: Those of the second part.
        """


class InMemoryDataset(AnyDataset, Protocol):
    """A data set whose training split is arrays.

    So is its test split, `test`; or it has `test_batches`, as a `Stream`.
    """

    @property
    def train(self) -> Examples: ...


class Stream(AnyDataset, Protocol):
    """A data set whose batches the host reads; their arrays have the rows of this process."""

    def abstract_batches(self, sharding: NamedSharding) -> list[Any]:
        """Return a training batch of each shape, as `jax.ShapeDtypeStruct`s."""

    def with_config(self, config: ConfigDict) -> "Stream":
        """Return the data set for another seed or batch size."""

    def train_batches(self, first_step: int) -> Any:
        """Return the batches of all steps from `first_step`; an iterator to close."""

    def test_batches(self, batch_size: int) -> Any:
        """Return the batches of the test split, in which each example occurs once."""

    def train_batches_in_order(self, batch_size: int) -> Any:
        """Return the batches of the training split as `test_batches` does, unchanged."""


def is_in_memory(dataset: AnyDataset) -> TypeGuard[InMemoryDataset]:
    """Return whether the training split of a data set is arrays."""
    return not hasattr(dataset, "train_batches")


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

    def train_labels(self) -> np.ndarray:
        """Return the labels of the training examples."""
        return self.train.labels

    def divide(self, rest: np.ndarray, validation: np.ndarray) -> "Dataset":
        """Return the training split as a training and a test split; see `AnyDataset`."""
        return self._replace(train=self.train.select(rest), test=self.train.select(validation))

    @property
    def signature(self) -> Signature:
        """The signature of a network for these data."""
        return Signature(self.num_classes, self.input_shape, self.class_names, self.words)

    @property
    def num_divisible(self) -> int:
        return self.num_train

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
