"""The operations through which `infer_axes` follows a weight, and those at which it is lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import optax_gc
from tests.support.fan_ins import ADDED, GATHERED, MULTIPLIED, axes_of, f32, i32, infer

X = f32(4, 6)
W = f32(6, 10)


@jax.custom_vjp
def straight_through(w):
    return jnp.round(w)


straight_through.defvjp(lambda w: (jnp.round(w), None), lambda _, g: (g,))

FOLLOWED = {
    "unchanged": lambda w: w,
    "cast": lambda w: w.astype(jnp.bfloat16).astype(jnp.float32),
    "reshaped and transposed": lambda w: w.T.reshape(2, 5, 3, 2).reshape(10, 6).T,
    "flattened and back": lambda w: w.reshape(-1).reshape(6, 10),
    "split axes, permuted and merged": lambda w: (
        w.reshape(2, 3, 2, 5).transpose(1, 0, 3, 2).reshape(6, 10)
    ),
    "reversed": lambda w: w[::-1, ::-1],
    "expanded and squeezed": lambda w: w[None, :, None].squeeze((0, 2)),
    "moved axis": lambda w: jnp.moveaxis(w[..., None], 0, 2)[:, 0].T,
    "sliced": lambda w: w[:, 2:8],
    "columns gathered by constants": lambda w: w[:, np.array([3, 1, 4])],
    "rows gathered by constants": lambda w: w[np.arange(6)[::-1]],
    "padded": lambda w: jnp.pad(w, ((0, 0), (1, 2))),
    "split and concatenated": lambda w: jnp.concatenate(jnp.split(w, 5, axis=1), axis=1),
    "rolled": lambda w: jnp.roll(w, 1, axis=0),
    "tiled along the output": lambda w: jnp.tile(w, (1, 3)),
    "stacked and indexed": lambda w: jnp.stack([w, 2 * w])[1],
    "elementwise functions": lambda w: jnp.exp(w) + w**2 - jnp.tanh(-w) / 3,
    "masked": lambda w: jnp.where(np.tri(6, 10) > 0, w, 0.0),
    "written into": lambda w: w.at[0, :].set(0.0),
    "with noise": lambda w: w * jax.random.bernoulli(jax.random.key(0), 0.5, w.shape) + 1,
    "clipped": lambda w: jnp.clip(w, -1, 1),
    "standardized": lambda w: (w - w.mean(0)[None]) / jnp.sqrt(w.var(0)[None] + 1e-5),
    "normalized": lambda w: w / jnp.linalg.norm(w),
    "spectral norm": lambda w: w / jnp.vdot(w @ w.T @ jnp.ones(6), jnp.ones(6)),
    "positive and negative parts": lambda w: jnp.maximum(w, 0) + jnp.minimum(w, 0),
    "straight-through rounding": lambda w: w + jax.lax.stop_gradient(jnp.round(w) - w),
    "custom_vjp rounding": straight_through,
    "quantized": lambda w: w + jax.lax.stop_gradient(w.astype(jnp.int8).astype(w.dtype) - w),
    "named for remat": lambda w: checkpoint_name(w, "w"),
    "optimization barrier": lambda w: jax.lax.optimization_barrier((w, 1.0))[0],
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_weight_is_followed(name):
    assert axes_of(lambda w, x: x @ FOLLOWED[name](w), W, X) == (0,)
    assert axes_of(lambda w, x: FOLLOWED[name](w).T @ x.T, W, X) == (0,)
    if name != "tiled along the output":  # the other product would sum the copies
        y = jax.eval_shape(lambda w, x: x @ FOLLOWED[name](w), W, X)
        assert axes_of(lambda w, y: y @ FOLLOWED[name](w).T, W, y) == (1,)


_NO_RULE = ", which infer_axes does not follow"
LEFT_ALONE = {
    "unused": (lambda w, x: x, "never used"),
    "returned": (lambda w, x: (w * 2, x), "only returned"),
    "added": (lambda w, x: x + w, ADDED),
    "subtracted": (lambda w, x: w - x, ADDED),
    "multiplied": (lambda w, x: x * w, MULTIPLIED),
    "multiplied and added": (lambda w, x: x * w + w, "only added and multiplied"),
    "multiplied and summed": (lambda w, x: (x * w).sum(1), MULTIPLIED),
    "outer product": (lambda w, x: jnp.einsum("bi,ci->bci", x, w), MULTIPLIED),
    "gathered": (lambda w, x: w[x[:, 0].astype(int)], GATHERED),
    "one row gathered": (lambda w, x: w[x[0, 0].astype(int)], GATHERED),
    "gathered and multiplied": (
        lambda w, x: w[x[:, 0].astype(int)] @ jnp.ones((6, 2)),
        GATHERED,
    ),
    "gathered and added": (lambda w, x: w[x[:, 0].astype(int)] + x, GATHERED),
    "summed": (lambda w, x: x + w.sum(), "only reduced"),
    "regularized": (lambda w, x: (x.sum(), jnp.vdot(w, w)), "only reduced"),
    "Gram matrix": (lambda w, x: x @ jnp.linalg.cholesky(w.T @ w), "only reduced"),
    "diagonal matrix": (lambda w, x: x @ jnp.diag(w[0]), MULTIPLIED),
    "sorted": (
        lambda w, x: x @ jnp.sort(w, axis=0).T,
        f"lost at sort{_NO_RULE}",
    ),
    "maximum with data": (lambda w, x: jnp.maximum(w, x), "lost at max"),
    "selected by data": (lambda w, x: jnp.where(x > 0, w, 0.0), "lost at select_n"),
    "joined to data": (
        lambda w, x: jnp.concatenate([w, x]) @ jnp.ones((6, 2)),
        "only joined to data",
    ),
    "QR decomposition": (
        lambda w, x: x @ jnp.linalg.qr(w.T)[0].reshape(6, 4),
        f"lost at qr{_NO_RULE}",
    ),
    "callback": (
        lambda w, x: x @ jax.pure_callback(lambda w: w, w, w).T,
        f"lost at pure_callback{_NO_RULE}",
    ),
    "block-diagonal": (
        lambda w, x: jnp.einsum("bgi,gio->bgo", x.reshape(4, 2, 3), w.T.reshape(2, 3, 4)),
        "lost at dot_general, which sums a part of axis 1",
    ),
    "reshape across axes": (lambda w, x: x.reshape(8, 3) @ w.reshape(3, 8), "lost at reshape"),
    "stacked pieces": (
        lambda w, x: x @ jnp.stack(jnp.unstack(w, axis=1), axis=1).T,
        "lost at dot_general, which sums pieces of it",
    ),
    "convolved by data": (
        lambda w, x: jax.lax.conv(w[None, None], x[None, None, :3, :3], (1, 1), "SAME"),
        "lost at conv_general_dilated",
    ),
    "learned input": (
        lambda w, x: jnp.broadcast_to(w, (4, 4, 6)) @ jnp.ones((6, 2)),
        "only used as an input",
    ),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_weight_is_left_alone(name):
    fn, note = LEFT_ALONE[name]
    assert axes_of(fn, f32(4, 6), X) == note


def test_block_diagonal_names_the_axis():
    def fn(w, x):
        return jnp.einsum("bgi,gio->bgo", x.reshape(4, 2, 3), w.reshape(2, 3, 10))

    assert axes_of(fn, W, X) == "lost at dot_general, which sums a part of axis 0"


def test_slices_of_one_axis():
    """In a fused recurrent kernel, each part of the fan-in has its own input."""
    assert axes_of(lambda w, x: x[:, :2] @ w[:2] + x[:, 2:] @ w[2:], W, X) == (0,)


def test_stacked_layers_in_python_loop():
    def fn(params, x, last):
        for layer in range(3):
            x = jnp.tanh(x @ params["w"][layer] + params["b"][layer])
        x = x @ jax.lax.dynamic_index_in_dim(params["w"], last, keepdims=False)
        return x @ jnp.take(params["w"], 1, axis=0)

    params = {"w": f32(3, 6, 6), "b": f32(3, 6)}
    with jax.numpy_rank_promotion("allow"):
        found = infer(fn, params, X, i32())
    assert found == {"w": (1,), "b": ADDED}


def test_mixture_of_experts():
    """Experts are selected by one-hot dispatch, by gathering, or by a ragged product."""

    def dispatched(w, x, which):
        return jnp.einsum("bi,be,eio->bo", x, jax.nn.one_hot(which, 3), w)

    def gathered(w, x, which):
        return jnp.einsum("bi,bio->bo", x, w[which])

    def ragged(w, x, sizes):
        return jax.lax.ragged_dot(x, w, sizes)

    which = i32(4)
    w = f32(3, 6, 10)
    assert axes_of(gathered, w, X, which) == (1,)
    assert axes_of(ragged, w, X, i32(3)) == (1,)
    assert axes_of(dispatched, w, X, which) == (0, 1)  # sums experts and inputs


def test_op_names_primitive():
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

        assert axes_of(fn, f32(*shape), f32(2, 8, 8, 6)) == expected


def test_vmapped_convolution():
    def conv(w, x):
        return jax.lax.conv(x, w, (1, 1), "SAME")

    w, x = f32(5, 4, 6, 3, 3), f32(5, 2, 6, 8, 8)
    assert axes_of(jax.vmap(conv), w, x) == (2, 3, 4)
    assert axes_of(jax.vmap(conv, (0, None)), w, f32(2, 6, 8, 8)) == (2, 3, 4)
    assert axes_of(jax.vmap(conv, (None, 0)), f32(4, 6, 3, 3), x) == (1, 2, 3)
