"""The convolution and ReLU layers: the results of JAX and Flax, and fast programs on CPUs."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import strategies as st

from train.config import default_config
from train.models import build
from train.models.layers import conv
from train.models.layers.conv import relu
from train.runtime import compilation


@pytest.mark.slow
@hypothesis.given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel_size=st.integers(1, 7),
    stride=st.integers(1, 3),
    groups=st.sampled_from([1, 1, 2]),
    use_bias=st.booleans(),
)
@hypothesis.settings(deadline=None, max_examples=8)
def test_gradients_match_flax(size, kernel_size, stride, groups, use_bias):
    # XLA 0.10 and 0.12 abort the process for this gradient, with Flax's layer too.
    hypothesis.assume(not (kernel_size == stride == 2 and min(size) == 1))
    layer = conv.Conv(
        6, 4, (kernel_size, kernel_size), stride, groups=groups, use_bias=use_bias, rngs=nnx.Rngs(0)
    )
    flax_layer = nnx.Conv(
        6,
        4,
        (kernel_size, kernel_size),
        stride,
        padding=kernel_size // 2,
        feature_group_count=groups,
        use_bias=use_bias,
        rngs=nnx.Rngs(0),
    )
    images = jax.random.normal(jax.random.key(1), (2, *size, 6))

    def loss(layer, images):
        return jnp.sum(jnp.sin(layer(images)))

    @nnx.jit  # one program compiles much faster than each operation alone
    def gradients(layer, images):
        return nnx.value_and_grad(loss, argnums=(0, 1))(layer, images)

    actual, expected = (jax.tree.leaves(gradients(each, images)) for each in (layer, flax_layer))
    for leaf, flax_leaf in zip(actual, expected, strict=True):
        np.testing.assert_allclose(leaf, flax_leaf, rtol=1e-4, atol=1e-4)


def test_groups_are_separate_on_cpu():
    layer = conv.Conv(8, 8, (3, 3), groups=4, rngs=nnx.Rngs(0))
    graph, params = nnx.split(layer)
    images = jax.ShapeDtypeStruct((2, 8, 8, 8), jnp.float32)

    def total(params, images):
        return jnp.sum(nnx.merge(graph, params)(images))

    forward = jax.jit(total).trace(params, images)
    backward = jax.jit(jax.grad(total, argnums=(0, 1))).trace(params, images)
    for platform, counts in (("cpu", (4, 8)), ("cuda", (1, 2))):
        for traced, count in zip((forward, backward), counts, strict=True):
            text = traced.lower(lowering_platforms=(platform,)).as_text()
            assert text.count("stablehlo.convolution") == count


def test_relu_matches_jax():
    x = jnp.array([-1.0, 0.0, 2.0, jnp.inf, jnp.nan])
    np.testing.assert_array_equal(relu(x), jax.nn.relu(x))
    np.testing.assert_array_equal(jax.vmap(jax.grad(relu))(x), jax.vmap(jax.grad(jax.nn.relu))(x))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="tests the program for CPUs")
def test_cpu_layouts_and_barriers_in_loop():
    """In a loop too, convolutions are NHWC and activations are stored."""
    config = default_config()
    config.gc.mode = "none"
    model = build(config, 10, (8, 8, 1))
    state = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((16, 8, 8, 1), jnp.float32)

    def loss(params, stats, images):
        return jnp.sum(model.apply(params, stats, images, True)[0])

    def loop(state, images):
        def body(_, params):
            grads = jax.grad(loss)(params, state[1], images)
            return jax.tree.map(jnp.subtract, params, grads)

        return jax.lax.fori_loop(0, images.shape[0] + jnp.int32(images[0, 0, 0, 0]), body, state[0])

    text = jax.jit(loop).lower(state, images).compile(compilation.options()).as_text()
    convolutions = [line for line in text.splitlines() if " convolution(" in line]
    assert len(convolutions) >= 8
    for line in convolutions:
        assert "dim_labels=b01f_01io->b01f" in line
    assert text.count(" opt-barrier(") >= 2
