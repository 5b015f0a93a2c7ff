"""What a run tells: progress, metrics.jsonl, curves.png, summary.json."""

from typing import Any

import jax
import numpy as np

from train.engine.optimizers import eval_params
from train.engine.plan import Plan
from train.engine.state import TrainState, sha256
from train.output import curves
from train.output.metrics import Line, MetricsFile
from train.output.progress import ProgressBar
from train.output.tensorboard import Scalars
from train.output.timer import Timer
from train.output.workdir import WorkDir, write_json, writing
from train.runtime import distributed


class Report:
    """A context manager: the progress bar lives inside it."""

    def __init__(
        self,
        work: WorkDir,
        plan: Plan,
        timer: Timer,
        first_step: int,
        tensorboard: bool = False,
        example_unit: str = "images",
    ):
        """Args: example_unit: what the examples are called."""
        self._work = work
        self._plan = plan
        self._clock = timer
        self._metrics = MetricsFile(work.metrics, first_step, writes=distributed.is_first_process())
        self._progress = ProgressBar(plan, first_step, timer, example_unit)
        writes_scalars = tensorboard and distributed.is_first_process()
        self._scalars = Scalars(work.tensorboard, first_step) if writes_scalars else None

    def __enter__(self) -> "Report":
        self._progress.__enter__()
        return self

    def __exit__(self, *args) -> None:
        self._progress.__exit__(*args)
        if self._scalars:
            self._scalars.__exit__(*args)

    def say(self, text: str) -> None:
        """A line for the person who watches, and for no file."""
        self._progress.say(text)

    def train(self, step: int, **figures: float) -> None:
        """StepMetrics of the training steps since the last such line."""
        line = self._append(step, "train", figures)
        self._progress.show_train(line)

    def advance(self, step: int) -> None:
        """Moves the progress bar."""
        self._progress.advance(step)

    def tested(self, step: int) -> bool:
        """Whether the test figures after `step` steps are already written."""
        return any(line["step"] == step for line in self._metrics.of("test"))

    def test(self, step: int, **figures: float) -> None:
        """StepMetrics of the whole test split after `step` steps."""
        line = self._append(step, "test", figures)
        self._progress.show_test(line)

    def _append(self, step: int, split: str, figures: dict[str, float]) -> Line:
        line = self._metrics.append(step, split, epoch=self._plan.epoch(step), **figures)
        if self._scalars:
            self._scalars.add(step, split, {name: line[name] for name in figures})
        return line

    def finish(
        self, state: TrainState, title: str, per_class: list[dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        """Draws the curves and, last of all, writes the summary.

        Args:
          state: the last.
          title: of the curves.
          per_class: figures of each class, if they are to be in the summary.
        """
        train_lines, test_line = self._metrics.of("train"), self._metrics.of("test")[-1]
        measured = (line["gc_removed_fraction"] for line in train_lines)
        removed = [value for value in measured if value is not None]
        robust = {
            f"test_{name}": value for name, value in test_line.items() if name.startswith("robust_")
        }
        self._clock.tick()
        summary = {
            "test_top1": test_line["top1"],
            "test_top5": test_line["top5"],
            "test_loss": test_line["loss"],
            **robust,
            "train_loss": train_lines[-1]["loss"] if train_lines else None,
            "steps": int(state.step),
            "epochs": self._plan.epoch(int(state.step)),
            "images_per_second": self._clock.images_per_second(),
            "train_seconds": self._clock.train_seconds,
            "wall_seconds": self._clock.wall_seconds,
            "gc_removed_fraction": float(np.mean(removed)) if removed else None,
            "num_params": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
            "params_sha256": sha256(eval_params(state.opt_state, state.params)),
            "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
            "jax": jax.__version__,
            **self._work.began_from(),
        }
        if per_class is not None:
            summary["test_per_class"] = per_class
        if distributed.is_first_process():
            with writing(self._work.curves):
                curves.draw_curves(self._work.curves, self._metrics.lines, title)
            write_json(self._work.summary, summary)
        return summary
