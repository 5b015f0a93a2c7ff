"""`python -m train.study --config configs/study_digits.py`: does GC help, and how sure is that?"""

import os
import re
import signal

from train.runtime import huge_pages, utf8

if __name__ == "__main__":  # before the other imports, which would be made twice
    utf8.enable_utf8_mode()
    huge_pages.enable_huge_pages()

from train import cli
from train.errors import UserError, short_repr
from train.studies.design import Shard

USAGE = """\
usage: python -m train.study --config FILE [--workdir DIR] [--shard I/N] [--config.FIELD=VALUE ...]

Trains with and without gradient centralization as FILE describes, and writes results.jsonl,
report.md and report.html to DIR (default: runs/NAME for configs/NAME.py). The same command again
makes the missing runs and the report. A config file is Python and is executed.

  --shard I/N       make one of N shares of the runs, I from 1 to N; when a folder has the results
                    of all N shares, the report is written

Exit status: 0 finished; 2 an error that the user can fix, in one line on stderr; 75 stopped by
SIGTERM or SIGINT, or learning rates depend on shards that are not finished: all finished runs are
saved, and the same command goes on.

Fields, with their defaults; the config file may set others. For example
--config.optimizers="('adam',)" compares one optimizer, and --config.seeds="(0,1,2,3,4,5,6,7)"
adds seeds and keeps the runs that exist. config.variants, a dict in the config file, compares
networks or settings. config.base.FIELD is any field of the training: see python -m train --help.
"""


def help_text() -> str:
    """Return what `--help` prints."""
    from train.config.reference import describe_fields
    from train.studies.config import Study

    return f"{USAGE}\n{describe_fields(Study)}"


def main(argv: list[str]) -> int:
    """Make a study; return the exit status."""
    command = cli.parse(argv, help_text, options=("shard",))
    if command.cluster:
        raise UserError("a study has no --distributed; divide its runs with --shard I/N")
    from train.studies.config import validate_study

    validate_study(command.config)
    shard = parse_shard(command.options["shard"])
    use_cores(command.config.runs_at_once)
    print("loading JAX and Flax ...")
    # Imported here because JAX and Flax take seconds, which a typing error should not cost.
    from train.runtime import cache
    from train.studies.study import study

    cache.enable_compilation_cache()
    study(command.config, command.workdir, shard)
    return 0


def parse_shard(text: str | None) -> Shard | None:
    """Return the share that `I/N` names, or None.

    Raises:
      UserError: If the text is not I/N, or I is not from 1 to N.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(f"--shard={short_repr(text)} must be I/N with I from 1 to N, such as 1/4")
    return Shard(int(match[1]), int(match[2]))


def use_cores(count: int) -> None:
    """Let the CPU be `count` devices, or one for each core if 0; other devices do not change."""
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        import jax

        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        jax.config.update("jax_num_cpu_devices", count or cores)


if __name__ == "__main__":
    # Until the runs begin, nothing needs saving: SIGINT ends the process.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    cli.run(main)
