"""Streamed data sets: the examples, the pixels and the error messages."""

import io
import sys

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from tests.support import imagenet
from tests.support.streaming import config_of
from train import data
from train.data.batch import Batch
from train.data.streaming import pipeline
from train.errors import UserError

# Libraries also warn before some of the errors.
pytestmark = pytest.mark.filterwarnings("ignore")

NUM_TEST = 21
BATCH = 64  # does not divide the 1000 examples, so some batches have examples of two epochs


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Write one image per class in random order; some are grayscale or CMYK."""
    rng = np.random.default_rng(0)
    modes = ["RGB"] * 8 + ["L", "CMYK"]

    def examples(labels):
        return [
            (imagenet.jpeg(rng, *rng.integers(9, 40, 2), modes[index % 10]), int(label))
            for index, label in enumerate(labels)
        ]

    root = tmp_path_factory.mktemp("imagenet")
    imagenet.write(
        root,
        train=examples(rng.permutation(imagenet.NUM_CLASSES)),
        validation=examples(range(NUM_TEST)),
        test=examples([-1, -1, -1]),
    )
    return root


def take(batches, count):
    """Return the first `count` batches as one."""
    with batches:
        return concatenate(next(batches) for _ in range(count))


def concatenate(batches):
    return Batch(*map(np.concatenate, zip(*batches, strict=True)))


def global_batches(processes, batches_of):
    """Return the batches of all processes, concatenated in the order of the processes."""
    several = [batches_of(index) for index in range(processes)]
    return [concatenate(parts) for parts in zip(*several, strict=True)]


def assert_same(one, other):
    for name, values in one._asdict().items():
        np.testing.assert_array_equal(values, getattr(other, name))


@pytest.fixture(scope="module")
def uninterrupted(root):
    """Return a little more than one epoch, read by one process."""
    return take(pipeline.open_dataset(config_of(root), 0, 1).train_batches(0), 18)


def test_imagenet_splits_and_shapes(root):
    opened = pipeline.open_dataset(config_of(root), 0, 1)
    assert (opened.num_classes, opened.input_shape) == (1000, (8, 8, 3))
    assert (opened.num_train, opened.num_test) == (1000, NUM_TEST), "the test split has no labels"
    assert "tensorflow" not in sys.modules


def test_epoch_has_each_example_once(uninterrupted):
    assert uninterrupted.inputs.shape == (18 * BATCH, 8, 8, 3)
    assert [array.dtype for array in uninterrupted] == [np.uint8, np.int32, np.bool_]
    assert uninterrupted.mask.all()
    assert sorted(uninterrupted.labels[:1000]) == list(range(1000))
    assert len({image.tobytes() for image in uninterrupted.inputs}) > 1000


@pytest.mark.parametrize("processes", [2, 4])
def test_process_count_does_not_matter(processes, root, uninterrupted):
    def batches_of(process):
        with pipeline.open_dataset(config_of(root), process, processes).train_batches(0) as batches:
            return [next(batches) for _ in range(18)]

    together = global_batches(processes, batches_of)
    assert [len(batch.labels) for batch in together] == [BATCH] * 18
    assert_same(concatenate(together), uninterrupted)


@hypothesis.given(step=st.integers(0, 17))
@hypothesis.settings(deadline=None, max_examples=6)
def test_start_at_any_step(step, root, uninterrupted):
    batch = take(pipeline.open_dataset(config_of(root), 0, 1).train_batches(step), 1)
    rows = slice(step * BATCH, (step + 1) * BATCH)
    assert_same(batch, Batch(*(array[rows] for array in uninterrupted)))


def test_start_at_last_step(root):
    last = take(pipeline.open_dataset(config_of(root), 0, 1).train_batches(2**31 - 3), 1)
    assert len(set(last.labels)) > BATCH / 2


def test_crops_depend_on_seed_and_epoch(root, uninterrupted):
    config = config_of(root)
    config.seed = 1
    other = take(pipeline.open_dataset(config, 0, 1).train_batches(0), 16)
    first = dict(zip(other.labels, other.inputs, strict=True))
    again = zip(uninterrupted.labels[:1000], uninterrupted.inputs, strict=False)
    changed = [(first[label] != image).any() for label, image in again if label in first]
    assert np.mean(changed) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_worker_count_does_not_matter(workers, root, uninterrupted):
    opened = pipeline.open_dataset(config_of(root, workers=workers), 0, 1)
    got = take(opened.train_batches(3), 5)
    rows = slice(3 * BATCH, 8 * BATCH)
    assert_same(got, Batch(*(array[rows] for array in uninterrupted)))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_each_test_example_counts_once(processes, root):
    def batches_of(process):
        opened = pipeline.open_dataset(
            config_of(root, workers=int(process == 1)), process, processes
        )
        with opened.test_batches(8) as batches:
            return list(batches)

    together = global_batches(processes, batches_of)
    assert [len(batch.mask) for batch in together] == [8, 8, 8]
    whole = concatenate(together)
    assert list(np.flatnonzero(whole.mask)) == list(range(NUM_TEST))
    assert list(whole.labels[whole.mask]) == list(range(NUM_TEST))
    alone = take(pipeline.open_dataset(config_of(root), 0, 1).test_batches(8), 3)
    assert_same(whole, alone)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_record_is_named(workers, tmp_path):
    rng = np.random.default_rng(0)
    good = [(imagenet.jpeg(rng, 20, 20), label) for label in range(1000)]
    damaged = [*good[:700], (good[700][0][:150], 700), *good[701:]]
    imagenet.write(tmp_path, train=damaged, validation=good[:8])
    opened = pipeline.open_dataset(config_of(tmp_path, workers=workers, batch_size=1000), 0, 1)
    with pytest.raises(
        UserError, match=r"record 700 of the split 'train' .* is damaged: OSError: Trunc"
    ):
        take(opened.train_batches(0), 1)


def test_invalid_label_is_named(tmp_path):
    image = imagenet.jpeg(np.random.default_rng(0), 20, 20)
    validation = [(image, 3), (image, -1)]
    imagenet.write(tmp_path, train=[(image, 0)] * 1000, validation=validation)
    opened = pipeline.open_dataset(config_of(tmp_path), 0, 1)
    with pytest.raises(UserError, match=r"record 1 of the split 'validation' .* has the label -1"):
        take(opened.test_batches(2), 1)


def test_unlabeled_test_split_is_rejected(tmp_path):
    image = imagenet.jpeg(np.random.default_rng(0), 20, 20)
    imagenet.write(tmp_path, train=[(image, 0)] * 1000, test=[(image, -1)] * 3)
    with pytest.raises(UserError, match=r"record 0 of the split 'test' .* has the label -1"):
        pipeline.open_dataset(config_of(tmp_path), 0, 1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "digits"}, "set config.data.image_size to 0"),
        ({"name": "cifar1000"}, "is not 'digits' or a TFDS data set"),
        (
            {"mean": (0.5,)},
            "config.data.mean has 1 value(s), but the images of imagenet2012 have 3",
        ),
        ({"dir": "/nowhere"}, "imagenet2012 is not prepared in /nowhere"),
    ],
)
def test_unsuitable_config_is_rejected(fields, message, root):
    with pytest.raises(UserError) as error:
        pipeline.open_dataset(config_of(root, **fields), 0, 1)
    assert message in str(error.value)


def test_resident_set_needs_one_size(root):
    with pytest.raises(UserError, match=r"set --config\.data\.image_size to stream it"):
        data.load(config_of(root, image_size=0))


def write_folder(root, splits=("train", "test"), classes=("ant", "bee"), count=3):
    for split in splits:
        for shade, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                suffix = ("jpg", "png", "JPEG")[index % 3]
                image = Image.new("RGB", (30, 20), (100 * shade, 10 * index, 0))
                image.save(root / split / name / f"{index}.{suffix}")
    return root


@pytest.mark.parametrize("test_split", ["test", "validation", "val"])
def test_image_folder(test_split, tmp_path):
    root = write_folder(tmp_path, ("train", test_split))
    (root / "train" / "ant" / "notes.txt").write_text("no image")
    (root / "train" / ".cache").mkdir()
    opened = pipeline.open_dataset(config_of(root, name="folder", batch_size=6), 0, 1)
    assert (opened.num_classes, opened.num_train, opened.num_test) == (2, 6, 6)
    epoch = take(opened.train_batches(0), 1)
    shades = epoch.inputs[:, 0, 0, :2].astype(int)
    np.testing.assert_allclose(shades[:, 0], 100 * epoch.labels, atol=2)
    assert sorted(zip(epoch.labels, np.round(shades[:, 1] / 10), strict=True)) == [
        (label, index) for label in (0, 1) for index in range(3)
    ]
    assert list(take(opened.test_batches(6), 1).labels) == [0, 0, 0, 1, 1, 1]


def grayscale_16_bits():
    content = io.BytesIO()
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(content, "png")
    return content.getvalue()


FOLDERS = {
    "no folder": (lambda root: root.rename(root.with_name("gone")), "does not exist"),
    "no split": (
        lambda root: (root / "test").rename(root / "tset"),
        "set --config.data.test_share",
    ),
    "no training split": (
        lambda root: (root / "train").rename(root / "test" / "a"),
        "has a folder 'test' but no folder 'train'",
    ),
    "another class": (
        lambda root: (root / "test" / "bee").rename(root / "test" / "cat"),
        "test has class folders that the training split lacks: cat; add them",
    ),
    "an empty class": (
        lambda root: [file.unlink() for file in (root / "train" / "bee").iterdir()],
        "train have no images that can be read: bee; add some",
    ),
    "an invalid image": (
        lambda root: (root / "train" / "bee" / "1.png").write_text("no image"),
        "cannot read 1 of 12 images: train/bee/1.png (not an image); replace or",
    ),
    "an image of 16 bits": (
        lambda root: (root / "train" / "ant" / "1.png").write_bytes(grayscale_16_bits()),
        "train/ant/1.png (pixels of mode I;16 instead of 8 bits)",
    ),
    "a missing file": (
        lambda root: (root / "train" / "ant" / "1.png").symlink_to("gone"),
        "train/ant/1.png is damaged: FileNotFoundError",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_bad_folder_is_reported(case, tmp_path):
    damage, message = FOLDERS[case]
    root = write_folder(tmp_path / "images")
    if case == "a missing file":
        opened = pipeline.open_dataset(config_of(root, name="folder", batch_size=6), 0, 1)
        (root / "train" / "ant" / "1.png").unlink()
        with pytest.raises(UserError) as error:
            take(opened.train_batches(0), 1)
    else:
        damage(root)
        with pytest.raises(UserError) as error:
            take(
                pipeline.open_dataset(
                    config_of(root, name="folder", batch_size=6), 0, 1
                ).train_batches(0),
                1,
            )
    assert message in str(error.value)


def test_folder_needs_a_path():
    with pytest.raises(UserError, match=r"needs --config\.data\.dir=FOLDER"):
        pipeline.open_dataset(config_of("", name="folder"), 0, 1)
