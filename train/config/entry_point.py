"""Own parts by name: `package.module:attribute`, or `file.py:attribute`.

A file is looked up in the current folder, then in the folder of the config file.
"""

import functools
import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from train.config.paths import local_path
from train.errors import UserError, describe_error, short_repr

HUGGING_FACE = "hf:"
"""What `data.name` begins with for data sets of Hugging Face."""

FIELDS = ("model.name", "optimizer.name", "data.name", "loss.name")
"""The fields that can name an own part."""

_FORM = re.compile(r"(?P<file>.+\.py|[A-Za-z_][\w.]*):(?P<attribute>[A-Za-z_]\w*)")


def is_entry_point(name: str) -> bool:
    """Return whether a name has the form of an entry point."""
    return bool(_FORM.fullmatch(name)) and not name.startswith(HUGGING_FACE)


def load(field: str, name: str) -> Any:
    """Return what an entry point names.

    Args:
      field: The field of the config, for messages, such as `config.model.name`.
      name: The entry point.

    Raises:
      UserError: If there is no such file, module or attribute, or its code fails.
    """
    match = _FORM.fullmatch(name)
    assert match, name
    file, attribute = match["file"], match["attribute"]
    if file.endswith(".py"):
        path = local_path(field, file)
        if not path.is_file():
            raise UserError(
                f"{field}={short_repr(name)}: {path.absolute()} is not a file; give the path of a "
                "Python file, from the current folder or from that of the config file"
            )
        module = _run(field, str(path.resolve()))
    else:
        module = _import(field, name, file)
    try:
        return getattr(module, attribute)
    except AttributeError:
        own = {k: v for k, v in vars(module).items() if not k.startswith("_")}
        defined = ", ".join(key for key, value in own.items() if not inspect.ismodule(value))
        raise UserError(
            f"{field}={short_repr(name)}: {file} has no {attribute}; it has {defined or 'nothing'}"
        ) from None


def find_beside(config: ConfigDict, folder: Path) -> None:
    """Replace the files of entry points that are only in `folder` by their path from here."""
    for field in FIELDS:
        group, name = field.split(".")
        section = config.get(group)
        value = section.get(name) if isinstance(section, ConfigDict) else None
        match = _FORM.fullmatch(value) if isinstance(value, str) else None
        if not match or not match["file"].endswith(".py"):
            continue
        file = Path(match["file"])
        if not file.is_absolute() and not file.exists() and (folder / file).is_file():
            with config.ignore_type(), config.unlocked():
                config[group][name] = f"{os.path.relpath(folder / file)}:{match['attribute']}"


@functools.cache  # so that a class is the same object wherever it is named
def _run(field: str, file: str) -> Any:
    folder, name = os.path.split(file)
    spec = importlib.util.spec_from_file_location(f"own_{Path(name).stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses and pickles look their module up
    sys.path.insert(0, folder)  # modules beside it
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the file can raise anything
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == file]
        location = f"{file}, line {lines[-1]}" if lines else file
        raise UserError(f"{field}: {location}: {describe_error(error)}; fix the file") from error
    finally:
        sys.path.remove(folder)
    return module


def _import(field: str, name: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:  # the module can raise anything
        raise UserError(
            f"{field}={short_repr(name)}: the module {module} cannot be imported: "
            f"{describe_error(error)}; install it, or name a file such as my_parts.py:MyNet"
        ) from error
