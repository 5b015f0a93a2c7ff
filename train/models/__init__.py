"""Networks as pure functions of their parameters."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

import optax_gc
from train.errors import UserError, short
from train.models import convnet, densenet, norm, resnet, resnext, vgg

MODELS: dict[str, Callable[..., nnx.Module]] = {
    "convnet": convnet.ConvNet,
    **resnet.RESNETS,
    "vgg11": vgg.VGG11,
    "resnext29": resnext.ResNeXt29,
    "densenet121": densenet.DenseNet121,
}
# Fields of config.model: what networks are that do not know them, and what others can be.
_DEFAULTS = {"stem": "3x3", "remat": False, "norm": "batch", "weight_standardization": False}
_OPTIONS: dict[str, dict[str, tuple]] = {
    "convnet": convnet.OPTIONS,
    **dict.fromkeys(resnet.RESNETS, resnet.OPTIONS),
}
_SMALLEST_SIDES = {"vgg11": vgg.SMALLEST_SIDE, "densenet121": densenet.SMALLEST_SIDE}


HEAD = "head"
"""Where every network's parameters have its last layer; all the others are its body."""


class Model(NamedTuple):
    """A network without its numbers.

    Attributes:
      init: `key -> (params, stats)`, two nested dicts of float32 arrays: what is learned, and the
        running statistics of batch normalization.
      apply: `(params, stats, images, train) -> (logits, stats)`, with images (batch, height,
        width, channels) normalized and float, and logits (batch, classes).
      input_shape: height, width, channels.
    """

    init: Callable[[jax.Array], tuple[Any, Any]]
    apply: Callable[[Any, Any, jax.Array, bool], tuple[jax.Array, Any]]
    input_shape: tuple[int, int, int]


def build(config: ConfigDict, num_classes: int, input_shape: tuple[int, int, int]) -> Model:
    """The network that `config.model` and `config.precision` describe.

    Raises:
      UserError: there is no model of that name, it has no such option, or the images are too small
        for it.
    """
    if config.model.name not in MODELS:
        raise UserError(
            f"config.model.name={config.model.name!r} is not a model; "
            f"it must be one of {', '.join(MODELS)}"
        )
    _check_size(config.model.name, input_shape)
    dtype = jnp.dtype(config.precision)
    make = functools.partial(
        MODELS[config.model.name],
        num_classes=num_classes,
        channels=input_shape[-1],
        dtype=dtype,
        **_options(config),
    )

    def create(key: jax.Array) -> nnx.Module:
        return make(rngs=nnx.Rngs(key))

    structure = nnx.graphdef(nnx.eval_shape(create, jax.random.key(0)))

    def init(key: jax.Array) -> tuple[Any, Any]:
        params, stats = nnx.state(create(key), nnx.Param, nnx.BatchStat)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(stats)

    def apply(params: Any, stats: Any, images: jax.Array, train: bool) -> tuple[jax.Array, Any]:
        net = nnx.merge(structure, nnx.State(params), nnx.State(stats))
        logits = net(images.astype(dtype), train)
        return logits, nnx.to_pure_dict(nnx.state(net, nnx.BatchStat))

    return Model(init, apply, input_shape)


def _options(config: ConfigDict) -> dict[str, Any]:
    """What the network is told beside what every network is told."""
    known = _OPTIONS.get(config.model.name, {})
    for field, default in _DEFAULTS.items():
        _check_option(config, field, known.get(field, (default,)))
    options = {field: config.model[field] for field in known}
    if "norm" in options:
        options["norm"] = norm.of(options["norm"], options.pop("weight_standardization"))
    return options


def _check_option(config: ConfigDict, field: str, allowed: tuple) -> None:
    value = config.model[field]
    if value in allowed:
        return
    others = [name for name, options in _OPTIONS.items() if value in options.get(field, ())]
    raise UserError(
        f"config.model.{field}={short(value)} is not for {config.model.name}; set it to "
        f"{' or '.join(map(repr, allowed))}, or config.model.name to one of {', '.join(others)}"
    )


def _check_size(name: str, input_shape: tuple[int, int, int]) -> None:
    height, width, _ = input_shape
    if min(height, width) < (least := _SMALLEST_SIDES.get(name, 1)):
        raise UserError(
            f"config.model.name={name!r} needs images of {least}x{least} pixels or more, and these "
            f"are {height}x{width}; use another net, or larger images"
        )


def freeze_body(params: Any) -> Any:
    """The parameters, of which all but the last layer's are constants to differentiation."""
    return jax.lax.stop_gradient(params) | {HEAD: params[HEAD]}


def fan_in_axes(model: Model) -> Any:
    """A pytree of `optax_gc.FanIn` shaped like the parameters, read off the traced network."""
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, *model.input_shape), jnp.float32)

    def logits(params: Any, stats: Any, images: Any) -> jax.Array:
        return model.apply(params, stats, images, True)[0]

    return optax_gc.infer_axes(logits, params, stats, images)
