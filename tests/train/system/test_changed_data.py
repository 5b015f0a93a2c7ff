"""A run or a study goes on only with the data that it began with."""

import copy
import json
import os

import pytest
from PIL import Image

from tests.support import image_folder
from tests.support.processes import contents
from train.errors import UserError
from train.loop import train
from train.output.data_check import DATA_FILE
from train.studies.config import default_study
from train.studies.study import study

pytestmark = pytest.mark.slow

FIRST = "train/ant/0.png"


def add(root):
    (root / "train/bee/9.png").write_bytes((root / FIRST).read_bytes())


def remove(root):
    (root / "train/ant/2.png").unlink()


def rename(root):
    (root / FIRST).rename(root / "train/ant/00.png")


def replace(root):
    Image.effect_noise((40, 40), 90).convert("RGB").save(root / "test/bee/1.png")


def change_a_pixel(root):
    """Change the content of a file, but not its size."""
    size = (root / FIRST).stat().st_size
    Image.new("RGB", (32, 32), "white").save(root / FIRST, compress_level=0)
    assert (root / FIRST).stat().st_size == size


@pytest.fixture
def folder(tmp_path):
    image_folder.write(tmp_path / "images")
    for index in range(10, 13):
        for name in image_folder.CLASSES:
            Image.new("RGB", (9, 9)).save(tmp_path / f"images/train/{name}/{index}.png")
    Image.new("RGB", (32, 32)).save(tmp_path / "images" / FIRST, compress_level=0)
    return tmp_path / "images"


def config_of(root, **data):
    config = image_folder.make_config(root)
    config.data.update(data)
    config.data.batch_size = 8
    config.num_steps = 2
    return config


def interrupt(workdir):
    """Leave a work folder as after a kill between the last checkpoint and the summary."""
    (workdir / "summary.json").unlink()


@pytest.mark.parametrize(
    ("change", "data", "expected"),
    [
        (add, {}, "train: 12 examples then, 13 now"),
        (remove, {}, "train: 12 examples then, 11 now"),
        (rename, {}, "train: 12 examples as before, but with other content"),
        (replace, {}, "test: 6 examples as before, but with other content"),
        (add, {"in_memory": True}, "train: 12 examples then, 13 now"),
        (change_a_pixel, {"in_memory": True}, "train: 12 examples as before, but with other"),
    ],
)
def test_changed_folder_is_refused(change, data, expected, folder, tmp_path):
    config, workdir = config_of(folder, **data), tmp_path / "run"
    train(copy.deepcopy(config), workdir)
    interrupt(workdir)
    before = contents(workdir)
    change(folder)
    with pytest.raises(UserError, match="the data has changed since the work in") as error:
        train(copy.deepcopy(config), workdir)
    assert expected in str(error.value)
    assert contents(workdir) == before


def test_same_data_elsewhere_resumes(folder, tmp_path):
    workdir = tmp_path / "run"
    summary = train(config_of(folder), workdir)
    interrupt(workdir)
    folder.rename(tmp_path / "moved")
    os.utime(tmp_path / "moved" / FIRST, (0, 0))
    again = train(config_of(tmp_path / "moved"), workdir)
    assert again["params_sha256"] == summary["params_sha256"]


def test_older_work_folder_resumes(folder, tmp_path):
    workdir = tmp_path / "run"
    train(config_of(folder), workdir)
    interrupt(workdir)
    (workdir / DATA_FILE).unlink()
    train(config_of(folder), workdir)
    assert json.loads((workdir / DATA_FILE).read_text())["train"]["examples"] == 12


@pytest.mark.parametrize(
    "newer",
    [["data.exif_orientation"], ["data.on_error", "model.widen_factor"], ["data.in_memory"]],
)
def test_folder_without_newer_fields_resumes(newer, folder, tmp_path):
    """A work folder of a version that did not have these fields."""
    workdir = tmp_path / "run"
    train(config_of(folder), workdir)
    interrupt(workdir)
    fields = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(
        json.dumps({name: value for name, value in fields.items() if name not in newer})
    )
    train(config_of(folder), workdir)
    assert json.loads((workdir / "config.json").read_text()) == fields


def test_damaged_fingerprint_is_refused(folder, tmp_path):
    workdir = tmp_path / "run"
    train(config_of(folder), workdir)
    interrupt(workdir)
    (workdir / DATA_FILE).write_text("[")
    with pytest.raises(UserError, match=r"data.json is damaged; use another --workdir"):
        train(config_of(folder), workdir)


def test_study_on_changed_data_is_refused(folder, tmp_path):
    config = default_study(config_of(folder, in_memory=True))
    config.optimizers, config.seeds, config.runs_at_once = ("sgd",), (0,), 1
    config.timing.pairs, config.timing.steps = 1, 1
    study(copy.deepcopy(config), tmp_path / "study")
    config.seeds = (0, 1)
    add(folder)
    before = contents(tmp_path / "study")
    with pytest.raises(UserError, match="train: 12 examples then, 13 now"):
        study(copy.deepcopy(config), tmp_path / "study")
    assert contents(tmp_path / "study") == before
