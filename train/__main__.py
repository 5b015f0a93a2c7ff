"""`python -m train --config configs/digits_gc.py`: train and evaluate a model."""

import signal

from train.runtime import huge_pages, utf8

if __name__ == "__main__":  # before the other imports, which would be made twice
    utf8.enable_utf8_mode()
    huge_pages.enable_huge_pages()

from train import cli
from train.config import validate
from train.errors import UserError, short_repr

USAGE = """\
usage: python -m train --config FILE[:ARGUMENT] [--workdir DIR] [--config.FIELD=VALUE ...]

Trains the model that FILE describes and writes config.json, metrics.jsonl, checkpoints/,
curves.png and summary.json to DIR (default: runs/NAME for configs/NAME.py). The same command
again resumes. Use one folder for each run. A config file is Python and is executed; ARGUMENT is
passed to its get_config(), as in cifar100_gc.py:vgg11,adam.

  --distributed     this is one of several processes of a run, on a TPU pod, under Slurm or
                    Kubernetes; elsewhere also give --coordinator=HOST:PORT, --num_processes=N
                    and --process_id=I
  --timeout=SECONDS with --distributed: end if this process makes no progress for so long, because
                    another one hangs (default: 1800)

  --profile=STEPS   also trace STEPS steps with jax.profiler, to DIR/profile, for TensorBoard's
                    profile plugin, XProf or Perfetto

Exit status: 0 finished; 2 an error that the user can fix, in one line on stderr; 6 another process
of the run was lost, in one line on stderr; 75 stopped by SIGTERM or SIGINT, with the state saved.

Fields, with their defaults; the config file may set others. For example
--config.gc.mode=none trains without gradient centralization.
"""


def help_text() -> str:
    """Return what `--help` prints."""
    from train.config.reference import describe_fields
    from train.config.schema import Config

    return f"{USAGE}\n{describe_fields(Config)}"


def main(argv: list[str]) -> int:
    """Train; return the exit status."""
    command = cli.parse(argv, help_text, options=("profile",))
    profile_steps = parse_steps("--profile", command.options["profile"])
    validate(command.config)
    if command.cluster is None or command.cluster.process_id == 0:
        print("loading JAX and Flax ...", flush=True)
    # Imported here because JAX and Flax take seconds, which a typing error should not cost.
    from train.loop import train
    from train.runtime import cache, distributed

    if command.cluster:
        distributed.initialize(*command.cluster)
    cache.enable_compilation_cache()
    with distributed.end_if_process_is_lost():
        train(command.config, command.workdir, profile_steps)
        distributed.shutdown()
    return 0


def parse_steps(flag: str, text: str | None) -> int:
    """Return the number of steps that a flag gives; 0 if it is not given.

    Raises:
      UserError: If it is not a number above 0.
    """
    if text is None:
        return 0
    if not text.isdecimal() or not 0 < int(text) < 10**6:
        raise UserError(f"{flag}={short_repr(text)} must be a number of steps, such as 10")
    return int(text)


if __name__ == "__main__":
    # Until training installs its own handlers, nothing needs saving: SIGINT ends the process.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    cli.run(main)
