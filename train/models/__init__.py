"""Networks as pure functions of their parameters."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

import optax_gc
from train.data.inputs import example_unit, is_text
from train.errors import UserError, short_repr
from train.models import convnet, densenet, lstm, resnet, resnext, transformer, vgg
from train.models.layers.norm import make_normalization

MODELS: dict[str, Callable[..., nnx.Module]] = {
    "convnet": convnet.ConvNet,
    **resnet.RESNETS,
    "vgg11": vgg.VGG11,
    "resnext29": resnext.ResNeXt29,
    "densenet121": densenet.DenseNet121,
}
"""Models for images; called with `(images, train)`."""
TEXT_MODELS: dict[str, Callable[..., nnx.Module]] = {
    "lstm": lstm.TextLSTM,
    "transformer": transformer.TextTransformer,
}
"""Models for texts; called with `(token_ids, rngs)`, where `rngs` is None in evaluation."""
HEAD = "head"
"""The key of the last layer in the parameters of every model; all other layers are its body."""

# The only values of these `config.model` fields for models that do not have the option.
_DEFAULTS = {
    "stem": "3x3",
    "widen_factor": 1,
    "remat": False,
    "norm": "batch",
    "weight_standardization": False,
}
_OPTIONS: Mapping[str, Mapping[str, tuple | None]] = {
    "convnet": convnet.OPTIONS,
    **dict.fromkeys(resnet.RESNETS, resnet.OPTIONS),
}
_MIN_IMAGE_SIDES = {"vgg11": vgg.MIN_IMAGE_SIDE, "densenet121": densenet.MIN_IMAGE_SIDE}


class Model(NamedTuple):
    """A network without its parameters.

    Attributes:
      init: `key -> (params, stats)`, two nested dicts of float32 arrays: the parameters, and the
        running statistics of batch normalization.
      apply: `(params, stats, inputs, train, key=None) -> (logits, stats)`. The inputs are those of
        `train.data.inputs.to_model_inputs`; the logits have shape (batch, classes). The key is for
        dropout in training; models for images do not need it.
      input_shape: (height, width, channels) of an image, or (length,) of a text in tokens.
      input_dtype: float32 for images, int32 for texts.
    """

    init: Callable[[jax.Array], tuple[Any, Any]]
    apply: Callable[..., tuple[jax.Array, Any]]
    input_shape: tuple[int, ...]
    input_dtype: Any = jnp.float32


def build(config: ConfigDict, num_classes: int, input_shape: tuple[int, ...]) -> Model:
    """Return the model that `config.model` and `config.precision` describe.

    Args:
      config: A validated config.
      num_classes: The number of logits.
      input_shape: The `input_shape` of the model.

    Raises:
      UserError: If there is no such model, it does not support an option, or the images are too
        small for it.
    """
    dtype, for_texts = jnp.dtype(config.precision), is_text(config)
    make = functools.partial(
        _model_class(config), num_classes=num_classes, dtype=dtype, **_options(config, input_shape)
    )

    def create(key: jax.Array) -> nnx.Module:
        return make(rngs=nnx.Rngs(key))

    graphdef = nnx.graphdef(nnx.eval_shape(create, jax.random.key(0)))

    def init(key: jax.Array) -> tuple[Any, Any]:
        params, stats = nnx.state(create(key), nnx.Param, nnx.BatchStat)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(stats)

    def apply(
        params: Any, stats: Any, inputs: jax.Array, train: bool, key: jax.Array | None = None
    ) -> tuple[jax.Array, Any]:
        module = nnx.merge(graphdef, nnx.State(params), nnx.State(stats))
        if for_texts:
            logits = module(inputs, nnx.Rngs(key) if train else None)
        else:
            logits = module(inputs.astype(dtype), train)
        return logits, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

    return Model(init, apply, input_shape, jnp.int32 if for_texts else jnp.float32)


def freeze_body(params: Any) -> Any:
    """Return the same parameters without gradients, except for those of the last layer."""
    return jax.lax.stop_gradient(params) | {HEAD: params[HEAD]}


def fan_in_axes(model: Model) -> Any:
    """Return a pytree of `optax_gc.FanIn` with the structure of the parameters.

    The axes are inferred from a trace of the model.
    """
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    inputs = jax.ShapeDtypeStruct((1, *model.input_shape), model.input_dtype)

    def logits(params: Any, stats: Any, inputs: Any) -> jax.Array:
        return model.apply(params, stats, inputs, True, jax.random.key(0))[0]

    return optax_gc.infer_axes(logits, params, stats, inputs)


def _model_class(config: ConfigDict) -> Callable[..., nnx.Module]:
    name = config.model.name
    allowed = TEXT_MODELS if is_text(config) else MODELS
    if name in allowed:
        return allowed[name]
    exists = name in {**MODELS, **TEXT_MODELS}
    expected = f"a model for {example_unit(config)}" if exists else "a model"
    raise UserError(
        f"config.model.name={name!r} is not {expected}; it must be one of {', '.join(allowed)}"
    )


def _options(config: ConfigDict, input_shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the arguments that not all models have."""
    supported = _OPTIONS.get(config.model.name, {})
    for field, default in _DEFAULTS.items():
        _check_option(config, field, supported.get(field, (default,)))
    options = {field: config.model[field] for field in supported}
    if "norm" in options:
        standardization = options.pop("weight_standardization")
        options["norm"] = make_normalization(options["norm"], standardization)
    if is_text(config):
        text_options = {"vocabulary": config.data.vocabulary, "length": input_shape[0]}
        return options | text_options | {"dropout": config.model.dropout}
    _check_image_size(config.model.name, input_shape)
    return options | {"channels": input_shape[-1]}


def _check_option(config: ConfigDict, field: str, allowed: tuple | None) -> None:
    value = config.model[field]
    if allowed is None or value in allowed:
        return
    others = [
        name
        for name, options in _OPTIONS.items()
        if field in options and (options[field] is None or value in (options[field] or ()))
    ]
    raise UserError(
        f"config.model.{field}={short_repr(value)} is not for {config.model.name}; set it to "
        f"{' or '.join(map(repr, allowed))}, or config.model.name to one of {', '.join(others)}"
    )


def _check_image_size(name: str, input_shape: tuple[int, ...]) -> None:
    height, width, _ = input_shape
    if min(height, width) < (side := _MIN_IMAGE_SIDES.get(name, 1)):
        raise UserError(
            f"config.model.name={name!r} needs images of at least {side}x{side} pixels, but these "
            f"are {height}x{width}; use another model or larger images"
        )
