"""`study()`: a study from its config to its report."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict
from rich.table import Table
from rich.text import Text

from train.config import flatten
from train.errors import Preempted
from train.output.files import Line
from train.runtime import distributed
from train.runtime.preemption import Preemption
from train.runtime.terminal import make_console
from train.studies import design, report, tuning
from train.studies.config import validate_study
from train.studies.datasets import Datasets, load_datasets
from train.studies.design import WHOLE, Run, Shard
from train.studies.engines.cluster import Backend, ClusterEngine
from train.studies.engines.engine import Engine
from train.studies.engines.local import LocalEngine
from train.studies.progress import StudyProgress
from train.studies.report import tables
from train.studies.report.summary import Summary, summarize
from train.studies.results import Results
from train.studies.runner import Runner

_WIDTH = 160  # columns of a table that is not printed to a terminal


class Missing(NamedTuple):
    """The numbers of results that a study or a share of it lacks.

    Attributes:
      tuning: Runs that choose a learning rate.
      final: Reported runs.
      blocked: Those reported runs whose learning rate is not chosen yet, because of missing
        tuning runs.
      timings: Timings of two arms.
    """

    tuning: int
    final: int
    blocked: int
    timings: int

    def __str__(self) -> str:
        counts = {
            "tuning run": self.tuning,
            "reported run": self.final,
            "timing": self.timings,
        }
        return ", ".join(f"{n} {name}{'s' * (n > 1)}" for name, n in counts.items() if n)


def study(
    config: ConfigDict, folder: Path, shard: Shard | None = None, engine: str = "local"
) -> Summary:
    """Make the missing runs of a study, then its report if all results are there.

    Args:
      config: See `train.studies.config.default_study`.
      folder: The work folder.
      shard: The share of the runs to make; None for all runs.
      engine: Where the runs are made: "local", "ray" or "slurm".

    Returns:
      The summary of all results, those of other shards included.

    Raises:
      UserError: If the user must fix something; no finished run is lost.
      Preempted: After SIGTERM or SIGINT, or if runs of this share need a learning rate that missing
        runs of other shards choose; all finished runs are saved.
    """
    validate_study(config)
    share = shard or WHOLE
    results = Results(folder, shard)
    # If nothing can be made, the data is not read, so that the report needs no data.
    missing = count_missing(config, results.lines, share)
    datasets = None
    if missing.tuning or missing.timings or missing.final > missing.blocked:
        distributed.announce("loading the data set")
        datasets = load_datasets(config, results.lines.values())
    fingerprints = datasets and datasets.final.fingerprints()
    with results.acquire(json.loads(json.dumps(flatten(config))), fingerprints):
        if datasets:
            _make_runs(config, folder, results, datasets, share, engine)
        results.gather()
        summary = summarize(config, results.lines)
        missing = count_missing(config, results.lines)
        if any(missing):
            _explain_missing(missing, count_missing(config, results.lines, share), folder, share)
            return summary
        built = report.build(summary)
        files = report.write(built, folder)
    print_report(built)
    print("\n".join(f"report: {file}" for file in files))
    return summary


def count_missing(config: ConfigDict, lines: Mapping[str, Line], shard: Shard = WHOLE) -> Missing:
    """Return how many results of a share are not among the lines."""
    tuning_runs, final, blocked, timings = 0, 0, 0, 0
    for setting in design.settings(config):
        for arm in design.arms(config, setting):
            tuning_runs += _count(design.tuning_runs(config, arm, shard), lines)
            if rate := tuning.rate(config, arm, lines):
                final += _count(design.final_runs(config, arm, rate.value, shard), lines)
            else:  # the rate, and so the keys of the reported runs, are not known yet
                blocked += len(design.final_seeds(config, setting, shard))
        timed = design.timed_arms(config, setting, shard)
        timings += sum(design.timing_key(config, arm) not in lines for arm in timed)
    return Missing(tuning_runs, final + blocked, blocked, timings)


def _count(runs: list[Run], lines: Mapping[str, Line]) -> int:
    return sum(run.key not in lines for run in runs)


def _explain_missing(missing: Missing, own: Missing, folder: Path, shard: Shard) -> None:
    """Say what a study lacks after this process made what it could."""
    name = f"shard {shard.number}/{shard.total}"
    if any(own):
        raise Preempted(
            f"{name} lacks {own}, whose learning rates depend on other shards; the study lacks "
            f"{missing} in {folder}; wait for the tuning runs of the other shards"
        )
    print(f"{name} is finished; no report yet: the study lacks {missing} in {folder}")


def print_report(built: report.Report) -> None:
    """Print a report to the terminal."""
    console = make_console(soft_wrap=False, width=_WIDTH)
    console.print(f"\n{built.title}\n", style="bold", markup=False)
    for table in built.tables:
        console.print(_rich_table(table))
        console.print(table.note, markup=False, style="dim")
        console.print()
    for conclusion in built.conclusions:
        console.print(f"- {conclusion}", markup=False)


def _make_runs(
    config: ConfigDict,
    folder: Path,
    results: Results,
    datasets: Datasets,
    shard: Shard,
    engine_name: str,
) -> None:
    def table_so_far() -> Table:
        return _rich_table(tables.comparisons(summarize(config, results.lines)))

    total = design.count_runs(config, shard)
    missing = count_missing(config, results.lines, shard)
    finished = total - missing.tuning - missing.final
    seeds = ", ".join(map(str, config.seeds))
    print(f"{total} runs, {finished} of them finished; reported seeds: {seeds}")
    progress = StudyProgress(total, finished, table_so_far)
    preemption = Preemption()
    with (
        _start_engine(engine_name, config, folder, datasets, progress, preemption, shard) as engine,
        preemption,  # after the engine, because Ray installs a handler of SIGTERM too
        progress,
    ):
        Runner(config, folder, results, progress, engine, shard).run()


@contextlib.contextmanager
def _start_engine(
    name: str,
    config: ConfigDict,
    folder: Path,
    datasets: Datasets,
    progress: StudyProgress,
    preemption: Preemption,
    shard: Shard,
) -> Iterator[Engine]:
    if name == "local":
        yield LocalEngine(config, datasets, progress, preemption, shard)
        return
    with contextlib.ExitStack() as stack:
        backend: Backend
        if name == "ray":  # imported here because they are not installed everywhere
            from train.studies.engines import ray_tasks

            backend = stack.enter_context(ray_tasks.connect(config))
        else:
            from train.studies.engines import slurm_jobs

            backend = slurm_jobs.SlurmJobs(config, folder)
        yield ClusterEngine(config, datasets, progress, preemption, backend)


def _rich_table(table: tables.Table) -> Table:
    shown = Table(title=table.title, title_justify="left")
    for column, head in enumerate(table.head):
        shown.add_column(Text(head), justify="left" if column == 0 else "right")
    for row in table.rows:
        shown.add_row(*map(Text, row))  # not markup: a variant may be called [x]
    return shown
