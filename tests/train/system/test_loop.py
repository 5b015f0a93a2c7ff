"""Complete runs of `python -m train` on the digits."""

import json
import signal

import pytest

from tests.support.processes import (
    SETTINGS,
    contents,
    metrics,
    run,
    start,
    summary,
    wait_for_exit,
    wait_until,
)
from tests.support.training import train_here

pytestmark = pytest.mark.slow

FLAGS = (*SETTINGS, "--config.checkpoint.every_steps=20")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the work folder of a finished run, which tests must not change, and its stdout."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    return workdir, run(workdir, *FLAGS)


def test_run_writes_all_files(finished):
    workdir, out = finished
    files = {".lock", "config.json", "metrics.jsonl", "checkpoints", "curves.png"}
    files |= {"curves.svg", "data.json", "signature.json", "summary.json"}
    assert {file.name for file in workdir.iterdir()} == files
    assert json.loads((workdir / "config.json").read_text())["gc.mode"] == "all"
    lines = [(line["step"], line["split"]) for line in metrics(workdir)]
    assert lines == [*((step, "train") for step in range(4, 81, 4)), (80, "test")]
    result = summary(workdir)
    assert result["steps"] == 80
    assert 0.5 < result["test_top1"] <= result["test_top5"] <= 1
    assert 0 < result["gc_removed_fraction"] < 1
    assert result["images_per_second"] > 0
    assert len(result["params_sha256"]) == 64
    assert result["test_top1"] * 360 == pytest.approx(round(result["test_top1"] * 360), abs=1e-9)
    assert (workdir / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert str(workdir / "summary.json") in out
    assert str(workdir / "curves.png") in out
    assert "\x1b" not in out, "escape sequences are for terminals only"


def test_finished_run_stays_unchanged(finished):
    workdir, _ = finished
    before = contents(workdir)
    assert "already finished" in run(workdir, *FLAGS)
    assert contents(workdir) == before


def test_other_config_is_rejected(finished):
    workdir, _ = finished
    before = contents(workdir)
    error = run(workdir, *FLAGS, "--config.seed=7", "--config.gc.mode=conv", status=2)
    assert "gc.mode: 'all' there, 'conv' now; seed: 0 there, 7 now" in error
    assert contents(workdir) == before


def test_foreign_folder_stays_unchanged(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert "not a work folder" in run(tmp_path, *FLAGS, status=2)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_second_run_is_rejected(finished, tmp_path):
    workdir, _ = finished
    first = start(tmp_path / "run", *FLAGS)
    assert wait_until((tmp_path / "run" / "config.json").exists, first)
    first.send_signal(signal.SIGSTOP)  # otherwise it could finish before the second run starts
    error = run(tmp_path / "run", *FLAGS, status=2)
    first.send_signal(signal.SIGCONT)
    assert error.startswith("error: another run is working in ")
    assert error.count("\n") == 1
    wait_for_exit(first)
    assert metrics(tmp_path / "run") == metrics(workdir)
    assert summary(tmp_path / "run")["params_sha256"] == summary(workdir)["params_sha256"]


def test_seed_determines_result(finished, tmp_path):
    workdir, _ = finished
    run(tmp_path / "same", *FLAGS, use_cache=False)
    run(tmp_path / "other", *FLAGS, "--config.seed=1")
    assert summary(tmp_path / "same")["params_sha256"] == summary(workdir)["params_sha256"]
    assert metrics(tmp_path / "same") == metrics(workdir)
    assert summary(tmp_path / "other")["params_sha256"] != summary(workdir)["params_sha256"]


@pytest.mark.parametrize("interval", [1, 7])
def test_log_interval_does_not_change_weights(finished, interval, tmp_path):
    workdir, _ = finished
    run(tmp_path / "run", *FLAGS, f"--config.log_every_steps={interval}")
    assert summary(tmp_path / "run")["params_sha256"] == summary(workdir)["params_sha256"]


def test_configs_differ_only_in_gc(tmp_path):
    few = ("--config.num_steps=4", "--config.log_every_steps=1")
    train_here(tmp_path / "gc", *few)
    train_here(tmp_path / "plain", *few, config="digits")
    with_gc, without_gc = metrics(tmp_path / "gc", "train"), metrics(tmp_path / "plain", "train")
    assert with_gc[0]["loss"] == without_gc[0]["loss"], "same weights, same batch, same crops"
    assert with_gc[-1]["loss"] != without_gc[-1]["loss"]
    assert {line["gc_removed_fraction"] for line in without_gc} == {0.0}
    assert all(0 < line["gc_removed_fraction"] < 1 for line in with_gc)
    for name in ("grad_norm", "update_norm", "param_norm"):
        assert all(line[name] > 0 for line in (*with_gc, *without_gc))
