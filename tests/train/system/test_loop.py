"""Whole runs of the real command, on the digits."""

import json
import signal

import numpy as np
import pytest

from tests.support.processes import (
    contents,
    end_of,
    metrics,
    run,
    start,
    summary,
    wait_until,
)

SMALL = (
    "--config.num_steps=60",
    "--config.log_every_steps=20",
    "--config.checkpoint.every_steps=20",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An uninterrupted run, which tests may read and must not change."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    return workdir, run(workdir, *SMALL)


def test_a_run_writes_all_that_it_promises(finished):
    workdir, out = finished
    promised = {"config.json", "metrics.jsonl", "checkpoints", "curves.png", "summary.json"}
    assert {file.name for file in workdir.iterdir()} == promised
    assert json.loads((workdir / "config.json").read_text())["gc.mode"] == "all"
    assert [(line["step"], line["split"]) for line in metrics(workdir)] == [
        (20, "train"),
        (40, "train"),
        (60, "train"),
        (60, "test"),
    ]
    result = summary(workdir)
    assert result["steps"] == 60
    assert 0.5 < result["test_top1"] <= result["test_top5"] <= 1
    assert 0 < result["gc_removed_fraction"] < 1
    assert result["images_per_second"] > 0
    assert len(result["params_sha256"]) == 64
    assert result["test_top1"] * 360 == pytest.approx(round(result["test_top1"] * 360), abs=1e-9)
    assert (workdir / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert str(workdir / "summary.json") in out
    assert str(workdir / "curves.png") in out
    assert "\x1b" not in out, "a pipe is no terminal: plain lines"


def test_a_finished_run_says_so_and_changes_nothing(finished):
    workdir, _ = finished
    before = contents(workdir)
    assert "already finished" in run(workdir, *SMALL)
    assert contents(workdir) == before


def test_another_configuration_is_refused_and_shown(finished):
    workdir, _ = finished
    before = contents(workdir)
    error = run(workdir, *SMALL, "--config.seed=7", "--config.gc.mode=conv", status=2)
    assert "gc.mode: 'all' there, 'conv' now; seed: 0 there, 7 now" in error
    assert contents(workdir) == before


def test_a_folder_of_someone_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert "not a work folder" in run(tmp_path, *SMALL, status=2)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_second_run_in_the_same_folder_is_refused_and_the_first_unharmed(finished, tmp_path):
    workdir, _ = finished
    first = start(tmp_path / "run", *SMALL)
    assert wait_until((tmp_path / "run" / "config.json").exists, first)
    first.send_signal(signal.SIGSTOP)  # else it might be over before the second is there
    error = run(tmp_path / "run", *SMALL, status=2)
    first.send_signal(signal.SIGCONT)
    assert error.startswith("error: another run is working in ")
    assert error.count("\n") == 1
    end_of(first)
    assert metrics(tmp_path / "run") == metrics(workdir)
    assert summary(tmp_path / "run")["params_sha256"] == summary(workdir)["params_sha256"]


def test_the_seed_decides_the_result(finished, tmp_path):
    workdir, _ = finished
    run(tmp_path / "same", *SMALL, compile_anew=True)
    run(tmp_path / "other", *SMALL, "--config.seed=1")
    assert summary(tmp_path / "same")["params_sha256"] == summary(workdir)["params_sha256"]
    assert metrics(tmp_path / "same") == metrics(workdir)
    assert summary(tmp_path / "other")["params_sha256"] != summary(workdir)["params_sha256"]


def test_one_device_and_eight_give_the_same_losses(tmp_path):
    twenty = ("--config.num_steps=20", "--config.log_every_steps=1")
    for devices in (1, 8):
        run(tmp_path / str(devices), *twenty, devices=devices)
    one, eight = (
        [line["loss"] for line in metrics(tmp_path / str(devices), "train")] for devices in (1, 8)
    )
    assert len(one) == 20
    np.testing.assert_allclose(one, eight, atol=1e-4)


def test_gc_is_the_only_difference_between_the_two_configs(tmp_path):
    few = ("--config.num_steps=4", "--config.log_every_steps=1")
    run(tmp_path / "gc", *few)
    run(tmp_path / "plain", *few, config="digits")
    with_gc, without = metrics(tmp_path / "gc", "train"), metrics(tmp_path / "plain", "train")
    assert with_gc[0]["loss"] == without[0]["loss"], "same weights, same batch, same crops"
    assert with_gc[-1]["loss"] != without[-1]["loss"]
    assert {line["gc_removed_fraction"] for line in without} == {0.0}
    assert all(0 < line["gc_removed_fraction"] < 1 for line in with_gc)
