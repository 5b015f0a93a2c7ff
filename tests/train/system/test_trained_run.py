"""`train.evaluate`, `train.predict` and `train.export` on finished, stopped and damaged runs."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from safetensors import safe_open

from tests.support import image_folder, processes
from tests.support.training import train_here
from train import data, evaluate, experiment, export, models, predict, trained
from train.config import default_config, flatten, validate
from train.data.batch import Batch
from train.data.dataset import Signature
from train.data.in_memory import digits
from train.engine.state import named_leaves
from train.errors import UserError
from train.output.saved_run import read_config
from train.tasks.classification import Classification


def call(command, workdir, *arguments):
    """Run a command in this process; return its exit status."""
    return command.main(["command", "--workdir", str(workdir), *map(str, arguments)])


def evaluation(workdir):
    return json.loads((workdir / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the work folder of a finished run on the digits, evaluated under attack."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    train_here(
        workdir,
        "--config.num_steps=40",
        "--config.checkpoint.every_steps=20",
        "--config.adversary.eval_steps=2",
        "--config.eval.per_class=true",
        "--config.eval.batch_size=112",  # does not divide the 360 examples
    )
    return workdir


@pytest.fixture(scope="module")
def folder_run(tmp_path_factory):
    """Return the work folder of a run on a folder of images, and the folder of its test images."""
    root = tmp_path_factory.mktemp("folder")
    image_folder.write(root / "images")
    data = {"name": "folder", "dir": root / "images", "image_size": 8, "batch_size": 6, "pad": 0}
    pixels = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    overrides = [f"--config.data.{name}={value}" for name, value in (data | pixels).items()]
    processes.run(root / "run", *overrides, "--config.num_steps=2", "--config.eval.batch_size=4")
    return root / "run", root / "images" / "test"


@pytest.mark.slow
def test_finished_run_gets_its_metrics(finished, capsys):
    before = processes.contents(finished)
    assert call(evaluate, finished) == 0
    report, summary = evaluation(finished), processes.summary(finished)
    names = {name for name in summary if name.startswith("test_")}
    assert names == {name for name in report if name.startswith("test_")}
    assert {name: report[name] for name in names} == {name: summary[name] for name in names}
    assert report["params_sha256"] == summary["params_sha256"]
    assert f"test_top1            {summary['test_top1']:.4f}" in capsys.readouterr().out
    after = processes.contents(finished)
    names = {f"evaluation.{suffix}" for suffix in ("json", "png", "svg")}
    assert {file.name for file in after.keys() - before.keys()} == names
    assert {file: after[file] for file in before} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ("--config.optimizer.ema=0.9", "--config.data.mixup=0.2", "--config.accumulate=2"),
        ("--config.optimizer.name=lookahead",),
        ("--config.optimizer.name=schedule_free_sgd", "--config.optimizer.freeze=('conv1',)"),
    ],
    ids=["ema", "lookahead", "schedule_free"],
)
def test_evaluated_weights_are_the_average(overrides, tmp_path):
    summary = train_here(tmp_path, "--config.num_steps=16", *overrides)
    assert call(evaluate, tmp_path) == 0
    report = evaluation(tmp_path)
    for name in ("test_top1", "test_loss", "params_sha256"):
        assert report[name] == summary[name]


@pytest.mark.slow
def test_training_split_is_evaluated(finished, tmp_path):
    file = tmp_path / "train.json"
    plain = ("--config.adversary.eval_steps=0", "--config.eval.per_class=false")
    assert call(evaluate, finished, "--split", "train", *plain, "--json", file) == 0
    report = json.loads(file.read_text())
    assert report["examples"] == 1437
    assert {name for name in report if name.startswith("t")} == {
        "train_loss",
        "train_top1",
        "train_top5",
    }
    config = read_config(finished)
    run = experiment.prepare(config)
    loaded = trained.load(finished, config)
    split = digits.load().train
    batch = Batch(split.inputs, split.labels, np.ones(1437, bool))
    logits = run.task.predict(loaded.params, loaded.stats, batch).logits
    assert report["train_top1"] == pytest.approx(np.mean(logits.argmax(1) == split.labels))


@pytest.mark.slow
def test_streamed_run_is_evaluated(folder_run):
    workdir, _ = folder_run
    assert call(evaluate, workdir, "--config.eval.per_class=true") == 0
    report, summary = evaluation(workdir), processes.summary(workdir)
    assert report["test_top1"] == summary["test_top1"]
    assert report["test_loss"] == pytest.approx(summary["test_loss"])  # on other devices
    assert [row["class"] for row in report["test_per_class"]] == list(image_folder.CLASSES)


@pytest.mark.slow
def test_newest_readable_weights_are_used(finished, tmp_path, capsys):
    """A run without a summary, whose newest checkpoint is damaged: the one before is evaluated."""
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    (workdir / "summary.json").unlink()
    older, newest = processes.saved_steps(workdir)
    (workdir / "checkpoints" / str(newest) / "manifest.json").write_text("{}")
    before = processes.contents(workdir / "checkpoints")
    assert call(evaluate, workdir, "--config.adversary.eval_steps=0") == 0
    assert evaluation(workdir)["step"] == older
    assert f"checkpoint {newest} is damaged" in capsys.readouterr().err
    assert processes.contents(workdir / "checkpoints") == before
    shutil.rmtree(workdir / "checkpoints" / str(older))
    with pytest.raises(UserError, match=rf"no checkpoint in .* can be read; {newest} is damaged"):
        call(evaluate, workdir)


WRONG = {
    "no folder": ((), r"--workdir nowhere has no config\.json"),
    "model": (
        ("--config.model.name=vgg11",),
        r"config\.model\.name is part of the trained run; leave it out; only .* can be changed",
    ),
    "field": (
        ("--config.evl.per_class=1",),
        r"config\.evl\.per_class is not a field; did you mean",
    ),
    "config": (("--config=configs/digits_gc.py",), "--config is not needed"),
    "split": (("--split=validation",), "--split='validation' must be one of test, train"),
    "json": (
        ("--json=nowhere/x.json",),
        r"--json='nowhere/x\.json' cannot be written: No such file",
    ),
    "argument": (("image.png",), "unknown argument 'image.png'; see --help"),
    "attack": (("--config.adversary.epsilon=2",), r"config\.adversary\.epsilon=2.* is not allowed"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_wrong_evaluation_is_rejected(name, finished):
    arguments, message = WRONG[name]
    workdir = "nowhere" if name == "no folder" else finished
    with pytest.raises(UserError, match=message):
        call(evaluate, workdir, *arguments)


@pytest.mark.slow
def test_data_of_other_classes_are_rejected(folder_run, tmp_path):
    workdir, _ = folder_run
    image_folder.write(tmp_path)
    for split in ("train", "test"):
        (tmp_path / split / "bee").rename(tmp_path / split / "cat")
    with pytest.raises(
        UserError, match=r"class_names \('ant', 'cat'\), but .* with \('ant', 'bee'"
    ):
        call(evaluate, workdir, f"--config.data.dir={tmp_path}")


def write_digits(folder, count):
    """Write the first test images of the digits, and return their labels."""
    folder.mkdir()
    split = digits.load().test
    for index in range(count):
        Image.fromarray(split.inputs[index, ..., 0]).save(folder / f"{index:02}.png")
    return split.labels[:count]


@pytest.mark.slow
def test_predictions_are_those_of_the_test_split(finished, tmp_path, capsys):
    write_digits(tmp_path / "images", 12)
    assert call(predict, finished, tmp_path / "images", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == [f"{tmp_path}/images/{i:02}.png" for i in range(12)]
    run = trained.load(finished, read_config(finished))
    split = digits.load().test
    batch = Batch(split.inputs[:12], split.labels[:12], np.ones(12, bool))
    expected = jax.nn.softmax(run.task.predict(run.params, run.stats, batch).logits)
    predicted = [list(line["probabilities"].values()) for line in lines]
    np.testing.assert_allclose(predicted, expected, atol=1e-5)
    assert [line["class"] for line in lines] == [str(label) for label in expected.argmax(1)]
    assert [line["probability"] for line in lines] == [max(row) for row in predicted]


@pytest.mark.slow
def test_streamed_images_are_cropped_as_in_evaluation(folder_run):
    workdir, images = folder_run
    config = read_config(workdir)
    run = trained.load(workdir, config)
    files = sorted(images.rglob("*.png"))
    predicted = [row for _, row in predict.predict_files(run, files)]
    with data.load(config).test_batches(6) as batches:
        batch = Batch(*next(batches))
    expected = jax.nn.softmax(run.task.predict(run.params, run.stats, batch).logits)
    np.testing.assert_allclose(predicted, expected, atol=1e-5)


@pytest.mark.slow
def test_table_of_files_and_folders(finished, tmp_path, capsys):
    write_digits(tmp_path / "images", 2)
    large = Image.open(tmp_path / "images" / "00.png").resize((80, 120))
    large.convert("RGB").save(tmp_path / "large.jpg")
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    assert call(predict, finished, tmp_path / "large.jpg", "--top=2", tmp_path / "images") == 0
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    names = [tmp_path / "large.jpg", tmp_path / "images/00.png", tmp_path / "images/01.png"]
    assert [row[0] for row in rows] == [str(name) for name in names]
    assert all(len(row) == 3 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no files; give image or text files"),
        (("missing.png",), r"missing\.png does not exist; give files or folders of images"),
        (("README.md",), r"'README.md' is not an image that can be read: its format is unknown"),
        (("configs",), "configs has no images; give a folder that has some"),
        (("--text=hello",), "--text is for runs on texts, but this run is on images"),
        (("docs/images", "--top=0"), "--top=0 must be at least 1"),
        (
            ("--config.seed=1", "README.md"),
            r"config\.seed is part of the trained run; leave it out",
        ),
    ],
)
def test_wrong_prediction_is_rejected(arguments, message, finished, monkeypatch):
    monkeypatch.chdir(processes.ROOT)
    with pytest.raises(UserError, match=message):
        call(predict, finished, *arguments)


LOAD = """
import sys, jax, numpy as np
assert not any(name.split(".")[0] in ("train", "optax_gc", "flax") for name in sys.modules)
program = jax.export.deserialize(open(sys.argv[1], "rb").read())
np.save(sys.argv[3], program.call(np.load(sys.argv[2])))
"""


@pytest.mark.slow
def test_stablehlo_runs_without_this_project(finished, tmp_path):
    assert call(export, finished, "--format=stablehlo", tmp_path / "digits.stablehlo") == 0
    np.save(tmp_path / "in.npy", digits.load().test.inputs[:7])
    files = [tmp_path / name for name in ("digits.stablehlo", "in.npy", "out.npy")]
    # -I: neither the current folder nor PYTHONPATH, so that the project cannot be imported.
    subprocess.run([sys.executable, "-I", "-c", LOAD, *files], check=True, cwd=tmp_path)
    run = trained.load(finished, read_config(finished))
    expected = predict.predict(run, digits.load().test.inputs[:7])
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-5)
    description = json.loads((tmp_path / "digits.stablehlo.json").read_text())
    assert description["class_names"] == list("0123456789")
    assert (description["input_shape"], description["input_dtype"]) == ([8, 8, 1], "uint8")
    assert "tpu" in description["platforms"]


@pytest.mark.slow
def test_safetensors_hold_the_weights(finished, tmp_path):
    assert call(export, finished, "--format=safetensors", tmp_path / "digits.safetensors") == 0
    run = trained.load(finished, read_config(finished))
    expected = named_leaves({"params": run.params, "stats": run.stats})
    with safe_open(tmp_path / "digits.safetensors", "np") as file:
        assert set(file.keys()) == set(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
        metadata = file.metadata()
    assert metadata["params_sha256"] == processes.summary(finished)["params_sha256"]
    assert json.loads(metadata["class_names"]) == list("0123456789")
    preprocessing = json.loads(metadata["preprocessing"])
    assert (preprocessing["mean"], preprocessing["std"]) == ([0.305], [0.376])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x",), "--format is missing; it must be one of safetensors, stablehlo"),
        (("--format=onnx", "x"), "--format='onnx' must be one of safetensors, stablehlo"),
        (("--format=stablehlo",), "0 files are given; give one file to write"),
        (("--format=stablehlo", "nowhere/x"), "OUT='nowhere/x' cannot be written: No such file"),
    ],
)
def test_wrong_export_is_rejected(arguments, message, finished):
    with pytest.raises(UserError, match=message):
        call(export, finished, *arguments)


def make_run(model, signature, **settings):
    """Return a run with random weights of a network."""
    config = default_config()
    config.model.name = model
    config.data.update(settings)
    if not config.data.vocabulary:
        config.data.mean = config.data.std = (0.5,) * signature.input_shape[-1]
    validate(config)
    task = Classification(
        config, models.build(config, signature.num_classes, signature.input_shape)
    )
    params, stats = jax.eval_shape(task.init, jax.random.key(0))
    zeros = [
        jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), t) for t in (params, stats)
    ]
    return trained.TrainedRun(config, signature, task, 0, *zeros)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet20", "resnet18", "vgg11", "densenet121"])
def test_every_image_model_is_exported(name):
    run = make_run(name, Signature(5, (32, 32, 3)))
    assert export.to_stablehlo(run)[""]


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_text_models_are_exported(name):
    words = ("a", "film", "fine")
    run = make_run(
        name, Signature(2, (8,), words=words), name="imdb_reviews", vocabulary=5, length=8
    )
    files = export.to_stablehlo(run)
    assert json.loads(files[".json"])["preprocessing"] == {"words": list(words), "length": 8}


def test_saved_config_is_read(tmp_path):
    config = default_config()
    config.data.mean, config.schedule.step_at = (0.1, 0.2, 0.3), (1.0, 2.0)
    (tmp_path / "config.json").write_text(json.dumps(flatten(config)))
    found = read_config(tmp_path)
    assert isinstance(found, ConfigDict)
    assert flatten(found) == flatten(config)
    (tmp_path / "config.json").write_text(json.dumps(flatten(config) | {"data.colour": 1}))
    with pytest.raises(UserError, match=r"has the field data\.colour, which this version"):
        read_config(tmp_path)
