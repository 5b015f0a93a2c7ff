"""The command line of the commands that use a trained run: evaluate, predict and export."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict

from train import cli
from train.config import flatten, validate
from train.errors import UserError
from train.output.saved_run import read_config

_DEFINE: dict[type, Callable[..., Any]] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    str: flags.DEFINE_string,
}


class TrainedCommand(NamedTuple):
    """The parsed command line of a command that uses a trained run.

    Attributes:
      config: The config of the run with its overrides, validated.
      workdir: The work folder.
      options: The command's own flags.
      arguments: The arguments that are not flags.
    """

    config: ConfigDict
    workdir: Path
    options: dict[str, Any]
    arguments: list[str]


def parse(
    argv: list[str],
    help_text: Callable[[], str],
    options: Mapping[str, str | int | bool],
    changeable: Collection[str] = (),
) -> TrainedCommand:
    """Parse the command line of a command that uses a trained run.

    Args:
      argv: The command line, program name first.
      help_text: Returns what `--help` prints.
      options: The default of each of the command's own flags, of the flag's type.
      changeable: The fields of the run's config that the command line may change.

    Raises:
      UserError: If a flag, a field or a value is wrong, or there is no such run.
      HelpShown: After `--help`.
    """
    cli.show_help_if_asked(argv, help_text)
    if cli.split_flag("config", argv)[0]:
        raise UserError("--config is not needed, the work folder holds the config; leave it out")
    found, argv = cli.split_flag("workdir", argv)
    if len(found) != 1:
        problem = f"given {len(found)} times; give it once" if found else "missing"
        raise UserError(f"--workdir is {problem}; for example --workdir runs/digits_gc")
    folder = cli.work_folder(found[0])
    config = read_config(folder)
    saved = flatten(config)
    values = flags.FlagValues()
    values.set_gnu_getopt(True)  # flags may follow the files
    own = {
        name: _DEFINE[type(default)](name, default, "", flag_values=values)
        for name, default in options.items()
    }
    arguments = cli.override(config, argv, values)
    validate(config)
    for name, value in flatten(config).items():
        if value != saved[name] and name not in changeable:
            others = f"; only {', '.join(changeable)} can be changed" if changeable else ""
            raise UserError(f"config.{name} is part of the trained run; leave it out{others}")
    return TrainedCommand(
        config, folder, {name: holder.value for name, holder in own.items()}, arguments
    )
