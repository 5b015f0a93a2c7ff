"""`study()`: the story of a study."""

import json
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from train.config import flatten
from train.preemption import Preemption
from train.studies import grid, report, tables
from train.studies import config as configs
from train.studies.grid import Family
from train.studies.progress import StudyProgress
from train.studies.results import Results
from train.studies.runner import Runner
from train.studies.summary import Summary, summarize


def study(config: ConfigDict, folder: Path, shard: tuple[int, int] | None = None) -> Summary:
    """Makes the runs that are missing, then the report if all are there.

    Args:
      config: see `train.studies.config.default`.
      folder: the work folder.
      shard: I of N, from 1; None for all.

    Returns:
      What the results say, those of other shards included.

    Raises:
      UserError: something that a person can mend; no run that was made is lost.
      Preempted: SIGTERM or SIGINT; the runs that are done are saved.
    """
    configs.validate(config)
    share = grid.share(config, shard or (1, 1))
    results = Results(folder, shard)
    with results.held(json.loads(json.dumps(flatten(config)))):
        _make_runs(config, results, share)
        results.gather()
        summary = summarize(config, results.lines)
        missing = grid.count(config, grid.families(config)) - runs_there(
            config, results, grid.families(config)
        )
        if missing:
            print(f"this share is done; {missing} runs of other shares are missing in {folder}")
            return summary
        made = report.make(summary)
        files = report.write(made, folder)
    show(made)
    print("\n".join(f"report: {file}" for file in files))
    return summary


def runs_there(config: ConfigDict, results: Results, families: Sequence[Family]) -> int:
    """How many runs of some families are made."""
    summary = summarize(config, results.lines)
    finished = {row.arm: row for row in summary.arms}
    made = 0
    for family in families:
        for arm in grid.arms(config, family):
            tuning = [run.key in results.lines for run in grid.tuning_runs(config, arm)]
            made += sum(tuning)
            if arm in finished:
                made += len(config.seeds)
    return made


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


def _make_runs(config: ConfigDict, results: Results, share: list[Family]) -> None:
    def table_so_far() -> Table:
        return _for_terminal(tables.comparisons(summarize(config, results.lines)))

    done = runs_there(config, results, share)
    with (
        Preemption() as preemption,
        StudyProgress(grid.count(config, share), done, table_so_far) as progress,
    ):
        Runner(config, results, progress, preemption).run(share)


def _for_terminal(table: tables.Table) -> Table:
    shown = Table(title=table.title, title_justify="left")
    for column, head in enumerate(table.head):
        shown.add_column(head, justify="left" if column == 0 else "right")
    for row in table.rows:
        shown.add_row(*row)
    return shown
