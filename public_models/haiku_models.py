"""The networks of Haiku, and the graph networks of jraph with Haiku layers."""

import functools
from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import jraph

from public_models.check import Axes, Case, Model

_IMAGES = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)


def _expected(path: str, leaf: Any) -> Axes:
    """Return the axes of `hk.Linear` and `hk.ConvND`: all but the last of `w`."""
    rank = len(leaf.shape)
    return tuple(range(rank - 1)) if path.endswith("/w") and rank > 1 else ()


def _case(net: Callable[..., Any], *args: Any) -> Case:
    transformed = hk.transform_with_state(net)
    params, state = jax.eval_shape(transformed.init, jax.random.key(0), *args)

    def fn(params, state, *args):
        return transformed.apply(params, state, None, *args)[0]

    return Case(fn, params, (state, *args), _expected)


def _image_net(name: str) -> Case:
    options = {} if name == "MobileNetV1" else {"num_classes": 10}
    return _case(lambda x: getattr(hk.nets, name)(**options)(x, is_training=True), _IMAGES)


def _mlp() -> Case:
    return _case(lambda x: hk.nets.MLP([32, 32, 10])(x), jax.ShapeDtypeStruct((4, 20), jnp.float32))


def _lstm() -> Case:
    def net(inputs):
        core = hk.LSTM(16)
        outputs, _ = hk.dynamic_unroll(core, inputs, core.initial_state(4))
        return hk.Linear(3)(outputs)

    return _case(net, jax.ShapeDtypeStruct((12, 4, 8), jnp.float32))


def _attention() -> Case:
    def net(x):
        attention = hk.MultiHeadAttention(4, 8, w_init=hk.initializers.VarianceScaling())
        return hk.Linear(3)(attention(x, x, x))

    return _case(net, jax.ShapeDtypeStruct((2, 12, 32), jnp.float32))


def _graph() -> Any:
    shape = jax.ShapeDtypeStruct
    return jraph.GraphsTuple(
        nodes=shape((10, 6), jnp.float32),
        edges=shape((20, 4), jnp.float32),
        senders=shape((20,), jnp.int32),
        receivers=shape((20,), jnp.int32),
        n_node=shape((2,), jnp.int32),
        n_edge=shape((2,), jnp.int32),
        globals=shape((2, 3), jnp.float32),
    )


def _graph_convolution() -> Case:
    def net(graph):
        layer = jraph.GraphConvolution(lambda x: hk.Linear(8)(x), add_self_edges=True)
        return layer(layer(graph)).nodes

    return _case(net, _graph())


def _graph_network() -> Case:
    def update(size):
        return jraph.concatenated_args(lambda x: hk.nets.MLP([16, size])(x))

    def net(graph):
        network = jraph.GraphNetwork(update(8), update(8), update(5))
        return network(graph).globals

    return _case(net, _graph())


MODELS = [
    *(
        Model("dm-haiku", name, functools.partial(_image_net, name))
        for name in ("ResNet18", "ResNet50", "MobileNetV1")
    ),
    Model("dm-haiku", "MLP", _mlp),
    Model("dm-haiku", "LSTM", _lstm),
    Model("dm-haiku", "MultiHeadAttention", _attention),
    Model("jraph", "GraphConvolution", _graph_convolution),
    Model("jraph", "GraphNetwork", _graph_network),
]
