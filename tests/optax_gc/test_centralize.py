"""`centralize`: which leaves it changes, and its behavior under JAX transformations."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_gc
from optax_gc import FanIn
from tests.support.updates import centralize, normal

# Leaves that are left unchanged


@pytest.mark.parametrize(
    "leaf",
    [
        None,
        optax.MaskedNode(),
        np.arange(6).reshape(2, 3),
        np.ones((2, 3), bool),
        np.zeros((2, 3), jax.dtypes.float0),
        np.zeros((0, 3), np.float32),
        np.zeros((3, 0), np.float32),
        np.float32(2.0),
        np.ones(3, np.float32),
        "not an array",
    ],
    ids=lambda leaf: f"{type(leaf).__name__}-{getattr(leaf, 'dtype', '')}",
)
@pytest.mark.parametrize("axes", [None, optax_gc.last_axis_out], ids=["by_name", "last_axis_out"])
def test_leaf_is_left_unchanged(leaf, axes):
    updates = {"kernel": leaf, "other": {"kernel": normal(2, 3)}}
    assert centralize(updates, axes)["kernel"] is leaf


@pytest.mark.parametrize("shape", [(1, 5), (1, 1, 1, 5)])
def test_fan_in_of_one_element(shape):
    kernel = normal(*shape)
    chex.assert_trees_all_equal(centralize({"kernel": kernel}), {"kernel": kernel})


def test_empty_fan_in():
    kernel = normal(2, 3)
    chex.assert_trees_all_equal(centralize({"w": kernel}, {"w": FanIn(())}), {"w": kernel})


def test_masked_leaf_needs_no_axes():
    kernel = normal(2, 3)
    for axes in (None, optax.MaskedNode(), FanIn((0,)), {"a": FanIn((0,)), "b": FanIn((1,))}):
        updates = {"masked": optax.MaskedNode(), "w": kernel}
        out = centralize(updates, {"masked": axes, "w": FanIn((0,))})
        assert isinstance(out["masked"], optax.MaskedNode)


# Leaves that are centralized


def test_removes_one_mean_per_unit():
    kernel = normal(3, 3, 16, 32)
    out = centralize({"kernel": kernel})["kernel"]
    expected = np.asarray(kernel, np.float64)
    expected = expected - expected.mean((0, 1, 2), keepdims=True)
    chex.assert_trees_all_close(out, expected.astype(np.float32), atol=1e-6)


def test_negative_axes():
    kernel = normal(2, 3, 4)
    chex.assert_trees_all_equal(
        centralize(kernel, FanIn((-1, -3))), centralize(kernel, FanIn((0, 2)))
    )


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.complex64])
def test_keeps_shape_and_dtype(dtype):
    kernel = normal(4, 5, dtype=dtype)
    chex.assert_trees_all_equal_shapes_and_dtypes(
        centralize({"kernel": kernel}), {"kernel": kernel}
    )


def test_numpy_gradients():
    out = centralize({"kernel": np.ones((2, 3), np.float32)})
    chex.assert_trees_all_equal(out, {"kernel": jnp.zeros((2, 3))})


def test_half_precision_means_in_float32():
    kernel = jnp.full((4096, 1), 100.0, jnp.float16)  # the sum overflows float16
    chex.assert_trees_all_equal(centralize({"kernel": kernel}), {"kernel": jnp.zeros_like(kernel)})


# JAX transformations


def test_stateless_without_params():
    updates = {"kernel": normal(2, 3)}
    tx = optax_gc.centralize()
    assert tx.init(updates) == optax.EmptyState()
    without, state = tx.update(updates, tx.init(updates))
    with_params, _ = tx.update(updates, state, updates)
    assert state == optax.EmptyState()
    chex.assert_trees_all_equal(without, with_params)


def test_init_accepts_shapes():
    optax_gc.centralize().init({"kernel": jax.ShapeDtypeStruct((2, 3), jnp.float32)})


def test_jit_gives_same_updates():
    updates = {"kernel": normal(4, 5), "bias": normal(5), "none": None}
    chex.assert_trees_all_close(jax.jit(centralize)(updates), centralize(updates), atol=1e-7)


def test_vmap_centralizes_each_example():
    stack = normal(3, 4, 5)
    out = jax.vmap(lambda kernel: centralize({"kernel": kernel})["kernel"])(stack)
    chex.assert_trees_all_close(
        out, jnp.stack([centralize({"kernel": k})["kernel"] for k in stack])
    )


def test_scan_equals_python_loop():
    tx = optax.chain(optax_gc.centralize(), optax.sgd(0.1, momentum=0.9))
    params = {"kernel": normal(4, 5), "bias": normal(5)}

    def step(carry, seed):
        params, state = carry
        grads = jax.tree.map(lambda p: jnp.cos(p + seed), params)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    (trained, _), _ = jax.lax.scan(step, (params, tx.init(params)), jnp.arange(5.0))
    carry = (params, tx.init(params))
    for seed in range(5):
        carry, _ = step(carry, seed)
    chex.assert_trees_all_close(trained, carry[0], atol=1e-6)


def test_gradient_through_centralize():
    kernel = normal(4, 5)

    def loss(g):
        return jnp.sum(centralize({"kernel": g})["kernel"] ** 2)

    chex.assert_trees_all_close(
        jax.grad(loss)(kernel), 2 * centralize({"kernel": kernel})["kernel"], atol=1e-6
    )


# conv_only


def _changed_names(updates, axes=None):
    out = centralize(updates, axes, conv_only=True)
    return {name for name in updates if not np.array_equal(out[name], updates[name])}


def test_conv_only_by_rank():
    updates = {"conv": normal(3, 3, 4, 5), "conv1d": normal(3, 4, 5), "dense": normal(4, 5)}
    assert _changed_names(updates) == {"conv"}


def test_conv_only_by_operation():
    updates = {"conv1d": normal(3, 4, 5), "attention": normal(2, 3, 4, 5)}
    axes = {
        "conv1d": FanIn((0, 1), op="conv_general_dilated"),
        "attention": FanIn((0, 1, 2), op="dot_general"),
    }
    assert _changed_names(updates, axes) == {"conv1d"}
