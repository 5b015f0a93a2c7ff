"""What a person watches of a study: runs, time left, the table so far."""

import datetime
import time
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from train.studies.design import Arm, Run
from train.studies.results import Line


class StudyProgress:
    """A context manager: a bar and a table on a terminal, plain lines elsewhere.

    Attributes:
      runs_done: of the share that this process makes, earlier ones included.
    """

    def __init__(self, total: int, done: int, table: Callable[[], Table]):
        """Args: table: makes the table of what is known so far."""
        self._total, self.runs_done = total, done
        self._first, self._began = done, time.monotonic()
        self._table = table
        self._running: list[Run] = []
        self._steps = 1
        self._console = Console(highlight=False, soft_wrap=True)
        self._terminal = self._console.is_terminal
        self._bar = Progress(
            TextColumn("{task.completed:.1f}/{task.total:.0f} runs"),
            BarColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.description}"),
        )
        self._task = self._bar.add_task("", total=total, completed=done, left="")
        self._live = Live(console=self._console, refresh_per_second=4)

    def __enter__(self) -> "StudyProgress":
        if self._terminal:
            self._live.start()
            self.table()
        return self

    def __exit__(self, *_) -> None:
        if self._terminal:
            self._live.update(self._bar)
            self._live.stop()

    def compiling(self, run: Run) -> None:
        self._describe(f"{name(run.arm)}: compiling")
        if not self._terminal:
            self._console.print(f"{name(run.arm)}: compiling", markup=False)

    def timing(self, arm: Arm) -> None:
        self._describe(f"{name(arm)}: timing")

    def begin(self, runs: list[Run], steps: int) -> None:
        """These runs begin, each of so many steps."""
        self._running, self._steps = runs, steps
        what = "choosing a rate" if runs[0].kind == "tune" else "reported runs"
        self._describe(f"{name(runs[0].arm)}: {what}")

    def advance(self, steps: int) -> None:
        """The runs that were begun have made so many steps."""
        part = len(self._running) * steps / self._steps
        self._bar.update(self._task, completed=self.runs_done + part, left=self._left(part))

    def done(self, lines: list[Line]) -> None:
        """The runs that were begun are done."""
        self.runs_done += len(lines)
        self._bar.update(self._task, completed=self.runs_done, left=self._left(0))
        if self._terminal:
            return
        for line in lines:
            split = "validation" if line["kind"] == "tune" else "test"
            self._console.print(
                f"{name(self._running[0].arm)}, rate {line['learning_rate']:g}, seed "
                f"{line['seed']}: {split} top-1 {100 * line['top1']:.1f} %",
                markup=False,
            )
        self._console.print(f"{self.runs_done}/{self._total} runs, {self._left(0)}", markup=False)

    def table(self) -> None:
        """Shows the table anew."""
        if self._terminal:
            shown: RenderableType = Group(self._table(), self._bar)
            self._live.update(shown)

    def _describe(self, text: str) -> None:
        self._bar.update(self._task, description=text)

    def _left(self, part: float) -> str:
        made = self.runs_done + part - self._first
        if made <= 0:
            return ""
        seconds = (time.monotonic() - self._began) / made * (self._total - self.runs_done - part)
        return f"{datetime.timedelta(seconds=round(seconds))} left"


def name(arm: Arm) -> str:
    """The arm as a person reads it, without what most studies do not vary."""
    return f"{arm.setting.named} GC {arm.gc}"
