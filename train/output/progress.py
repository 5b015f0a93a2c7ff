"""Terminal output: a progress bar on a terminal, plain lines elsewhere."""

import datetime
import time
from collections.abc import Mapping

from rich.progress import BarColumn, Progress, TextColumn

from train.engine.plan import Plan
from train.output.files import Line
from train.output.timer import Timer
from train.runtime import distributed
from train.runtime.terminal import make_console
from train.tasks.task import Headline

_SECONDS = 60.0  # between two lines about the training steps, where there is no bar


class ProgressBar:
    """A context manager that shows the progress of a run; only the first process prints."""

    def __init__(
        self, plan: Plan, first_step: int, timer: Timer, example_unit: str, headline: Headline
    ):
        """Open the bar.

        Args:
          plan: The plan of the run.
          first_step: The step at which the run starts or resumes.
          timer: Measures the speed.
          example_unit: The plural noun for the examples, such as "images".
          headline: The metric to show beside the loss.
        """
        self._plan = plan
        self._timer = timer
        self._example_unit = example_unit
        self._headline = headline
        self._train_loss = ""
        self._next_line = time.monotonic()
        self._console = make_console()
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]:.2f}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[metrics]}"),
            console=self._console,
            disable=not self._console.is_terminal or not distributed.is_first_process(),
        )
        self._task = self._bar.add_task(
            "",
            total=plan.total_steps,
            completed=first_step,
            epoch=plan.epoch(first_step),
            metrics="",
        )

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    def log(self, text: str) -> None:
        """Print a text above the bar."""
        if distributed.is_first_process():
            self._console.print(text, markup=False)

    def show_steps(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Show the state after a dispatch: beside the bar, or as a line about once a minute.

        Args:
          step: The number of completed steps.
          metrics: The means since the last training line; None if not finite.
        """
        text = f"{self._metrics(metrics)}  {self._throughput()}  {self._time_left(step)} left"
        is_due = time.monotonic() >= self._next_line
        if is_due:
            self._next_line = time.monotonic() + _SECONDS
            if not self._console.is_terminal:
                self.log(f"{self._step_and_epoch(step)}  train {text}")
        epoch = self._plan.epoch(step)
        self._bar.update(self._task, refresh=is_due, completed=step, epoch=epoch, metrics=text)

    def show_train(self, line: Line) -> None:
        """Remember the loss of a training line for the next test line."""
        self._train_loss = f"train loss {_number(line['loss'])}  "

    def show_test(self, line: Line) -> None:
        """Print the metrics of a test line."""
        step, attacked = line["step"], ""
        if (robust := f"robust_{self._headline.name}") in line:
            attacked = f"attacked {_percent(line[robust])}  "
        self.log(
            f"{self._step_and_epoch(step)}  {self._train_loss}test {self._metrics(line)}  "
            f"{attacked}{self._throughput()}  {self._time_left(step)} left"
        )

    def _metrics(self, values: Mapping[str, float | None]) -> str:
        headline = self._headline
        loss = f"loss {_number(values['loss'])}"
        if headline.name not in values:  # a score, which training lines do not have
            return loss
        return f"{loss}  {headline.label} {_percent(values[headline.name])}"

    def _step_and_epoch(self, step: int) -> str:
        return f"step {step:,}/{self._plan.total_steps:,}  epoch {self._plan.epoch(step):.2f}"

    def _throughput(self) -> str:
        return f"{self._timer.examples_per_second():,.0f} {self._example_unit}/s"

    def _time_left(self, step: int) -> datetime.timedelta:
        step_seconds = self._timer.train_seconds_so_far() / max(step, 1)
        return datetime.timedelta(seconds=round(step_seconds * (self._plan.total_steps - step)))


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
