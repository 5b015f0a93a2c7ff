"""Names of TFDS data sets, and the command that prepares a set.

The program behind this command, `train/prepare.py`, runs without JAX.
"""

import re
import shlex

from train.errors import UserError, short_repr

_NAME = re.compile(r"[a-zA-Z]\w*(/[\w.-]+)?(:\d+\.\d+\.\d+)?", re.ASCII)
_MAX_NAME_LENGTH = 200  # it becomes the name of a folder


def check_name(name: str, source: str, alternative: str = "") -> None:
    """Check that a text can be the name of a TFDS data set.

    Args:
      name: The text.
      source: What the user set, such as `config.data.name`.
      alternative: What else is allowed, for the message.

    Raises:
      UserError: If it cannot.
    """
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME_LENGTH:
        raise UserError(
            f"{source}={short_repr(name)} is not the name of a data set; use {alternative}a TFDS "
            "name such as 'cifar100' or 'imdb_reviews/plain_text'"
        )


def prepare_command(name: str, folder: str | None) -> str:
    """Return the command that prepares a data set in a folder."""
    variables = {"NAME": name} | ({"TFDS_DATA_DIR": folder} if folder else {})
    return " ".join(["make data", *(f"{key}={shlex.quote(v)}" for key, v in variables.items())])
