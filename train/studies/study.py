"""`study()`: the story of a study."""

import json
from pathlib import Path

from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from train.config import flatten
from train.runtime.preemption import Preemption
from train.studies import design, report, runner, tuning
from train.studies.config import validate_study
from train.studies.design import Setting
from train.studies.progress import StudyProgress
from train.studies.report import tables
from train.studies.report.summary import Summary, summarize
from train.studies.results import Results


def study(config: ConfigDict, folder: Path, shard: tuple[int, int] | None = None) -> Summary:
    """Makes the runs that are missing, then the report if all are there.

    Args:
      config: see `train.studies.config.default_study`.
      folder: the work folder.
      shard: I of N, from 1; None for all.

    Returns:
      What the results say, those of other shards included.

    Raises:
      UserError: something that a user can fix; no run that was made is lost.
      Preempted: SIGTERM or SIGINT; the runs that are done are saved.
    """
    validate_study(config)
    every = design.settings(config)
    share = design.share(config, shard or (1, 1))
    results = Results(folder, shard)
    # Not read where there is nothing to make: reports can be made where the data is not.
    nothing = _missing(config, results, share) == (0, 0)
    datasets = None if nothing else runner.load(config, results.lines.values())
    with results.held(json.loads(json.dumps(flatten(config)))):
        if datasets:
            _make_runs(config, folder, results, share, datasets)
        results.gather()
        summary = summarize(config, results.lines)
        runs, _ = _missing(config, results, every)
        if runs:
            print(f"this share is done; {runs} runs of other shares are missing in {folder}")
            return summary
        made = report.make(summary)
        files = report.write(made, folder)
    show(made)
    print("\n".join(f"report: {file}" for file in files))
    return summary


def show(made: report.Report) -> None:
    """Prints a report."""
    width = None if (console := Console(highlight=False)).is_terminal else 160
    console = Console(highlight=False, width=width)
    console.print(f"\n{made.title}\n", style="bold", markup=False)
    for table in made.tables:
        console.print(_for_terminal(table))
        console.print(table.note, markup=False, style="dim")
        console.print()
    for sentence in made.sentences:
        console.print(f"- {sentence}", markup=False)


def _make_runs(
    config: ConfigDict,
    folder: Path,
    results: Results,
    share: list[Setting],
    datasets: runner.Datasets,
) -> None:
    def table_so_far() -> Table:
        return _for_terminal(tables.comparisons(summarize(config, results.lines)))

    count = design.count(config, share)
    done = count - _missing(config, results, share)[0]
    seeds = ", ".join(map(str, config.seeds))
    print(f"{count} runs, of which {done} are made; seeds to report: {seeds}")
    with Preemption() as preemption, StudyProgress(count, done, table_so_far) as progress:
        runner.Runner(config, folder, datasets, results, progress, preemption).run(share)


def _missing(config: ConfigDict, results: Results, settings: list[Setting]) -> tuple[int, int]:
    """How many runs of some settings are to be made, and how many arms are to be timed."""
    runs, timings = 0, 0
    for setting in settings:
        first, *others = design.arms(config, setting)
        for arm in (first, *others):
            keys = {run.key for run in design.tuning_runs(config, arm)}
            rate = None if keys - results.lines.keys() else tuning.rate(config, arm, results.lines)
            if rate:
                keys |= {run.key for run in design.final_runs(config, arm, rate.value)}
            else:
                runs += len(config.seeds)
            runs += len(keys - results.lines.keys())
        timings += sum(design.timing_key(config, first, arm) not in results.lines for arm in others)
    return runs, timings


def _for_terminal(table: tables.Table) -> Table:
    shown = Table(title=table.title, title_justify="left")
    for column, head in enumerate(table.head):
        shown.add_column(head, justify="left" if column == 0 else "right")
    for row in table.rows:
        shown.add_row(*row)
    return shown
