"""The flags that every command shares: the config, its overrides, the work folder, the cluster."""

import difflib
import inspect
import os
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from logging import CRITICAL, getLogger
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from train.config.fields import flatten, unknown_field
from train.errors import Preempted, UserError, describe_error, short_repr, truncate

EXIT_USER_ERROR = 2
"""Exit status for what a user can fix."""
EXIT_PREEMPTED = 75
"""Exit status of a run that a signal stopped and that has saved: run the same command again."""

_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]*)")


class Cluster(NamedTuple):
    """Where a run's processes are; TPU pods, Slurm and Kubernetes tell what is None here."""

    coordinator: str | None  # HOST:PORT of process 0
    num_processes: int | None
    process_id: int | None


class Command(NamedTuple):
    """What a command line asks for."""

    config: ConfigDict  # locked, with its overrides
    workdir: Path
    cluster: Cluster | None  # None: this process alone
    options: dict[str, str | None]  # a command's own flags; None: not given


def parse(argv: list[str], usage: str, options: Sequence[str] = ()) -> Command:
    """Reads the command line of a run.

    Args:
      argv: the command line, program name first.
      usage: what `--help` prints.
      options: names of further flags, which take a text.

    Raises:
      UserError: a flag, a field or a value is wrong, or the config file does not load.
      SystemExit: after `--help`.
    """
    values = flags.FlagValues()
    workdir = flags.DEFINE_string("workdir", None, "", flag_values=values)
    distributed = flags.DEFINE_bool("distributed", False, "", flag_values=values)
    coordinator = flags.DEFINE_string("coordinator", None, "", flag_values=values)
    num_processes = flags.DEFINE_integer("num_processes", None, "", 1, flag_values=values)
    process_id = flags.DEFINE_integer("process_id", None, "", 0, flag_values=values)
    own = {name: flags.DEFINE_string(name, None, "", flag_values=values) for name in options}
    config, name = parse_config(argv, usage, values)
    if workdir.value == "":
        raise UserError("--workdir is empty; give it a folder, or leave it out for runs/NAME")
    cluster = Cluster(coordinator.value, num_processes.value, process_id.value)
    _check_cluster(cluster, distributed.value)
    return Command(
        config=config,
        workdir=Path(workdir.value or Path("runs", name)),
        cluster=cluster if distributed.value else None,
        options={name: holder.value for name, holder in own.items()},
    )


def parse_config(argv: list[str], usage: str, values: flags.FlagValues) -> tuple[ConfigDict, str]:
    """Reads the config, its overrides, and the flags that a command has beside them.

    Args:
      argv: the command line, program name first.
      usage: what `--help` prints.
      values: the command's own flags, defined; they get their values.

    Returns:
      The config, locked, with its overrides; its name, `cifar100_gc-vgg11-adam` for
      `configs/cifar100_gc.py:vgg11,adam`.

    Raises:
      UserError: a flag, a field or a value is wrong, or the config file does not load.
      SystemExit: after `--help`.
    """
    if {"--help", "-h"} & set(argv[1:]):
        print(usage)
        raise SystemExit(0)
    (file, argument), argv = _take_config(argv)
    config = _load(file, argument)
    fields = flatten(config)
    for override in filter(None, map(_OVERRIDE.match, argv)):
        if override[1] not in fields:
            raise unknown_field(override[1], fields)
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        rest = values(argv)
    except Exception as error:  # absl's and ml_collections', of many types
        raise UserError(_flag_mistake(error, fields)) from error
    if rest[1:]:
        raise UserError(f"unknown argument {short_repr(rest[1])}; see --help")
    words = [file.stem, *re.findall(r"\w+", "".join(argument))]
    return config, truncate("-".join(words), 100)


def run(command: Callable[[list[str]], int]) -> None:
    """Runs a command to its exit status; an error of ours is one line on stderr."""
    _quiet_libraries()
    try:
        status = command(sys.argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = EXIT_USER_ERROR
    except Preempted as stop:
        print(f"{stop}; run the same command again to go on", file=sys.stderr)
        status = EXIT_PREEMPTED
    sys.exit(status)


def _quiet_libraries() -> None:
    """What they raise is for us to tell; what they log beside it is not for the user."""
    logging.set_verbosity(logging.FATAL)
    getLogger("asyncio").setLevel(CRITICAL)
    show = sys.unraisablehook

    def show_but_not_of_closed_loops(ignored) -> None:
        # TensorStore's threads, when one of several writes has failed and Orbax waits for no other.
        if str(ignored.exc_value) != "Event loop is closed":
            show(ignored)

    sys.unraisablehook = show_but_not_of_closed_loops


def _take_config(argv: list[str]) -> tuple[tuple[Path, list[str]], list[str]]:
    """The config's file and `get_config`'s arguments, from FILE or FILE:ARGUMENT; all the rest."""
    found, rest, arguments = [], [], iter(argv)
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag in ("--config", "-config"):
            found.append(value if equals else next(arguments, ""))
        else:
            rest.append(argument)
    if not found:
        raise UserError("--config is missing; for example --config configs/digits_gc.py")
    if len(found) > 1:
        raise UserError(f"--config is there {len(found)} times; give it one file")
    name, *argument_of_config = found[0].split(":", 1)
    if not os.path.isfile(name):
        raise UserError(f"--config {short_repr(found[0])} is not a file; {_hint(Path(name))}")
    return (Path(name), argument_of_config), rest


def _hint(missing: Path) -> str:
    folders = [folder for folder in (Path("configs"), missing.parent) if os.path.isdir(folder)]
    there = {file.stem: file for folder in folders for file in folder.glob("*.py")}
    close = difflib.get_close_matches(missing.stem, there, 1)
    return f"did you mean {there[close[0]]}?" if close else "see the folder configs/"


def _load(file: Path, argument: list[str]) -> ConfigDict:
    try:
        get_config = runpy.run_path(str(file)).get("get_config", _no_config)
        if argument and not inspect.signature(get_config).parameters:
            raise UserError(
                f"{file}: this config takes no argument; leave out :{short_repr(argument[0])}"
            )
        config = get_config(*argument)
        if isinstance(config, ConfigDict):
            flatten(config)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a config file is Python: it can raise anything
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(file)]
        where = f"{file}, line {lines[-1]}" if lines else str(file)
        raise UserError(f"{where}: {describe_error(error)}; fix the config file") from error
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"{file}: get_config() must return an ml_collections.ConfigDict, not "
            f"{type(config).__name__}; start from train.config.default_config()"
        )
    return config


def _no_config(*_) -> None:
    raise NameError("there is no function get_config()")


def _flag_mistake(error: Exception, fields: dict[str, Any]) -> str:
    text = truncate(str(error)) or type(error).__name__
    name = text.removeprefix("flag --config.").partition("=")[0]
    if name in fields:
        return f"{text}; it must be of type {type(fields[name]).__name__}"
    return f"{text}; see --help"


def _check_cluster(cluster: Cluster, distributed: bool) -> None:
    coordinator, num_processes, process_id = cluster
    if not distributed and any(value is not None for value in cluster):
        raise UserError("--coordinator, --num_processes and --process_id go with --distributed")
    host, _, port = ("localhost:1234" if coordinator is None else coordinator).rpartition(":")
    if not (host and re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 2**16):
        raise UserError(
            f"--coordinator={short_repr(coordinator)} must be HOST:PORT, as localhost:1234"
        )
    if num_processes is not None and process_id is not None and process_id >= num_processes:
        raise UserError(
            f"--process_id={process_id} must be below --num_processes={num_processes}; the first "
            "process is 0"
        )
