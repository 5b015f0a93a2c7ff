"""What other commands read of a run: its config, and what its network takes and returns."""

import functools
from pathlib import Path

from ml_collections import ConfigDict

from train.config import default_config, flatten
from train.data import standardization
from train.data.dataset import Signature
from train.data.standardization import Standardization
from train.errors import UserError
from train.output.files import read_json, write_json

SIGNATURE_FILE = "signature.json"
"""The file in a work folder with the signature of the network."""

STANDARDIZATION_FILE = "standardization.json"
"""The file in a work folder with the mean and the standard deviation, if they were measured."""


def read_config(folder: Path) -> ConfigDict:
    """Return the config of the run in a work folder, not validated.

    Its mean and standard deviation are the figures that were measured, if they were.

    Raises:
      UserError: If it is not a work folder, or was written by another version of the trainer.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(
            f"--workdir {folder} has no config.json, so it is not the work folder of a run; give "
            "that of python -m train"
        )
    config = default_config()
    known = flatten(config)
    for name, value in read_json(file).items():
        if name not in known:
            raise UserError(
                f"{file} has the field {name}, which this version of the trainer does not know; "
                "use the version that trained the run"
            )
        *groups, field = name.split(".")
        section = functools.reduce(getattr, groups, config)
        section[field] = tuple(value) if isinstance(value, list) else value
    config = fill_in_standardization(config, folder)
    if standardization.is_requested(config):
        raise UserError(
            f"{folder} has no {STANDARDIZATION_FILE} with the mean and the standard deviation of "
            "its training images; restore it, or run the command of the training again"
        )
    return config


def fill_in_standardization(config: ConfigDict, folder: Path) -> ConfigDict:
    """Return a config with the figures that its run measured, if it did so already.

    Raises:
      UserError: If the file is damaged.
    """
    file = folder / STANDARDIZATION_FILE
    if not standardization.is_requested(config) or not file.is_file():
        return config
    saved = read_json(file)
    if saved.keys() != set(Standardization._fields):
        raise UserError(f"{file} is damaged; restore it, or use another --workdir")
    return standardization.fill_in(config, Standardization(**{k: tuple(saved[k]) for k in saved}))


def record_standardization(folder: Path, figures: Standardization) -> None:
    """Write the measured mean and standard deviation.

    Raises:
      UserError: If the file cannot be written.
    """
    write_json(folder / STANDARDIZATION_FILE, figures._asdict())


def read_signature(folder: Path) -> Signature | None:
    """Return the signature of the network of a run; None if an older version trained it.

    Raises:
      UserError: If the file is damaged.
    """
    file = folder / SIGNATURE_FILE
    if not file.is_file():
        return None
    fields = read_json(file)
    if fields.keys() != set(Signature._fields):
        raise UserError(f"{file} is damaged; restore it, or remove it to read it from the data")
    lists = {name: tuple(fields[name]) for name in ("input_shape", "class_names", "words")}
    return Signature(**fields | lists)


def record_signature(folder: Path, signature: Signature) -> None:
    """Write the signature of the network, if the folder is new or of an older version.

    Raises:
      UserError: If the file cannot be written.
    """
    if not (folder / SIGNATURE_FILE).exists():
        write_json(folder / SIGNATURE_FILE, signature._asdict())
