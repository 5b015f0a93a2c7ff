"""Normalization of activations and weights, and the effect of GC with each kind."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from sklearn.datasets import load_digits

import optax_gc
from optax_gc import diagnostics
from tests.train.models.test_models import build, check_axes
from train import models
from train.errors import UserError
from train.models.layers import norm
from train.models.layers.norm import Normalization

pytestmark = pytest.mark.slow

KINDS = {  # without batch normalization, which other tests train with
    "group": Normalization("group"),
    "weight": Normalization("weight"),
    "none": Normalization("none"),
    "group, standardized": Normalization("group", weight_standardization=True),
    "standardized": Normalization("none", weight_standardization=True),
}


def convnet(kind, precision="float32"):
    options = {"norm": kind.name, "weight_standardization": kind.weight_standardization}
    return build("convnet", 10, (8, 8, 1), precision, **options)


def digits(count=64):
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) / 16 - 0.305) / 0.376
    return jnp.asarray(images[:count], jnp.float32), jnp.asarray(labels[:count])


def make_loss(model, stats):
    images, labels = digits()

    def loss(params):
        logits, _ = model.apply(params, stats, images, True)
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return loss


def train(model, tx, steps=12):
    """Return the parameters after training on 64 digits, and the loss before each step."""
    params, stats = model.init(jax.random.key(0))
    value_and_grad = jax.value_and_grad(make_loss(model, stats))

    def step(carry, _):
        params, state = carry
        loss, grads = value_and_grad(params)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), loss

    run = jax.jit(lambda carry: jax.lax.scan(step, carry, length=steps))
    (params, _), losses = run((params, tx.init(params)))
    return params, losses


@pytest.mark.parametrize("kind", KINDS)
def test_training_with_gc_keeps_kernel_means(kind):
    model = convnet(KINDS[kind])
    check_axes(model)
    gc = optax_gc.centralize(models.fan_in_axes(model))
    params, losses = train(model, optax.chain(gc, optax.sgd(0.1, 0.9)), steps=20)
    assert losses[-1] < 0.85 * losses[0]
    first, _ = model.init(jax.random.key(0))
    drift = diagnostics.mean_drift(params, first, models.fan_in_axes(model))
    assert float(drift.distance) < 1e-5


@pytest.mark.parametrize("kind", [*KINDS.values(), Normalization("batch", True)])
def test_axes_of_resnet(kind):
    options = {"norm": kind.name, "weight_standardization": kind.weight_standardization}
    check_axes(build("resnet20", remat=True, **options))


@pytest.mark.parametrize("kind", ["group", "weight"])
def test_training_ignores_rest_of_batch(kind):
    model, (images, _) = convnet(KINDS[kind]), digits(4)
    params, stats = model.init(jax.random.key(0))
    assert not jax.tree.leaves(stats)
    together, _ = model.apply(params, stats, images, True)
    alone, _ = model.apply(params, stats, images[:1], False)
    np.testing.assert_allclose(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_group_norm_has_32_groups():
    for width, groups in ((16, 16), (32, 32), (256, 32)):
        layer = Normalization("group").layer(width, jnp.float32, nnx.Rngs(0))
        x = jax.random.normal(jax.random.key(0), (2, 4, 4, width)) * 3 + 5
        y = layer(x).reshape(2, 16, groups, width // groups)
        np.testing.assert_allclose(y.mean((1, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(y.std((1, 3)), 1, atol=1e-4)


def test_standardized_mean_and_variance():
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 16, 8)) * 0.05 + 0.02
    weights = norm.standardize(kernel)
    np.testing.assert_allclose(weights.mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(weights.var((0, 1, 2)), 1 / (9 * 16), rtol=1e-3)
    transformed = norm.standardize(3 * kernel + jnp.arange(8.0)[None, None, None])
    np.testing.assert_allclose(transformed, weights, atol=1e-4)


def test_scale_is_norm_of_weights():
    conv = Normalization("weight").conv(4, 8, (3, 3), rngs=nnx.Rngs(0))
    np.testing.assert_allclose(conv.weight(), conv.kernel[...], rtol=1e-6)
    conv.scale[...] = jnp.arange(1.0, 9.0)
    weights = conv.weight()
    np.testing.assert_allclose(jnp.sqrt((weights**2).sum((0, 1, 2))), jnp.arange(1, 9), rtol=1e-6)
    cosines = (weights * conv.kernel[...]).sum((0, 1, 2)) / (
        jnp.arange(1, 9) * jnp.sqrt((conv.kernel[...] ** 2).sum((0, 1, 2)))
    )
    np.testing.assert_allclose(cosines, 1, rtol=1e-6)


def test_gc_removes_nothing_from_standardized_kernel():
    removed = {}
    for standardization in (False, True):
        model = convnet(Normalization("group", standardization))
        params, stats = model.init(jax.random.key(0))
        grads = jax.jit(jax.grad(make_loss(model, stats)))(params)
        fractions = diagnostics.removed_fraction(grads, models.fan_in_axes(model))
        removed[standardization] = fractions.per_leaf["conv2"]["kernel"]
    assert removed[True] < 1e-9
    assert removed[False] > 1e-3


def test_gc_does_not_change_standardized_training():
    """GC removes only the mean of L2 decay, and standardization ignores that mean."""
    model = convnet(Normalization("group", weight_standardization=True))
    axes = models.fan_in_axes(model)
    decay, momentum = optax.add_decayed_weights(0.1), optax.sgd(0.05, 0.9)
    gc = optax_gc.centralize(axes, conv_only=True)
    plain_params, losses = train(model, optax.chain(decay, momentum))
    gc_params, gc_losses = train(model, optax.chain(decay, gc, momentum))
    np.testing.assert_allclose(gc_losses, losses, rtol=1e-3)
    difference = plain_params["conv2"]["kernel"] - gc_params["conv2"]["kernel"]
    assert jnp.abs(difference.mean((0, 1, 2))).max() > 1e-3  # the means differ


@pytest.mark.parametrize("kind", ["weight", "group, standardized"])
def test_bfloat16_normalizes_weights_in_float32(kind):
    model, (images, _) = convnet(KINDS[kind], "bfloat16"), digits(8)
    params, stats = model.init(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    logits, _ = model.apply(params, stats, images, True)
    exact, _ = convnet(KINDS[kind]).apply(params, stats, images, True)
    assert logits.dtype == jnp.bfloat16
    assert jnp.abs(logits.astype(jnp.float32) - exact).max() < 0.05 * jnp.abs(exact).max()
    text = jax.jit(model.apply, static_argnums=3).lower(params, stats, images, True).as_text()
    roots = [line for line in text.splitlines() if "sqrt %" in line]
    assert roots
    assert not any("bf16" in line for line in roots)


def test_rejects_two_weight_normalizations():
    with pytest.raises(UserError, match=r"config\.model\.norm='weight' .* set one of them"):
        build("convnet", norm="weight", weight_standardization=True)
