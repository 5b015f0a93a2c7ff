"""The flags that every command shares: the config, its overrides, the work folder, the cluster."""

import sys
from collections.abc import Callable
from logging import CRITICAL, getLogger
from pathlib import Path
from typing import NamedTuple

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from train.errors import Preempted, UserError

MISTAKE = 2
"""Exit status for what a person can mend."""
PREEMPTED = 75
"""Exit status of a run that a signal stopped and that has saved: run the same command again."""
INTERRUPTED = 130
"""Exit status of a run that SIGINT stopped before its training had begun."""


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


def parse(argv: list[str], usage: str) -> Command:
    """Reads the command line.

    Args:
      argv: the command line, program name first.
      usage: what `--help` prints.

    Raises:
      UserError: a flag, a field or a value is wrong, or the config file does not load.
      SystemExit: after `--help`.
    """
    if {"--help", "-h"} & set(argv[1:]):
        print(usage)
        raise SystemExit(0)
    values = flags.FlagValues()
    flag = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    workdir = flags.DEFINE_string("workdir", None, "", flag_values=values)
    distributed = flags.DEFINE_bool("distributed", False, "", flag_values=values)
    coordinator = flags.DEFINE_string("coordinator", None, "", flag_values=values)
    num_processes = flags.DEFINE_integer("num_processes", None, "", 1, flag_values=values)
    process_id = flags.DEFINE_integer("process_id", None, "", 0, flag_values=values)
    file = _config_file(argv)
    sys.modules.pop("config_config", None)  # else a second file inherits the first one's names
    try:
        rest = values(argv)
    except Exception as error:  # a config file is Python: it can raise anything
        raise UserError(f"{file}: {_reason(error)}") from error
    if rest[1:]:
        raise UserError(f"unknown argument {rest[1]!r}; see --help")
    if not isinstance(flag.value, ConfigDict):
        raise UserError(f"{file}: get_config() must return an ml_collections.ConfigDict")
    cluster = Cluster(coordinator.value, num_processes.value, process_id.value)
    if any(value is not None for value in cluster) and not distributed.value:
        raise UserError("--coordinator, --num_processes and --process_id go with --distributed")
    return Command(
        config=flag.value,
        workdir=Path(workdir.value or Path("runs", file.stem)),
        cluster=cluster if distributed.value else None,
    )


def run(command: Callable[[list[str]], int]) -> None:
    """Runs a command to its exit status; an error of ours is one line on stderr."""
    _quiet_libraries()
    try:
        status = command(sys.argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = MISTAKE
    except Preempted as reason:
        print(f"{reason}; run the same command again to go on", file=sys.stderr)
        status = PREEMPTED
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        status = INTERRUPTED
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


def _config_file(argv: list[str]) -> Path:
    for index, argument in enumerate(argv):
        flag, equals, value = argument.partition("=")
        if flag in ("--config", "-config"):
            value = value if equals else "".join(argv[index + 1 : index + 2])
            file = Path(value.split(":")[0])
            if not file.is_file():
                raise UserError(f"--config {value!r} is not a file; see the folder configs/")
            return file
    raise UserError("--config is missing; for example --config configs/digits_gc.py")


def _reason(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    text = str(error).strip("'\"").split("Traceback (most recent call last)")
    last_line = text[-1].strip().splitlines()[-1] if len(text) > 1 else text[0]
    return last_line or type(error).__name__
