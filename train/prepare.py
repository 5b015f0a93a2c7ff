"""`make data NAME=cifar100`: prepare a TFDS data set, once, for training without TensorFlow.

This program runs in the environment `.venv-data`, which has TensorFlow and neither JAX nor the
other libraries of the trainer. It therefore imports nothing that needs them.
"""

import os
import sys

from train.errors import UserError, describe_error
from train.tfds_names import check_name, prepare_command

USAGE = "usage: make data NAME=cifar100 [TFDS_DATA_DIR=FOLDER]"
_FORMAT = "array_record"


def main() -> int:
    """Prepare the data set that the environment variable NAME names; return the exit status."""
    try:
        folder = prepare(os.environ.get("NAME", ""))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"the data set is prepared in {folder}")
    return 0


def prepare(name: str) -> str:
    """Download a data set and write it as array_record; return its folder.

    A set that is prepared already is left unchanged.

    Raises:
      UserError: If the name is wrong, or the set cannot be downloaded or written.
    """
    if not name:
        raise UserError(f"NAME is missing; {USAGE}")
    check_name(name, "NAME")
    folder = _data_folder()
    # Imported here because they take seconds, and TensorFlow logs when it is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow  # noqa: F401, used by TFDS
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"{describe_error(error)}; run {prepare_command(name, folder)}, which makes an "
            "environment with TensorFlow and TFDS"
        ) from error
    try:
        builder = tfds.builder(name, data_dir=folder, file_format=_FORMAT, try_gcs=False)
        builder.download_and_prepare(file_format=_FORMAT)
    except tfds.core.registered.DatasetNotFoundError:
        raise UserError(
            f"NAME={name!r} is not a data set of TFDS; choose a name from "
            "https://www.tensorflow.org/datasets/catalog"
        ) from None
    except Exception as error:  # downloads and builders of data sets raise many types
        raise UserError(
            f"TFDS cannot prepare {name} in {folder or 'its data folder'}: "
            f"{describe_error(error)}; fix this, then run the same command again"
        ) from error
    return str(builder.data_dir)


def _data_folder() -> str | None:
    """Return the data folder of the environment; None for TFDS's default."""
    folder = os.path.expanduser(os.environ.get("TFDS_DATA_DIR", "")) or None
    if folder and ("://" in folder or (os.path.exists(folder) and not os.path.isdir(folder))):
        raise UserError(f"TFDS_DATA_DIR={folder} is not a folder of this machine; {USAGE}")
    return folder


if __name__ == "__main__":
    sys.exit(main())
