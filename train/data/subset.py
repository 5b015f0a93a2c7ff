"""A part of a data set: some of its classes, some of the examples of each."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from train.data.dataset import Dataset, Split
from train.errors import UserError, short_repr


def take(config: ConfigDict, dataset: Dataset) -> Dataset:
    """The part of the data set that `config.data` names; all of it if it names none.

    With `classes`, both splits keep those alone, and the labels count them in the order in which
    they are given. With `train_per_class`, the training split keeps so many of each, chosen by
    `train_draw` and by nothing else, in the source's order; the test split stays whole.

    Raises:
      UserError: there is no such class, or there are too few examples.
    """
    if config.data.classes:
        classes = _checked(config.data.classes, dataset.num_classes)
        train, test = (_relabelled(split, classes) for split in (dataset.train, dataset.test))
        names = dataset.class_names or tuple(map(str, range(dataset.num_classes)))
        dataset = dataset._replace(
            train=train,
            test=test,
            num_classes=len(classes),
            class_names=tuple(names[label] for label in classes),
        )
    if config.data.train_per_class:
        dataset = dataset._replace(train=_few(config, dataset.train, dataset.num_classes))
    for name, split in (("train on", dataset.train), ("test", dataset.test)):
        if not len(split.labels):
            raise UserError(
                f"config.data.classes={short_repr(config.data.classes)} leaves nothing to {name}; take "
                "more classes"
            )
    return dataset


def names_one(config: ConfigDict) -> bool:
    """Whether the config asks for a part."""
    return bool(config.data.classes or config.data.train_per_class)


def _checked(classes: Any, num_classes: int) -> list[int]:
    wrong = [
        label
        for label in classes
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < num_classes
    ]
    if wrong or len(set(classes)) < len(classes):
        raise UserError(
            f"config.data.classes={short_repr(classes)} is not allowed; it must be classes from 0 to "
            f"{num_classes - 1}, each once"
        )
    return list(classes)


def _relabelled(split: Split, classes: list[int]) -> Split:
    ids = np.flatnonzero(np.isin(split.labels, classes))
    place = np.zeros(max(classes) + 1, np.int32)
    place[classes] = np.arange(len(classes))
    return Split(split.inputs[ids], place[split.labels[ids]])


def _few(config: ConfigDict, split: Split, num_classes: int) -> Split:
    count = config.data.train_per_class
    shuffled = np.random.default_rng(config.data.train_draw).permutation(len(split.labels))
    chosen = [shuffled[split.labels[shuffled] == label][:count] for label in range(num_classes)]
    fewest = min(chosen, key=len)
    if len(fewest) < count:
        raise UserError(
            f"config.data.train_per_class={count} is more than a class of {config.data.name} has, "
            f"which is {len(fewest)} examples; use at most that many"
        )
    ids = np.sort(np.concatenate(chosen))
    return Split(split.inputs[ids], split.labels[ids])
