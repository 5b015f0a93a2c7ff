"""`infer_axes` on Haiku layers and networks."""

import haiku as hk
import jax
import pytest

from tests.support.fan_ins import ADDED, GATHERED, MULTIPLIED, assert_axes, f32, i32, infer

IMAGE = f32(2, 8, 8, 6)


@pytest.fixture(autouse=True)
def allow_rank_promotion():
    """Allow rank promotion, which Haiku needs to add biases."""
    with jax.numpy_rank_promotion("allow"):
        yield


def infer_haiku(make, *args, **kwargs):
    model = hk.transform_with_state(lambda *args: make()(*args, **kwargs))
    key = jax.random.key(0)
    params, state = jax.eval_shape(model.init, key, *args)
    return infer(model.apply, params, state, key, *args)


LAYERS = {
    "linear": (lambda: hk.Linear(5), IMAGE, (0,)),
    "conv 1-D": (lambda: hk.Conv1D(5, 3), f32(2, 8, 6), (0, 1)),
    "conv 2-D": (lambda: hk.Conv2D(5, 3), IMAGE, (0, 1, 2)),
    "conv 2-D, channels first": (
        lambda: hk.Conv2D(5, 3, data_format="NCHW"),
        IMAGE,
        (0, 1, 2),
    ),
    "conv 2-D, grouped": (lambda: hk.Conv2D(4, 3, feature_group_count=2), IMAGE, (0, 1, 2)),
    "conv 2-D, depthwise": (lambda: hk.DepthwiseConv2D(2, 3), IMAGE, (0, 1, 2)),
    "conv 2-D, transposed": (lambda: hk.Conv2DTranspose(5, 3), IMAGE, (0, 1, 3)),  # (h, w, out, in)
    "conv 3-D": (
        lambda: hk.Conv3D(5, 3),
        f32(2, 4, 4, 4, 6),
        (0, 1, 2, 3),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_axes(name):
    make, x, kernel = LAYERS[name]
    assert_axes(infer_haiku(make, x), {r"\w+/w": kernel, r"\w+/b": ADDED})


def test_embedding_and_attention():
    tokens = i32(2, 5)

    def make():
        def model(tokens):
            h = hk.Embed(11, 8)(tokens)
            h = hk.LayerNorm(-1, True, True)(h)
            return hk.MultiHeadAttention(2, 4, w_init=hk.initializers.Constant(1.0))(h, h, h)

        return model

    assert_axes(
        infer_haiku(make, tokens),
        {
            "embed/embeddings": GATHERED,
            "layer_norm/scale": MULTIPLIED,
            "layer_norm/offset": ADDED,
            r"multi_head_attention/(query|key|value|linear)/w": (0,),
            r"multi_head_attention/(query|key|value|linear)/b": ADDED,
        },
    )


@pytest.mark.parametrize(
    ("core", "table"),
    [
        (hk.LSTM, {"lstm/linear/w": (0,), "lstm/linear/b": ADDED}),  # (in + hidden, 4 * hidden)
        (hk.GRU, {"gru/w_[ih]": (0,), "gru/b": ADDED}),
        (hk.VanillaRNN, {r"vanilla_rnn/\w+/w": (0,), r"vanilla_rnn/\w+/b": ADDED}),
    ],
)
def test_recurrent_core(core, table):
    """Check one step, and a scan over time from an initial state of zeros."""

    def one_step():
        return lambda x: (cell := core(6))(x[0], cell.initial_state(x.shape[1]))

    def unrolled():
        return lambda x: hk.dynamic_unroll(cell := core(6), x, cell.initial_state(x.shape[1]))

    x = f32(5, 2, 3)
    assert_axes(infer_haiku(one_step, x), table)
    assert_axes(infer_haiku(unrolled, x), table)


def test_resnet50_axes():
    image = f32(2, 64, 64, 3)
    found = infer_haiku(lambda: hk.nets.ResNet50(10), image, is_training=True)
    assert (
        len(found) == 161
    )  # 53 convolutions, the scales and offsets of their norms, and the output layer
    assert_axes(
        found,
        {
            r"res_net50/~/initial_conv/w": (0, 1, 2),
            r"res_net50/.*/~/(conv_\d|shortcut_conv)/w": (0, 1, 2),
            r"res_net50/.*batchnorm(_\d)?/scale": MULTIPLIED,
            r"res_net50/.*batchnorm(_\d)?/offset": ADDED,
            r"res_net50/~/logits/w": (0,),
            r"res_net50/~/logits/b": ADDED,
        },
    )


def test_mobilenet_axes():
    """Depthwise kernels are (h, w, 1, channels), with a fan-in of h * w."""
    image = f32(2, 64, 64, 3)
    found = infer_haiku(lambda: hk.nets.MobileNetV1(num_classes=10), image, is_training=True)
    assert (
        len(found) == 83
    )  # 27 convolutions, the scales and offsets of their norms, and the output layer
    assert_axes(
        found,
        {
            r"mobile_net_v1/.*conv\w*/w": (0, 1, 2),
            r"mobile_net_v1/.*/scale": MULTIPLIED,
            r"mobile_net_v1/.*/offset": ADDED,
            r"mobile_net_v1/logits/w": (0,),
            r"mobile_net_v1/logits/b": ADDED,
        },
    )
