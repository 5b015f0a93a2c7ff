"""Weights that are scaled, mixed or multiplied by other weights before `infer_axes` finds them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen import fp8_ops

from tests.support.fan_ins import MULTIPLIED, axes_of, f32, i32, infer

X = f32(4, 6)
W = f32(6, 10)
AS_INPUT = "only used as an input"


# Weights that the data scale


def fake_quantize(w, scale):
    return jnp.clip(jnp.round(w / scale), -127, 127) * scale


SCALED = {
    "scale of the tensor": (lambda w, s: w / s, f32()),
    "scale of each output": (lambda w, s: w * s[None], f32(10)),
    "scale of each input": (lambda w, s: s[:, None] * w, f32(6)),
    "quantized by a scale": (fake_quantize, f32()),
    "quantized by scales": (lambda w, s: fake_quantize(w, s[None]), f32(10)),
    "pruned by a float mask": (lambda w, mask: w * mask, W),
    "pruned by a boolean mask": (
        lambda w, mask: jnp.where(mask, w, 0.0),
        jax.ShapeDtypeStruct((6, 10), jnp.bool_),
    ),
    "scaled and added": (lambda w, s: 2 * (w / s) + 1, f32()),
}


@pytest.mark.parametrize("name", SCALED)
def test_weight_scaled_by_an_argument(name):
    scale, argument = SCALED[name]
    assert axes_of(lambda w, s, x: x @ scale(w, s), W, argument, X) == (0,)
    assert axes_of(lambda w, s, x: scale(w, s).T @ x.T, W, argument, X) == (0,)


def test_modulated_convolution():
    """The kernels of StyleGAN2: modulated by the style of each example, then demodulated."""

    def fn(params, styles, images):
        kernel = params["kernel"][None] * (styles @ params["style"])[:, None, None, :, None]
        norm = jnp.sqrt(jnp.sum(kernel**2, (1, 2, 3), keepdims=True) + 1e-8)
        kernels = kernel / norm

        def conv(image, kernel):
            numbers = ("NHWC", "HWIO", "NHWC")
            return jax.lax.conv_general_dilated(
                image[None], kernel, (1, 1), "SAME", dimension_numbers=numbers
            )[0]

        return jax.vmap(conv)(images, kernels)

    params = {"kernel": f32(3, 3, 6, 5), "style": f32(7, 6)}
    found = infer(fn, params, f32(4, 7), f32(4, 8, 8, 6))
    assert found == {"kernel": (0, 1, 2), "style": (0,)}


@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_scale_of_features_is_no_kernel(shape):
    """A scale of queries, of one or of two axes, is only multiplied."""

    def fn(scale, queries, keys):
        scaled = queries.reshape(4, *shape) * scale[None]
        return jnp.einsum("b...d,k...d->bk...", scaled, keys.reshape(5, *shape))

    assert axes_of(fn, f32(*shape), X, f32(5, 6)) == MULTIPLIED


def test_state_space_model_is_only_multiplied():
    """The decay of a selective state space model is scaled by data inside an exponential."""

    def fn(a, steps, x, c):
        decay = jnp.exp(steps[:, :, None] * a[None])
        return jnp.einsum("bdn,bn->bd", decay * x[:, :, None], c)

    assert axes_of(fn, f32(6, 3), X, X, f32(4, 3)) == MULTIPLIED


@pytest.mark.filterwarnings("ignore:The Fp8DotGeneralOp is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    "name",
    [
        *("Fp8DotGeneralOp", "Fp8DirectDotGeneralOp", "NANOOFp8DotGeneralOp"),
        *("Fp8DotGeneral", "Fp8Einsum"),
    ],
)
def test_fp8_layers(name):
    """They scale and cast the kernel, with the scales in the arguments."""
    op = getattr(fp8_ops, name)()
    numbers = (((1,), (0,)), ((), ()))

    def call(method, x, w):
        return method("bi,io->bo", x, w) if name == "Fp8Einsum" else method(x, w, numbers)

    init = functools.partial(op.init, jax.random.key(0))
    state = jax.eval_shape(lambda: call(init, jnp.ones((4, 6)), jnp.ones((6, 10))))

    def fn(w, state, x):
        return call(functools.partial(op.apply, state), x, w)

    assert axes_of(fn, W, state, X) == (0,)


@jax.custom_vjp
def int8_product(x, w):
    scale = jnp.max(jnp.abs(w)) / 127
    quantized = jnp.round(w / scale).astype(jnp.int8)
    product = jnp.dot(x.astype(jnp.int8), quantized, preferred_element_type=jnp.int32)
    return product.astype(x.dtype) * scale


int8_product.defvjp(
    lambda x, w: (int8_product(x, w), (x, w)), lambda r, g: (g @ r[1].T, r[0].T @ g)
)


def test_integers_inside_custom_vjp():
    """A custom gradient can flow back through a cast to integers."""
    assert axes_of(lambda w, x: int8_product(x, w), W, X) == (0,)


def test_nearest_code_inside_custom_vjp():
    """The search for the nearest code has no gradient, not even a custom one."""

    @jax.custom_vjp
    def quantize(codes, x):
        return codes[jnp.argmin((codes**2).sum(1)[None] - 2 * x @ codes.T, axis=1)]

    quantize.defvjp(lambda codes, x: (quantize(codes, x), None), lambda _, g: (g, g))
    assert axes_of(quantize, f32(7, 6), X) == "only gathered"


# Kernels that are mixed


def images_times_kernels(images, kernels):
    def conv(image, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            image[None], kernel, (1, 1), "SAME", dimension_numbers=numbers
        )

    return jax.vmap(conv)(images, kernels)


def test_mixed_convolutions():
    """CondConv: the kernel of each example is a mixture."""

    def fn(params, images):
        gates = jax.nn.sigmoid(images.mean((1, 2)) @ params["gate"])
        return images_times_kernels(images, jnp.einsum("be,ehwio->bhwio", gates, params["w"]))

    params = {"gate": f32(6, 5), "w": f32(5, 3, 3, 6, 7)}
    assert infer(fn, params, f32(4, 8, 8, 6)) == {"gate": (0,), "w": (1, 2, 3)}
    mixed = lambda w, gates, images: images_times_kernels(  # noqa: E731
        images, jnp.einsum("be,ehwio->bhwio", gates, w)
    )
    assert axes_of(mixed, params["w"], f32(4, 5), f32(4, 8, 8, 6)) == (1, 2, 3)


GATES = {
    "softmax": lambda x: jax.nn.softmax(x, axis=-1),
    "sigmoid": jax.nn.sigmoid,
    "one-hot": lambda x: jax.nn.one_hot(jnp.argmax(x, axis=-1), x.shape[-1]),
    "top two": lambda x: jnp.where(x >= jax.lax.top_k(x, 2)[0][:, 1:], jax.nn.softmax(x), 0.0),
}


@pytest.mark.parametrize("gate", GATES)
def test_mixed_dense_kernels(gate):
    """The axis of the experts is no fan-in, in either order of the two sums."""
    gate = GATES[gate]
    experts, gate_inputs = f32(5, 6, 7), f32(4, 5)

    def mixed_first(w, z, x):
        return jnp.einsum("bi,bio->bo", x, jnp.einsum("be,eio->bio", gate(z), w))

    def mixed_tokens(w, z, x):
        return jnp.einsum("bti,bio->bto", x, jnp.einsum("be,eio->bio", gate(z), w))

    def gated_last(w, z, x):
        return jnp.einsum("beo,be->bo", jnp.einsum("bi,eio->beo", x, w), gate(z))

    assert axes_of(mixed_first, experts, gate_inputs, X) == (1,)
    assert axes_of(mixed_tokens, experts, gate_inputs, f32(4, 3, 6)) == (1,)
    assert axes_of(gated_last, experts, gate_inputs, X) == (1,)


def test_mixed_by_plain_data():
    def fn(w, mix, x):
        return jnp.einsum("bi,bio->bo", x, jnp.einsum("be,eio->bio", mix, w))

    assert axes_of(fn, f32(5, 6, 7), f32(4, 5), X) == (1,)


def test_kernels_of_a_basis():
    """Relational graph convolutions: the kernel of each relation is a sum of weights."""

    def fn(params, x):
        kernels = jnp.einsum("rb,bio->rio", params["mix"], params["basis"])
        return jnp.einsum("ni,rio->rno", x, kernels)

    params = {"mix": f32(3, 5), "basis": f32(5, 6, 7)}
    assert infer(fn, params, X) == {"mix": (1,), "basis": (1,)}

    def one_by_one(params, x):
        kernels = jnp.einsum("rb,bio->rio", params["mix"], params["basis"])
        return sum(x @ kernels[relation] for relation in range(3))

    assert infer(one_by_one, params, X) == {"mix": (1,), "basis": (1,)}


def test_convolution_with_a_basis():
    """The kernels are sums of learned filters, with learned coefficients."""

    def fn(params, images):
        kernels = jnp.einsum("ob,bihw->oihw", params["mix"], params["basis"])
        return jax.lax.conv(images, kernels, (1, 1), "SAME")

    params = {"mix": f32(5, 3), "basis": f32(3, 6, 3, 3)}
    assert infer(fn, params, f32(2, 6, 8, 8)) == {"mix": (1,), "basis": (1, 2, 3)}


@pytest.mark.parametrize("heads", [(), (2,)])
def test_queries_of_shared_keys_are_no_mixture(heads):
    """In multi-query attention, the head axis of the query kernel is not summed."""

    def fn(params, x, keys):
        queries = jnp.tensordot(x, params["query"], 1)
        return jax.nn.softmax(queries @ keys.T)

    assert infer(fn, {"query": f32(6, *heads, 5)}, f32(3, 6), f32(7, 5)) == {"query": (0,)}


# Learned inputs


def learned_queries(params, x):
    queries = params["latents"] @ params["query"] + params["bias"][None]
    return jax.nn.softmax(queries @ (x @ params["key"]).T) @ (x @ params["value"])


LATENTS = {"latents": f32(3, 6), "query": f32(6, 5), "key": f32(7, 5), "value": f32(7, 5)}


def test_learned_queries():
    params = LATENTS | {"bias": f32(5)}
    found = infer(learned_queries, params, f32(4, 7))
    kernels = {"query": (0,), "key": (0,), "value": (0,)}
    assert found == kernels | {"latents": AS_INPUT, "bias": "only added"}


def test_learned_queries_without_bias():
    def fn(params, x):
        queries = params["latents"] @ params["query"]
        return jax.nn.softmax(queries @ (x @ params["key"]).T) @ (x @ params["value"])

    found = infer(fn, LATENTS, f32(4, 7))
    assert found == {"latents": AS_INPUT, "query": (0,), "key": (0,), "value": (0,)}


def test_learned_queries_with_residual():
    def fn(params, x):
        queries = jax.nn.gelu(params["latents"] @ params["first"]) @ params["second"]
        return params["latents"] + jax.nn.softmax(queries @ x.T) @ x

    params = {"latents": f32(3, 6), "first": f32(6, 9), "second": f32(9, 6)}
    found = infer(fn, params, X)
    assert found == {"latents": "only added and used as an input", "first": (0,), "second": (0,)}


def test_learned_memory():
    """Attention weights, which come from the data, sum the rows of a projected memory."""

    def fn(params, x):
        values = params["memory"] @ params["value"]
        return jax.nn.softmax(x @ params["key"]) @ values

    params = {"memory": f32(3, 6), "value": f32(6, 5), "key": f32(6, 3)}
    assert infer(fn, params, X) == {"memory": AS_INPUT, "value": (0,), "key": (0,)}


def test_projected_table():
    def fn(params, tokens):
        return (params["table"] @ params["w"])[tokens]

    params = {"table": f32(11, 6), "w": f32(6, 5)}
    assert infer(fn, params, i32(4)) == {"table": "only gathered", "w": (0,)}


def test_learned_constant_input():
    def fn(params, x):
        h = jnp.tanh(params["constant"] @ params["w"] + params["b"][None])
        return h[None] + x[:, None, None]

    params = {"constant": f32(4, 6), "w": f32(6, 5), "b": f32(5)}
    assert infer(fn, params, f32(7)) == {"constant": AS_INPUT, "w": (0,), "b": "only added"}


# Derivatives


def net(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


@pytest.mark.parametrize(
    "fn",
    [
        lambda params, x: jax.jacrev(net, 1)(params, x),
        lambda params, x: jax.vjp(lambda x: net(params, x), x)[1](jnp.ones(3))[0],
        lambda params, x: jax.grad(lambda x: net(params, x).sum())(x),
    ],
    ids=["jacrev", "vjp", "grad"],
)
def test_loss_of_derivatives(fn):
    """The output of the last layer is not used: only the backward pass contracts its kernel."""
    found = infer(fn, {"w": f32(6, 5), "v": f32(5, 3)}, f32(6))
    assert found == {"w": (0,), "v": "only contracted in a derivative"}


@pytest.mark.parametrize("fn", [jax.hessian(net, 1), jax.jacfwd(net, 1)], ids=["hessian", "jacfwd"])
def test_loss_of_forward_derivatives(fn):
    found = infer(fn, {"w": f32(6, 5), "v": f32(5, 3)}, f32(6))
    assert found["w"] == (0,)
    assert found["v"] in [(0,), "only contracted in a derivative"]


def test_custom_root():
    """An implicit layer: the root of an equation that contains the kernel."""

    def fn(w, x):
        def equation(z):
            return z - jnp.tanh(x @ w) + 0.1 * z**3

        def solve(f, z):
            return jax.lax.fori_loop(0, 3, lambda _, z: z - 0.5 * f(z), z)

        return jax.lax.custom_root(equation, jnp.zeros(10), solve, lambda g, y: y / g(jnp.ones(10)))

    assert axes_of(fn, W, f32(6)) == (0,)


def test_random_mixture_is_reproducible():
    """The order of operands changes nothing."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        order = rng.permutation(3)
        kernels = f32(*np.array([5, 6, 7])[order])
        letters = "".join(np.array(list("eio"))[order])

        def fn(w, z, x, letters=letters):
            mixed = jnp.einsum(f"{letters},be->bio", w, jax.nn.softmax(z, axis=-1))
            return jnp.einsum("bio,bi->bo", mixed, x)

        assert axes_of(fn, kernels, f32(4, 5), X) == (letters.index("i"),)
