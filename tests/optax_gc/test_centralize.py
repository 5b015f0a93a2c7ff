"""What `centralize` touches, what it leaves alone, and what it says when the axes are wrong."""

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import optax_gc
from optax_gc import FanIn


def _normal(*shape, dtype=np.float32, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def _update(updates, axes=None, **kwargs):
    tx = optax_gc.centralize(axes, **kwargs)
    return tx.update(updates, tx.init(updates))[0]


def _means(leaf, axes):
    return np.asarray(leaf, np.float64).mean(axes)


# What is left alone


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
def test_leaf_passes_through_untouched(leaf, axes):
    updates = {"kernel": leaf, "other": {"kernel": _normal(2, 3)}}
    assert _update(updates, axes)["kernel"] is leaf


@pytest.mark.parametrize("shape", [(1, 5), (1, 1, 1, 5)])
def test_a_fan_in_of_one_is_left_alone(shape):
    kernel = _normal(*shape)
    chex.assert_trees_all_equal(_update({"kernel": kernel}), {"kernel": kernel})


def test_an_empty_fan_in_leaves_the_weight_alone():
    kernel = _normal(2, 3)
    chex.assert_trees_all_equal(_update({"w": kernel}, {"w": FanIn(())}), {"w": kernel})


def test_a_hole_in_the_updates_needs_no_axes():
    kernel = _normal(2, 3)
    for at_hole in (None, optax.MaskedNode(), FanIn((0,)), {"a": FanIn((0,)), "b": FanIn((1,))}):
        updates = {"hole": optax.MaskedNode(), "w": kernel}
        out = _update(updates, {"hole": at_hole, "w": FanIn((0,))})
        assert isinstance(out["hole"], optax.MaskedNode)


# What is centralized


def test_one_mean_per_output_unit_is_removed():
    kernel = _normal(3, 3, 16, 32)
    out = _update({"kernel": kernel})["kernel"]
    expected = np.asarray(kernel, np.float64)
    expected = expected - expected.mean((0, 1, 2), keepdims=True)
    chex.assert_trees_all_close(out, expected.astype(np.float32), atol=1e-6)


def test_negative_axes_count_from_the_end():
    kernel = _normal(2, 3, 4)
    chex.assert_trees_all_equal(_update(kernel, FanIn((-1, -3))), _update(kernel, FanIn((0, 2))))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.complex64])
def test_shape_and_dtype_are_kept(dtype):
    kernel = _normal(4, 5, dtype=dtype)
    chex.assert_trees_all_equal_shapes_and_dtypes(_update({"kernel": kernel}), {"kernel": kernel})


def test_numpy_gradients_do():
    out = _update({"kernel": np.ones((2, 3), np.float32)})
    chex.assert_trees_all_equal(out, {"kernel": jnp.zeros((2, 3))})


def test_half_precision_is_averaged_in_float32():
    kernel = jnp.full((4096, 1), 100.0, jnp.float16)  # the sum overflows float16
    chex.assert_trees_all_equal(_update({"kernel": kernel}), {"kernel": jnp.zeros_like(kernel)})


# Under transformations


def test_params_are_not_needed_and_the_state_is_empty():
    updates = {"kernel": _normal(2, 3)}
    tx = optax_gc.centralize()
    assert tx.init(updates) == optax.EmptyState()
    without, state = tx.update(updates, tx.init(updates))
    with_params, _ = tx.update(updates, state, updates)
    assert state == optax.EmptyState()
    chex.assert_trees_all_equal(without, with_params)


def test_a_shape_is_enough_for_init():
    optax_gc.centralize().init({"kernel": jax.ShapeDtypeStruct((2, 3), jnp.float32)})


def test_jit_changes_nothing():
    updates = {"kernel": _normal(4, 5), "bias": _normal(5), "hole": None}
    chex.assert_trees_all_close(jax.jit(_update)(updates), _update(updates), atol=1e-7)


def test_vmap_centralizes_each_example():
    stack = _normal(3, 4, 5)
    out = jax.vmap(lambda kernel: _update({"kernel": kernel})["kernel"])(stack)
    chex.assert_trees_all_close(out, jnp.stack([_update({"kernel": k})["kernel"] for k in stack]))


def test_scan_carries_it():
    tx = optax.chain(optax_gc.centralize(), optax.sgd(0.1, momentum=0.9))
    params = {"kernel": _normal(4, 5), "bias": _normal(5)}

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


def test_it_can_be_differentiated_through():
    kernel = _normal(4, 5)

    def loss(g):
        return jnp.sum(_update({"kernel": g})["kernel"] ** 2)

    chex.assert_trees_all_close(
        jax.grad(loss)(kernel), 2 * _update({"kernel": kernel})["kernel"], atol=1e-6
    )


# Trees of axes


class _Linear(eqx.Module):
    weight: jax.Array | FanIn
    bias: jax.Array | FanIn | None


@pytest.mark.parametrize("kind", ["dict", "equinox", "nnx"])
def test_axes_may_be_a_tree_like_the_updates(kind):
    match kind:
        case "dict":
            updates, axes = {"w": _normal(4, 5)}, {"w": FanIn((1,))}
        case "equinox":
            updates = _Linear(_normal(4, 5), None)
            axes = _Linear(FanIn((1,)), None)
        case "nnx":
            updates = nnx.state(nnx.Linear(4, 5, use_bias=False, rngs=nnx.Rngs(0)), nnx.Param)
            axes = jax.tree.map(lambda _: FanIn((1,)), updates)
    out = _update(updates, axes)
    chex.assert_trees_all_equal_structs(out, updates)
    chex.assert_trees_all_close(_means(jax.tree.leaves(out)[0], 1), np.zeros(4), atol=1e-6)


def test_a_callable_equinox_module_full_of_axes_is_a_tree_and_no_rule():
    linear = eqx.nn.Linear(4, 5, key=jax.random.key(0))
    updates = eqx.filter(linear, eqx.is_array)
    axes = jax.tree.map(lambda leaf: FanIn((1,) if leaf.ndim > 1 else ()), updates)
    assert callable(axes)
    chex.assert_trees_all_close(_update(updates, axes).weight.mean(1), jnp.zeros(5), atol=1e-6)


def _two_layers():
    updates = {
        "body": {"kernel": _normal(4, 5), "bias": _normal(5)},
        "head": {"kernel": _normal(5, 6, seed=1), "bias": _normal(6)},
    }
    return updates, jax.tree_util.tree_map_with_path(optax_gc.by_name, updates)


@pytest.mark.parametrize("prefix", [True, False], ids=["by subtree", "leaf by leaf"])
def test_masked_takes_the_full_tree_of_axes(prefix):
    updates, axes = _two_layers()
    mask = {"body": True, "head": False}
    if not prefix:
        mask = {layer: dict.fromkeys(updates[layer], mask[layer]) for layer in updates}
    tx = optax.masked(optax_gc.centralize(axes), mask)
    out, _ = tx.update(updates, tx.init(updates))
    chex.assert_trees_all_equal(out, _update(updates) | {"head": updates["head"]})


def test_multi_transform_takes_the_full_tree_of_axes():
    updates, axes = _two_layers()
    tx = optax.multi_transform(
        {"gc": optax_gc.centralize(axes), "plain": optax.identity()},
        {"body": "plain", "head": "gc"},
    )
    out, _ = tx.update(updates, tx.init(updates))
    chex.assert_trees_all_equal(out, _update(updates) | {"body": updates["body"]})


# Convolutions only


def _centralized(updates, axes=None):
    out = _update(updates, axes, conv_only=True)
    return {name for name in updates if not np.array_equal(out[name], updates[name])}


def test_conv_only_goes_by_rank_where_nothing_else_is_known():
    updates = {"conv": _normal(3, 3, 4, 5), "conv1d": _normal(3, 4, 5), "dense": _normal(4, 5)}
    assert _centralized(updates) == {"conv"}


def test_conv_only_goes_by_the_operation_where_it_is_known():
    updates = {"conv1d": _normal(3, 4, 5), "attention": _normal(2, 3, 4, 5)}
    axes = {
        "conv1d": FanIn((0, 1), op="conv_general_dilated"),
        "attention": FanIn((0, 1, 2), op="dot_general"),
    }
    assert _centralized(updates, axes) == {"conv1d"}


# Errors

_AXES_AND_MESSAGES = [
    (
        {"a": {"w": FanIn((2,))}},
        ValueError,
        r"^fan-in axis 2 is out of range for a/w of shape \(3, 4\), which has 2 axes$",
    ),
    (
        {"a": {"w": FanIn((-3,))}},
        ValueError,
        r"^fan-in axis -3 is out of range for a/w of shape \(3, 4\), which has 2 axes$",
    ),
    (
        {"a": {"w": FanIn((0, -2))}},
        ValueError,
        r"^FanIn\(\(0, -2\)\) names an axis of a/w of shape \(3, 4\) twice$",
    ),
    (
        {"a": {"w": (0,)}},
        TypeError,
        r"^the axes of a/w of shape \(3, 4\) must be an .*FanIn, got \(0,\); FanIn\(\(\)\)",
    ),
    (
        {"a": {"w": None}},
        TypeError,
        r"^the axes of a/w of shape \(3, 4\) must be an .*FanIn, got None; FanIn\(\(\)\)",
    ),
    (
        lambda path, leaf: 0,
        TypeError,
        r"^the axes of a/w of shape \(3, 4\) must be an .*FanIn, got 0; FanIn\(\(\)\)",
    ),
    (
        lambda path, leaf: FanIn((7,)),
        ValueError,
        r"^fan-in axis 7 is out of range for a/w of shape \(3, 4\), which has 2 axes$",
    ),
    (
        {"a": {"v": FanIn((0,))}},
        ValueError,
        r"^the tree of axes does not fit: it has no FanIn for a/w of shape \(3, 4\); .* a/v",
    ),
    (
        FanIn((0,)),
        ValueError,
        r"^the tree of axes does not fit: it has no FanIn for a/w of shape \(3, 4\); .* a rule",
    ),
    (
        {"a": {"w": FanIn((0,)), "b": FanIn(())}},
        ValueError,
        r"^the tree of axes does not fit: it has a FanIn for a/b, the updates do not$",
    ),
    (
        {"a": [FanIn((0,))]},
        ValueError,
        r"^the tree of axes does not fit: it has no FanIn for a/w of shape \(3, 4\); .* a/0",
    ),
    (
        (("a", {"w": FanIn((0,))}),),
        ValueError,
        "^the tree of axes does not fit",
    ),
]


@pytest.mark.parametrize(("axes", "error", "message"), _AXES_AND_MESSAGES)
def test_wrong_axes_are_one_clear_message_at_init_and_at_update(axes, error, message):
    updates = {"a": {"w": _normal(3, 4)}}
    tx = optax_gc.centralize(axes)
    with pytest.raises(error, match=message):
        tx.init(updates)
    with pytest.raises(error, match=message):
        tx.update(updates, optax.EmptyState())
    with pytest.raises(error, match=message):
        optax_gc.explain(updates, axes)


def test_containers_of_another_type_are_named_as_such():
    updates = _Linear(_normal(4, 5), None)
    with pytest.raises(ValueError, match=r"\(dict\) are of other types than .* \(_Linear\)"):
        _update(updates, {"weight": FanIn((1,))})


def test_a_lone_array_is_called_the_only_leaf():
    with pytest.raises(ValueError, match=r"out of range for the only leaf of shape \(3, 4\)"):
        _update(_normal(3, 4), FanIn((2,)))


def test_inferred_axes_fit_what_nnx_optimizer_passes():
    """Boxed parameters at init, bare gradients at update."""
    net = nnx.Linear(6, 4, rngs=nnx.Rngs(0))
    graph, params = nnx.split(net)
    x = jnp.ones((2, 6))
    axes = optax_gc.infer_axes(lambda params, x: nnx.merge(graph, params)(x), params, x)
    tx = optax.chain(optax_gc.centralize(axes), optax.sgd(0.1))
    optimizer = nnx.Optimizer(net, tx, wrt=nnx.Param)
    before = net.kernel[...]
    optimizer.update(net, nnx.grad(lambda net: jnp.sum(net(x * jnp.arange(6.0)[None]) ** 2))(net))
    moved = net.kernel[...] - before
    assert jnp.abs(moved).max() > 0.1
    chex.assert_trees_all_close(moved.mean(0), jnp.zeros(4), atol=1e-5)


@pytest.mark.parametrize("axes", [(0, 1), "last_axis_out"])
def test_axes_of_no_kind_that_there_is(axes):
    with pytest.raises(TypeError, match="axes must be None, a rule such as"):
        optax_gc.centralize(axes).init({"kernel": jnp.ones((2, 3))})
