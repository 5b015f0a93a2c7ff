"""Mixup and CutMix: shares of pixels and labels; label smoothing; the loss of mixed labels."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.config import default_config, validate
from train.data.batch import Batch
from train.tasks import losses
from train.tasks.classification import MixedBatch, metric_sums
from train.tasks.mixing import mix

COUNT, SIDE = 400, 16


def make_config(**fields):
    config = default_config()
    config.data.update(fields)
    validate(config)
    return config


def mixed(**fields):
    """Return a mixed batch of constant images: image i has the value i and the label i."""
    values = jnp.arange(COUNT, dtype=jnp.float32)
    images = jnp.broadcast_to(values[:, None, None, None], (COUNT, SIDE, SIDE, 2))
    labels = jnp.arange(COUNT, dtype=jnp.int32)
    result = jax.jit(lambda key: mix(key, images, labels, make_config(**fields)))(jax.random.key(0))
    np.testing.assert_array_equal(result.other_labels, np.roll(labels, 1))
    assert float(result.share.min()) >= 0
    assert float(result.share.max()) <= 1
    return jax.device_get(result), np.asarray(values), np.roll(values, 1)


def test_mixup_blends_pixels_by_the_share_of_the_label():
    result, own, other = mixed(mixup=0.2)
    expected = result.share * own + (1 - result.share) * other
    expected = np.broadcast_to(expected[:, None, None, None], result.inputs.shape)
    np.testing.assert_allclose(result.inputs, expected, rtol=1e-4, atol=1e-4)
    assert (np.abs(result.share - 0.5) > 0.4).mean() > 0.6, "Beta(0.2, 0.2) is mostly near 0 and 1"
    uniform, *_ = mixed(mixup=1.0)
    assert np.abs(np.sort(uniform.share) - np.linspace(0, 1, COUNT)).max() < 0.1


def test_cutmix_pastes_boxes_with_their_share_of_the_label():
    result, own, other = mixed(cutmix=1.0)
    is_own = result.inputs == own[:, None, None, None]
    np.testing.assert_array_equal(is_own | (result.inputs == other[:, None, None, None]), True)
    np.testing.assert_allclose(is_own.mean((1, 2, 3)), result.share, atol=1e-6)
    for mask in ~is_own[..., 0]:  # a rectangle is the product of its rows and columns
        np.testing.assert_array_equal(mask, np.outer(mask.any(1), mask.any(0)))
    assert 0.4 < result.share.mean() < 0.75
    assert len(np.unique(result.share)) > 50


def test_both_are_used_for_half_of_the_images():
    result, *_ = mixed(mixup=1.0, cutmix=1.0)
    is_blended = np.ptp(result.inputs, axis=(1, 2, 3)) == 0
    is_integer = np.isclose(result.inputs[:, 0, 0, 0] % 1, 0)
    share = (is_blended & ~is_integer).mean()
    assert 0.4 < share < 0.6


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_that_of_soft_labels(smoothing):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(6, 5)), jnp.float32)
    labels, others = (jnp.asarray(rng.integers(0, 5, 6), jnp.int32) for _ in range(2))
    share, mask = jnp.asarray(rng.random(6), jnp.float32), jnp.ones(6, bool)
    batch = MixedBatch(logits, labels, mask, others, share)
    one_hot = share[:, None] * jax.nn.one_hot(labels, 5) + (1 - share[:, None]) * jax.nn.one_hot(
        others, 5
    )
    expected = optax.softmax_cross_entropy(logits, optax.smooth_labels(one_hot, smoothing))
    config = make_config()
    config.loss.label_smoothing = smoothing
    sums = metric_sums(logits, batch, losses.make(config))
    np.testing.assert_allclose(sums["loss"], expected.sum(), rtol=1e-5)
    assert sums["top1"] == (logits.argmax(1) == labels).sum()
    plain = metric_sums(logits, Batch(logits, labels, mask), losses.make(config))
    smoothed = optax.smooth_labels(jax.nn.one_hot(labels, 5), smoothing)
    expected = optax.softmax_cross_entropy(logits, smoothed)
    np.testing.assert_allclose(plain["loss"], expected.sum(), rtol=1e-5)
