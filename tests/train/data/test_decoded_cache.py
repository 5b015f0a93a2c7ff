"""The cache of decoded data sets: a hit, a miss, and damaged files."""

import os

import numpy as np
import pytest

from train.data.dataset import Split
from train.data.decoded_cache import cached
from train.runtime import cache

SPLIT = Split(np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3), np.array([0, 1], np.int32))


class Source:
    """The files of a data set, and how often they were decoded."""

    def __init__(self, folder):
        self.files = [folder / "train-0", folder / "train-1"]
        self.decoded = 0
        for file in self.files:
            file.write_bytes(b"records")

    def load(self, name="digits:1.0.0, train"):
        split = cached(Split, name, self.files, self.decode)
        np.testing.assert_array_equal(split.inputs, SPLIT.inputs)
        np.testing.assert_array_equal(split.labels, SPLIT.labels)
        assert split.inputs.dtype == np.uint8
        return self.decoded

    def decode(self):
        self.decoded += 1
        return SPLIT


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Source(tmp_path)


def cached_files():
    """Return the files in the cache folder."""
    return [file for file in (cache.cache_dir() / "decoded").rglob("*") if file.is_file()]


def test_second_load_uses_cache(source):
    assert source.load() == source.load() == 1
    assert {file.name for file in cached_files()} == {"inputs.npy", "labels.npy", "sha256"}


def test_split_and_version_are_keys(source):
    source.load()
    assert source.load("digits:1.0.1, train") == 2
    assert source.load("digits:1.0.0, test") == 3


@pytest.mark.parametrize("change", ["size", "time", "name"])
def test_changed_files_are_decoded(source, change):
    source.load()
    file = source.files[0]
    if change == "size":
        file.write_bytes(b"other records")
    elif change == "time":
        os.utime(file, ns=(0, 0))
    else:
        source.files[0] = file.rename(file.with_name("train-2"))
    assert source.load() == 2


@pytest.mark.parametrize("name", ["inputs.npy", "labels.npy", "sha256"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "missing"])
def test_damaged_cache_is_decoded_again(source, name, damage):
    source.load()
    (file,) = (file for file in cached_files() if file.name == name)
    content = file.read_bytes()
    middle = len(content) // 2
    match damage:
        case "flip":
            flipped = bytes([content[middle] ^ 1])
            file.write_bytes(content[:middle] + flipped + content[middle + 1 :])
        case "cut":
            file.write_bytes(content[:middle])
        case "empty":
            file.write_bytes(b"")
        case "missing":
            file.unlink()
    assert source.load() == 2
    assert source.load() == 2, "the second decoding is cached"


def test_unwritable_cache_prints_a_warning(source, capfd):
    cache.cache_dir().parent.mkdir()
    cache.cache_dir().write_text("a file where the folder should be")
    assert source.load() == 1
    assert source.load() == 2
    assert capfd.readouterr().err.count("cannot cache the decoded data in ") == 2
