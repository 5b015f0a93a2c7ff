"""`removed_fraction` and `mean_drift`."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

import optax_gc
from optax_gc import FanIn
from optax_gc.diagnostics import mean_drift, removed_fraction
from tests.support.x64 import enable_x64


def _gradients(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 3)
    return {
        "conv": {"kernel": (jax.random.normal(keys[0], (3, 3, 4, 5)) + 0.1).astype(dtype)},
        "dense": {"kernel": (jax.random.normal(keys[1], (6, 7)) - 0.3).astype(dtype)},
        "bias": jax.random.normal(keys[2], (7,)).astype(dtype),
    }


def _square(array):
    return float(np.sum(np.abs(np.asarray(array, np.complex128)) ** 2))


# removed_fraction


@pytest.mark.parametrize("conv_only", [False, True])
@pytest.mark.parametrize("axes", [None, optax_gc.first_axis_out, optax_gc.whole_tensor])
def test_removed_equals_centralize(axes, conv_only):
    grads = _gradients()
    centralized, _ = optax_gc.centralize(axes, conv_only=conv_only).update(
        grads, optax.EmptyState()
    )
    squares = jax.tree.map(lambda g, c: (_square(g - c), _square(g)), grads, centralized)
    pairs = jax.tree.leaves(squares, is_leaf=lambda node: isinstance(node, tuple))
    removed = jax.jit(lambda g: removed_fraction(g, axes, conv_only=conv_only))(grads)
    assert jax.tree.structure(removed.per_leaf) == jax.tree.structure(grads)
    np.testing.assert_allclose(
        jax.tree.leaves(removed.per_leaf), [part / whole for part, whole in pairs], atol=1e-6
    )
    part, whole = np.sum(pairs, axis=0)
    np.testing.assert_allclose(removed.total, part / whole, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.complex64])
def test_removed_sums_in_float32(dtype):
    grads = jax.tree.map(
        lambda g: g * jnp.asarray(200, g.dtype), _gradients(dtype)
    )  # 200^2 > 65504
    removed = removed_fraction(grads)
    expected = removed_fraction(_gradients(jnp.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves(removed)} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(jax.tree.leaves(removed), jax.tree.leaves(expected), rtol=1e-2)


def test_removed_imaginary_mean():
    grads = {"kernel": jnp.full((4, 3), 1j) + jnp.array([[1], [-1], [1], [-1]])}
    np.testing.assert_allclose(removed_fraction(grads).total, 0.5, rtol=1e-6)


@pytest.mark.slow
def test_removed_in_float64():
    with enable_x64():
        removed = removed_fraction(_gradients(jnp.float64))
        assert removed.total.dtype == removed.per_leaf["dense"]["kernel"].dtype == jnp.float64


def test_removed_limits():
    def total(kernel):
        return float(removed_fraction({"kernel": kernel}).total)

    column = jnp.array([[1.0], [2.0], [-3.0]])
    assert total(jnp.ones((3, 4))) == pytest.approx(1.0)
    assert total(jnp.tile(column, (1, 4))) == 0.0
    assert total(jnp.zeros((3, 4))) == 0.0
    assert np.isnan(total(jnp.full((3, 4), jnp.nan)))


def test_removed_skips_masked_leaves():
    grads = {
        "none": None,
        "masked": optax.MaskedNode(),
        "steps": jnp.arange(6).reshape(2, 3),
        "empty": jnp.zeros((0, 3)),
        "one": {"kernel": jnp.ones((1, 3))},
        "kernel": jnp.ones((3, 3)),
    }
    removed = removed_fraction(grads)
    assert jax.tree.structure(removed.per_leaf) == jax.tree.structure(grads)
    assert removed.per_leaf["none"] is None
    left_alone = [removed.per_leaf[name] for name in ("steps", "empty")]
    assert [*left_alone, removed.per_leaf["one"]["kernel"]] == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(removed.total, 9 / 12)


def test_removed_from_noise():
    grads = {"kernel": jax.random.normal(jax.random.key(1), (64, 4096))}
    np.testing.assert_allclose(removed_fraction(grads).total, 1 / 64, rtol=0.1)


# mean_drift


def _regression(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(2), 4)
    params = {
        "hidden": {"kernel": 0.3 * jax.random.normal(keys[0], (12, 16)), "bias": jnp.zeros(16)},
        "out": {"kernel": 0.3 * jax.random.normal(keys[1], (16, 3)), "bias": jnp.zeros(3)},
    }
    x, y = jax.random.normal(keys[2], (32, 12)) + 1.0, jax.random.normal(keys[3], (32, 3))

    def loss(params):
        hidden = jnp.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"][None])
        error = hidden @ params["out"]["kernel"] + params["out"]["bias"][None] - y
        return jnp.mean(error**2)

    return loss, params


@functools.partial(jax.jit, static_argnums=(0, 1))
def _train(tx, loss, params):
    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), length=1000)[0][0]


@pytest.mark.slow
def test_no_drift_with_centralize():
    loss, params0 = _regression()
    tx = optax.chain(
        optax.add_decayed_weights(5e-4), optax_gc.centralize(), optax.sgd(0.05, momentum=0.9)
    )
    params = _train(tx, loss, params0)
    assert float(loss(params)) < 0.2 * float(loss(params0))
    drift = mean_drift(params, params0)
    relative = float(drift.distance / optax.tree.norm(params))
    assert relative < 1e-5


def test_drift_without_centralize():
    loss, params0 = _regression()
    params = _train(optax.sgd(0.05, momentum=0.9), loss, params0)
    assert float(mean_drift(params, params0).distance / optax.tree.norm(params)) > 1e-2


def test_drift_per_unit_and_distance():
    keys = jax.random.split(jax.random.key(3), 2)
    params0 = {"kernel": jax.random.normal(keys[0], (3, 3, 4, 5)), "bias": jnp.zeros(5)}
    params = {"kernel": jax.random.normal(keys[1], (3, 3, 4, 5)), "bias": jnp.ones(5)}
    drift = jax.jit(mean_drift)(params, params0)
    moved = np.mean(np.asarray(params["kernel"] - params0["kernel"], np.float64), axis=(0, 1, 2))
    assert drift.per_unit["kernel"].shape == (5,)
    assert float(drift.per_unit["bias"]) == 0.0
    np.testing.assert_allclose(drift.per_unit["kernel"], moved, atol=1e-6)
    np.testing.assert_allclose(drift.distance, np.sqrt(36 * np.sum(moved**2)), rtol=1e-5)


def test_drift_of_half_precision_weights():
    params0 = {"kernel": jnp.full((1000, 2), 1.0, jnp.bfloat16)}
    params = {"kernel": params0["kernel"].at[0].add(1.0)}
    drift = mean_drift(params, params0)
    np.testing.assert_allclose(drift.per_unit["kernel"], 1e-3, rtol=1e-6)


def test_drift_axes_conv_only_and_masks():
    params0 = {"kernel": jnp.zeros((2, 3)), "none": None, "masked": optax.MaskedNode()}
    params = {"kernel": jnp.ones((2, 3)), "none": None, "masked": optax.MaskedNode()}
    assert mean_drift(params, params0, optax_gc.first_axis_out).per_unit["kernel"].shape == (2,)
    assert float(mean_drift(params, params0, conv_only=True).distance) == 0.0
    assert jax.tree.structure(mean_drift(params, params0).per_unit) == jax.tree.structure(params)


@pytest.mark.parametrize(
    ("params0", "message"),
    [
        ({"other": jnp.zeros((2, 3))}, "params0 is not a tree like params"),
        ({"kernel": jnp.zeros((3, 2))}, r"kernel has shape \(2, 3\) in params and \(3, 2\)"),
        ({"kernel": {"w": jnp.zeros((2, 3))}}, r"kernel has shape \(2, 3\) in params and None"),
    ],
)
def test_drift_between_different_trees(params0, message):
    with pytest.raises(ValueError, match=message):
        mean_drift({"kernel": jnp.zeros((2, 3))}, params0)


# Weights sharded over their fan-in with shard_map


def test_shard_map_equals_unsharded():
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    spec = PartitionSpec(("data", "model"), None)
    keys = jax.random.split(jax.random.key(4), 2)
    params, params0 = ({"w": jax.random.normal(key, (16, 3)) + 0.5} for key in keys)
    axes = {"w": FanIn((0,)).sharded(spec)}

    @jax.jit
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=spec, out_specs=PartitionSpec())
    def by_shard(params, params0):
        return removed_fraction(params, axes), mean_drift(params, params0, axes)

    unsharded = removed_fraction(params), mean_drift(params, params0)
    chex.assert_trees_all_close(by_shard(params, params0), unsharded, rtol=1e-5)
