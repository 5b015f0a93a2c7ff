"""What a person watches: a progress bar on a terminal, plain lines elsewhere."""

import datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from train.engine.plan import Plan
from train.output.metrics import Line
from train.output.timer import Timer
from train.runtime import distributed


class ProgressBar:
    """A context manager that shows how far a run is."""

    def __init__(self, plan: Plan, first_step: int, timer: Timer, example_unit: str):
        """Args: example_unit: what the examples are called."""
        self._plan = plan
        self._clock = timer
        self._noun = example_unit
        self._train_loss = ""
        self._console = Console(highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]:.2f}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            disable=not self._console.is_terminal or not distributed.is_first_process(),
        )
        self._task = self._bar.add_task(
            "",
            total=plan.total_steps,
            completed=first_step,
            epoch=plan.epoch(first_step),
            figures="",
        )

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        if distributed.is_first_process():
            self._console.print(text, markup=False)

    def advance(self, step: int) -> None:
        """Moves the bar."""
        self._bar.update(self._task, completed=step, epoch=self._plan.epoch(step))

    def show_train(self, line: Line) -> None:
        """Writes figures beside the bar."""
        left = self._seconds_left(line["step"])
        figures = (
            f"loss {_number(line['loss'])}  top-1 {_percent(line['top1'])}  "
            f"{self._speed()}  {left} left"
        )
        self._bar.update(self._task, figures=figures)
        self._train_loss = f"train loss {_number(line['loss'])}  "

    def show_test(self, line: Line) -> None:
        """Prints a line that stays."""
        step, attacked = line["step"], ""
        if "robust_top1" in line:
            attacked = f"attacked {_percent(line['robust_top1'])}  "
        self.say(
            f"step {step:,}/{self._plan.total_steps:,}  epoch {line['epoch']:.2f}  "
            f"{self._train_loss}test loss {_number(line['loss'])}  top-1 {_percent(line['top1'])}  "
            f"{attacked}{self._speed()}  {self._seconds_left(step)} left"
        )

    def _speed(self) -> str:
        return f"{self._clock.images_per_second():,.0f} {self._noun}/s"

    def _seconds_left(self, step: int) -> datetime.timedelta:
        rate = self._clock.train_seconds / max(step, 1)
        return datetime.timedelta(seconds=round(rate * (self._plan.total_steps - step)))


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
