"""Data sets of Hugging Face: local Parquet files and folders of images."""

import contextlib

import numpy as np
import pytest
from PIL import Image

from tests.support import image_folder, processes
from train import data
from train.config import default_config, validate
from train.errors import UserError

datasets = pytest.importorskip("datasets", reason="is in the extra 'hf'")

pytestmark = [
    pytest.mark.slow,
    # `datasets` does not close its files.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def make_config(name, folder, **fields):
    config = default_config()
    config.data.update(name=name, dir=str(folder), image_size=8, batch_size=6)
    config.data.update(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    config.data.update(fields)
    validate(config)
    return config


@pytest.fixture
def folder(tmp_path):
    image_folder.write(tmp_path / "images")
    return tmp_path / "images"


def write_parquet(root, splits=("train", "test"), label="label"):
    """Write ROOT/SPLIT-0.parquet with the images and classes of `image_folder`."""
    root.mkdir()
    features = datasets.Features(
        {"image": datasets.Image(), label: datasets.ClassLabel(names=list(image_folder.CLASSES))}
    )
    rows = [(label, index) for label in range(2) for index in range(3)]
    images = [Image.new("RGB", (30, 20), (100 * label, 10 * index, 0)) for label, index in rows]
    columns = {"image": images, label: [label for label, _ in rows]}
    for split in splits:
        datasets.Dataset.from_dict(columns, features).to_parquet(root / f"{split}-0.parquet")
    return root


def batch(dataset):
    with contextlib.closing(dataset.test_batches(6)) as batches:
        return next(batches)


def test_parquet_and_folder_give_the_same_images(folder, tmp_path):
    parquet = data.load(make_config("hf:parquet", write_parquet(tmp_path / "parquet")))
    own = data.load(make_config("folder", folder))
    by_hf = data.load(make_config("hf:imagefolder", folder))
    for dataset in (parquet, by_hf):
        assert dataset.signature == own.signature
        assert (dataset.num_train, dataset.num_test) == (6, 6)
        order = np.argsort(batch(dataset).inputs.sum((1, 2, 3)))
        expected = np.argsort(batch(own).inputs.sum((1, 2, 3)))
        np.testing.assert_array_equal(batch(dataset).inputs[order], batch(own).inputs[expected])
        np.testing.assert_array_equal(batch(dataset).labels[order], batch(own).labels[expected])
        np.testing.assert_array_equal(np.bincount(dataset.train.labels()), [3, 3])


def test_in_memory_and_share_of_train(tmp_path):
    root = write_parquet(tmp_path / "parquet", splits=("train",))
    dataset = data.load(make_config("hf:parquet", root, in_memory=True, test_share=0.34))
    assert (dataset.num_train, dataset.num_test) == (3, 3)
    assert dataset.train.inputs.shape == (3, 8, 8, 3)
    again = data.load(make_config("hf:parquet", root, in_memory=True, test_share=0.34))
    assert again.fingerprints() == dataset.fingerprints()
    with pytest.raises(UserError, match="no split test or validation with labels, only train; set"):
        data.load(make_config("hf:parquet", root))


def test_fingerprint_sees_changed_files(folder):
    before = data.load(make_config("hf:imagefolder", folder)).fingerprints()
    Image.new("RGB", (300, 200), (9, 9, 9)).save(folder / "train" / "ant" / "0.png")
    after = data.load(make_config("hf:imagefolder", folder)).fingerprints()
    assert before["train"] != after["train"]
    assert before["test"] == after["test"]


def test_other_label_is_named(tmp_path):
    root = write_parquet(tmp_path / "parquet", label="kind")
    with pytest.raises(UserError, match=r"config\.data\.label='label' is not a .* use one of kind"):
        data.load(make_config("hf:parquet", root))
    assert data.load(make_config("hf:parquet", root, label="kind")).num_classes == 2


def test_wrong_names_are_one_line(tmp_path):
    with pytest.raises(UserError, match="datasets cannot load 'no/such'") as caught:
        data.load(make_config("hf:no/such", ""))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"config\.data\.name='hf:x' needs config\.data\.im"):
        make_config("hf:x", tmp_path, image_size=0)


def test_run_on_parquet(tmp_path):
    root = write_parquet(tmp_path / "parquet")
    fields = {"name": "hf:parquet", "dir": root, "image_size": 8, "batch_size": 6, "pad": 0}
    fields |= {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    overrides = [f"--config.data.{name}={value}" for name, value in fields.items()]
    processes.run(tmp_path / "run", *overrides, "--config.num_steps=2")
    assert processes.summary(tmp_path / "run")["steps"] == 2
