"""`infer_axes` finds the contracted axes for random layouts of a weight."""

import string

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import optax_gc
from tests.support.fan_ins import f32
from tests.support.updates import centralize

pytestmark = pytest.mark.slow

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def einsums(draw):
    """Draw an einsum `x, w -> y`.

    Its letters are summed, in the weight only, in the data only, or shared and not summed.

    Returns:
      The equation, the shapes of `x` and `w`, and the axes of `w` that are summed.
    """
    letters = draw(st.permutations(string.ascii_lowercase[:10]))
    counts = [draw(st.integers(least, 3)) for least in (1, 1, 0, 0)]
    groups, start = [], 0
    for count in counts:
        groups.append(letters[start : start + count])
        start += count
    summed, out, data, shared = groups
    x = draw(st.permutations([*summed, *data, *shared]))
    w = draw(st.permutations([*summed, *out, *shared]))
    y = draw(st.permutations([*data, *out, *shared]))
    sizes = {letter: draw(st.integers(2, 4)) for letter in letters}
    shapes = [[sizes[letter] for letter in term] for term in (x, w)]
    axes = tuple(axis for axis, letter in enumerate(w) if letter in summed)
    return f"{''.join(x)},{''.join(w)}->{''.join(y)}", shapes, axes


@SETTINGS
@given(einsums(), st.booleans())
def test_random_einsum(einsum, swapped):
    equation, (x, w), axes = einsum
    if swapped:
        (first, second), result = equation.split("->")[0].split(","), equation.split("->")[1]
        fn = lambda w, x: jnp.einsum(f"{second},{first}->{result}", w, x)  # noqa: E731
    else:
        fn = lambda w, x: jnp.einsum(equation, x, w)  # noqa: E731
    assert optax_gc.infer_axes(fn, f32(*w), f32(*x)) == optax_gc.FanIn(axes, "dot_general")


@st.composite
def layouts(draw):
    """Draw a layout of a dense or convolution kernel: permuted, with some axes split or merged.

    Returns:
      The function from the stored array to the kernel, the stored shape, the fan-in axes of the
      stored array, and whether it is a convolution kernel.
    """
    conv = draw(st.booleans())
    kernel = (3, 3, 4, 6) if conv else (12, 8)
    factors, fan_in = [], []
    for axis, size in enumerate(kernel):
        divisors = [d for d in range(2, size) if size % d == 0]
        split = draw(st.sampled_from(divisors)) if divisors and draw(st.booleans()) else None
        parts = [split, size // split] if split else [size]
        factors += parts
        fan_in += [axis < len(kernel) - 1] * len(parts)
    order = draw(st.permutations(range(len(factors))))
    merge = draw(st.booleans())  # the last two stored axes, if both or neither are fan-in

    shape = [factors[axis] for axis in order]
    stored = list(shape)
    is_fan_in = [fan_in[axis] for axis in order]
    if merge and len(order) > 2 and is_fan_in[-1] == is_fan_in[-2]:
        stored[-2:] = [stored[-2] * stored[-1]]
        is_fan_in.pop()

    def unpack(w):
        return w.reshape(shape).transpose(np.argsort(order)).reshape(kernel)

    axes = tuple(np.flatnonzero(is_fan_in).tolist())
    return unpack, stored, axes, conv


def model(unpack, conv):
    if not conv:
        return lambda w, x: x @ unpack(w)
    return lambda w, x: jax.lax.conv_general_dilated(
        x, unpack(w), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@SETTINGS
@given(layouts())
def test_random_layout(layout):
    unpack, stored, axes, conv = layout
    x = f32(2, 5, 5, 4) if conv else f32(2, 12)
    found = optax_gc.infer_axes(model(unpack, conv), f32(*stored), x)
    op = "conv_general_dilated" if conv else "dot_general"
    assert found == optax_gc.FanIn(axes, op)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(layouts(), st.integers(0, 2**16))
def test_centralize_commutes_with_layout(layout, seed):
    """Centralizing the stored array and unpacking it can be exchanged."""
    unpack, stored, _, conv = layout
    x = f32(2, 5, 5, 4) if conv else f32(2, 12)
    axes = optax_gc.infer_axes(model(unpack, conv), f32(*stored), x)
    gradient = jnp.asarray(np.random.default_rng(seed).normal(size=stored), jnp.float32)
    stored_update = centralize(gradient, axes)
    unpacked_update = centralize(unpack(gradient), optax_gc.last_axis_out)
    np.testing.assert_allclose(unpack(stored_update), unpacked_update, atol=1e-6)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.permutations(range(4)), st.permutations(range(4)), st.integers(1, 3))
def test_random_permutations(first, second, cut):
    """The weight is transposed, flattened, unflattened and transposed again."""
    shape = np.array([2, 3, 5, 7])

    def unpack(w):
        w = w.transpose(first)
        whole = w.shape
        w = w.reshape(int(np.prod(whole[:cut])), -1).T.T.reshape(whole)
        return w.transpose(second)

    stored = np.arange(4)[list(first)][list(second)]  # the axis of w for each axis of the kernel
    fan_in = tuple(sorted(stored[:2].tolist()))

    def fn(w, x):
        return jnp.einsum("bij,ijkl->bkl", x, unpack(w))

    x = f32(2, *shape[stored[:2]].tolist())
    assert optax_gc.infer_axes(fn, f32(*shape.tolist()), x).axes == fan_in
