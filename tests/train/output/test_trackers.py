"""Weights & Biases and MLflow beside `metrics.jsonl`; norms of each weight; traces; pictures."""

import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

from tests.support import processes
from tests.support.training import train_here
from train import experiment
from train.__main__ import parse_steps
from train.config import default_config
from train.engine.state import named_leaves
from train.errors import UserError
from train.output import reporter, trackers
from train.runtime.profiler import Profiler
from train.tasks import class_plots
from train.tasks.per_class import Predictions, confusion_matrix, per_class_metrics

SETTINGS = ("--config.num_steps=6", "--config.log_every_steps=2")


class Recorder:
    """A tracker that keeps what it gets, and can fail."""

    def __init__(self, fails_at=None):
        self.lines, self.is_closed, self._fails_at = [], False, fails_at

    def add(self, step, group, metrics):
        if step == self._fails_at:
            raise ConnectionError("the server is gone")
        self.lines.append((step, group, dict(metrics)))

    def close(self):
        self.is_closed = True


@pytest.mark.slow
def test_trackers_get_every_line(tmp_path, monkeypatch, capsys):
    good, bad = Recorder(), Recorder(fails_at=4)
    monkeypatch.setattr(reporter, "open_trackers", lambda *_: [good, bad])
    train_here(tmp_path, *SETTINGS, "--config.report.per_layer=true")
    expected = [
        (line["step"], line["split"], {k: v for k, v in line.items() if k not in ("step", "split")})
        for line in processes.metrics(tmp_path)
    ]
    without_epoch = [(s, g, {k: v for k, v in m.items() if k != "epoch"}) for s, g, m in expected]
    assert good.lines == without_epoch
    assert (good.is_closed, bad.is_closed) == (True, False)
    assert [step for step, *_ in bad.lines] == [2]
    assert "Recorder failed and is left out from here: ConnectionError" in capsys.readouterr().out


@pytest.mark.slow
def test_weights_and_biases_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="is in the extra 'wandb'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = default_config()
    config.report.wandb = "digits"
    for _ in range(2):  # the second one resumes
        (tracker,) = trackers.open_trackers(config, tmp_path, 0, "a run")
        tracker.add(2, "train", {"loss": 1.5, "top1": None})
        tracker.close()
    run_id = json.loads((tmp_path / "wandb.json").read_text())["run_id"]
    files = list((tmp_path / "wandb").glob(f"offline-run-*/run-{run_id}.wandb"))
    assert files
    assert all(b"train/loss" in file.read_bytes() for file in files)
    assert b"train/top1" not in files[0].read_bytes()


@pytest.mark.slow
def test_mlflow_has_the_metrics(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="is in the extra 'mlflow'")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    config = default_config()
    config.report.mlflow = "digits"
    for step in (2, 4):  # the second one resumes
        (tracker,) = trackers.open_trackers(config, tmp_path, 0, "a run")
        tracker.add(step, "train", {"loss": step / 4, "conv1/kernel/grad_norm": 1.0, "top1": None})
        tracker.close()
    client = mlflow.MlflowClient()
    (experiment_id,) = [e.experiment_id for e in client.search_experiments() if e.name == "digits"]
    (run,) = client.search_runs([experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(2, 0.5), (4, 1.0)]
    assert run.data.params["optimizer.name"] == "momentum"
    assert set(run.data.metrics) == {"train/loss", "train/conv1/kernel/grad_norm"}
    assert run.info.run_name == "a run"


def test_failing_tracker_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="is in the extra 'mlflow'")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://x")
    config = default_config()
    config.report.mlflow = "digits"
    with pytest.raises(UserError, match=r"^MLflow cannot be used: .*; fix this, or leave out co"):
        trackers.open_trackers(config, tmp_path, 0, "a run")


@pytest.mark.slow
def test_norms_of_each_weight():
    config = default_config()
    config.report.per_layer = True
    config.data.batch_size = 16
    run = experiment.prepare(config, devices=jax.devices()[:1])
    params, _ = run.task.init(jax.random.key(0))
    grads = jax.tree.map(lambda leaf: leaf + 0.5, params)
    _, measures = jax.jit(run.optimizer.measure)(grads, run.optimizer.init(params), params)
    values = measures.by_name()
    paths = named_leaves(params)
    names = ("grad_norm", "update_norm", "param_norm", "gc_removed_fraction")
    assert set(values) == {*names, *(f"{path}/{name}" for path in paths for name in names)}
    for name in names[:3]:
        total = np.sqrt(sum(float(values[f"{path}/{name}"]) ** 2 for path in paths))
        np.testing.assert_allclose(total, values[name], rtol=1e-5)
    assert values["head/bias/gc_removed_fraction"] == 0
    assert 0 < values["conv1/kernel/gc_removed_fraction"] < 1


def test_profiler_ends_dispatches_at_its_edges():
    profiler = Profiler(None, steps=5, first_step=10)
    assert [profiler.max_dispatch_step(step, 100) for step in (10, 13, 14, 18)] == [13, 18, 18, 100]
    assert profiler.max_dispatch_step(10, 11) == 11
    none = Profiler(None, steps=0, first_step=0)
    assert none.max_dispatch_step(0, 100) == 100


@pytest.mark.slow
def test_profile_is_written_and_changes_nothing(tmp_path):
    train_here(tmp_path / "plain", *SETTINGS)
    processes.run(tmp_path / "traced", *SETTINGS, "--profile=2")
    assert list((tmp_path / "traced" / "profile").rglob("*.xplane.pb"))
    plain, traced = (processes.metrics(tmp_path / name, "train") for name in ("plain", "traced"))
    assert [line["loss"] for line in traced] == pytest.approx([line["loss"] for line in plain])


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "1e3", ""])
def test_wrong_number_of_steps(text):
    with pytest.raises(UserError, match=re.escape(f"--profile={text!r} must be a number of steps")):
        parse_steps("--profile", text)


def test_confusion_matrix_counts_pairs():
    logits = np.array([[2, 1, 0], [0, 3, 0], [0, 1, 0], [np.nan, 0, 0]], np.float32)
    matrix = confusion_matrix(Predictions(logits, np.array([0, 0, 1, 2], np.int32)))
    np.testing.assert_array_equal(matrix, [[1, 1, 0], [0, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize("num_classes", [2, 60])
def test_classes_are_drawn(num_classes, tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, num_classes, 100).astype(np.int32)
    predictions = Predictions(rng.normal(size=(100, num_classes)).astype(np.float32), labels)
    names = [f"class ${index}" for index in range(num_classes)]
    files = [tmp_path / "classes.png", tmp_path / "classes.svg"]
    rows = per_class_metrics(predictions, names)
    class_plots.draw(files, rows, confusion_matrix(predictions))
    with Image.open(files[0]) as picture:
        assert np.asarray(picture.convert("L")).std() > 10
    assert ("class $1" in files[1].read_text()) == (num_classes == 2)
