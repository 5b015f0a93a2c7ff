"""Terminal output of a study: a bar and a table on a terminal, plain lines elsewhere."""

import datetime
import time
from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from train.output.files import Line
from train.runtime.terminal import make_console
from train.studies.design import Arm, Run, Setting
from train.studies.results import headline, is_diverged


class StudyProgress:
    """A context manager that shows the progress of a study.

    Attributes:
      finished_runs: The finished runs of this process's share, those of earlier starts included.
    """

    def __init__(self, total: int, finished: int, make_table: Callable[[], Table]):
        """Args: make_table: Returns the table of the results so far."""
        self._total, self.finished_runs = total, finished
        self._finished_before, self._start_time = finished, time.monotonic()
        self._make_table = make_table
        self._current_runs: list[Run] = []
        self._total_steps = 1
        self._console = make_console()
        self._is_terminal = self._console.is_terminal
        self._bar = Progress(
            TextColumn("{task.completed:.1f}/{task.total:.0f} runs"),
            BarColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.description}"),
        )
        self._task = self._bar.add_task("", total=total, completed=finished, left="")
        self._live = Live(console=self._console, refresh_per_second=4)

    def __enter__(self) -> "StudyProgress":
        if self._is_terminal:
            self._live.start()
            self.show_table()
        return self

    def __exit__(self, *_) -> None:
        if self._is_terminal:
            self._live.update(self._bar)
            self._live.stop()

    def compiling(self, run: Run) -> None:
        """Show that the program of a run is compiled."""
        text = f"{label(run.arm)}: compiling"
        self._describe(text)
        if not self._is_terminal:
            self._console.print(text, markup=False)

    def timing(self, arm: Arm) -> None:
        """Show that the steps of an arm are timed."""
        self._describe(f"{label(arm)}: timing")

    def start(self, runs: list[Run], total_steps: int) -> None:
        """Show that runs of `total_steps` steps start."""
        self._current_runs, self._total_steps = runs, total_steps
        purpose = "choosing a learning rate" if runs[0].kind == "tune" else "reported runs"
        self._describe(f"{label(runs[0].arm)}: {purpose}")

    def sent(self, num_tasks: int, num_runs: int) -> None:
        """Show that runs are sent to a cluster."""
        text = f"{num_runs} runs sent to the cluster in {num_tasks} tasks"
        self._describe(text)
        if not self._is_terminal:
            self._console.print(text, markup=False)

    def advance(self, step: int) -> None:
        """Show that the current runs have made `step` steps."""
        part = len(self._current_runs) * step / self._total_steps
        completed = self.finished_runs + part
        self._bar.update(self._task, completed=completed, left=self._time_left(part))

    def finish(self, lines: list[Line]) -> None:
        """Show the results of runs."""
        self.finished_runs += len(lines)
        self._bar.update(self._task, completed=self.finished_runs, left=self._time_left(0))
        if self._is_terminal:
            return
        for line in lines:
            split = "validation" if line["kind"] == "tune" else "test"
            arm = Arm(Setting(*(line[name] for name in Setting._fields)), line["gc"])
            self._console.print(
                f"{label(arm)}, rate {line['learning_rate']:g}, seed {line['seed']}: {split} "
                f"{headline(line).label} {_percent(line)}",
                markup=False,
            )
        self._console.print(
            f"{self.finished_runs}/{self._total} runs, {self._time_left(0)}", markup=False
        )

    def show_table(self) -> None:
        """Update the table of results."""
        if self._is_terminal:
            shown: RenderableType = Group(self._make_table(), self._bar)
            self._live.update(shown)

    def _describe(self, text: str) -> None:
        self._bar.update(self._task, description=text)

    def _time_left(self, part: float) -> str:
        """Return the time left, given the runs of this start and a part of the current ones."""
        finished = self.finished_runs + part - self._finished_before
        if finished <= 0:
            return ""
        seconds_per_run = (time.monotonic() - self._start_time) / finished
        seconds = seconds_per_run * (self._total - self.finished_runs - part)
        return f"{datetime.timedelta(seconds=round(seconds))} left"


def _percent(line: Line) -> str:
    return "diverged" if is_diverged(line) else f"{100 * line[headline(line).name]:.1f} %"


def label(arm: Arm) -> str:
    """Return an arm as a text, with the parts that most studies vary."""
    return f"{arm.setting.label} GC {arm.gc}"
