"""TrivialAugment: each operation equals Pillow's."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from train.tasks import trivial_augment as ops

RNG = np.random.default_rng(0)
IMAGE = np.clip(
    RNG.normal(128, 60, (1, 1, 3)) + RNG.normal(0, 40, (21, 17, 3)).cumsum(0) / 2, 20, 230
).astype(np.uint8)
STRENGTHS = (-0.9, -0.3, 0.0, 0.5, 1.0)


def recolor(name, strength, image=IMAGE):
    which = [op.__name__ for op in ops._COLOR].index(f"_{name}")
    return np.asarray(ops._recolor(jnp.asarray(image), jnp.int32(which), jnp.float32(strength)))


def enhance(enhancer):
    return lambda image, strength: enhancer(image).enhance(1 + 0.99 * strength)


PILLOW = {
    "brightness": enhance(ImageEnhance.Brightness),
    "contrast": enhance(ImageEnhance.Contrast),
    "color": enhance(ImageEnhance.Color),
    "sharpness": enhance(ImageEnhance.Sharpness),
    "posterize": lambda image, s: ImageOps.posterize(image, 8 - round(6 * abs(s))),
    "solarize": lambda image, s: ImageOps.solarize(image, 255 * (1 - abs(s))),
    "autocontrast": lambda image, s: ImageOps.autocontrast(image),
    "equalize": lambda image, s: ImageOps.equalize(image),
}


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("name", PILLOW)
def test_color_operations_are_those_of_pillow(name, strength):
    expected = np.asarray(PILLOW[name](Image.fromarray(IMAGE), strength), int)
    found = recolor(name, strength).astype(int)
    # Pillow rounds intermediate results.
    assert np.abs(found - expected).max() <= (0 if name in ("posterize", "solarize") else 2)


def test_every_operation_is_tested():
    assert {f"_{name}" for name in PILLOW} == {op.__name__ for op in ops._COLOR}


@pytest.mark.parametrize("strength", STRENGTHS)
def test_rotation_is_that_of_pillow(strength):
    image = np.zeros((33, 33, 3), np.uint8)
    image[8:20, 6:28] = RNG.integers(50, 255, (12, 22, 3))
    turned = np.asarray(ops._warp(jnp.asarray(image), ops._rotate(jnp.float32(strength))))
    degrees = math.degrees(strength * math.radians(135))
    candidates = [np.asarray(Image.fromarray(image).rotate(sign * degrees)) for sign in (1, -1)]
    # The nearest pixel of a position between two pixels depends on rounding.
    equal = max((turned == candidate).all(-1).mean() for candidate in candidates)
    assert equal > 0.97


def test_shift_and_shear():
    image = np.zeros((14, 14, 1), np.uint8)
    image[:, 7] = 200
    shifted = np.asarray(ops._warp(jnp.asarray(image), ops._shift_x(jnp.float32(0.5))))
    np.testing.assert_array_equal(np.flatnonzero(shifted[0, :, 0]), [6])  # 32/224 of 14, halved
    sheared = np.asarray(ops._warp(jnp.asarray(image), ops._shear_x(jnp.float32(1))))
    columns = [row.argmax() for row in sheared[..., 0] if row.any()]
    assert len(set(columns)) > 10
    assert np.asarray(ops._warp(jnp.asarray(image), ops._keep(0.0))).tolist() == image.tolist()


@pytest.mark.parametrize("shape", [(64, 8, 8, 1), (64, 32, 32, 3), (8, 2, 2, 3)])
def test_batch_keeps_shape_and_depends_on_the_key(shape):
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    augment = jax.jit(ops.trivial_augment)
    first, same, other = (augment(jax.random.key(seed), images) for seed in (0, 0, 1))
    assert (first.shape, first.dtype) == (images.shape, jnp.uint8)
    np.testing.assert_array_equal(first, same)
    changed = np.mean(np.any(np.asarray(first != images), axis=(1, 2, 3)))
    assert changed > 0.3
    assert np.any(np.asarray(first != other))
