"""`infer_axes` on Linen layers."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from tests.support.fan_ins import ADDED, GATHERED, MULTIPLIED, f32, i32, infer, infer_linen

IMAGE = f32(2, 8, 8, 6)
LAYERS = {
    "dense": (nn.Dense(5), f32(4, 3), {"kernel": (0,), "bias": ADDED}),
    "dense on one example": (nn.Dense(5), f32(3), {"kernel": (0,), "bias": ADDED}),
    "conv 1-D": (nn.Conv(5, (3,)), f32(2, 8, 6), {"kernel": (0, 1), "bias": ADDED}),
    "conv 2-D": (nn.Conv(5, (3, 3)), IMAGE, {"kernel": (0, 1, 2), "bias": ADDED}),
    "conv 3-D": (
        nn.Conv(5, (3, 3, 3)),
        f32(2, 8, 8, 8, 6),
        {"kernel": (0, 1, 2, 3), "bias": ADDED},
    ),
    "conv without a batch": (nn.Conv(5, (3,)), f32(8, 6), {"kernel": (0, 1), "bias": ADDED}),
    "conv, strided and dilated": (
        nn.Conv(5, (3, 3), strides=2, kernel_dilation=2, padding="CIRCULAR"),
        IMAGE,
        {"kernel": (0, 1, 2), "bias": ADDED},
    ),
    "conv, grouped": (
        nn.Conv(4, (3, 3), feature_group_count=2),
        IMAGE,
        {"kernel": (0, 1, 2), "bias": ADDED},
    ),
    "conv, depthwise": (
        nn.Conv(6, (3, 3), feature_group_count=6),
        IMAGE,
        {"kernel": (0, 1, 2), "bias": ADDED},
    ),
    "conv, local": (
        nn.ConvLocal(5, (3, 3), padding="VALID"),
        IMAGE,
        {"kernel": (2,), "bias": ADDED},  # (6, 6, 3 * 3 * 6, 5): one kernel per position
    ),
    "conv, masked": (
        nn.Conv(5, (3,), mask=jnp.ones((3, 6, 5))),
        f32(2, 8, 6),
        {"kernel": (0, 1), "bias": ADDED},
    ),
    "conv transpose, kernel (h, w, in, out)": (
        nn.ConvTranspose(5, (3, 3), strides=(2, 2)),
        IMAGE,
        {"kernel": (0, 1, 2), "bias": ADDED},
    ),
    "conv transpose, kernel (h, w, out, in)": (
        nn.ConvTranspose(5, (3, 3), strides=(2, 2), transpose_kernel=True),
        IMAGE,
        {"kernel": (0, 1, 3), "bias": ADDED},
    ),
    "dense general, several out": (
        nn.DenseGeneral((4, 5)),
        f32(2, 3),
        {"kernel": (0,), "bias": ADDED},
    ),
    "dense general, several in": (
        nn.DenseGeneral(5, axis=(-2, -1)),
        f32(2, 3, 4),
        {"kernel": (0, 1), "bias": ADDED},
    ),
    "dense general, a batch axis": (
        nn.DenseGeneral(5, batch_dims=(0,)),
        f32(2, 3, 4),
        {"kernel": (1,), "bias": ADDED},  # (batch, in, out)
    ),
    "einsum": (nn.Einsum((4, 3, 5), "bd,hdk->bhk"), f32(2, 3), {"kernel": (1,), "bias": ADDED}),
    "einsum, batched": (
        nn.Einsum((4, 3, 5), "bhd,hdk->bhk", use_bias=False),
        f32(2, 4, 3),
        {"kernel": (1,)},
    ),
    "embedding": (nn.Embed(7, 5), i32(2, 3), {"embedding": GATHERED}),
    "embedding of one token": (nn.Embed(7, 5), i32(), {"embedding": GATHERED}),
    "layer norm": (nn.LayerNorm(), f32(2, 3), {"scale": MULTIPLIED, "bias": ADDED}),
    "rms norm": (nn.RMSNorm(), f32(2, 3), {"scale": MULTIPLIED}),
    "group norm": (
        nn.GroupNorm(num_groups=2),
        IMAGE,
        {"scale": MULTIPLIED, "bias": ADDED},
    ),
    "batch norm": (
        nn.BatchNorm(use_running_average=False),
        IMAGE,
        {"scale": MULTIPLIED, "bias": ADDED},
    ),
    "prelu": (nn.PReLU(), f32(2, 3), {"negative_slope": MULTIPLIED}),
    "weight norm": (
        nn.WeightNorm(nn.Dense(5)),
        f32(2, 3),
        {
            "layer_instance/kernel": (0,),
            "layer_instance/bias": ADDED,
            "layer_instance/kernel/scale": MULTIPLIED,
        },
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_axes(name):
    module, x, expected = LAYERS[name]
    assert infer_linen(module, x) == expected


@pytest.mark.parametrize("update_stats", [False, True])
@pytest.mark.parametrize(
    ("layer", "x", "kernel"),
    [
        (nn.Dense(5), f32(2, 3), (0,)),
        (nn.Conv(5, (3, 3)), IMAGE, (0, 1, 2)),
        (nn.DenseGeneral((4, 5)), f32(2, 3), (0,)),
        (nn.ConvTranspose(5, (3, 3), transpose_kernel=True), IMAGE, (0, 1, 3)),
    ],
)
def test_spectral_norm(layer, x, kernel, update_stats):
    """The contractions of the power iteration do not count.

    The kernel is flattened to (all other axes, last axis), and sigma contracts it over axes that
    are not its fan-in. These contractions do not count because sigma only rescales the kernel. They
    would count if the model returned sigma as a statistic.
    """
    module = nn.SpectralNorm(layer)
    variables = jax.eval_shape(
        functools.partial(module.init, update_stats=update_stats), jax.random.key(0), x
    )

    def apply(params, stats, x):
        y = module.apply(
            {"params": params, "batch_stats": stats},
            x,
            update_stats=update_stats,
            mutable=["batch_stats"],
        )
        return y[0]

    assert infer(apply, variables["params"], variables["batch_stats"], x) == {
        "layer_instance/bias": ADDED,
        "layer_instance/kernel": kernel,
    }
