"""Networks as pure functions of their parameters."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

import optax_gc
from train.data.inputs import example_unit, is_text
from train.errors import UserError, short_repr
from train.models import convnet, densenet, lstm, resnet, resnext, transformer, vgg
from train.models.layers import norm

MODELS: dict[str, Callable[..., nnx.Module]] = {
    "convnet": convnet.ConvNet,
    **resnet.RESNETS,
    "vgg11": vgg.VGG11,
    "resnext29": resnext.ResNeXt29,
    "densenet121": densenet.DenseNet121,
}
"""For images; called with `(images, train)`."""
TEXT_MODELS: dict[str, Callable[..., nnx.Module]] = {
    "lstm": lstm.TextLSTM,
    "transformer": transformer.TextTransformer,
}
"""For texts; called with `(texts, rngs)`, the latter None in evaluation."""

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
      apply: `(params, stats, inputs, train, key=None) -> (logits, stats)`, with inputs as
        `train.data.inputs.standardized` makes them, logits (batch, classes), and in training the
        key of dropout, which networks for images do not need.
      input_shape: height, width, channels of an image, or words of a text.
      input_dtype: float32 of images, int32 of texts.
    """

    init: Callable[[jax.Array], tuple[Any, Any]]
    apply: Callable[..., tuple[jax.Array, Any]]
    input_shape: tuple[int, ...]
    input_dtype: Any = jnp.float32


def build(config: ConfigDict, num_classes: int, input_shape: tuple[int, ...]) -> Model:
    """The network that `config.model` and `config.precision` describe.

    Raises:
      UserError: there is no model of that name, it has no such option, or the images are too small
        for it.
    """
    dtype, texts = jnp.dtype(config.precision), is_text(config)
    make = functools.partial(
        _choose(config), num_classes=num_classes, dtype=dtype, **_options(config, input_shape)
    )

    def create(key: jax.Array) -> nnx.Module:
        return make(rngs=nnx.Rngs(key))

    structure = nnx.graphdef(nnx.eval_shape(create, jax.random.key(0)))

    def init(key: jax.Array) -> tuple[Any, Any]:
        params, stats = nnx.state(create(key), nnx.Param, nnx.BatchStat)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(stats)

    def apply(
        params: Any, stats: Any, inputs: jax.Array, train: bool, key: jax.Array | None = None
    ) -> tuple[jax.Array, Any]:
        net = nnx.merge(structure, nnx.State(params), nnx.State(stats))
        if texts:
            logits = net(inputs, nnx.Rngs(key) if train else None)
        else:
            logits = net(inputs.astype(dtype), train)
        return logits, nnx.to_pure_dict(nnx.state(net, nnx.BatchStat))

    return Model(init, apply, input_shape, jnp.int32 if texts else jnp.float32)


def _choose(config: ConfigDict) -> Callable[..., nnx.Module]:
    name, kind = config.model.name, example_unit(config)
    known = TEXT_MODELS if is_text(config) else MODELS
    if name in known:
        return known[name]
    elsewhere = {**MODELS, **TEXT_MODELS}
    what = f"a model for {kind}" if name in elsewhere else "a model"
    raise UserError(
        f"config.model.name={name!r} is not {what}; it must be one of {', '.join(known)}"
    )


def _options(config: ConfigDict, input_shape: tuple[int, ...]) -> dict[str, Any]:
    """What the network is told beside what every network is told."""
    known = _OPTIONS.get(config.model.name, {})
    for field, default in _DEFAULTS.items():
        _check_option(config, field, known.get(field, (default,)))
    options = {field: config.model[field] for field in known}
    if "norm" in options:
        options["norm"] = norm.of(options["norm"], options.pop("weight_standardization"))
    if is_text(config):
        of_texts = {"vocabulary": config.data.vocabulary, "length": input_shape[0]}
        return options | of_texts | {"dropout": config.model.dropout}
    _check_size(config.model.name, input_shape)
    return options | {"channels": input_shape[-1]}


def _check_option(config: ConfigDict, field: str, allowed: tuple) -> None:
    value = config.model[field]
    if value in allowed:
        return
    others = [name for name, options in _OPTIONS.items() if value in options.get(field, ())]
    raise UserError(
        f"config.model.{field}={short_repr(value)} is not for {config.model.name}; set it to "
        f"{' or '.join(map(repr, allowed))}, or config.model.name to one of {', '.join(others)}"
    )


def _check_size(name: str, input_shape: tuple[int, ...]) -> None:
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
    inputs = jax.ShapeDtypeStruct((1, *model.input_shape), model.input_dtype)

    def logits(params: Any, stats: Any, inputs: Any) -> jax.Array:
        return model.apply(params, stats, inputs, True, jax.random.key(0))[0]

    return optax_gc.infer_axes(logits, params, stats, inputs)
