"""The examples of a prepared TFDS set, one by one and checked, read without TensorFlow."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from train.data import decoded_cache, tfds_builder
from train.data.dataset import Split
from train.errors import UserError, describe_error

_DESCRIPTIONS = (".json", ".txt")  # of the classes, the shapes and the numbers of records


def labelled(builder: Any, name: str, split: str, feature: str) -> Iterator[tuple[Any, int]]:
    """The examples of a split in their order, each as `(its feature, its label)`.

    Raises:
      UserError: a file or a record is damaged, or a label is no class.
    """
    num_classes = builder.info.features["label"].num_classes
    where, fix_hint = tfds_builder.where(builder, name, split), tfds_builder.FIX_HINT
    try:
        source = builder.as_data_source(split=split)
    except Exception as error:  # whatever damaged files make TFDS raise
        raise UserError(f"cannot open {where}: {describe_error(error)}; {fix_hint}") from error
    for index in range(len(source)):
        try:
            example = source[index]
            value, label = example[feature], int(example["label"])
        except Exception as error:  # as above
            raise UserError(
                f"record {index} of {where} is damaged: {describe_error(error)}; {fix_hint}"
            ) from error
        if not 0 <= label < num_classes:
            raise UserError(
                f"record {index} of {where} has the label {label}, and the set has {num_classes} "
                f"classes: labels must be from 0 to {num_classes - 1}; {fix_hint}"
            )
        yield value, label


def remembered(
    builder: Any, what: str, splits: tuple[str, ...], decode: Callable[[], Split]
) -> Split:
    """`decode()`, or what it gave when the files of the splits were the same.

    Args:
      builder: of the set.
      what: is decoded; with the set's name and version, it names the result.
      splits: that `decode` reads.
      decode: is called if nothing sound is remembered.
    """
    records = [Path(file) for split in splits for file in builder.info.splits[split].filepaths]
    if not all(file.is_file() for file in records):
        return decode()  # which says what is wrong
    described = [file for file in Path(builder.data_dir).iterdir() if file.suffix in _DESCRIPTIONS]
    return decoded_cache.remembered(
        f"{builder.info.full_name}, {what}", records + described, decode
    )
