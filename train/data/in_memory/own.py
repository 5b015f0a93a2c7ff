"""Data of the user's own function, `config.data.name="my_parts.py:my_data"`."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from train.config import entry_point
from train.data.dataset import Dataset, Split
from train.data.inputs import check_channels, dtype, is_text
from train.errors import UserError, describe_error, short_repr


def load(config: ConfigDict) -> Dataset:
    """Return what the function returns for the config.

    Raises:
      UserError: If it fails, or its result is not a `Dataset` as the trainer needs it.
    """
    name = config.data.name
    make = entry_point.load("config.data.name", name)
    try:
        dataset = make(config)
    except UserError:
        raise
    except Exception as error:  # own code can raise anything
        raise _error(name, f"calling it with the config raises {describe_error(error)}") from error
    if not isinstance(dataset, Dataset):
        raise _error(
            name, f"it returns a {type(dataset).__name__} and not a train.data.dataset.Dataset"
        )
    for split_name, split in (("train", dataset.train), ("test", dataset.test)):
        _check_split(config, f"its {split_name} split", split, dataset)
    if is_text(config):
        largest = max(int(split.inputs.max()) for split in (dataset.train, dataset.test))
        if largest >= config.data.vocabulary:
            raise _error(
                name,
                f"it has the token id {largest}, but config.data.vocabulary="
                f"{config.data.vocabulary} allows ids below that",
            )
    else:
        check_channels(config, dataset.input_shape[-1])
    return dataset


def _check_split(config: ConfigDict, what: str, split: Any, dataset: Dataset) -> None:
    name = config.data.name
    if not isinstance(split, Split):
        raise _error(name, f"{what} is a {type(split).__name__} and not a train.data.dataset.Split")
    inputs, labels = split
    kind = (
        "token ids (examples, length)"
        if is_text(config)
        else ("images (examples, height, width, channels)")
    )
    wanted, num_axes = np.dtype(dtype(config)), 2 if is_text(config) else 4
    if getattr(inputs, "dtype", None) != wanted or inputs.ndim != num_axes:
        raise _error(name, f"the inputs of {what} are {_describe(inputs)}; use {wanted} {kind}")
    if inputs.shape[1:] != dataset.train.inputs.shape[1:]:
        raise _error(
            name,
            f"the inputs of {what} are {_describe(inputs)}, of another size than those of train",
        )
    if getattr(labels, "dtype", None) != np.int32 or labels.shape != (len(inputs),):
        raise _error(
            name, f"the labels of {what} are {_describe(labels)}; use int32 ({len(inputs)},)"
        )
    if not len(labels):
        raise _error(name, f"{what} has no examples")
    if labels.min() < 0 or labels.max() >= dataset.num_classes:
        raise _error(
            name,
            f"the labels of {what} are from {labels.min()} to {labels.max()}, but num_classes is "
            f"{dataset.num_classes}",
        )


def _describe(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" if shape is None else f"{value.dtype} {shape}"


def _error(name: str, reason: str) -> UserError:
    return UserError(f"config.data.name={short_repr(name)}: {reason}; fix the function")
