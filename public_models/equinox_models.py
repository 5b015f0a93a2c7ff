"""Equinox models: vision models of equimo, the protein model of esm2quinox, a neural ODE."""

import functools
from collections.abc import Callable
from typing import Any

import diffrax
import equimo.models
import equinox as eqx
import esm2quinox
import flowjax.distributions
import flowjax.flows
import jax
import jax.numpy as jnp
import paramax

from public_models.check import Axes, Case, Model

_ARRAYS = (jax.Array, jax.ShapeDtypeStruct)
_VISION = {
    "attnet_xxs": 224,
    "convnext_t": 224,
    "dinov2_vits14": 518,
    "iformer_t": 224,
    "mobilenetv3_small": 224,
    "reduceformer_backbone_b1": 224,
    "vit5_small": 224,
    "vit_tiny_patch16_224": 224,
}


def _expected(model: Any) -> Callable[[str, Any], Axes]:
    """Return the fan-in axes by the class of the layer that has the weight."""
    axes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(model):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        axes[name] = _layer_axes(model, path, len(getattr(leaf, "shape", ())))
    return lambda path, leaf: axes[path]


def _layer_axes(model: Any, path: tuple[Any, ...], rank: int) -> Axes:
    """Return the axes of a weight of a layer; flowjax masks weights in a node of the tree."""
    node = model
    for key in path:
        name = getattr(key, "name", "")
        if rank > 1 and name.startswith("weight"):
            if isinstance(node, eqx.nn.Linear):
                return (rank - 1,)  # an axis of stacked layers may come first
            if isinstance(node, eqx.nn.Conv):
                return tuple(range(1, rank))
            if isinstance(node, eqx.nn.GRUCell | eqx.nn.LSTMCell):
                return (1,)
        node = getattr(node, name) if name else node[key.idx]
    return ()


def _case(model: Any, call: Callable[..., Any], *args: Any) -> Case:
    params, static = eqx.partition(model, lambda leaf: isinstance(leaf, _ARRAYS))

    def fn(params, *args):
        return call(eqx.combine(params, static), *args)

    return Case(fn, params, args, _expected(model))


def _vision(name: str) -> Case:
    make = getattr(equimo.models, name)
    model = eqx.filter_eval_shape(make, key=jax.random.key(0))
    size = _VISION[name]
    image = jax.ShapeDtypeStruct((3, size, size), jnp.float32)
    return _case(model, lambda model, image, key: model(image, key), image, jax.random.key(1))


def _protein() -> Case:
    make = functools.partial(esm2quinox.ESM2, num_layers=2, embed_size=32, num_heads=4)
    model = eqx.filter_eval_shape(make, token_dropout=False, key=jax.random.key(0))
    return _case(model, lambda model, x: model(x).logits, jax.ShapeDtypeStruct((16,), jnp.int32))


class _Field(eqx.Module):
    mlp: eqx.nn.MLP

    def __call__(self, t, y, args):
        return self.mlp(y)


def _neural_ode() -> Case:
    """The neural ODE of the documentation of diffrax."""
    model = _Field(eqx.nn.MLP(2, 2, 64, 2, activation=jax.nn.softplus, key=jax.random.key(0)))

    def call(model, y0):
        times = jnp.linspace(0, 1, 5)
        controller = diffrax.PIDController(rtol=1e-3, atol=1e-6)
        return diffrax.diffeqsolve(
            diffrax.ODETerm(model),
            diffrax.Tsit5(),
            t0=0.0,
            t1=1.0,
            dt0=0.1,
            y0=y0,
            stepsize_controller=controller,
            saveat=diffrax.SaveAt(ts=times),
        ).ys

    return _case(model, call, jax.ShapeDtypeStruct((2,), jnp.float32))


class _Recurrent(eqx.Module):
    cell: eqx.nn.GRUCell
    linear: eqx.nn.Linear

    def __call__(self, inputs):
        def step(state, x):
            return self.cell(x, state), None

        state, _ = jax.lax.scan(step, jnp.zeros(self.cell.hidden_size), inputs)
        return self.linear(state)


def _recurrent() -> Case:
    """The recurrent network of the documentation of Equinox."""
    keys = jax.random.split(jax.random.key(0))
    model = _Recurrent(eqx.nn.GRUCell(2, 16, key=keys[0]), eqx.nn.Linear(16, 1, key=keys[1]))
    inputs = jax.ShapeDtypeStruct((4, 12, 2), jnp.float32)
    return _case(model, lambda model, x: jax.vmap(model)(x), inputs)


def _flow(make: Callable[..., Any]) -> Case:
    """A normalizing flow, whose loss is the negative log-likelihood of samples."""
    base = flowjax.distributions.Normal(jnp.zeros(3))
    flow = eqx.filter_eval_shape(make, jax.random.key(0), base_dist=base, flow_layers=2)

    def call(flow, x):
        return -paramax.unwrap(flow).log_prob(x).mean()

    return _case(flow, call, jax.ShapeDtypeStruct((8, 3), jnp.float32))


MODELS = [
    *(Model("equimo", name, functools.partial(_vision, name)) for name in _VISION),
    Model("esm2quinox", "ESM2", _protein),
    *(
        Model("flowjax", make.__name__, functools.partial(_flow, make))
        for make in (flowjax.flows.coupling_flow, flowjax.flows.masked_autoregressive_flow)
    ),
    Model("diffrax", "neural ODE", _neural_ode),
    Model("equinox", "recurrent network", _recurrent),
]
