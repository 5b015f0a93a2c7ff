"""Config files: Python files with a function `get_config`."""

import difflib
import inspect
import os
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from train.config.entry_point import find_beside
from train.config.fields import to_plain_values
from train.config.schema import Config
from train.errors import UserError, describe_error, short_repr


def load_config_file(file: str, arguments: Sequence[str] = ()) -> ConfigDict:
    """Return what `get_config(*arguments)` of a config file returns.

    Raises:
      UserError: If there is no such file, or it does not return a config.
    """
    if not os.path.isfile(file):
        raise UserError(f"--config {short_repr(file)} is not a file; {_closest_file(Path(file))}")
    search_path = list(sys.path)
    try:
        sys.path.insert(
            0, os.path.dirname(os.path.abspath(file))
        )  # as for a script: modules beside it
        get_config = runpy.run_path(file).get("get_config", _missing_get_config)
        if arguments and not inspect.signature(get_config).parameters:
            raise UserError(
                f"{file}: this config takes no argument; leave out :{short_repr(arguments[0])}"
            )
        config = get_config(*arguments)
        if isinstance(config, ConfigDict):
            # Raises for placeholders without a value.
            to_plain_values(config)
            trained = config.get("base", config)
            to_plain_values(trained, Config)
            find_beside(trained, Path(file).parent)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a config file can raise anything
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == file]
        location = f"{file}, line {lines[-1]}" if lines else file
        raise UserError(f"{location}: {describe_error(error)}; fix the config file") from error
    finally:
        sys.path[:] = search_path
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"{file}: get_config() must return an ml_collections.ConfigDict, not "
            f"{type(config).__name__}; start from train.config.default_config()"
        )
    return config


def _missing_get_config(*_) -> None:
    raise NameError("there is no function get_config()")


def _closest_file(missing: Path) -> str:
    folders = [folder for folder in (Path("configs"), missing.parent) if os.path.isdir(folder)]
    files = {file.stem: file for folder in folders for file in folder.glob("*.py")}
    close = difflib.get_close_matches(missing.stem, files, 1)
    return f"did you mean {files[close[0]]}?" if close else "see the folder configs/"
