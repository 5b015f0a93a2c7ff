"""`python -m train.study --config configs/study_digits.py`: does GC help, and how sure is that?"""

import importlib.util
import re
import signal

from train.runtime import huge_pages, utf8

if __name__ == "__main__":  # before the other imports, which would be made twice
    utf8.enable_utf8_mode()
    huge_pages.enable_huge_pages()

from train import cli
from train.errors import UserError, short_repr
from train.studies.design import Shard

ENGINES = {"ray": "ray", "slurm": "submitit"}
"""The package of each engine that sends runs to other machines."""

USAGE = """\
usage: python -m train.study --config FILE [--workdir DIR] [--engine=ENGINE] [--shard I/N]
                             [--config.FIELD=VALUE ...]

Trains with and without gradient centralization as FILE describes, and writes results.jsonl,
report.md and report.html to DIR (default: runs/NAME for configs/NAME.py). The same command again
makes the missing runs and the report. A config file is Python and is executed.

  --engine=ENGINE   local: make the runs in this process, the default; ray: send them to a Ray
                    cluster, that of RAY_ADDRESS or of this machine; slurm: send them as Slurm jobs
                    (docs/studies/clusters.md)
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
    command = cli.parse(argv, help_text, options=("engine", "shard"))
    if command.cluster:
        raise UserError("a study has no --distributed; see --engine and --shard I/N")
    from train.studies.config import validate_study

    validate_study(command.config)
    shard = parse_shard(command.options["shard"])
    engine = parse_engine(command.options["engine"], shard)
    print("loading JAX and Flax ...")
    # Imported here because JAX and Flax take seconds, which a typing error should not cost.
    import jax

    from train.runtime import cache, cores
    from train.studies.study import study

    if engine != "local":
        jax.config.update("jax_platforms", "cpu")  # this process needs no accelerator
    cores.use_cores(command.config.runs_at_once)
    cache.enable_compilation_cache()
    study(command.config, command.workdir, shard, engine)
    return 0


def parse_engine(name: str | None, shard: Shard | None) -> str:
    """Return the name of the engine.

    Raises:
      UserError: If there is no such engine, its package is missing, or it has no shards.
    """
    if name is None or name == "local":
        return "local"
    if name not in ENGINES:
        raise UserError(f"--engine={short_repr(name)} must be one of local, {', '.join(ENGINES)}")
    if shard:
        raise UserError(
            f"--shard divides runs between local engines; leave out --shard or --engine={name}"
        )
    if not importlib.util.find_spec(ENGINES[name]):
        raise UserError(
            f"--engine={name} needs {ENGINES[name]}; run python -m pip install -e '.[{name}]' in "
            "this repository"
        )
    return name


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


if __name__ == "__main__":
    # Until the runs begin, nothing needs saving: SIGINT ends the process.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    cli.run(main)
