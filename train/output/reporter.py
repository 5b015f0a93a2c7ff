"""The output of a run: progress, `metrics.jsonl`, TensorBoard, curves and summary."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from train import tasks
from train.data.inputs import example_unit
from train.engine.plan import Plan
from train.engine.state import TrainState
from train.errors import UserError, describe_error
from train.output.files import Line, explain_write_errors, write_json
from train.output.metrics import MetricsFile, finite_or_none
from train.output.progress import ProgressBar
from train.output.summary import make_summary
from train.output.timer import Timer
from train.output.trackers import Tracker, open_trackers
from train.output.workdir import WorkDir
from train.runtime import distributed


class Reporter:
    """Writes the output of a run; a context manager that shows a progress bar inside.

    In a run of several processes, only the first one writes.
    """

    def __init__(
        self,
        work: WorkDir,
        config: ConfigDict,
        plan: Plan,
        timer: Timer,
        first_step: int,
        title: str,
    ):
        """Open the output of a run that starts or resumes at `first_step`.

        Raises:
          UserError: If a tracker of `config.report` cannot be used.
        """
        is_first = distributed.is_first_process()
        self._work = work
        self._plan = plan
        self._timer = timer
        task = self._task = tasks.task_class(config)
        self._metrics = MetricsFile(work.metrics, task.metrics, first_step, writes=is_first)
        self._progress = ProgressBar(plan, first_step, timer, example_unit(config), task.headline)
        self._trackers: list[Tracker] = []
        if is_first:
            self._trackers = open_trackers(config, work.folder, first_step, title)
        self._title = title

    def __enter__(self) -> "Reporter":
        self._progress.__enter__()
        return self

    def __exit__(self, *args) -> None:
        self._progress.__exit__(*args)
        self._use_trackers(lambda tracker: tracker.close())

    def log(self, text: str) -> None:
        """Print a text to the terminal."""
        self._progress.log(text)

    def show_steps(self, step: int, metrics: dict[str, float]) -> None:
        """Show the metrics after a dispatch on the terminal only."""
        finite = {name: finite_or_none(value) for name, value in metrics.items()}
        self._progress.show_steps(step, finite)

    def log_train(self, step: int, **metrics: float) -> None:
        """Log the mean metrics of the training steps since the last such line."""
        line = self._append(step, "train", metrics)
        self._progress.show_train(line)

    def has_eval(self, step: int) -> bool:
        """Return whether the test metrics after `step` steps are already logged."""
        return any(line["step"] == step for line in self._metrics.of_split("test"))

    def log_eval(self, step: int, **metrics: float) -> None:
        """Log the metrics of the whole test split after `step` steps."""
        line = self._append(step, "test", metrics)
        self._progress.show_test(line)

    def finish(self, state: TrainState, classes: dict[str, Any]) -> dict[str, Any]:
        """Draw the curves, then write and return the summary.

        Args:
          state: The last state.
          classes: The field of the summary with the metrics of each class, if it has one.
        """
        summary = make_summary(self._metrics, self._task, state, self._plan, self._timer)
        summary |= self._work.init_source() | classes
        if distributed.is_first_process():
            self._draw_curves()
            write_json(self._work.summary, summary)
        return summary

    def draw_outputs(self, draw: Callable[[Path], None]) -> None:
        """Draw the outputs for the test split, in the first process."""
        if distributed.is_first_process():
            self._draw(self._work.folder / f"{self._task.picture}.png", draw)

    def _draw_curves(self) -> None:
        from train.output.curves import draw_curves  # imports Matplotlib, so that starts are fast

        lines, title, headline = self._metrics.lines, self._title, self._task.headline
        self._draw(
            self._work.curves,
            lambda file: draw_curves([file, file.with_suffix(".svg")], lines, title, headline),
        )

    def _draw(self, file: Path, draw: Callable[[Path], None]) -> None:
        """Draw a picture; go on if that fails."""
        try:
            with explain_write_errors(file):
                draw(file)
        except UserError:
            raise  # no space or permission, which the summary needs too
        except Exception as error:  # Matplotlib's; a finished run must not end without a summary
            self.log(f"cannot draw {file}: {describe_error(error)}")

    def _append(self, step: int, split: str, metrics: dict[str, float]) -> Line:
        line = self._metrics.append(step, split, epoch=self._plan.epoch(step), **metrics)
        logged = {name: line[name] for name in metrics}
        self._use_trackers(lambda tracker: tracker.add(step, split, logged))
        return line

    def _use_trackers(self, use: Callable[[Tracker], None]) -> None:
        """Use each tracker; leave one out from then on if it fails, because the run must go on."""
        for tracker in list(self._trackers):
            try:
                use(tracker)
            except Exception as error:  # libraries raise many types
                self._trackers.remove(tracker)
                name = type(tracker).__name__
                self.log(f"{name} failed and is left out from here: {describe_error(error)}")
