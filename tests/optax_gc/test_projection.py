"""Centralization is an orthogonal projection."""

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
from tests.support.updates import project, wide
from tests.support.x64 import enable_x64

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.complex64]


def eps(dtype):
    return float(jnp.finfo(dtype).eps)


def x64_for(dtype):
    return enable_x64() if dtype == np.float64 else contextlib.nullcontext()


def transposed(fan_in, order):
    """Return the fan-in axes of a transposed weight."""
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
    """Draw a shape and some of its axes, unsorted, positive or negative."""
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 7]), min_size=1, max_size=4)))
    axes = draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    hypothesis.assume(math.prod(shape[axis] for axis in axes) >= min_fan_in)
    signs = draw(st.lists(st.booleans(), min_size=len(axes), max_size=len(axes)))
    return shape, tuple(a - len(shape) * s for a, s in zip(axes, signs, strict=True))


@st.composite
def gradients(draw, count=1):
    """Draw gradients with means up to 10 times their standard deviation, and their axes."""
    shape, axes = draw(layouts())
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale, mean = draw(st.sampled_from([0.01, 1.0, 100.0])), draw(st.sampled_from([0, 1, 10]))

    def draw_gradient():
        real = rng.standard_normal(shape) + mean
        imaginary = 1j * rng.standard_normal(shape) if dtype.kind == "c" else 0
        return (scale * (real + imaginary)).astype(dtype)

    return [draw_gradient() for _ in range(count)], axes


def assert_close(actual, expected, dtype, size):
    """Compare with a tolerance of a few rounding errors of `dtype` at magnitude `size`."""
    np.testing.assert_allclose(wide(actual), expected, rtol=0, atol=8 * eps(dtype) * size)


def largest(*arrays):
    return max(np.abs(wide(array)).max(initial=0) for array in arrays)


@PROPERTY
@hypothesis.given(gradients())
def test_subtracts_fan_in_mean(drawn):
    [g], axes = drawn
    with x64_for(g.dtype):
        out = project(g, axes)
    assert out.shape == g.shape
    assert out.dtype == g.dtype
    assert_close(out, wide(g) - wide(g).mean(axes, keepdims=True), g.dtype, largest(g))
    assert_close(wide(out).mean(axes), 0, g.dtype, largest(g))


@PROPERTY
@hypothesis.given(gradients())
def test_projection_is_idempotent(drawn):
    [g], axes = drawn
    with x64_for(g.dtype):
        once = project(g, axes)
        assert_close(project(once, axes), wide(once), g.dtype, largest(g))


@PROPERTY
@hypothesis.given(gradients(count=2))
def test_projection_is_self_adjoint(drawn):
    [g, h], axes = drawn
    with x64_for(g.dtype):
        left, right = project(g, axes), project(h, axes)
    assert_close(
        np.vdot(wide(left), wide(h)),
        np.vdot(wide(g), wide(right)),
        g.dtype,
        g.size * largest(g) * largest(h),
    )


@PROPERTY
@hypothesis.given(gradients())
def test_norm_and_pythagoras(drawn):
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
def test_projection_is_linear(drawn, factor):
    [g, h], axes = drawn
    combined = (wide(g) + factor * wide(h)).astype(g.dtype)
    with x64_for(g.dtype):
        expected = wide(project(g, axes)) + factor * wide(project(h, axes))
        assert_close(project(combined, axes), expected, g.dtype, 4 * largest(g, h))


@PROPERTY
@hypothesis.given(gradients(), st.randoms(use_true_random=False))
def test_transposed_gradient(drawn, random):
    [g], axes = drawn
    order = random.sample(range(g.ndim), g.ndim)
    transposed_axes = transposed([axis % g.ndim for axis in axes], order)
    with x64_for(g.dtype):
        out = project(np.transpose(g, order), transposed_axes)
        assert_close(out, np.transpose(wide(project(g, axes)), order), g.dtype, largest(g))


@PROPERTY
@hypothesis.given(gradients(), st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 10**6))
def test_nan_and_inf_stay_in_unit(drawn, bad, where):
    [g], axes = drawn
    at = np.unravel_index(where % g.size, g.shape)
    corrupted = g.copy()
    corrupted[at] = bad
    unit = np.zeros(g.shape, bool)
    fan_in = [axis % g.ndim for axis in axes]
    unit[tuple(slice(None) if axis in fan_in else i for axis, i in enumerate(at))] = True
    with x64_for(g.dtype):
        clean, affected = wide(project(g, axes)), wide(project(corrupted, axes))
    assert not np.isfinite(affected[unit]).any()
    np.testing.assert_array_equal(affected[~unit], clean[~unit])


@PROPERTY
@hypothesis.given(layouts(min_fan_in=1), st.sampled_from(DTYPES), st.integers(0, 10**6))
def test_fan_in_of_one_or_zero(layout, dtype, where):
    shape, axes = layout
    thin = [1 if axis in [a % len(shape) for a in axes] else n for axis, n in enumerate(shape)]
    empty = [0 if axis == where % len(shape) else n for axis, n in enumerate(shape)]
    for g in (np.ones(thin, dtype), np.ones(empty, dtype)):
        assert project(g, axes) is g


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "axes"), [((4608, 64), (0,)), ((64, 512, 3, 3), (1, 2, 3))])
def test_rounding_error_of_large_means(shape, axes, dtype):
    g = (np.random.default_rng(0).standard_normal(shape) + 1e6).astype(dtype)
    with x64_for(np.dtype(dtype)):
        out = np.asarray(project(g, axes), np.longdouble)
    exact = g - g.mean(axes, np.longdouble, keepdims=True)
    assert np.abs(out - exact).max() < 4 * eps(dtype) * 1e6
    assert np.abs(out.mean(axes)).max() < 4 * eps(dtype) * 1e6


# Kernels of common layers

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
    def test_projection_of_kernels(self, dtype):
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
