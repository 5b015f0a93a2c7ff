"""Where the lines of `metrics.jsonl` go besides: TensorBoard, Weights & Biases, MLflow.

Each is a library of its own that runs only if the config asks for it. Their settings, such as the
server and the key, are those of the library: `WANDB_MODE=offline`, `MLFLOW_TRACKING_URI`.
"""

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ml_collections import ConfigDict

from train.config import flatten
from train.errors import UserError, describe_error
from train.output.files import read_json, write_json
from train.output.tensorboard import Scalars


class Tracker(Protocol):
    """Takes the metrics of a run while it trains."""

    def add(self, step: int, group: str, metrics: Mapping[str, Any]) -> None:
        """Log metrics as `group/name`; None, which stands for a non-finite value, is skipped."""

    def close(self) -> None:
        """Write what is not yet written."""


def open_trackers(config: ConfigDict, folder: Path, first_step: int, title: str) -> list[Tracker]:
    """Open the trackers that `config.report` names.

    Args:
      config: The config of the run.
      folder: The work folder, which holds their local files and the names of their runs.
      first_step: The step at which the run starts or resumes.
      title: The name of the run for people.

    Raises:
      UserError: If one of them fails, for example because its server does not answer.
    """
    report = config.report
    trackers: list[Tracker] = []
    if report.tensorboard:
        trackers.append(Scalars(folder / "tensorboard", first_step))
    for kind, name in ((WeightsAndBiases, report.wandb), (MLflow, report.mlflow)):
        if name:
            try:
                trackers.append(kind(name, config, folder, title))
            except Exception as error:  # libraries raise many types
                raise UserError(
                    f"{kind.__name__} cannot be used: {describe_error(error)}; fix this, or leave "
                    f"out config.report.{kind.field}"
                ) from error
    return trackers


class WeightsAndBiases:
    """A run of Weights & Biases; the same one when the run resumes."""

    field = "wandb"

    def __init__(self, project: str, config: ConfigDict, folder: Path, title: str):
        import wandb

        run_id = _saved(folder, self.field, lambda: uuid.uuid4().hex)
        self._run = wandb.init(
            project=project,
            dir=str(folder),
            id=run_id,
            resume="allow",
            name=title,
            config=flatten(config),
            settings=wandb.Settings(silent=True, console="off"),
        )

    def add(self, step: int, group: str, metrics: Mapping[str, Any]) -> None:
        """Log metrics; see `Tracker`."""
        self._run.log(_named(group, metrics), step=step)

    def close(self) -> None:
        """Write what is not yet written."""
        self._run.finish()


class MLflow:
    """A run of MLflow; the same one when the run resumes."""

    field = "mlflow"

    def __init__(self, experiment: str, config: ConfigDict, folder: Path, title: str):
        from mlflow import MlflowClient

        self._client = client = MlflowClient()
        found = client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else client.create_experiment(experiment)
        is_new = []

        def create() -> str:
            is_new.append(True)
            return client.create_run(experiment_id, run_name=title).info.run_id

        self._run_id = _saved(folder, self.field, create)
        if is_new:
            for name, value in flatten(config).items():
                client.log_param(self._run_id, name, value)

    def add(self, step: int, group: str, metrics: Mapping[str, Any]) -> None:
        """Log metrics; see `Tracker`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        values = _named(group, metrics).items()
        self._client.log_batch(
            self._run_id, [Metric(name, value, now, step) for name, value in values]
        )

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run_id)


def _saved(folder: Path, name: str, create: Any) -> str:
    """Return the name of a run that is stored in the work folder, or store a new one."""
    file = folder / f"{name}.json"
    if file.exists():
        return read_json(file)["run_id"]
    run_id = create()
    write_json(file, {"run_id": run_id})
    return run_id


def _named(group: str, metrics: Mapping[str, Any]) -> dict[str, float]:
    return {f"{group}/{name}": value for name, value in metrics.items() if value is not None}
