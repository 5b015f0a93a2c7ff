"""`python -m train.study --config configs/study_digits.py`: does GC help, and how sure is that?"""

import os
import re
import signal
from pathlib import Path

from train import cli
from train.errors import UserError, short_repr
from train.runtime import huge_pages

USAGE = """\
usage: python -m train.study --config FILE [--workdir DIR] [--shard I/N] [--config.FIELD=VALUE ...]

Trains with and without gradient centralization as FILE describes, and writes results.jsonl,
report.md and report.html into DIR (default: runs/NAME for configs/NAME.py).
Run again with the same folder, it makes the runs that are missing, and the report.
A config file is Python, and is run.

  --shard I/N                            a share of the runs, I from 1 to N; a folder that holds
                                         the results of all N shares makes the one report
  --config.seeds="(0,1,2,3,4,5,6,7)"     more seeds; the runs that are there are kept
  --config.optimizers="('adam',)"        fewer optimizers
  --config.base.FIELD=VALUE              any field of the training itself
  train/studies/config.py has every field; config.variants compares nets or settings
  --config.base.report.tensorboard=true  curves for TensorBoard too

Exit status: 0 done; 2 a mistake, in one line on stderr; 75 stopped by SIGTERM or SIGINT, saved.
"""


def main(argv: list[str]) -> int:
    command = cli.parse(argv, USAGE, options=("shard",))
    if command.cluster:
        raise UserError("a study knows no --distributed; share it out with --shard I/N")
    from train.studies.config import validate_study

    validate_study(command.config)
    shard = parse_shard(command.options["shard"])
    use_cores(command.config.runs_at_once)
    # JAX and Flax take seconds to import, which a typing error need not cost.
    from train.runtime import cache
    from train.studies.study import study

    cache.enable_compilation_cache()
    study(command.config, Path(command.workdir), shard)
    return 0


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """`I/N` as numbers.

    Raises:
      UserError: it is none, or I is not from 1 to N.
    """
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"--shard={short_repr(text)} must be I/N with I from 1 to N, as 1/4")
    return int(found[1]), int(found[2])


def use_cores(count: int) -> None:
    """Lets a CPU be so many devices, one for each core if 0; other devices are as they are."""
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        import jax

        mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        jax.config.update("jax_num_cpu_devices", count or mine)


if __name__ == "__main__":
    huge_pages.enable_huge_pages()
    # Until the runs begin there is nothing to finish: SIGINT ends the process.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    cli.run(main)
