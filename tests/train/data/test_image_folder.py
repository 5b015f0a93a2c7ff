"""Image folders: their splits, their classes and the formats of their files."""

import numpy as np
import pytest
from PIL import Image

from tests.support.image_folder import make_config
from train import data
from train.errors import UserError


def write(root, *names):
    """Write an image for each name, of the color that the number in its name gives."""
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        number = int("".join(filter(str.isdigit, file.stem)) or 0)
        Image.new("RGB", (12, 9), (20 * number, 0, 0)).save(file, format_of(file))


def format_of(file):
    return Image.registered_extensions()[file.suffix.lower()]


def load(root, **fields):
    config = make_config(root)
    config.data.update(fields)
    return data.load(config)


def files(split):
    """Return the path of each image in the folder of its split."""
    names = (split.record_name(index) for index in range(len(split)))
    return [str(name).removeprefix(f"{split.folder}/") for name in names]


def one_line(capsys):
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    return line


FORMATS = (
    "JFIF",
    "webp",
    "gif",
    "Tif",
    "bmp",
    "JPG",
    "jp2",
    "ppm",
    "ico",
    "tga",
    "avif",
    "qoi",
    "mpo",
)


def test_every_format_of_pillow_is_read(tmp_path, capsys):
    write(tmp_path, *(f"train/ant/{i}.{suffix}" for i, suffix in enumerate(FORMATS)))
    write(tmp_path, "train/bee/1.png", "test/bee/1.png", "test/ant/1.WEBP")
    in_memory = load(tmp_path, in_memory=True)
    assert in_memory.num_train == len(FORMATS) + 1
    assert in_memory.num_test == 2
    reds = in_memory.train.inputs[: len(FORMATS), 4, 4, 0].astype(int)
    np.testing.assert_allclose(np.sort(reds), 20 * np.arange(len(FORMATS)), atol=6)
    assert one_line(capsys) == f"checked the headers of 16 images in {tmp_path}\n"


def test_skipped_files_are_counted_and_named(tmp_path, capsys):
    write(tmp_path, "train/ant/1.png", "train/bee/1.png", "test/ant/1.png", "test/bee/1.png")
    for name in ("train/ant/a.txt", "train/bee/clip.mpg", "train/bee/x.h5", "labels.csv", "test/b"):
        (tmp_path / name).write_text("x")
    (tmp_path / "train/ant/.DS_Store").write_text("x")
    (tmp_path / "annotations").mkdir()
    dataset = load(tmp_path)
    assert (dataset.num_train, dataset.num_test) == (2, 2)
    line = one_line(capsys)
    assert "skipped files that are not images in a class folder (5): labels.csv, test/b, " in line
    assert "train/ant/a.txt, ..." in line
    assert "not used: annotations/" in line


def test_images_in_subfolders_belong_to_the_class(tmp_path):
    write(tmp_path, "train/ant/left/1.png", "train/ant/2.png", "train/bee/a/b/3.png")
    write(tmp_path, "test/bee/x/1.png")
    (tmp_path / "train/bee/a/back").symlink_to(tmp_path / "train/bee")
    dataset = load(tmp_path)
    assert files(dataset.train) == ["ant/2.png", "ant/left/1.png", "bee/a/b/3.png"]
    assert list(dataset.train.labels()) == [0, 0, 1]
    assert list(dataset.test.labels()) == [1]


@pytest.mark.parametrize("name", ["valid", "val", "validation", "Valid", "dev", "testing"])
def test_names_of_the_test_split(name, tmp_path):
    write(tmp_path, "train/ant/1.png", "train/bee/1.png", f"{name}/ant/1.png", f"{name}/bee/2.png")
    assert load(tmp_path).test.folder == tmp_path / name


@pytest.mark.parametrize("name", ["valid", "val", "validation"])
@pytest.mark.parametrize("unlabeled", ["", "images/", "unknown/", "a/b/"])
def test_unlabeled_test_split_is_not_used(unlabeled, name, tmp_path, capsys):
    write(tmp_path, "train/ant/1.png", "train/bee/1.png", f"{name}/ant/1.png", f"{name}/bee/2.png")
    write(tmp_path, f"test/{unlabeled}1.png", f"test/{unlabeled}2.png")
    dataset = load(tmp_path)
    assert dataset.test.folder == tmp_path / name
    line = one_line(capsys)
    assert (
        f"test/ has no folders of the classes and is not used; {name}/ is the test split\n" in line
    )


@pytest.mark.parametrize("inner", ["train/ant", "flowers/rose", "ant"])
def test_one_class_folder_is_rejected(inner, tmp_path):
    """As if `data.dir` were one level too high."""
    write(tmp_path, f"data/{inner}/1.png", f"data/{inner}/2.png")
    with pytest.raises(UserError, match="has only the class folder 'data'; choose"):
        load(tmp_path, test_share=0.5)


def test_second_test_split_is_named(tmp_path, capsys):
    write(tmp_path, "train/ant/1.png", "train/bee/1.png", "test/ant/1.png", "valid/bee/2.png")
    assert load(tmp_path).test.folder == tmp_path / "test"
    line = one_line(capsys)
    assert "not used: valid/" in line
    assert "classes without test images (1): bee" in line


SPLITS = {
    "no split": "",
    "only a training split": "train/",
    "an unlabeled test split": "train/",
}


@pytest.mark.parametrize("case", SPLITS)
def test_share_of_each_class_is_held_out(case, tmp_path):
    prefix = SPLITS[case]
    sizes = {"ant": 10, "bee": 5, "cat": 1}
    for name, size in sizes.items():
        write(tmp_path, *(f"{prefix}{name}/{index}.png" for index in range(size)))
    if case == "an unlabeled test split":
        write(tmp_path, "test/1.png")
    with pytest.raises(UserError, match=r"set --config\.data\.test_share to the share"):
        load(tmp_path)
    parts = [load(tmp_path, test_share=0.4) for _ in range(2)]
    assert files(parts[0].train) == files(parts[1].train)
    train, test = files(parts[0].train), files(parts[0].test)
    assert len(set(train + test)) == len(train + test) == 16
    assert list(np.bincount(parts[0].train.labels())) == [6, 3, 1]
    assert list(np.bincount(parts[0].test.labels(), minlength=3)) == [4, 2, 0]
    assert test[:4] != ["ant/6.png", "ant/7.png", "ant/8.png", "ant/9.png"]
    # Other files do not change the choice.
    write(tmp_path, f"{prefix}dog/1.png", f"{prefix}dog/2.png")
    assert set(test) < {*files(load(tmp_path, test_share=0.4).test)}


def test_test_share_needs_a_folder_without_test_split(tmp_path):
    write(tmp_path, "train/ant/1.png", "train/bee/1.png", "val/ant/1.png")
    with pytest.raises(UserError, match=r"has the folder 'val'; set it to 0"):
        load(tmp_path, test_share=0.2)


def test_tiny_test_share_is_rejected(tmp_path):
    write(tmp_path, "ant/1.png", "ant/2.png", "bee/1.png", "bee/2.png")
    with pytest.raises(UserError, match=r"no images to test on; add some, or set a larger"):
        load(tmp_path, test_share=0.01)


@pytest.mark.parametrize(
    ("empty", "in_memory"), [("missing", False), ("without images", False), ("missing", True)]
)
def test_class_without_test_images_is_allowed(empty, in_memory, tmp_path, capsys):
    write(tmp_path, "train/ant/1.png", "train/bee/1.png", "train/cat/1.png", "test/cat/1.png")
    if empty == "without images":
        (tmp_path / "test/bee").mkdir()
    dataset = load(tmp_path, in_memory=in_memory)
    labels = dataset.test.labels if in_memory else dataset.test.labels()
    assert list(labels) == [2]
    assert dataset.num_classes == 3
    assert "classes without test images (2): ant, bee" in one_line(capsys)


def test_dangling_links_are_not_dropped(tmp_path):
    write(tmp_path, "train/ant/1.png", "train/bee/1.png", "test/ant/1.png")
    (tmp_path / "train/ant/2.png").symlink_to(tmp_path / "annex/2.png")
    with pytest.raises(UserError, match=r"cannot read 1 of 4 images: train/ant/2\.png \(No such"):
        load(tmp_path)
