"""The networks, by the name that a config gives them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

import optax_gc
from train.config import entry_point
from train.config.entry_point import is_entry_point
from train.data.inputs import example_unit, is_text
from train.errors import UserError, short_repr
from train.models import convnet, densenet, lstm, resnet, resnext, transformer, vgg
from train.models.functional import Model, Network, to_functions
from train.models.layers.norm import make_normalization

MODELS: dict[str, Callable[..., nnx.Module]] = {
    "convnet": convnet.ConvNet,
    **resnet.RESNETS,
    "vgg11": vgg.VGG11,
    "resnext29": resnext.ResNeXt29,
    "densenet121": densenet.DenseNet121,
}
"""Models for images."""
TEXT_MODELS: dict[str, Callable[..., nnx.Module]] = {
    "lstm": lstm.TextLSTM,
    "transformer": transformer.TextTransformer,
}
"""Models for texts."""

# The values of these `config.model` fields for networks that do not take them.
_UNSUPPORTED = {
    "stem": "3x3",
    "widen_factor": 1,
    "remat": False,
    "norm": "batch",
    "weight_standardization": False,
    "dropout": 0.0,
}


def build(config: ConfigDict, num_classes: int, input_shape: tuple[int, ...]) -> Model:
    """Return the model that `config.model` and `config.precision` describe.

    Args:
      config: A validated config.
      num_classes: The number of logits.
      input_shape: The `input_shape` of the model.

    Raises:
      UserError: If there is no such model, it does not support an option, the images are too small
        for it, or its code fails.
    """
    network, for_texts = _network(config), is_text(config)
    _check_options(config, network)
    if config.precision != "float32" and not network.takes("dtype"):
        raise network.error(
            f"config.precision={config.precision!r} is not for this network, whose constructor "
            "takes no dtype; set it to 'float32', or pass dtype on to the layers"
        )
    arguments = {"num_classes": num_classes, "dtype": jnp.dtype(config.precision)}
    if for_texts:
        arguments |= {"vocabulary": config.data.vocabulary, "length": input_shape[0]}
    else:
        _check_image_size(network, input_shape)
        arguments["channels"] = input_shape[-1]
    arguments |= _options(config, network)
    return to_functions(network, arguments, input_shape, for_texts)


def fan_in_axes(model: Model) -> Any:
    """Return a pytree of `optax_gc.FanIn` with the structure of the parameters.

    The axes are inferred from a trace of the model.

    Raises:
      UserError: If the code of the network fails, or uses a weight along different axes.
    """
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    inputs = jax.ShapeDtypeStruct((1, *model.input_shape), model.input_dtype)

    def logits(params: Any, stats: Any, inputs: Any) -> jax.Array:
        return model.apply(params, stats, inputs, True, jax.random.key(0))[0]

    try:
        return optax_gc.infer_axes(
            logits, params, stats, inputs, data_argnums=2, raise_if_ambiguous=True
        )
    except ValueError as error:
        cause = error.__cause__
        raise cause if isinstance(cause, UserError) else UserError(str(error)) from error


def _network(config: ConfigDict) -> Network:
    name = config.model.name
    allowed = TEXT_MODELS if is_text(config) else MODELS
    if name in allowed:
        return Network(name, allowed[name])
    if is_entry_point(name):
        return Network(name, entry_point.load("config.model.name", name))
    exists = name in {**MODELS, **TEXT_MODELS}
    expected = f"a model for {example_unit(config)}" if exists else "a model"
    raise UserError(
        f"config.model.name={name!r} is not {expected}; it must be one of {', '.join(allowed)}, "
        "or an own one such as my_parts.py:MyNet"
    )


def _options(config: ConfigDict, network: Network) -> dict[str, Any]:
    """Return the arguments that not all networks take."""
    options = {field: config.model[field] for field in _UNSUPPORTED if network.takes(field)}
    if network.takes("norm"):
        standardization = config.model.weight_standardization
        options["norm"] = make_normalization(config.model.norm, standardization)
    return options


def _check_options(config: ConfigDict, network: Network) -> None:
    for field, default in _UNSUPPORTED.items():
        value = config.model[field]
        if value == default or _supports(network, field):
            continue
        models = TEXT_MODELS if is_text(config) else MODELS
        others = [name for name, make in models.items() if _supports(Network(name, make), field)]
        other = f", or config.model.name to one of {', '.join(others)}" if others else ""
        raise UserError(
            f"config.model.{field}={short_repr(value)} is not for {config.model.name}; set it to "
            f"{default!r}{other}"
        )


def _supports(network: Network, field: str) -> bool:
    return network.takes("norm" if field == "weight_standardization" else field)


def _check_image_size(network: Network, input_shape: tuple[int, ...]) -> None:
    height, width, _ = input_shape
    if min(height, width) < (side := getattr(network.definition, "MIN_IMAGE_SIDE", 1)):
        raise UserError(
            f"config.model.name={network.name!r} needs images of at least {side}x{side} pixels, "
            f"but these are {height}x{width}; use another model or larger images"
        )
