"""Plain functions: what a weight is followed through, what it is lost at, what counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import optax_gc
from tests.support.fan_ins import ADDED, GATHERED, MULTIPLIED, f32, i32, infer

X = f32(4, 6)
W = f32(6, 10)


def axes(fn, w, *args):
    """The axes of the only weight, or its note."""
    fan_in = optax_gc.infer_axes(fn, w, *args)
    return fan_in.axes or fan_in.note


@jax.custom_vjp
def straight_through(w):
    return jnp.round(w)


straight_through.defvjp(lambda w: (jnp.round(w), None), lambda _, g: (g,))

FOLLOWED = {
    "as it is": lambda w: w,
    "a cast": lambda w: w.astype(jnp.bfloat16).astype(jnp.float32),
    "a round trip": lambda w: w.T.reshape(2, 5, 3, 2).reshape(10, 6).T,
    "flattened and back": lambda w: w.reshape(-1).reshape(6, 10),
    "split axes, permuted and merged": lambda w: (
        w.reshape(2, 3, 2, 5).transpose(1, 0, 3, 2).reshape(6, 10)
    ),
    "reversed": lambda w: w[::-1, ::-1],
    "expanded and squeezed": lambda w: w[None, :, None].squeeze((0, 2)),
    "moved": lambda w: jnp.moveaxis(w[..., None], 0, 2)[:, 0].T,
    "sliced": lambda w: w[:, 2:8],
    "picked by constants": lambda w: w[:, np.array([3, 1, 4])],
    "rows picked by constants": lambda w: w[np.arange(6)[::-1]],
    "padded": lambda w: jnp.pad(w, ((0, 0), (1, 2))),
    "split and joined": lambda w: jnp.concatenate(jnp.split(w, 5, axis=1), axis=1),
    "rolled": lambda w: jnp.roll(w, 1, axis=0),
    "tiled along the output": lambda w: jnp.tile(w, (1, 3)),
    "stacked and taken apart": lambda w: jnp.stack([w, 2 * w])[1],
    "a function of it": lambda w: jnp.exp(w) + w**2 - jnp.tanh(-w) / 3,
    "masked": lambda w: jnp.where(np.tri(6, 10) > 0, w, 0.0),
    "written into": lambda w: w.at[0, :].set(0.0),
    "noised": lambda w: w * jax.random.bernoulli(jax.random.key(0), 0.5, w.shape) + 1,
    "clipped": lambda w: jnp.clip(w, -1, 1),
    "standardized": lambda w: (w - w.mean(0)[None]) / jnp.sqrt(w.var(0)[None] + 1e-5),
    "normalized": lambda w: w / jnp.linalg.norm(w),
    "by its largest singular value": lambda w: w / jnp.vdot(w @ w.T @ jnp.ones(6), jnp.ones(6)),
    "symmetric in a half": lambda w: jnp.maximum(w, 0) + jnp.minimum(w, 0),
    "rounded straight through": lambda w: w + jax.lax.stop_gradient(jnp.round(w) - w),
    "rounded by custom_vjp": straight_through,
    "quantized": lambda w: w + jax.lax.stop_gradient(w.astype(jnp.int8).astype(w.dtype) - w),
    "named for remat": lambda w: checkpoint_name(w, "w"),
    "behind a barrier": lambda w: jax.lax.optimization_barrier((w, 1.0))[0],
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_followed(name):
    assert axes(lambda w, x: x @ FOLLOWED[name](w), W, X) == (0,)
    assert axes(lambda w, x: FOLLOWED[name](w).T @ x.T, W, X) == (0,)
    if name != "tiled along the output":  # else there is no such product
        y = jax.eval_shape(lambda w, x: x @ FOLLOWED[name](w), W, X)
        assert axes(lambda w, y: y @ FOLLOWED[name](w).T, W, y) == (1,)


LEFT_ALONE = {
    "unused": (lambda w, x: x, "never used"),
    "returned": (lambda w, x: (w * 2, x), "only returned"),
    "added": (lambda w, x: x + w, ADDED),
    "subtracted": (lambda w, x: w - x, ADDED),
    "multiplied": (lambda w, x: x * w, MULTIPLIED),
    "both": (lambda w, x: x * w + w, "only added and multiplied"),
    "multiplied and summed": (lambda w, x: (x * w).sum(1), MULTIPLIED),
    "outer product": (lambda w, x: jnp.einsum("bi,ci->bci", x, w), MULTIPLIED),
    "gathered": (lambda w, x: w[x[:, 0].astype(int)], GATHERED),
    "one row gathered": (lambda w, x: w[x[0, 0].astype(int)], GATHERED),
    "gathered, then used": (
        lambda w, x: w[x[:, 0].astype(int)] @ jnp.ones((6, 2)),
        GATHERED,
    ),
    "gathered and added": (lambda w, x: w[x[:, 0].astype(int)] + x, GATHERED),
    "summed": (lambda w, x: x + w.sum(), "only reduced"),
    "regularized": (lambda w, x: (x.sum(), jnp.vdot(w, w)), "only reduced"),
    "a Gram matrix": (lambda w, x: x @ jnp.linalg.cholesky(w.T @ w), "only reduced"),
    "a diagonal": (lambda w, x: x @ jnp.diag(w[0]), MULTIPLIED),
    "sorted": (lambda w, x: x @ jnp.sort(w, axis=0).T, "lost at sort"),
    "in a larger one": (lambda w, x: jnp.maximum(w, x), "lost at max"),
    "chosen by data": (lambda w, x: jnp.where(x > 0, w, 0.0), "lost at select_n"),
    "joined": (lambda w, x: jnp.concatenate([w, x]) @ jnp.ones((6, 2)), "only joined to data"),
    "decomposed": (lambda w, x: x @ jnp.linalg.qr(w.T)[0].reshape(6, 4), "lost at qr"),
    "called back": (
        lambda w, x: x @ jax.pure_callback(lambda w: w, w, w).T,
        "lost at pure_callback",
    ),
    "block-diagonal": (
        lambda w, x: jnp.einsum("bgi,gio->bgo", x.reshape(4, 2, 3), w.T.reshape(2, 3, 4)),
        "lost at dot_general, which sums a part of axis 1",
    ),
    "straddling": (lambda w, x: x.reshape(8, 3) @ w.reshape(3, 8), "lost at reshape"),
    "in pieces": (
        lambda w, x: x @ jnp.stack(jnp.unstack(w, axis=1), axis=1).T,
        "lost at dot_general, which sums pieces of it",
    ),
    "filtered": (
        lambda w, x: jax.lax.conv(w[None, None], x[None, None, :3, :3], (1, 1), "SAME"),
        "lost at conv_general_dilated",
    ),
    "a learned input": (
        lambda w, x: jnp.broadcast_to(w, (4, 4, 6)) @ jnp.ones((6, 2)),
        "only used as an input",
    ),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_left_alone(name):
    fn, note = LEFT_ALONE[name]
    assert axes(fn, f32(4, 6), X) == note


def test_block_diagonal_names_the_axis():
    def fn(w, x):
        return jnp.einsum("bgi,gio->bgo", x.reshape(4, 2, 3), w.reshape(2, 3, 10))

    assert axes(fn, W, X) == "lost at dot_general, which sums a part of axis 0"


def test_slices_of_one_axis_agree():
    """A fused recurrent kernel: each part of the fan-in meets its own input."""
    assert axes(lambda w, x: x[:, :2] @ w[:2] + x[:, 2:] @ w[2:], W, X) == (0,)


def test_a_stack_of_layers_in_a_python_loop():
    def fn(params, x, last):
        for layer in range(3):
            x = jnp.tanh(x @ params["w"][layer] + params["b"][layer])
        x = x @ jax.lax.dynamic_index_in_dim(params["w"], last, keepdims=False)
        return x @ jnp.take(params["w"], 1, axis=0)

    params = {"w": f32(3, 6, 6), "b": f32(3, 6)}
    with jax.numpy_rank_promotion("allow"):
        found = infer(fn, params, X, i32())
    assert found == {"w": (1,), "b": ADDED}


def test_experts_chosen_by_the_data():
    """Routed densely, through one-hot dispatch, or by gathering each example's expert."""

    def dispatched(w, x, which):
        return jnp.einsum("bi,be,eio->bo", x, jax.nn.one_hot(which, 3), w)

    def gathered(w, x, which):
        return jnp.einsum("bi,bio->bo", x, w[which])

    def ragged(w, x, sizes):
        return jax.lax.ragged_dot(x, w, sizes)

    which = i32(4)
    w = f32(3, 6, 10)
    assert axes(gathered, w, X, which) == (1,)
    assert axes(ragged, w, X, i32(3)) == (1,)
    assert axes(dispatched, w, X, which) == (0, 1)  # one sum over experts and inputs


def test_tied_by_one_hot():
    """A table contracted with one-hot rows is contracted, and read out over the other axis."""

    def fn(table, tokens):
        return jax.nn.one_hot(tokens, 11) @ table

    tokens = i32(4)
    assert axes(fn, f32(11, 6), tokens) == (0,)
    with pytest.raises(ValueError, match="ambiguous"):
        axes(lambda table, tokens: fn(table, tokens) @ table.T, f32(11, 6), tokens)


@pytest.mark.parametrize(
    "between", [lambda x: x, jnp.tanh, lambda x: x - x.mean(-1, keepdims=True)]
)
def test_tied_by_index(between):
    """Rows picked by the data are an input; nothing but arithmetic may lie before the read-out."""

    def fn(table, tokens):
        return between(table[tokens]) @ table.T

    assert axes(fn, f32(11, 6), i32(4)) == (1,)


def test_weights_multiplied_with_each_other():
    """Each along what is contracted; `x @ a @ b` and `x @ (a @ b)` differ in `a`."""

    def merged(params, x):
        return x @ (params["w"] + 0.5 * params["a"] @ params["b"])

    def unmerged(params, x):
        return x @ params["w"] + 0.5 * x @ params["a"] @ params["b"]

    params = {"w": W, "a": f32(6, 2), "b": f32(2, 10)}
    assert infer(merged, params, X) == {"w": (0,), "a": (1,), "b": (0,)}
    assert infer(unmerged, params, X) == {"w": (0,), "a": (0,), "b": (0,)}


def test_adapters_of_frozen_weights():
    """Frozen weights are constants when bound, data when passed."""

    def merged(base, params, x):
        return x @ (base + params["a"] @ params["b"])

    params = {"a": f32(6, 2), "b": f32(2, 10)}
    bound = functools.partial(merged, jnp.ones((6, 10)))
    assert infer(bound, params, X) == {"a": (1,), "b": (0,)}
    passed = infer(lambda params, base, x: merged(base, params, x), params, W, X)
    assert passed == {"a": (1,), "b": (0,)}


def test_the_data_counts_before_the_rest():
    """A kernel is regularized towards orthogonality on both sides; the model uses one."""

    def loss(w, x):
        return jnp.sum((w @ w.T - jnp.eye(6)) ** 2) + jnp.sum((x @ w) ** 2)

    assert axes(loss, W, X) == (0,)


def test_no_gradient_no_use():
    """The assignment of a code to its nearest entry sends no gradient into the codebook."""

    def quantize(codes, x):
        nearest = jnp.argmin((codes**2).sum(1)[None] - 2 * x @ codes.T, axis=1)
        return codes[nearest]

    assert axes(quantize, f32(7, 6), X) == GATHERED
    assert axes(lambda w, x: x @ w + jax.lax.stop_gradient(x @ w), W, X) == (0,)
    assert axes(lambda w, x: jax.lax.stop_gradient(x @ w), W, X) == (0,)  # there is nothing else
    assert axes(lambda w, x: jnp.argmax(x @ w), W, X) == (0,)


def test_gradients_inside():
    """A score, a gradient penalty, an adapted weight: the axes are those of the forward pass."""
    params = {"w": W, "v": f32(10, 3), "b": f32(1, 10)}

    def energy(params, x):
        return jnp.sum((jnp.tanh(x @ params["w"] + params["b"]) @ params["v"]) ** 2)

    def remat_energy(params, x):
        return jax.checkpoint(energy)(params, x)

    def penalty(params, x):
        return energy(params, x) + jnp.sum(jax.grad(energy, 1)(params, x) ** 2)

    def adapted(params, x):
        step = jax.grad(energy)(params, x)
        return energy(jax.tree.map(lambda p, g: p - 0.1 * g, params, step), x)

    expected = {"w": (0,), "v": (0,), "b": ADDED}
    assert infer(jax.grad(energy, 1), params, X) == expected
    assert infer(jax.grad(remat_energy, 1), params, X) == expected
    assert infer(jax.grad(energy), params, X) == expected
    assert infer(penalty, params, X) == expected
    assert infer(adapted, params, X) == expected


def test_shared_bias_and_scale():
    """What comes back to a bias by way of the data does not make the bias a weight."""

    def fn(params, x):
        for _ in range(2):
            x = jnp.tanh(x @ params["w"] + params["b"]) * params["s"]
        return x

    params = {"w": f32(6, 6), "b": f32(1, 6), "s": f32(1, 6)}
    assert infer(fn, params, X) == {"w": (0,), "b": ADDED, "s": MULTIPLIED}


def test_a_batch_that_is_closed_over():
    """With no arrays among the arguments, the constants are the data."""
    tokens = jnp.array([[3, 1, 4], [1, 5, 9]])

    def fn(params):
        h = params["embed"][tokens] + params["position"][None]
        return (h + params["bias"][None, None]) @ params["w"]

    params = {"embed": f32(10, 6), "position": f32(3, 6), "bias": f32(6), "w": f32(6, 5)}
    found = infer(fn, params)
    assert found == {"embed": GATHERED, "position": ADDED, "bias": ADDED, "w": (0,)}
    one = infer(lambda params: params["embed"][tokens[0]] @ params["w"], params)
    assert (one["embed"], one["w"]) == (GATHERED, (0,))


def test_a_table_picked_from_by_constants():
    """The bias of relative positions in windowed attention."""
    offsets = np.arange(9).reshape(3, 3)

    def fn(table, x):
        return jnp.einsum("bqd,bkd->bqk", x, x)[:, None] + table[offsets].transpose(2, 0, 1)[None]

    assert axes(fn, f32(9, 2), f32(4, 3, 6)) == "only gathered"


def test_one_output():
    """A vector of weights has no axis left over; only the data may contract it."""
    assert axes(lambda w, x: x @ w, f32(6), X) == (0,)
    assert axes(lambda w, x: x + w @ jnp.ones((6, 6)), f32(6), f32(6)) == "only used as an input"


def test_operations_are_named():
    def fn(params, x):
        y = jax.lax.conv_general_dilated(
            x, params["c"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y.reshape(2, -1) @ params["d"]

    params = {"c": f32(3, 3, 6, 4), "d": f32(256, 5)}
    found = optax_gc.infer_axes(fn, params, f32(2, 8, 8, 6))
    assert found["c"] == optax_gc.FanIn((0, 1, 2), "conv_general_dilated")
    assert found["d"] == optax_gc.FanIn((0,), "dot_general")


def test_convolution_layouts():
    for spec, expected in [("OIHW", (1, 2, 3)), ("HWIO", (0, 1, 2)), ("IHOW", (0, 1, 3))]:
        shape = [{"O": 4, "I": 6, "H": 3, "W": 3}[letter] for letter in spec]

        def fn(w, x, spec=spec):
            return jax.lax.conv_general_dilated(
                x, w, (1, 1), "SAME", dimension_numbers=("NHWC", spec, "NHWC")
            )

        assert axes(fn, f32(*shape), f32(2, 8, 8, 6)) == expected


def test_vmapped_convolution_both_ways():
    def conv(w, x):
        return jax.lax.conv(x, w, (1, 1), "SAME")

    w, x = f32(5, 4, 6, 3, 3), f32(5, 2, 6, 8, 8)
    assert axes(jax.vmap(conv), w, x) == (2, 3, 4)
    assert axes(jax.vmap(conv, (0, None)), w, f32(2, 6, 8, 8)) == (2, 3, 4)
    assert axes(jax.vmap(conv, (None, 0)), f32(4, 6, 3, 3), x) == (1, 2, 3)
