"""The command line that all commands share: config, overrides, work folder, processes."""

import io
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from logging import CRITICAL, getLogger
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from train.config.entry_point import find_beside
from train.config.fields import flatten, unknown_field
from train.config.file import load_config_file
from train.config.paths import check_folder, local_path
from train.errors import Preempted, UserError, print_error, short_repr, truncate

EXIT_USER_ERROR = 2
"""Exit status for an error that the user can fix."""
EXIT_PREEMPTED = 75
"""Exit status after a signal, with the state saved: the same command resumes."""
EXIT_BROKEN_PIPE = 141
"""Exit status if stdout is closed, as by `| head`: that of a process that SIGPIPE ends."""

_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]*)")


class HelpShown(Exception):  # noqa: N818, not an error
    """The command has printed its help and has nothing else to do."""


class Cluster(NamedTuple):
    """The processes of a run; None is detected on TPU pods, Slurm and Kubernetes.

    Attributes:
      coordinator: HOST:PORT of process 0.
      num_processes: The number of processes.
      process_id: The number of this process, from 0.
      timeout: The most seconds that the process waits for the others; None for the default.
    """

    coordinator: str | None
    num_processes: int | None
    process_id: int | None
    timeout: int | None


class Command(NamedTuple):
    """A parsed command line.

    Attributes:
      config: The config with its overrides, locked.
      workdir: The work folder.
      cluster: The processes of the run; None for one process.
      options: The command's own flags; None if not given.
    """

    config: ConfigDict
    workdir: Path
    cluster: Cluster | None
    options: dict[str, str | None]


def parse(argv: list[str], help_text: Callable[[], str], options: Sequence[str] = ()) -> Command:
    """Parse the command line of a run.

    Args:
      argv: The command line, program name first.
      help_text: Returns what `--help` prints.
      options: The names of the command's own flags, which take a text.

    Raises:
      UserError: If a flag, a field or a value is wrong, or the config file cannot be loaded.
      HelpShown: After `--help`.
    """
    values = flags.FlagValues()
    workdir = flags.DEFINE_string("workdir", None, "", flag_values=values)
    distributed = flags.DEFINE_bool("distributed", False, "", flag_values=values)
    coordinator = flags.DEFINE_string("coordinator", None, "", flag_values=values)
    num_processes = flags.DEFINE_integer("num_processes", None, "", 1, flag_values=values)
    process_id = flags.DEFINE_integer("process_id", None, "", 0, flag_values=values)
    timeout = flags.DEFINE_integer("timeout", None, "", 1, flag_values=values)
    own = {name: flags.DEFINE_string(name, None, "", flag_values=values) for name in options}
    config, name = parse_config(argv, help_text, values)
    folder = Path("runs", name) if workdir.value is None else work_folder(workdir.value)
    check_folder("--workdir", folder)
    cluster = Cluster(coordinator.value, num_processes.value, process_id.value, timeout.value)
    _check_cluster(cluster, distributed.value)
    return Command(
        config=config,
        workdir=folder,
        cluster=cluster if distributed.value else None,
        options={name: holder.value for name, holder in own.items()},
    )


def parse_config(
    argv: list[str], help_text: Callable[[], str], values: flags.FlagValues
) -> tuple[ConfigDict, str]:
    """Parse the config, its overrides, and the flags of a command.

    Args:
      argv: The command line, program name first.
      help_text: Returns what `--help` prints.
      values: The command's own flags, defined; they are parsed too.

    Returns:
      The config with its overrides, locked, and its name: `cifar100_gc-vgg11-adam` for
      `configs/cifar100_gc.py:vgg11,adam`.

    Raises:
      UserError: If a flag, a field or a value is wrong, or the config file cannot be loaded.
      HelpShown: After `--help`.
    """
    show_help_if_asked(argv, help_text)
    (file, arguments), argv = _split_config_flag(argv)
    config = load_config_file(file, arguments)
    if rest := override(config, argv, values):
        raise UserError(f"unknown argument {short_repr(rest[0])}; see --help")
    find_beside(config.get("base", config), Path(file).parent)
    words = [Path(file).stem, *re.findall(r"\w+", "".join(arguments))]
    return config, truncate("-".join(words), 100)


def run(command: Callable[[list[str]], int]) -> None:
    """Run a command to its exit status; a UserError becomes one line on stderr."""
    _silence_libraries()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character gets a "?" instead of ending the run.
            # Lines appear at once, also in a log file.
            stream.reconfigure(errors="replace", line_buffering=True)
    try:
        status = command(sys.argv)
    except HelpShown:
        status = 0
    except UserError as error:
        print_error(str(error))
        status = EXIT_USER_ERROR
    except Preempted as stop:
        print(f"{stop}; run the same command again to resume", file=sys.stderr)
        status = EXIT_PREEMPTED
    except BrokenPipeError:
        status = EXIT_BROKEN_PIPE
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Otherwise the interpreter flushes again at exit, and prints a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = EXIT_BROKEN_PIPE
    sys.exit(status)


def _silence_libraries() -> None:
    """Keep the logs of libraries off the terminal: their exceptions are reported by us."""
    logging.set_verbosity(logging.FATAL)
    for name in ("asyncio", "matplotlib"):
        getLogger(name).setLevel(CRITICAL)
    show = sys.unraisablehook

    def show_unless_loop_is_closed(unraisable) -> None:
        # TensorStore's threads raise this after one of several writes fails: Orbax does not wait
        # for the others.
        if str(unraisable.exc_value) != "Event loop is closed":
            show(unraisable)

    sys.unraisablehook = show_unless_loop_is_closed


def _split_config_flag(argv: list[str]) -> tuple[tuple[str, list[str]], list[str]]:
    """Return the file and the arguments of --config FILE[:ARGUMENT], and all other arguments."""
    found, rest = split_flag("config", argv)
    if not found:
        raise UserError("--config is missing; for example --config configs/digits_gc.py")
    if len(found) > 1:
        raise UserError(f"--config is given {len(found)} times; give it once")
    return _split_argument(found[0]), rest


def split_flag(name: str, argv: list[str]) -> tuple[list[str], list[str]]:
    """Return the values of a flag, as often as it is given, and all other arguments."""
    found, rest, arguments = [], [], iter(argv)
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag in (f"--{name}", f"-{name}"):
            found.append(value if equals else next(arguments, ""))
        else:
            rest.append(argument)
    return found, rest


def show_help_if_asked(argv: list[str], help_text: Callable[[], str]) -> None:
    if {"--help", "-h"} & set(argv[1:]):
        print(help_text())
        raise HelpShown


def override(config: ConfigDict, argv: list[str], values: flags.FlagValues) -> list[str]:
    """Change `config` and the flags `values` as the command line says; return what is left.

    Raises:
      UserError: If a flag, a field or a value is wrong.
    """
    fields = flatten(config)
    for match in filter(None, map(_OVERRIDE.match, argv)):
        if match[1] not in fields:
            raise unknown_field(match[1], fields)
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        return values(argv)[1:]
    except Exception as error:  # absl and ml_collections raise many types
        raise UserError(_describe_flag_error(error, fields)) from error


def _split_argument(text: str) -> tuple[str, list[str]]:
    """Return the file and the arguments of FILE[:ARGUMENT]; a file name may contain colons."""
    text = str(local_path("--config", text)) if text else text
    parts = text.split(":")
    for count in range(len(parts), 0, -1):
        if os.path.isfile(file := ":".join(parts[:count])):
            return file, [":".join(parts[count:])] if count < len(parts) else []
    file, *arguments = text.split(":", 1)
    return file, arguments


def work_folder(text: str) -> Path:
    """Return the folder of --workdir."""
    if not text:
        raise UserError("--workdir is empty; give it a folder, or leave it out for runs/NAME")
    return local_path("--workdir", text)


def output_file(flag: str, text: str) -> Path:
    """Return the file that a flag names, after a check that it can be written.

    Raises:
      UserError: If it cannot; before minutes of work.
    """
    file = local_path(flag, text)
    try:
        if file.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise UserError(
            f"{flag}={short_repr(str(file))} cannot be written: {error.strerror}; give a file in "
            "an existing folder"
        ) from None
    return file


def _describe_flag_error(error: Exception, fields: dict[str, Any]) -> str:
    text = truncate(str(error)) or type(error).__name__
    name = text.removeprefix("flag --config.").partition("=")[0]
    if name in fields:
        return f"{text}; it must be of type {type(fields[name]).__name__}"
    return f"{text}; see --help"


def _check_cluster(cluster: Cluster, distributed: bool) -> None:
    coordinator, num_processes, process_id, _ = cluster
    if not distributed and any(value is not None for value in cluster):
        raise UserError(
            "--coordinator, --num_processes, --process_id and --timeout need --distributed"
        )
    host, _, port = ("localhost:1234" if coordinator is None else coordinator).rpartition(":")
    if not (host and re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 2**16):
        raise UserError(
            f"--coordinator={short_repr(coordinator)} must be HOST:PORT, such as localhost:1234"
        )
    if num_processes is not None and process_id is not None and process_id >= num_processes:
        raise UserError(
            f"--process_id={process_id} must be below --num_processes={num_processes}; the first "
            "process is 0"
        )
