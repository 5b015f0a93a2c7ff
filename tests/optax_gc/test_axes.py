"""The `axes` argument of `centralize`: trees of `FanIn`, and errors."""

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
from tests.support.updates import centralize, normal

# Trees of axes


class _Linear(eqx.Module):
    weight: jax.Array | FanIn
    bias: jax.Array | FanIn | None


@pytest.mark.parametrize("kind", ["dict", "equinox", "nnx"])
def test_axes_as_tree(kind):
    match kind:
        case "dict":
            updates, axes = {"w": normal(4, 5)}, {"w": FanIn((1,))}
        case "equinox":
            updates = _Linear(normal(4, 5), None)
            axes = _Linear(FanIn((1,)), None)
        case "nnx":
            updates = nnx.state(nnx.Linear(4, 5, use_bias=False, rngs=nnx.Rngs(0)), nnx.Param)
            axes = jax.tree.map(lambda _: FanIn((1,)), updates)
    out = centralize(updates, axes)
    chex.assert_trees_all_equal_structs(out, updates)
    np.testing.assert_allclose(np.mean(jax.tree.leaves(out)[0], 1), 0, atol=1e-6)


def test_callable_module_as_axes():
    linear = eqx.nn.Linear(4, 5, key=jax.random.key(0))
    updates = eqx.filter(linear, eqx.is_array)
    axes = jax.tree.map(lambda leaf: FanIn((1,) if leaf.ndim > 1 else ()), updates)
    assert callable(axes)
    chex.assert_trees_all_close(centralize(updates, axes).weight.mean(1), jnp.zeros(5), atol=1e-6)


def _two_layers():
    updates = {
        "body": {"kernel": normal(4, 5), "bias": normal(5)},
        "head": {"kernel": normal(5, 6, seed=1), "bias": normal(6)},
    }
    return updates, jax.tree_util.tree_map_with_path(optax_gc.by_name, updates)


def test_fan_in_in_place_of_nnx_leaf():
    """Assigned in a state of inferred axes, to leave a layer alone."""
    updates = nnx.state(nnx.Linear(4, 5, rngs=nnx.Rngs(0)), nnx.Param)
    axes = jax.tree.map(lambda leaf: FanIn((0,) if leaf.ndim > 1 else ()), updates)
    assert not np.allclose(centralize(updates, axes)["kernel"][...], updates["kernel"][...])
    axes["kernel"] = FanIn(())
    chex.assert_trees_all_equal(centralize(updates, axes), updates)


def test_leaf_of_list_is_named():
    with pytest.raises(ValueError, match=r"out of range for leaf 1 of shape \(4, 5\)"):
        centralize([normal(3), normal(4, 5)], [FanIn(()), FanIn((2,))])


@pytest.mark.parametrize("is_prefix", [True, False], ids=["prefix", "full"])
def test_masked_with_full_axes_tree(is_prefix):
    updates, axes = _two_layers()
    mask = {"body": True, "head": False}
    if not is_prefix:
        mask = {layer: dict.fromkeys(updates[layer], mask[layer]) for layer in updates}
    tx = optax.masked(optax_gc.centralize(axes), mask)
    out, _ = tx.update(updates, tx.init(updates))
    chex.assert_trees_all_equal(out, centralize(updates) | {"head": updates["head"]})


def test_multi_transform_with_full_axes_tree():
    updates, axes = _two_layers()
    tx = optax.multi_transform(
        {"gc": optax_gc.centralize(axes), "plain": optax.identity()},
        {"body": "plain", "head": "gc"},
    )
    out, _ = tx.update(updates, tx.init(updates))
    chex.assert_trees_all_equal(out, centralize(updates) | {"body": updates["body"]})


def test_inferred_axes_with_nnx_optimizer():
    """`init` receives boxed parameters, and `update` receives gradients without boxes."""
    net = nnx.Linear(6, 4, rngs=nnx.Rngs(0))
    graph, params = nnx.split(net)
    x = jnp.ones((2, 6))
    axes = optax_gc.infer_axes(lambda params, x: nnx.merge(graph, params)(x), params, x)
    tx = optax.chain(optax_gc.centralize(axes), optax.sgd(0.1))
    optimizer = nnx.Optimizer(net, tx, wrt=nnx.Param)
    before = net.kernel[...]
    optimizer.update(net, nnx.grad(lambda net: jnp.sum(net(x * jnp.arange(6.0)[None]) ** 2))(net))
    change = net.kernel[...] - before
    assert jnp.abs(change).max() > 0.1
    chex.assert_trees_all_close(change.mean(0), jnp.zeros(4), atol=1e-5)


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
        r"^axes must be None, a rule .*, got \{'a': \{'w': \(0,\)\}\}; for the axes of a model",
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
def test_wrong_axes(axes, error, message):
    updates = {"a": {"w": normal(3, 4)}}
    with pytest.raises(error, match=message):
        optax_gc.centralize(axes).init(updates)
    with pytest.raises(error, match=message):
        optax_gc.centralize(axes).update(updates, optax.EmptyState())
    with pytest.raises(error, match=message):
        optax_gc.explain(updates, axes)


@pytest.mark.parametrize(
    "axes",
    [
        {"weight": FanIn((1,))},
        {"weight": FanIn((1,)), "running_mean": FanIn(()), "count": FanIn(())},
    ],
)
def test_axes_match_by_path(axes):
    updates = _Linear(normal(4, 5), None)
    centralized = centralize(updates, axes)
    assert isinstance(centralized, _Linear)
    np.testing.assert_allclose(centralized.weight.mean(1), jnp.zeros(4), atol=1e-6)


def test_single_array():
    with pytest.raises(ValueError, match=r"out of range for the only leaf of shape \(3, 4\)"):
        centralize(normal(3, 4), FanIn((2,)))


@pytest.mark.parametrize(
    ("axes", "got"),
    [
        ((0, 1), "a tuple without FanIn"),
        ([1], r"\[1\]"),
        ("kernel", "'kernel'"),
        ({"kernel": "conv"}, "{'kernel': 'conv'}"),
        (3, "3"),
        (np.zeros(3), "array"),
        (nnx.Linear(2, 3, rngs=nnx.Rngs(0)), "a Linear without FanIn"),
        (nnx.Dropout(0.5, rngs=nnx.Rngs(0)), "a Dropout without FanIn"),
        (eqx.nn.Linear(2, 3, key=jax.random.key(0)), "a Linear without FanIn"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_unsupported_axes_fail_at_once(axes, got):
    message = rf"^axes must be None, a rule such as .*, got {got}.*; for the axes of a model, use"
    with pytest.raises(TypeError, match=message):
        optax_gc.centralize(axes)
