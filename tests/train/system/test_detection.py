"""Detectors: trained, killed, divided, evaluated and used."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tests.support import processes
from tests.support.detection import coco_dict, write_coco
from train import data, evaluate, export, predict, tasks
from train.checkpoints import pretrained, torch_resnet
from train.cli import parse
from train.config import validate
from train.data.detection import digits_detection
from train.data.detection.annotations import decode_mask
from train.engine.state import named_leaves
from train.errors import UserError
from train.studies import study
from train.studies.config import default_study

CONFIG = "digits_detection_gc"
SETTINGS = (
    "--config.num_steps=10",
    "--config.data.batch_size=8",
    "--config.data.flip=true",
    "--config.log_every_steps=1",
    "--config.checkpoint.every_steps=4",
    "--config.optimizer.learning_rate=0.0001",  # rounding differences do not grow
)


def config_of(*overrides, config=CONFIG):
    made = parse(["train", "--config", f"configs/{config}.py", *overrides], str).config
    validate(made)
    return made


def start(workdir, *flags, **options):
    """Start a run whose programs are compiled as fast as possible: detectors compile for long."""
    return processes.start(workdir, *flags, config=CONFIG, optimize=False, **options)


def run(workdir, *flags, **options):
    """Make such a run; return its stdout."""
    return processes.wait_for_exit(start(workdir, *flags, **options))[0]


def call(command, workdir, *arguments):
    """Run a command in this process; return its exit status."""
    return command.main(["command", "--workdir", str(workdir), *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the work folder of a finished run of a process with one device."""
    workdir = tmp_path_factory.mktemp("detection") / "run"
    out = run(workdir, *SETTINGS, "--config.eval.per_class=true")
    assert "box AP" in out
    return workdir


@pytest.fixture(scope="module")
def canvases(tmp_path_factory):
    """Return a folder with two of the test images."""
    folder = tmp_path_factory.mktemp("canvases")
    _, test = digits_detection.open_splits()
    for index in range(2):
        test.image(index).save(folder / f"{index}.png")
    return folder


@pytest.mark.slow
def test_summary_has_scores(finished):
    summary = processes.summary(finished)
    for name in ("box_ap", "box_ap50", "mask_ap", "mask_ap50"):
        assert 0 <= summary[name] <= 1
    assert summary["test_mask_loss"] > 0
    assert len(summary["test_per_class"]) == 10
    line = processes.metrics(finished, "test")[-1]
    assert line["box_ap"] == summary["box_ap"]
    assert "box_ap" not in processes.metrics(finished, "train")[-1]
    with Image.open(finished / "detections.png") as picture:
        assert min(picture.size) > 400


@pytest.mark.slow
def test_evaluate_gives_the_summary(finished):
    before = processes.contents(finished)
    command = [sys.executable, "-m", "train.evaluate", "--workdir", str(finished)]
    one_device = {"JAX_NUM_CPU_DEVICES": "1"}  # as in the run, for the same bits
    subprocess.run(command, cwd=processes.ROOT, env=os.environ | one_device, check=True)
    report = json.loads((finished / "evaluation.json").read_text())
    summary = processes.summary(finished)
    scores = [name for name in summary if name.startswith(("box_", "mask_", "test_"))]
    assert len(scores) > 16
    assert {name: report[name] for name in scores} == {name: summary[name] for name in scores}
    again = run(finished, *SETTINGS, "--config.eval.per_class=true")
    assert "already finished" in again
    after = processes.contents(finished)
    new = {file.name for file in set(after) - set(before)}
    assert new == {"evaluation.json", "evaluation.png"}
    with pytest.raises(UserError, match="not for detection"):
        call(evaluate, finished, "--split=train")


@pytest.mark.slow
def test_predict_writes_boxes_and_masks(finished, canvases, tmp_path, capsys):
    threshold = "--config.eval.score_threshold=0.05"
    assert call(predict, finished, canvases, "--json", "--draw", tmp_path, threshold) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "{" in line]
    assert [os.path.basename(line["file"]) for line in lines] == ["0.png", "1.png"]
    for found in (each for line in lines for each in line["objects"]):
        x, y, width, height = found["bbox"]
        assert 0 <= x <= x + width <= 64
        assert 0 <= y <= y + height <= 64
        mask = decode_mask(found["segmentation"]["counts"].encode(), 64, 64)
        assert mask.shape == (64, 64)
        assert found["class"] in "0123456789"
    for name in ("0.png", "1.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width >= 480


@pytest.mark.slow
def test_export_has_all_weights(finished, tmp_path):
    assert call(export, finished, "--format=safetensors", tmp_path / "weights.safetensors") == 0
    assert (tmp_path / "weights.safetensors").stat().st_size > 3_000_000
    assert call(export, finished, "--format=stablehlo", tmp_path / "detector") == 0
    exported = jax.export.deserialize((tmp_path / "detector").read_bytes())
    images, sizes = np.zeros((1, 64, 64, 3), np.uint8), np.full((1, 2), 64, np.int32)
    boxes, scores, classes, masks = exported.call(images, sizes)
    assert (boxes.shape, masks.shape) == ((1, 20, 4), (1, 20, 14, 14))
    assert ((classes >= 0) == (scores > 0)).all()
    assert json.loads((tmp_path / "detector.json").read_text())["preprocessing"]["long_side"] == 64


@pytest.mark.slow
def test_killed_run_gives_same_result(finished, tmp_path):
    process = start(tmp_path, *SETTINGS)
    assert processes.wait_until(processes.has_checkpoint(tmp_path, 4), process)
    processes.kill(process)
    out = run(tmp_path, *SETTINGS)
    assert "resuming after step" in out
    same = ("params_sha256", "box_ap", "mask_ap", "test_loss")
    killed, whole = (processes.summary(folder) for folder in (tmp_path, finished))
    assert {name: killed[name] for name in same} == {name: whole[name] for name in same}


@pytest.mark.slow
def test_eight_devices_give_losses_of_one(finished, tmp_path):
    out = run(tmp_path, *SETTINGS, devices=8)
    assert "on 8 cpu device(s)" in out
    losses, expected = (
        [line["loss"] for line in processes.metrics(folder, "train")]
        for folder in (tmp_path, finished)
    )
    assert len(losses) == 10
    np.testing.assert_allclose(losses, expected, atol=1e-4)


@pytest.mark.slow
def test_two_processes_give_ap_of_one(tmp_path):
    """The weights are those of no step, so that both have the same."""
    flags = (*SETTINGS, "--config.num_steps=1", "--config.optimizer.learning_rate=1e-30")
    run(tmp_path / "one", *flags)
    pair = [start(tmp_path / "two", *flags, *each) for each in processes.cluster_flags(2)]
    for process in pair:
        processes.wait_for_exit(process)
    one, two = (processes.summary(tmp_path / name) for name in ("one", "two"))
    assert one["box_ap"] == pytest.approx(two["box_ap"], abs=1e-6)
    assert one["mask_ap"] == pytest.approx(two["mask_ap"], abs=1e-6)


@pytest.mark.slow
def test_study_compares_ap(tmp_path):
    folder = write_coco(tmp_path / "data", coco_dict(8), coco_dict(8))
    config = default_study(
        config_of(
            *SETTINGS,
            "--config.num_steps=2",
            "--config.model.name=faster_rcnn",  # compiles faster
            "--config.data.name=coco_folder",
            f"--config.data.dir={folder}",
            "--config.data.in_memory=true",
            "--config.eval.batch_size=8",
            "--config.detection.test_proposals=16",
        )
    )
    config.optimizers, config.seeds = ("adam",), (0,)
    config.learning_rates.adam = (0.001,)
    config.timing.pairs = config.timing.steps = 1
    config.target_loss = 10.0
    summary = study.study(config, tmp_path / "study")
    (row,) = summary.comparisons
    assert summary.headline.name == "box_ap"
    assert row.difference.mean.n == 1
    report = (tmp_path / "study" / "report.md").read_text()
    assert "box AP without GC" in report
    assert "top-1" not in report


def test_backbone_starts_from_pytorch_weights(tmp_path):
    config = config_of()
    task = tasks.build(config, data.load(config))
    params, _ = jax.eval_shape(task.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    leaves = {f"params/{name}": leaf for name, leaf in named_leaves(params["backbone"]).items()}
    arrays = {
        name: rng.standard_normal(torch_resnet.torch_shape(leaves[path].shape)).astype(np.float32)
        for path, name in torch_resnet.torch_names(leaves).items()
    }
    save_file(arrays, tmp_path / "backbone.safetensors")
    config.init_from = str(tmp_path / "backbone.safetensors")
    loaded = pretrained.load(config, task)
    assert loaded.params.keys() == {"backbone"}
    np.testing.assert_array_equal(
        loaded.params["backbone"]["stem"]["conv"]["kernel"],
        torch_resnet.from_torch(arrays["conv1.weight"]),
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("--config.model.name=convnet",), "set config.model.name to faster_rcnn or mask_rcnn"),
        (
            ("--config.data.name=digits",),
            "set config.data.name to digits_detection, coco_folder or",
        ),
        (("--config.data.mixup=0.2",), "config.data.mixup=0.2 is not for detection"),
        (("--config.data.mean=measure",), "not for detection; set both to numbers"),
        (("--config.detection.anchor_sizes=(8.0,)",), "must have 3 numbers"),
        (("--config.detection.long_side=32",), "is less than"),
        (("--config.detection.scale_jitter=(0.5,2.0)",), "is for whole images that are streamed"),
        (("--config.detection.backbone=vgg",), "config.detection.backbone"),
        (("--config.data.name=coco_folder",), "needs --config.data.dir=FOLDER"),
    ],
)
def test_bad_configs_are_one_line(overrides, message):
    with pytest.raises(UserError) as raised:
        data.load(config_of(*overrides))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_streamed_folder_trains(tmp_path):
    write_coco(tmp_path / "data")
    flags = (
        "--config.data.name=coco_folder",
        f"--config.data.dir={tmp_path / 'data'}",
        "--config.data.batch_size=2",
        "--config.num_steps=2",
        "--config.eval.batch_size=2",
    )
    run(tmp_path / "run", *flags)
    assert 0 <= processes.summary(tmp_path / "run")["box_ap"] <= 1
