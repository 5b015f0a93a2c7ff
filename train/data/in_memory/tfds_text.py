"""Any TFDS text-classification set, read without TensorFlow, as numbers of words."""

import functools
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from train.data import tfds_builder
from train.data.dataset import Dataset, Split
from train.data.in_memory import tfds_examples, vocabulary
from train.errors import UserError


def load(config: ConfigDict) -> Dataset:
    """Reads the training and the test split that `config.data` names, and encodes their words.

    Returns:
      The data set; `words` says what its numbers mean.

    Raises:
      UserError: TFDS does not know the name, the set is not prepared, is damaged, has no word to
        train on, or is no classification of texts.
    """
    name, size, length = config.data.name, config.data.vocabulary, config.data.length
    share = config.data.test_share
    builder = tfds_builder.open_prepared(name, config.data.dir, "text", share)
    train, tests = tfds_builder.splits(builder.info.splits, share)
    label = builder.info.features["label"]

    @functools.cache
    def read(split: str) -> tuple[list[str], np.ndarray]:
        return _read(builder, name, split)

    @functools.cache
    def numbers() -> dict[str, int]:
        known = vocabulary.vocabulary(read(train)[0], size)
        if not known:
            where = tfds_builder.where(builder, name, train)
            raise UserError(f"{where} has no words; choose another --config.data.name")
        return known

    def encode(split: str) -> Split:
        texts, labels = read(split)
        try:
            return Split(vocabulary.encode(texts, numbers(), length), labels)
        except MemoryError:
            raise UserError(
                f"{tfds_builder.where(builder, name, split)} with {length} words a text does not "
                "fit in memory; lower --config.data.length"
            ) from None

    def remembered(split: str) -> Split:
        return tfds_examples.remembered(
            builder,
            f"{split}, the last {length} words, {size} numbers, {vocabulary.PATTERN}",
            tuple({train, split}),  # the words are those of the training split
            lambda: encode(split),
        )

    return Dataset(
        train=remembered(train),
        test=remembered(tests[0]),
        num_classes=label.num_classes,
        class_names=tuple(label.names),
    )


def _read(builder: Any, name: str, split: str) -> tuple[list[str], np.ndarray]:
    texts, labels = [], []
    for index, (text, label) in enumerate(tfds_examples.labelled(builder, name, split, "text")):
        try:
            texts.append(text.decode())
        except UnicodeDecodeError as error:
            raise UserError(
                f"record {index} of {tfds_builder.where(builder, name, split)} is no text in "
                f"UTF-8: {error.reason}; {tfds_builder.FIX_HINT}"
            ) from None
        labels.append(label)
    return texts, np.array(labels, np.int32)
