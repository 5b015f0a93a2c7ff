"""`infer_axes` on control flow, sharded functions and other JAX transformations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import optax_gc
from tests.support.fan_ins import ADDED, NOT_FLOATING_POINT, f32, infer

X = f32(4, 6)
STACK = {"w": f32(3, 6, 6), "b": f32(3, 1, 6)}
STACK_AXES = {"w": (1,), "b": ADDED}


def layer(params, x):
    return jnp.tanh(x @ params["w"] + params["b"])


@jax.custom_jvp
def sine(x):
    return jnp.sin(x)


sine.defjvp(lambda primals, tangents: (sine(*primals), tangents[0] * jnp.cos(*primals)))


@jax.custom_batching.custom_vmap
def doubled(x):
    return 2 * x


doubled.def_vmap(lambda size, batched, x: (2 * x, batched[0]))

WRAPPERS = {
    "jit": jax.jit,
    "remat": jax.checkpoint,
    "remat with a policy": functools.partial(
        jax.checkpoint, policy=jax.checkpoint_policies.dots_saveable
    ),
    "named": jax.named_call,
    "jit in remat in jit": lambda fn: jax.jit(jax.checkpoint(jax.jit(fn))),
    "custom_jvp inside": lambda fn: lambda params, x: fn(jax.tree.map(sine, params), x),
    "custom_vmap inside": lambda fn: lambda params, x: fn(jax.tree.map(doubled, params), x),
    "a loss and auxiliary outputs": lambda fn: (
        lambda params, x: (fn(params, x).sum(), {"aux": None})
    ),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrapped_function(name):
    params = {"w": f32(6, 6), "b": f32(1, 6)}
    assert infer(WRAPPERS[name](layer), params, X) == {"w": (0,), "b": ADDED}


def test_scan_over_layers():
    def fn(params, x):
        return jax.lax.scan(lambda x, p: (layer(p, x), x.mean()), x, params, unroll=2)

    assert infer(fn, STACK, X) == STACK_AXES
    assert infer(jax.checkpoint(fn), STACK, X) == STACK_AXES
    assert infer(jax.grad(lambda p, x: fn(p, x)[0].sum()), STACK, X) == STACK_AXES
    reverse = lambda p, x: jax.lax.scan(lambda x, p: (layer(p, x), None), x, p, reverse=True)  # noqa: E731
    assert infer(reverse, STACK, X) == STACK_AXES


def test_scan_constants_carry_and_outputs():
    """A weight may be a constant, a part of the carry, or an output of the scan."""

    def fn(params, xs):
        def step(carry, x):
            h, w = carry
            h = jnp.tanh(x @ params["closed"] + h @ w)
            return (h, w * 0.5), (h, params["out"])

        (h, w), (hs, outs) = jax.lax.scan(step, (jnp.zeros((4, 5)), params["carried"]), xs)
        return jnp.einsum("tbi,tio->tbo", hs, outs).sum(0) + h @ w @ params["after"]

    params = {"closed": f32(6, 5), "carried": f32(5, 5), "out": f32(5, 7), "after": f32(5, 7)}
    assert infer(fn, params, f32(8, 4, 6)) == dict.fromkeys(params, (0,))


def test_scan_of_scans():
    """Groups of layers have two leading axes."""

    def inner(x, group):
        return jax.lax.scan(lambda x, p: (layer(p, x), None), x, group)[0], None

    params = {"w": f32(2, 3, 6, 6), "b": f32(2, 3, 1, 6)}
    found = infer(lambda params, x: jax.lax.scan(inner, x, params)[0], params, X)
    assert found == {"w": (2,), "b": ADDED}


def test_carry_needs_several_iterations():
    """The weight reaches the contraction only at the third step."""

    def fn(w, x):
        def step(_, carry):
            a, b, c, x = carry
            return w, a, b, x @ c

        zero = jnp.zeros((6, 6))
        return jax.lax.fori_loop(0, 5, step, (zero, zero, zero, x))[-1]

    assert optax_gc.infer_axes(fn, f32(6, 6), X) == optax_gc.FanIn((0,), "dot_general")


def test_learned_initial_state():
    def fn(params, xs):
        def step(h, x):
            return jnp.tanh(x @ params["i"] + h @ params["h"]), None

        return jax.lax.scan(step, jnp.broadcast_to(params["h0"], (4, 5)), xs)[0]

    params = {"i": f32(6, 5), "h": f32(5, 5), "h0": f32(1, 5)}
    found = infer(fn, params, f32(8, 4, 6))
    assert found == {"i": (0,), "h": (0,), "h0": "only used as an input"}


def test_while_loop():
    """Weights are used in the body and in the condition, and indexed by the counter."""

    def fn(params, x):
        def condition(state):
            step, x = state
            return (step < 3) & ((x @ params["test"]).sum() < 1.0)

        def body(state):
            step, x = state
            return step + 1, layer(jax.tree.map(lambda leaf: leaf[step], params["stack"]), x)

        return jax.lax.while_loop(condition, body, (0, x))[1]

    params = {"stack": STACK, "test": f32(6, 1)}
    assert infer(fn, params, X) == {"stack/w": (1,), "stack/b": ADDED, "test": (0,)}


def test_cond_and_switch():
    def fn(params, x):
        x = jax.lax.cond(x.sum() > 0, layer, lambda params, x: x, params["a"], x)
        w = jax.lax.cond(x.sum() > 0, lambda: params["b"], lambda: params["c"].T)
        branches = [lambda x: x, lambda x: x @ params["d"], lambda x: x @ params["e"].T]
        return jax.lax.switch(x.sum().astype(int), branches, x @ w)

    params = {"a": {"w": f32(6, 6), "b": f32(1, 6)}, "b": f32(6, 5), "c": f32(5, 6)}
    params |= {"d": f32(5, 5), "e": f32(5, 5)}
    assert infer(fn, params, X) == {
        "a/w": (0,),
        "a/b": ADDED,
        "b": (0,),
        "c": (1,),
        "d": (0,),
        "e": (1,),
    }


def test_vmap_stacked_and_shared_weights():
    params = {"w": f32(6, 3, 5), "b": f32(5)}

    def fn(params, x):
        member = jax.vmap(lambda w, x: x @ w + params["b"], in_axes=(1, None))
        return jax.vmap(lambda x: member(params["w"], x))(x)

    assert infer(fn, params, X) == {"w": (0,), "b": ADDED}


@pytest.mark.parametrize("use_all_gather", [False, True])
def test_shard_map(use_all_gather):
    """The body receives shards; the result has the axes of the whole weight."""
    mesh = jax.make_mesh((4,), ("m",), axis_types=(jax.sharding.AxisType.Auto,))
    P = PartitionSpec

    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(P("m", None), P(None, "m"), P(None, None) if use_all_gather else P(None, "m")),
        out_specs=P(None, None),
        check_vma=False,
    )
    def fn(row, column, x):
        if use_all_gather:
            row = jax.lax.all_gather(row, "m", axis=0, tiled=True)
            return x @ row @ jax.lax.all_gather(column, "m", axis=1, tiled=True)
        hidden = jax.lax.psum(x @ row, "m")
        return jax.lax.all_gather(hidden @ column, "m", axis=1, tiled=True)

    params = {"row": f32(8, 12), "column": f32(12, 16)}
    found = infer(lambda params, x: fn(params["row"], params["column"], x), params, f32(4, 8))
    assert found == {"row": (0,), "column": (0,)}


@pytest.mark.skipif(jax.__version_info__ < (0, 8), reason="infer_axes follows pmap since JAX 0.8")
def test_pmap_with_replicated_weights():
    """The weights are replicated and the data are split over devices."""
    n = jax.local_device_count()

    def fn(params, x):
        return jax.pmap(lambda x, w: jax.lax.pmean(x @ w, "i"), "i", in_axes=(0, None))(x, params)

    assert infer(fn, f32(6, 5), f32(n, 4, 6)) == {"": (0,)}


def test_noise_is_not_data():
    """A mask drawn from a key argument does not count as data."""

    def fn(w, x, key):
        keep = jax.random.bernoulli(key, 0.9, w.shape)
        return x @ jnp.where(keep, w / 0.9, 0.0)

    assert infer(fn, f32(6, 5), X, jax.random.key(0)) == {"": (0,)}
    assert infer(fn, f32(6, 5), X, jax.random.PRNGKey(0)) == {"": (0,)}


def test_static_arguments():
    """Booleans, strings, functions and None are passed to the function unchanged."""

    def fn(params, x, activation, bias=True, name="", scale=None):
        assert isinstance(bias, bool)
        assert isinstance(name, str)
        y = activation(x @ params["w"])
        return y + params["b"] if bias and scale is None else y

    params = {"w": f32(6, 5), "b": f32(1, 5), "name": "dense", "rate": 0.5, "steps": 3}
    static = dict.fromkeys(["name", "rate", "steps"], NOT_FLOATING_POINT)
    x = np.zeros((4, 6), np.float32)
    assert infer(fn, params, x, jnp.tanh, name="a") == {"w": (0,), "b": ADDED, **static}
    assert infer(fn, params, x, jnp.tanh, bias=False)["b"] == "never used"


def test_integers_and_keys_in_params():
    params = {"w": f32(6, 5), "count": jnp.int32(0), "key": jax.random.key(0), "none": None}
    found = infer(lambda params, x: x @ params["w"] * params["count"], params, X)
    assert found == {"w": (0,), "count": NOT_FLOATING_POINT, "key": NOT_FLOATING_POINT}


def test_other_pytrees():
    """Check tuples, lists and a bare array."""
    fn = lambda params, x: x @ params[0][0] + params[1]  # noqa: E731
    assert infer(fn, ([f32(6, 5)], f32(1, 5)), X) == {"0/0": (0,), "1": ADDED}
    assert optax_gc.infer_axes(lambda w, x: w @ x, f32(5, 6), f32(6)).axes == (1,)


def test_complex_and_half_precision():
    for dtype in (jnp.complex64, jnp.bfloat16, jnp.float16):
        w = jax.ShapeDtypeStruct((6, 5), dtype)
        x = jax.ShapeDtypeStruct((4, 6), dtype)
        assert infer(lambda w, x: jnp.real(x @ jnp.conj(w)), w, x) == {"": (0,)}


def test_under_jit():
    """`infer_axes` works inside a function that is being traced."""

    @jax.jit
    def update(w, x):
        axes = optax_gc.infer_axes(lambda w, x: x @ w, w, x)
        tx = optax_gc.centralize(axes)
        return tx.update(w, tx.init(w))[0]

    assert jnp.abs(update(jnp.ones((6, 5)) + 1, jnp.ones((4, 6)))).max() == 0
