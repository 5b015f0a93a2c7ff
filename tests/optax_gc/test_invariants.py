"""The projection's algebra, and what it makes true of training."""

import contextlib
import math

import chex
import hypothesis
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from hypothesis import strategies as st

import optax_gc
from optax_gc import FanIn

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.complex64]


def project(gradient, axes, **kwargs):
    fan_in = FanIn(tuple(axes), **kwargs)
    return optax_gc.centralize(fan_in).update(gradient, optax.EmptyState())[0]


def wide(array):
    """As float64 or complex128 on the host, where sums are exact enough to judge by."""
    array = np.asarray(array)
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def eps(dtype):
    return float(jnp.finfo(dtype).eps)


def x64_for(dtype):
    return jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext()


def transposed(fan_in, order):
    """The fan-in axes of a weight whose axes were put in another order."""
    return tuple(order.index(axis) for axis in fan_in)


# Property tests

PROPERTY = hypothesis.settings(
    max_examples=25,
    deadline=None,  # every new shape compiles
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)


@st.composite
def layouts(draw, min_fan_in=2):
    """A shape and some of its axes, not sorted, counted from either end."""
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 7]), min_size=1, max_size=4)))
    axes = draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    hypothesis.assume(math.prod(shape[axis] for axis in axes) >= min_fan_in)
    signs = draw(st.lists(st.booleans(), min_size=len(axes), max_size=len(axes)))
    return shape, tuple(a - len(shape) * s for a, s in zip(axes, signs, strict=True))


@st.composite
def gradients(draw, count=1):
    """Gradients of one shape and dtype, with means up to 10 times their spread, and the axes."""
    shape, axes = draw(layouts())
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale, mean = draw(st.sampled_from([0.01, 1.0, 100.0])), draw(st.sampled_from([0, 1, 10]))

    def one():
        real = rng.standard_normal(shape) + mean
        imaginary = 1j * rng.standard_normal(shape) if dtype.kind == "c" else 0
        return (scale * (real + imaginary)).astype(dtype)

    return [one() for _ in range(count)], axes


def close(actual, expected, dtype, size):
    """Within a few roundings, of `dtype`, of numbers as large as `size`."""
    np.testing.assert_allclose(wide(actual), expected, rtol=0, atol=8 * eps(dtype) * size)


def largest(*arrays):
    return max(np.abs(wide(array)).max(initial=0) for array in arrays)


@PROPERTY
@hypothesis.given(gradients())
def test_the_fan_in_mean_is_subtracted_and_becomes_zero(drawn):
    [g], axes = drawn
    with x64_for(g.dtype):
        out = project(g, axes)
    assert out.shape == g.shape
    assert out.dtype == g.dtype
    close(out, wide(g) - wide(g).mean(axes, keepdims=True), g.dtype, largest(g))
    close(wide(out).mean(axes), 0, g.dtype, largest(g))


@PROPERTY
@hypothesis.given(gradients())
def test_twice_is_once(drawn):
    [g], axes = drawn
    with x64_for(g.dtype):
        once = project(g, axes)
        close(project(once, axes), wide(once), g.dtype, largest(g))


@PROPERTY
@hypothesis.given(gradients(count=2))
def test_it_is_self_adjoint(drawn):
    [g, h], axes = drawn
    with x64_for(g.dtype):
        left, right = project(g, axes), project(h, axes)
    close(
        np.vdot(wide(left), wide(h)),
        np.vdot(wide(g), wide(right)),
        g.dtype,
        g.size * largest(g) * largest(h),
    )


@PROPERTY
@hypothesis.given(gradients())
def test_the_norm_never_grows_and_pythagoras_holds(drawn):
    [g], axes = drawn
    with x64_for(g.dtype):
        kept = wide(project(g, axes))
    removed = wide(g) - kept
    whole = np.linalg.norm(wide(g)) ** 2
    assert np.linalg.norm(kept) <= np.linalg.norm(wide(g)) * (1 + 8 * eps(g.dtype))
    parts = np.linalg.norm(kept) ** 2 + np.linalg.norm(removed) ** 2
    assert parts == pytest.approx(whole, rel=0, abs=8 * eps(g.dtype) * g.size * largest(g) ** 2)


@PROPERTY
@hypothesis.given(gradients(count=2), st.sampled_from([-3.0, 0.5, 2.0]))
def test_it_is_linear(drawn, factor):
    [g, h], axes = drawn
    combined = (wide(g) + factor * wide(h)).astype(g.dtype)
    with x64_for(g.dtype):
        expected = wide(project(g, axes)) + factor * wide(project(h, axes))
        close(project(combined, axes), expected, g.dtype, 4 * largest(g, h))


@PROPERTY
@hypothesis.given(gradients(), st.randoms(use_true_random=False))
def test_another_order_of_the_axes_changes_nothing(drawn, random):
    [g], axes = drawn
    order = random.sample(range(g.ndim), g.ndim)
    moved = transposed([axis % g.ndim for axis in axes], order)
    with x64_for(g.dtype):
        there = project(np.transpose(g, order), moved)
        close(there, np.transpose(wide(project(g, axes)), order), g.dtype, largest(g))


@PROPERTY
@hypothesis.given(gradients(), st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 10**6))
def test_nan_and_inf_stay_in_their_unit(drawn, bad, where):
    [g], axes = drawn
    at = np.unravel_index(where % g.size, g.shape)
    spoilt = g.copy()
    spoilt[at] = bad
    unit = np.zeros(g.shape, bool)
    fan_in = [axis % g.ndim for axis in axes]
    unit[tuple(slice(None) if axis in fan_in else i for axis, i in enumerate(at))] = True
    with x64_for(g.dtype):
        clean, dirty = wide(project(g, axes)), wide(project(spoilt, axes))
    assert not np.isfinite(dirty[unit]).any()
    np.testing.assert_array_equal(dirty[~unit], clean[~unit])


@PROPERTY
@hypothesis.given(layouts(min_fan_in=1), st.sampled_from(DTYPES), st.integers(0, 10**6))
def test_a_fan_in_of_one_and_an_empty_leaf_are_returned_as_they_are(layout, dtype, where):
    shape, axes = layout
    thin = [1 if axis in [a % len(shape) for a in axes] else n for axis, n in enumerate(shape)]
    empty = [0 if axis == where % len(shape) else n for axis, n in enumerate(shape)]
    for g in (np.ones(thin, dtype), np.ones(empty, dtype)):
        assert project(g, axes) is g


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "axes"), [((4608, 64), (0,)), ((64, 512, 3, 3), (1, 2, 3))])
def test_means_a_million_times_the_spread_leave_a_rounding_of_the_mean(shape, axes, dtype):
    g = (np.random.default_rng(0).standard_normal(shape) + 1e6).astype(dtype)
    with x64_for(np.dtype(dtype)):
        out = np.asarray(project(g, axes), np.longdouble)
    exact = g - g.mean(axes, np.longdouble, keepdims=True)
    assert np.abs(out - exact).max() < 4 * eps(dtype) * 1e6
    assert np.abs(out.mean(axes)).max() < 4 * eps(dtype) * 1e6


# The same on the kernels people have, with chex

KERNELS = {
    "dense": ((64, 32), (0,)),
    "conv": ((3, 3, 16, 32), (0, 1, 2)),
    "depthwise": ((3, 3, 1, 32), (0, 1, 2)),
    "query": ((32, 4, 8), (0,)),
    "out": ((4, 8, 32), (0, 1)),
    "torch": ((32, 16, 3, 3), (1, 2, 3)),
}


class KernelsTest(chex.TestCase):
    def assert_close(self, actual, expected, dtype):
        chex.assert_trees_all_close(
            jax.tree.map(wide, actual), jax.tree.map(wide, expected), atol=16 * eps(dtype), rtol=0
        )

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.named_parameters(
        ("float32", jnp.float32),
        ("bfloat16", jnp.bfloat16),
    )
    def test_projection(self, dtype):
        rng = np.random.default_rng(0)
        g, h = (
            {name: jnp.asarray(rng.standard_normal(s), dtype) for name, (s, _) in KERNELS.items()}
            for _ in range(2)
        )
        tx = optax_gc.centralize({name: FanIn(axes) for name, (_, axes) in KERNELS.items()})
        update = self.variant(lambda updates: tx.update(updates, optax.EmptyState())[0])
        kept, other = update(g), update(h)

        chex.assert_trees_all_equal_shapes_and_dtypes(kept, g)
        chex.assert_tree_all_finite(kept)
        for name, (_, axes) in KERNELS.items():
            mean = wide(kept[name]).mean(axes)
            self.assert_close(mean, np.zeros_like(mean), dtype)
        self.assert_close(update(kept), kept, dtype)
        self.assert_close(
            update(jax.tree.map(jnp.subtract, g, h)),
            jax.tree.map(lambda a, b: wide(a) - wide(b), kept, other),
            dtype,
        )
        self.assert_close(
            jax.tree.map(lambda a, b: np.mean(wide(a) * wide(b)), kept, h),
            jax.tree.map(lambda a, b: np.mean(wide(a) * wide(b)), g, other),
            dtype,
        )
        removed = jax.tree.map(lambda a, b: wide(a) - wide(b), g, kept)
        self.assert_close(
            jax.tree.map(lambda a, b: np.mean(wide(a) ** 2) + np.mean(b**2), kept, removed),
            jax.tree.map(lambda a: np.mean(wide(a) ** 2), g),
            dtype,
        )


# What it makes true of training

_RNG = np.random.default_rng(1)
INPUTS = _RNG.standard_normal((32, 12)).astype(np.float32)
TARGETS = _RNG.standard_normal((32, 5)).astype(np.float32)
W0 = _RNG.standard_normal((12, 5)).astype(np.float32)


def _loss(w):
    return jnp.mean((jnp.tanh(INPUTS @ w) - TARGETS) ** 2)


def _train(tx, steps, loss=_loss, w=W0):
    def step(carry, _):
        w, state = carry
        updates, state = tx.update(jax.grad(loss)(w), state, w)
        return (optax.apply_updates(w, updates), state), None

    w = jnp.asarray(w)
    (w, _), _ = jax.jit(lambda w: jax.lax.scan(step, (w, tx.init(w)), length=steps))(w)
    return np.asarray(w)


def _drift(w):
    return np.abs(wide(w).mean(0) - wide(W0).mean(0)).max()


_GC = optax_gc.centralize(FanIn((0,)))
_L2 = optax.add_decayed_weights(5e-2)


@pytest.mark.parametrize("nesterov", [False, True])
def test_with_momentum_and_l2_the_mean_weight_never_moves(nesterov):
    w = _train(optax.chain(_L2, _GC, optax.sgd(0.1, 0.9, nesterov)), steps=1000)
    assert np.linalg.norm(w - W0) > 1.0
    assert _drift(w) < 1e-5 * np.linalg.norm(W0)


def test_without_gc_the_mean_weight_moves():
    assert _drift(_train(optax.chain(_L2, optax.sgd(0.1, 0.9)), steps=100)) > 0.01


def test_decay_after_gc_moves_the_mean_weight():
    decoupled = optax.chain(_GC, optax.trace(0.9), _L2, optax.scale(-0.1))
    assert _drift(_train(decoupled, steps=100)) > 0.01


@pytest.mark.parametrize("precondition", [optax.trace(0.9), optax.scale_by_adam()])
def test_centralizing_the_whole_update_keeps_the_mean_weight_despite_decoupled_decay(precondition):
    update = optax.chain(precondition, _L2, _GC, optax.scale(-0.01))
    w = _train(update, steps=300)
    assert np.linalg.norm(w - W0) > 0.5
    assert _drift(w) < 1e-5 * np.linalg.norm(W0)


def test_adam_after_gc_moves_the_mean_weight():
    assert _drift(_train(optax.chain(_GC, optax.adam(0.01)), steps=100)) > 0.01


def test_it_is_the_gradient_of_the_loss_on_the_hyperplane_through_the_start():
    def constrained(w):
        return _loss(project(w, (0,)) + W0 - project(W0, (0,)))

    w = _train(optax.chain(_GC, optax.sgd(0.1)), steps=10)
    chex.assert_trees_all_close(
        jax.grad(constrained)(w), project(jax.grad(_loss)(w), (0,)), atol=1e-6
    )


def test_a_dense_layers_answer_to_a_constant_shift_never_changes():
    w = wide(_train(optax.chain(_L2, _GC, optax.sgd(0.1, 0.9)), steps=200))
    x, c = wide(INPUTS), 3.0
    answer = (x + c) @ w - x @ w
    np.testing.assert_allclose(
        answer, np.broadcast_to(c * wide(W0).sum(0), answer.shape), atol=1e-4
    )


def test_a_convolutions_answer_to_a_constant_shift_never_changes():
    rng = np.random.default_rng(2)
    images = rng.standard_normal((4, 6, 6, 3)).astype(np.float32)
    kernel = rng.standard_normal((3, 3, 3, 5)).astype(np.float32)

    def layer(kernel, images):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "VALID", dimension_numbers=numbers
        )

    def loss(kernel):
        return jnp.mean(jnp.square(layer(kernel, images) - 1.0))

    gc = optax_gc.centralize(FanIn((0, 1, 2)))
    trained = _train(optax.chain(_L2, gc, optax.sgd(0.01, 0.9)), 100, loss, kernel)
    assert np.linalg.norm(trained - kernel) > 0.5
    answer = layer(trained, images + 3.0) - layer(trained, images)
    expected = np.broadcast_to(3.0 * kernel.sum((0, 1, 2)), answer.shape)
    np.testing.assert_allclose(answer, expected, atol=1e-3)


def _projector():
    """P as a matrix over the flattened weight."""
    basis = np.eye(W0.size, dtype=np.float32).reshape(-1, *W0.shape)
    return wide(jax.vmap(lambda e: project(e, (0,)))(basis)).reshape(W0.size, W0.size)


def test_the_projector_is_orthogonal_and_removes_one_dimension_per_unit():
    P = _projector()
    np.testing.assert_allclose(P, P.T, atol=1e-6)
    np.testing.assert_allclose(P @ P, P, atol=1e-6)
    np.testing.assert_allclose(np.trace(P), W0.size - W0.shape[1], atol=1e-4)


def test_the_hessian_on_the_hyperplane_is_no_larger():
    P = _projector()
    hessian = wide(jax.hessian(_loss)(W0)).reshape(W0.size, W0.size)
    for H in (hessian, np.diag(np.arange(60.0)), np.ones((60, 60))):
        for order in (2, "fro", "nuc"):
            assert np.linalg.norm(P @ H @ P, order) <= np.linalg.norm(H, order) * (1 + 1e-6)
    assert np.linalg.norm(P @ np.ones((60, 60)) @ P) < 1e-3
