"""`decay_and_centralize` equals weight decay and then centralization."""

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import strategies as st

import optax_gc
from optax_gc import FanIn

AXES = {"conv": FanIn((0, 1, 2), "conv"), "dense": FanIn((0,), "dot"), "bias": FanIn(())}
SHAPES = {"conv": (3, 3, 4, 6), "dense": (5, 7), "bias": (7,)}


def trees(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return (
        {name: jnp.asarray(rng.normal(1, 1, shape), dtype) for name, shape in SHAPES.items()}
        for _ in range(2)
    )


def both(weight_decay, mask=None, **options):
    chain = optax.chain(
        optax.add_decayed_weights(weight_decay, mask), optax_gc.centralize(AXES, **options)
    )
    return optax_gc.decay_and_centralize(weight_decay, AXES, mask=mask, **options), chain


def update(tx, grads, params):
    return jax.jit(tx.update)(grads, tx.init(params), params)[0]


@hypothesis.given(decay=st.floats(0, 10), conv_only=st.booleans(), seed=st.integers(0, 2**32 - 1))
@hypothesis.settings(deadline=None, max_examples=30)
def test_equals_chain(decay, conv_only, seed):
    grads, params = trees(seed)
    ours, chain = both(decay, conv_only=conv_only)
    updates = update(ours, grads, params)
    scale = 1 + decay
    chex.assert_trees_all_close(updates, update(chain, grads, params), rtol=0, atol=2e-6 * scale)
    centralized = ("conv",) if conv_only else ("conv", "dense")
    for name in centralized:
        assert np.abs(updates[name].mean(AXES[name].axes)).max() < 2e-6 * scale


@pytest.mark.parametrize(
    "mask",
    [
        {"conv": True, "dense": False, "bias": False},
        lambda params: {name: leaf.ndim > 1 for name, leaf in params.items()},
        False,
    ],
)
def test_mask(mask):
    grads, params = trees()
    ours, chain = both(0.3, mask)
    chex.assert_trees_all_close(
        update(ours, grads, params), update(chain, grads, params), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    ("grad_dtype", "param_dtype"),
    [("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float16", "float16")],
)
def test_dtypes(grad_dtype, param_dtype):
    grads, params = (
        optax.tree.cast(tree, dtype)
        for tree, dtype in zip(trees(), (grad_dtype, param_dtype), strict=True)
    )
    ours, chain = (update(tx, grads, params) for tx in both(0.5))
    chex.assert_trees_all_equal_dtypes(ours, chain)
    chex.assert_trees_all_close(
        optax.tree.cast(ours, jnp.float32), optax.tree.cast(chain, jnp.float32), atol=0.04
    )


def test_other_leaves_are_left_alone():
    grads = {"none": None, "masked": optax.MaskedNode(), "kernel": jnp.array([[1.0], [3.0]])}
    params = grads | {"kernel": jnp.array([[8.0], [16.0]])}
    tx = optax_gc.decay_and_centralize(0.5)
    updates, _ = tx.update(grads, tx.init(params), params)
    assert updates["none"] is None
    assert isinstance(updates["masked"], optax.MaskedNode)
    assert updates["kernel"].tolist() == [[-3.0], [3.0]]


def test_fan_in_of_one_is_decayed_only():
    grads, params = jnp.ones((1, 3)), jnp.full((1, 3), 2.0)
    tx = optax_gc.decay_and_centralize(0.5, lambda path, leaf: FanIn((0,)))
    assert tx.update(grads, tx.init(params), params)[0].tolist() == [[2.0, 2.0, 2.0]]


def test_sharded_fan_in():
    """The means are over all shards, as for `centralize`."""
    mesh = jax.make_mesh((8,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("model")
    rng = np.random.default_rng(0)
    grads, params = (jnp.asarray(rng.normal(1, 1, (16, 3)), jnp.float32) for _ in range(2))
    tx = optax_gc.decay_and_centralize(0.3, lambda path, leaf: FanIn((0,), mesh_axes=("model",)))
    sharded = jax.shard_map(
        lambda grads, params: tx.update(grads, optax.EmptyState(), params)[0],
        mesh=mesh,
        in_specs=(spec, spec),
        out_specs=spec,
    )(grads, params)
    decayed = grads + 0.3 * params
    np.testing.assert_allclose(sharded, decayed - decayed.mean(0, keepdims=True), atol=1e-6)


def test_traced_decay_and_schedule():
    grads, params = trees()
    expected = update(both(0.25)[1], grads, params)

    @jax.jit
    def traced(decay):
        tx = optax_gc.decay_and_centralize(decay, AXES)
        return tx.update(grads, tx.init(params), params)[0]

    chex.assert_trees_all_close(traced(0.25), expected, rtol=0, atol=1e-6)
    tx = optax.inject_hyperparams(optax_gc.decay_and_centralize, static_args="axes")(
        weight_decay=lambda step: 0.25, axes=AXES
    )
    updates, _ = tx.update(grads, tx.init(params), params)
    chex.assert_trees_all_close(updates, expected, rtol=0, atol=1e-6)


def test_errors():
    grads, params = trees()
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        optax_gc.decay_and_centralize(-1)
    with pytest.raises(TypeError, match=r"use optax.inject_hyperparams"):
        optax_gc.decay_and_centralize(lambda step: 0.1)
    with pytest.raises(TypeError, match="axes must be None, a rule"):
        optax_gc.decay_and_centralize(0.1, "kernel")
    tx = optax_gc.decay_and_centralize(0.1, AXES)
    with pytest.raises(ValueError, match="params"):
        tx.update(grads, tx.init(params))
    tx = optax_gc.decay_and_centralize(0, AXES)
    chex.assert_trees_all_equal(
        tx.update(grads, tx.init(params))[0],
        optax_gc.centralize(AXES).update(grads, optax.EmptyState())[0],
    )
