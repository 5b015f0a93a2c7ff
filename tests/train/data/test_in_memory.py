"""Data sets in memory, and the augmentation and standardization on the device."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train import data
from train.config import default_config, validate
from train.data.in_memory import digits
from train.data.inputs import augment, standardize, to_pixels
from train.errors import UserError

has_cifar100 = pytest.mark.skipif(
    not (Path(os.environ.get("TFDS_DATA_DIR", "/nowhere")) / "cifar100").is_dir(),
    reason="needs CIFAR-100, prepared by TFDS, in TFDS_DATA_DIR",
)


def test_digits_split_is_stratified_and_fixed():
    first, second = digits.load(), digits.load()
    assert first.train.inputs.shape == (1437, 8, 8, 1)
    assert first.test.inputs.shape == (360, 8, 8, 1)
    assert first.train.inputs.dtype == np.uint8
    assert first.train.inputs.max() == 255
    assert first.train.labels.dtype == np.int32
    shares = np.bincount(first.test.labels) / np.bincount(
        np.concatenate([first.train.labels, first.test.labels])
    )
    np.testing.assert_allclose(shares, 0.2, atol=0.01)
    for split in ("train", "test"):
        np.testing.assert_array_equal(getattr(first, split).inputs, getattr(second, split).inputs)
    seen = {image.tobytes() for image in first.train.inputs}
    assert not any(image.tobytes() in seen for image in first.test.inputs)


@pytest.mark.slow
@has_cifar100
def test_cifar100():
    config = default_config()
    config.data.name = "cifar100"
    config.data.mean = config.data.std = (0.5, 0.5, 0.5)
    dataset = data.load(config)
    assert dataset.train.inputs.shape == (50_000, 32, 32, 3)
    assert dataset.test.inputs.shape == (10_000, 32, 32, 3)
    assert dataset.num_classes == 100
    assert set(np.bincount(dataset.train.labels)) == {500}
    assert set(np.bincount(dataset.test.labels)) == {100}
    means = dataset.train.inputs.mean((0, 1, 2)) / 255
    np.testing.assert_allclose(means, (0.507, 0.487, 0.441), atol=1e-3)


@pytest.mark.slow
@has_cifar100
def test_superclasses_of_cifar100():
    config = default_config()
    config.data.update(name="cifar100", label="coarse_label", mean=(0.5,) * 3, std=(0.5,) * 3)
    coarse = data.load(config)
    assert data.describe(config).num_classes == coarse.num_classes == 20
    assert len(set(coarse.class_names)) == 20
    assert set(np.bincount(coarse.train.labels)) == {2500}
    config.data.label = "label"
    fine = data.load(config)
    np.testing.assert_array_equal(fine.train.inputs[:100], coarse.train.inputs[:100])
    pairs = set(zip(fine.train.labels.tolist(), coarse.train.labels.tolist(), strict=True))
    assert len(pairs) == 100, "a class is in one superclass"


@has_cifar100
@pytest.mark.parametrize("label", ["image", "nothing", ""])
def test_wrong_label_is_rejected(label):
    config = default_config()
    config.data.update(name="cifar100", label=label)
    with pytest.raises(UserError, match=r"set --config\.data\.label to coarse_label or label, "):
        data.load(config)


def test_label_is_for_tfds():
    config = default_config()
    config.data.label = "coarse_label"
    with pytest.raises(
        UserError, match=r"data\.label='coarse_label' is for classification with TFDS"
    ):
        validate(config)


def test_wrong_number_of_channels():
    config = default_config()
    config.data.mean = (0.5, 0.5, 0.5)
    with pytest.raises(UserError, match=r"data\.mean has 3 value"):
        data.load(config)


def test_standardize_is_per_channel():
    config = default_config()
    config.data.mean, config.data.std = (0.2, 0.4), (0.5, 0.25)
    images = np.stack([np.full((2, 3, 3), 51), np.full((2, 3, 3), 255)], axis=-1).astype(np.uint8)
    result = standardize(to_pixels(jnp.asarray(images)), config)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result[..., 0], 0.0, atol=1e-6)
    np.testing.assert_allclose(result[..., 1], 2.4, rtol=1e-6)


def test_augment_crops_and_flips():
    config = default_config()
    config.data.pad, config.data.flip = 1, True
    image = np.arange(1, 13, dtype=np.uint8).reshape(3, 4, 1)
    images = jnp.asarray(np.broadcast_to(image, (512, 3, 4, 1)))
    result = jax.jit(augment, static_argnums=2)(jax.random.key(0), images, Frozen(config))
    assert result.dtype == jnp.uint8
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    crops = [padded[i : i + 3, j : j + 4] for i in range(3) for j in range(3)]
    allowed = {crop.tobytes() for crop in crops} | {crop[:, ::-1].tobytes() for crop in crops}
    found = {np.asarray(crop).tobytes() for crop in result}
    assert found == allowed, "every crop and flip occurs, and nothing else"


def test_no_augmentation_by_default():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8))
    result = augment(jax.random.key(0), images, default_config())
    np.testing.assert_array_equal(result, images)


class Frozen:
    """A hashable config, for `static_argnums`."""

    def __init__(self, config):
        self.data = config.data
