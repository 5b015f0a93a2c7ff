"""Sharded weights: under jit, means are global; under shard_map, they need `FanIn.mesh_axes`."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import optax_gc
from optax_gc import FanIn

pytestmark = pytest.mark.slow

COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all)(?:-start)?\("
)


def _mesh(shape=(8,), names=("data",), kind=AxisType.Auto):
    return jax.make_mesh(shape, names, axis_types=(kind,) * len(names))


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def _centralize(updates, axes=None):
    return optax_gc.centralize(axes).update(updates, optax.EmptyState())[0]


def _collectives(compiled):
    return sorted(COLLECTIVE.findall(compiled.as_text()))


WEIGHTS = {
    "dense": {"kernel": _normal(32, 16), "bias": _normal(16)},
    "conv": {"kernel": _normal(3, 3, 16, 24)},
    "query": {"kernel": _normal(32, 8, 4)},
    "out": {"kernel": _normal(8, 4, 32)},
}
FSDP = {  # shards the first divisible axis, which is a fan-in axis except for biases
    "dense": {"kernel": P("data"), "bias": P("data")},
    "conv": {"kernel": P(None, None, "data")},
    "query": {"kernel": P("data")},
    "out": {"kernel": P("data")},
}
TENSOR_PARALLEL = {  # shards heads and hidden units, which are output or fan-in axes
    "dense": {"kernel": P(None, "data"), "bias": P("data")},
    "conv": {"kernel": P(None, None, None, "data")},
    "query": {"kernel": P(None, "data")},
    "out": {"kernel": P("data")},
}
BOTH = {
    "dense": {"kernel": P("data", "model"), "bias": P("model")},
    "conv": {"kernel": P(None, None, "data", "model")},
    "query": {"kernel": P("data", "model")},
    "out": {"kernel": P(("data", "model"))},
}


# jit: means are global for every sharding


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize(
    ("shape", "names", "specs"),
    [
        ((8,), ("data",), FSDP),
        ((8,), ("data",), TENSOR_PARALLEL),
        ((4, 2), ("data", "model"), BOTH),
    ],
    ids=["fsdp", "tensor parallel", "both"],
)
def test_jit_with_sharded_weights(kind, shape, names, specs):
    mesh = _mesh(shape, names, kind)
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
    sharded = jax.device_put(WEIGHTS, shardings)
    out = jax.jit(_centralize)(sharded)
    chex.assert_trees_all_close(
        jax.device_get(out), jax.device_get(_centralize(WEIGHTS)), atol=1e-6
    )
    for leaf, sharding in zip(jax.tree.leaves(out), jax.tree.leaves(shardings), strict=True):
        assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)


def test_sharded_fan_in_one_all_reduce():
    mesh = _mesh()
    kernel = jax.device_put(WEIGHTS["dense"]["kernel"], NamedSharding(mesh, P("data")))
    compiled = jax.jit(_centralize).lower({"kernel": kernel}).compile()
    assert _collectives(compiled) == ["all-reduce"]
    [shape] = re.findall(r"= f32\[([\d,]*)\]\S* all-reduce\(", compiled.as_text())
    assert np.prod([int(n) for n in shape.split(",")]) == 16  # one mean per output unit


# Replicated weights


def _loss(params, images, targets):
    hidden = jnp.tanh(images @ params["hidden"]["kernel"] + params["hidden"]["bias"][None])
    return jnp.mean((hidden @ params["head"]["kernel"] - targets) ** 2)


PARAMS = {
    "hidden": {"kernel": _normal(12, 16), "bias": _normal(16)},
    "head": {"kernel": _normal(16, 3)},
}
BATCH = _normal(32, 12), _normal(32, 3)


def _step(tx):
    def step(params, images, targets):
        grads = jax.grad(_loss)(params, images, targets)
        updates, _ = tx.update(grads, tx.init(params), params)
        return optax.apply_updates(params, updates)

    return step


PLAIN = optax.sgd(0.1)
GC = optax.chain(optax_gc.centralize(), optax.sgd(0.1))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_data_parallel_step_adds_no_collectives(kind):
    mesh = _mesh(kind=kind)
    params = jax.device_put(PARAMS, NamedSharding(mesh, P()))
    batch = jax.device_put(BATCH, NamedSharding(mesh, P("data")))
    out_shardings = NamedSharding(mesh, P())

    def compiled(tx):
        return jax.jit(_step(tx), out_shardings=out_shardings).lower(params, *batch).compile()

    plain, gc = compiled(PLAIN), compiled(GC)
    assert _collectives(plain)
    assert _collectives(gc) == _collectives(plain)
    chex.assert_trees_all_close(
        jax.device_get(gc(params, *batch)), jax.device_get(_step(GC)(PARAMS, *BATCH)), atol=1e-6
    )


def _vary(params):
    """Cast replicated parameters to varying ones. `pvary` is the name before JAX 0.8."""
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(params, "data", to="varying")
    return jax.lax.pvary(params, "data")


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map_with_replicated_weights(check_vma):
    def step(params, images, targets):
        varying = _vary(params) if check_vma else params
        grads = jax.lax.pmean(jax.grad(_loss)(varying, images, targets), "data")
        updates, _ = GC.update(grads, GC.init(params))
        return optax.apply_updates(params, updates)

    mapped = jax.shard_map(
        step,
        mesh=_mesh(),
        in_specs=(P(), P("data"), P("data")),
        out_specs=P(),
        check_vma=check_vma,
    )
    chex.assert_trees_all_close(
        jax.device_get(jax.jit(mapped)(PARAMS, *BATCH)),
        jax.device_get(_step(GC)(PARAMS, *BATCH)),
        atol=1e-6,
    )


def test_pmap_with_replicated_weights():
    def step(params, images, targets):
        grads = jax.lax.pmean(jax.grad(_loss)(params, images, targets), "data")
        updates, _ = GC.update(grads, GC.init(params))
        return optax.apply_updates(params, updates)

    mapped = jax.pmap(step, "data", in_axes=(None, 0, 0))
    per_device = [array.reshape(8, 4, -1) for array in BATCH]
    out = jax.device_get(mapped(PARAMS, *per_device))
    expected = jax.device_get(_step(GC)(PARAMS, *BATCH))
    for device in range(8):
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, device=device: leaf[device], out), expected, atol=1e-6
        )


# shard_map with a sharded fan-in


def _centralize_by_shard(kernel, fan_in, spec, mesh, check_vma=True):
    mapped = jax.shard_map(
        lambda shard: _centralize(shard, fan_in),
        mesh=mesh,
        in_specs=spec,
        out_specs=spec,
        check_vma=check_vma,
    )
    return jax.device_get(jax.jit(mapped)(kernel))


KERNEL = _normal(16, 8, 4)
CENTRALIZED = jax.device_get(_centralize(KERNEL, FanIn((0, 1))))


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize(
    ("shape", "names", "spec"),
    [
        ((8,), ("data",), P("data")),
        ((8,), ("data",), P(None, "data")),
        ((4, 2), ("data", "model"), P("data", "model")),
        ((4, 2), ("data", "model"), P(("data", "model"))),
        ((4, 2), ("data", "model"), P("data", None, "model")),
    ],
    ids=str,
)
def test_mesh_axes_give_global_means(shape, names, spec, check_vma):
    fan_in = FanIn((0, 1)).sharded(spec)
    out = _centralize_by_shard(KERNEL, fan_in, spec, _mesh(shape, names), check_vma)
    np.testing.assert_allclose(out, CENTRALIZED, atol=1e-6)


@pytest.mark.parametrize("check_vma", [True, False])
def test_without_mesh_axes_means_are_local(check_vma):
    spec = P("data")
    out = _centralize_by_shard(KERNEL, FanIn((0, 1)), spec, _mesh(), check_vma)
    assert np.abs(out - CENTRALIZED).max() > 0.1
    for shard in np.split(out, 8):  # the error is not visible in a single shard
        np.testing.assert_allclose(shard.mean((0, 1)), 0, atol=1e-6)


def test_local_fan_in_of_one():
    kernel = _normal(8, 4)
    np.testing.assert_array_equal(
        _centralize_by_shard(kernel, FanIn((0,)), P("data"), _mesh()), kernel
    )


@pytest.mark.parametrize("check_vma", [True, False])
def test_local_fan_in_with_mesh_axes(check_vma):
    kernel, spec = _normal(8, 4), P("data")
    out = _centralize_by_shard(kernel, FanIn((0,)).sharded(spec), spec, _mesh(), check_vma)
    np.testing.assert_allclose(out, kernel - kernel.mean(0), atol=1e-6)


@pytest.mark.parametrize("check_vma", [True, False])
def test_global_fan_in_of_one(check_vma):
    kernel, spec = _normal(1, 16), P("model", "data")
    mesh = _mesh((8, 1), ("data", "model"))
    out = _centralize_by_shard(kernel, FanIn((0,)).sharded(spec), spec, mesh, check_vma)
    np.testing.assert_array_equal(out, kernel)


def test_unknown_mesh_axis():
    with pytest.raises(NameError, match="model"):
        _centralize(KERNEL, FanIn((0,), mesh_axes=("model",)))


@pytest.mark.parametrize("check_vma", [True, False])
def test_sharded_tree_of_axes(check_vma):
    axes = jax.tree_util.tree_map_with_path(optax_gc.by_name, WEIGHTS)
    axes = jax.tree.map(FanIn.sharded, axes, BOTH)
    mapped = jax.shard_map(
        lambda shards: _centralize(shards, axes),
        mesh=_mesh((4, 2), ("data", "model")),
        in_specs=(BOTH,),
        out_specs=BOTH,
        check_vma=check_vma,
    )
    chex.assert_trees_all_close(
        jax.device_get(jax.jit(mapped)(WEIGHTS)), jax.device_get(_centralize(WEIGHTS)), atol=1e-6
    )
