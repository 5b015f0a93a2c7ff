"""Any TFDS text-classification data set as token ids, read without TensorFlow."""

import functools
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from train.data import decoded_cache, tfds_builder, tfds_classification
from train.data.dataset import Dataset, Split
from train.data.in_memory import vocabulary
from train.errors import UserError


class _Words(NamedTuple):
    """The words of the vocabulary, the most frequent one first."""

    words: np.ndarray


def load(config: ConfigDict) -> Dataset:
    """Load the training and the test split as token ids.

    Raises:
      UserError: If TFDS does not know the name, or if the data set is not prepared, is damaged,
        has no training words, or is not a text classification.
    """
    data = config.data
    name, size, length = data.name, data.vocabulary, data.length
    builder = tfds_classification.open_classified(data, "text")
    train, tests = tfds_builder.split_names(builder.info.splits, data.test_share)
    label = builder.info.features[data.label]
    label_name = "" if data.label == "label" else f", {data.label}"

    @functools.cache
    def read(split: str) -> tuple[list[str], np.ndarray]:
        return _read(builder, data, split)

    def find_words() -> _Words:
        found = vocabulary.build_vocabulary(read(train)[0], size)
        if not found:
            split_name = tfds_builder.describe_split(builder, name, train)
            raise UserError(f"{split_name} has no words; choose another --config.data.name")
        return _Words(np.array(found))

    words = decoded_cache.cached(
        _Words,
        f"{builder.info.full_name}, {train}, {size} numbers, {vocabulary.PATTERN}",
        tfds_builder.files(builder, {train}),
        find_words,
    ).words.tolist()

    def encode(split: str) -> Split:
        texts, labels = read(split)
        try:
            return Split(vocabulary.encode(texts, words, length), labels)
        except MemoryError:
            raise UserError(
                f"{tfds_builder.describe_split(builder, name, split)} does not fit in memory with "
                f"config.data.length={length} words per text; lower --config.data.length"
            ) from None

    def load_split(split: str) -> Split:
        return decoded_cache.cached(
            Split,
            f"{builder.info.full_name}, {split}, the last {length} words, {size} numbers, "
            f"{vocabulary.PATTERN}{label_name}",
            # The vocabulary is that of the training split.
            tfds_builder.files(builder, {train, split}),
            lambda: encode(split),
        )

    return Dataset(
        train=load_split(train),
        test=load_split(tests[0]),
        num_classes=label.num_classes,
        class_names=tuple(label.names),
        words=tuple(words),
    )


def _read(builder: Any, data: ConfigDict, split: str) -> tuple[list[str], np.ndarray]:
    """Return the texts and the labels of a split."""
    texts, labels = [], []
    for record, text, label in tfds_classification.read_examples(builder, data, split, "text"):
        try:
            texts.append(text.decode())
        except UnicodeDecodeError as error:
            raise UserError(
                f"{record} is not UTF-8 text: {error.reason}; {tfds_builder.FIX_HINT}"
            ) from None
        labels.append(label)
    return texts, np.array(labels, np.int32)
