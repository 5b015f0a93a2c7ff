"""The check of image files before training, and images that Pillow refuses by default."""

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests.support import image_folder
from tests.support.processes import ROOT
from train import data
from train.data.streaming import crops, image_check
from train.errors import UserError


def encode(image, format_, **options):
    content = io.BytesIO()
    image.save(content, format_, **options)
    return content.getvalue()


NOISE = Image.effect_noise((40, 30), 90).convert("RGB")
DAMAGED = {
    "a.jpg": (encode(NOISE, "jpeg")[:-200], "truncated"),
    "b.png": (encode(NOISE, "png")[:900], "truncated"),
    "c.gif": (encode(NOISE, "gif")[:-300], "truncated"),
    "d.webp": (encode(NOISE, "webp")[:-100], "decoder"),
    "e.png": (b"", "empty"),
    "f.jpg": (b"version https://git-lfs.github.com/spec/v1\n", "not an image"),
    "g.tif": (encode(Image.new("F", (9, 9)), "tiff"), "pixels of mode F instead of 8 bits"),
    "h.png": (b"\x89HDF\r\n\x1a\n" + bytes(99), "not an image"),
}


@pytest.fixture
def folder(tmp_path):
    """Write six good images, and as many damaged ones as there are in `DAMAGED`."""
    image_folder.write(tmp_path)
    for index, (name, (content, _)) in enumerate(DAMAGED.items()):
        split = ("train/ant", "train/bee", "test/bee")[index % 3]
        (tmp_path / split / name).write_bytes(content)
    return tmp_path


def load(root, **fields):
    config = image_folder.make_config(root)
    config.data.update(fields)
    return data.load(config)


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_file_is_found(name, tmp_path):
    content, expected = DAMAGED[name]
    (tmp_path / name).write_bytes(content)
    (tmp_path / "good.png").write_bytes(encode(NOISE, "png"))
    checked = image_check.check_files([tmp_path / "good.png", tmp_path / name])
    assert list(checked.problems) == [1]
    assert expected in checked.problems[1]
    assert list(checked.sizes) == [(tmp_path / "good.png").stat().st_size, len(content)]


def test_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert image_check.check_files([tmp_path / "a.png"]).problems == {0: "not a file"}


@pytest.mark.parametrize("in_memory", [False, True])
def test_all_damaged_files_are_named_before_training(in_memory, folder):
    with pytest.raises(UserError, match=r"cannot read 8 of 20 images: ") as error:
        load(folder, in_memory=in_memory)
    assert all(f"{name} (" in str(error.value) for name in DAMAGED)
    assert "--config.data.on_error=skip" in str(error.value)


def test_ten_names_are_enough(folder):
    for index in range(100, 105):
        (folder / f"train/ant/{index}.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot read 13 of 25 images: .*, \.\.\.; ") as error:
        load(folder)
    names = str(error.value).split("; ")[0]
    assert names.count("train/") + names.count("test/") == 10


@pytest.mark.parametrize("in_memory", [False, True])
def test_skip_leaves_damaged_files_out(in_memory, folder, capsys):
    dataset = load(folder, on_error="skip", in_memory=in_memory)
    assert (dataset.num_train, dataset.num_test) == (6, 6)
    line = capsys.readouterr().out
    assert line.startswith("checked the headers of 20 images in ")
    assert "; left out images that cannot be read (8): " in line
    assert all(name in line for name in DAMAGED)
    again = load(folder, on_error="skip", in_memory=in_memory)
    assert dataset.fingerprints() == again.fingerprints()
    for name in DAMAGED:
        for file in folder.glob(f"*/*/{name}"):
            file.unlink()
    assert load(folder, in_memory=in_memory).fingerprints() == dataset.fingerprints()


def test_skip_must_leave_each_class(folder):
    for file in (folder / "train/ant").iterdir():
        file.write_bytes(b"")
    with pytest.raises(UserError, match=r"train have no images that can be read: ant; add some"):
        load(folder, on_error="skip")


def with_wrong_pixels(content):
    """Return a PNG file whose header and end are right, and whose pixels are not."""
    start = content.index(b"IDAT") + 4
    return content[:start] + bytes(20) + content[start + 20 :]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_damage_inside_is_named_while_training(on_error, folder):
    file = folder / "train/bee/1.png"
    file.write_bytes(with_wrong_pixels(encode(NOISE, "png")))
    for name in DAMAGED:
        for damaged in folder.glob(f"*/*/{name}"):
            damaged.unlink()
    dataset = load(folder, on_error=on_error)
    expected = rf"{file} is damaged: .*; restore the file and run the same command again, or remove"
    with dataset.train_batches(0) as batches, pytest.raises(UserError, match=expected):
        next(batches)


def test_damage_inside_is_left_out_in_memory(folder, capsys):
    for name in ("train/bee/1.png", "test/ant/0.png"):
        (folder / name).write_bytes(with_wrong_pixels(encode(NOISE, "png")))
    dataset = load(folder, on_error="skip", in_memory=True)
    assert (dataset.num_train, dataset.num_test) == (5, 5)
    assert list(dataset.train.labels) == [0, 0, 0, 1, 1]
    assert "; left out damaged images (2): " in capsys.readouterr().out
    for name in DAMAGED:
        for file in folder.glob(f"*/*/{name}"):
            file.unlink()
    with pytest.raises(UserError, match=r"cannot read 2 of 12 images: .*bee/1\.png.*ant/0\.png"):
        load(folder, in_memory=True)


def test_skip_is_for_folders(rejected):
    config = str(ROOT / "configs/digits_gc.py")
    error = rejected("--config", config, "--config.data.on_error=skip")
    assert "config.data.on_error='skip' is for config.data.name='folder'" in error


def large_png(width, height):
    """Return a black grayscale PNG of any size, without its pixels in memory."""

    def chunk(kind, content):
        return struct.pack(
            f">I4s{len(content)}sI", len(content), kind, content, zlib.crc32(kind + content)
        )

    packer = zlib.compressobj(1)
    row = bytes(1 + (width + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">2I5B", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    )


@pytest.mark.slow
@pytest.mark.parametrize("size", [(10_000, 9_500), (20_000, 9_000), (60, 3_500_000)])
def test_large_image_is_read(size, tmp_path):
    """In a process without this module's imports, where a warning would appear on stderr."""
    (tmp_path / "a.png").write_bytes(large_png(*size))
    program = (
        "import sys, pathlib\n"
        "from train.data.streaming import crops, image_check\n"
        "file = pathlib.Path(sys.argv[1])\n"
        "assert not image_check.check_files([file]).problems\n"
        "print(crops.center_crop(file.read_bytes(), 8).sum())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.png")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_long_texts_in_png_are_allowed(tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("comment", "x" * 3_000_000, zip=True)
    content = encode(NOISE, "png", pnginfo=texts)
    (tmp_path / "a.png").write_bytes(content)
    assert not image_check.check_files([tmp_path / "a.png"]).problems
    np.testing.assert_array_equal(
        crops.center_crop(content, 8), crops.center_crop(encode(NOISE, "png"), 8)
    )
