"""`study()`: a study from its config to its report."""

import json
from pathlib import Path

from ml_collections import ConfigDict
from rich.table import Table
from rich.text import Text

from train.config import flatten
from train.runtime import distributed
from train.runtime.preemption import Preemption
from train.runtime.terminal import make_console
from train.studies import design, report, tuning
from train.studies.config import validate_study
from train.studies.design import Setting
from train.studies.progress import StudyProgress
from train.studies.report import tables
from train.studies.report.summary import Summary, summarize
from train.studies.results import Results
from train.studies.runner import Datasets, Runner, load_datasets

_WIDTH = 160  # columns of a table that is not printed to a terminal


def study(config: ConfigDict, folder: Path, shard: tuple[int, int] | None = None) -> Summary:
    """Make the missing runs of a study, then its report if all runs are there.

    Args:
      config: See `train.studies.config.default_study`.
      folder: The work folder.
      shard: (I, N) for the I-th of N shares, counted from 1; None for all runs.

    Returns:
      The summary of all results, those of other shards included.

    Raises:
      UserError: If the user must fix something; no finished run is lost.
      Preempted: After SIGTERM or SIGINT; all finished runs are saved.
    """
    validate_study(config)
    settings = design.shard_settings(config, shard or (1, 1))
    results = Results(folder, shard)
    # If nothing is missing, the data is not read, so that the report needs no data.
    is_complete = _count_missing(config, results, settings) == (0, 0)
    datasets = None
    if not is_complete:
        distributed.announce("loading the data set")
        datasets = load_datasets(config, results.lines.values())
    with results.acquire(json.loads(json.dumps(flatten(config)))):
        if datasets:
            _make_runs(config, folder, results, settings, datasets)
        results.gather()
        summary = summarize(config, results.lines)
        missing_runs, _ = _count_missing(config, results, design.settings(config))
        if missing_runs:
            print(
                f"this shard is finished; {missing_runs} runs of other shards are missing in "
                f"{folder}"
            )
            return summary
        built = report.build(summary)
        files = report.write(built, folder)
    print_report(built)
    print("\n".join(f"report: {file}" for file in files))
    return summary


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
    settings: list[Setting],
    datasets: Datasets,
) -> None:
    def table_so_far() -> Table:
        return _rich_table(tables.comparisons(summarize(config, results.lines)))

    total = design.count_runs(config, settings)
    finished = total - _count_missing(config, results, settings)[0]
    seeds = ", ".join(map(str, config.seeds))
    print(f"{total} runs, {finished} of them finished; reported seeds: {seeds}")
    with Preemption() as preemption, StudyProgress(total, finished, table_so_far) as progress:
        Runner(config, folder, datasets, results, progress, preemption).run(settings)


def _count_missing(
    config: ConfigDict, results: Results, settings: list[Setting]
) -> tuple[int, int]:
    """Return the number of missing runs of some settings, and the number of missing timings."""
    num_runs, num_timings = 0, 0
    for setting in settings:
        first, *others = design.arms(config, setting)
        for arm in (first, *others):
            keys = {run.key for run in design.tuning_runs(config, arm)}
            if keys <= results.lines.keys():
                rate = tuning.rate(config, arm, results.lines).value
                keys |= {run.key for run in design.final_runs(config, arm, rate)}
            else:  # the rate, and so the keys of the reported runs, are not known yet
                num_runs += len(config.seeds)
            num_runs += len(keys - results.lines.keys())
        timing_keys = {design.timing_key(config, first, arm) for arm in others}
        num_timings += len(timing_keys - results.lines.keys())
    return num_runs, num_timings


def _rich_table(table: tables.Table) -> Table:
    shown = Table(title=table.title, title_justify="left")
    for column, head in enumerate(table.head):
        shown.add_column(Text(head), justify="left" if column == 0 else "right")
    for row in table.rows:
        shown.add_row(*map(Text, row))  # not markup: a variant may be called [x]
    return shown
