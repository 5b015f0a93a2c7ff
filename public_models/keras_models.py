"""The applications of Keras and the backbones of keras-hub, with the JAX backend."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import keras
import keras_hub

from public_models.check import Axes, Case, Model

_APPLICATIONS: dict[str, dict[str, Any]] = {
    "ConvNeXtTiny": {},
    "DenseNet121": {},
    "EfficientNetB0": {},
    "EfficientNetV2B0": {},
    "InceptionResNetV2": {"size": 75},
    "InceptionV3": {"size": 75},
    "MobileNet": {"alpha": 0.25},
    "MobileNetV2": {"alpha": 0.35},
    "MobileNetV3Large": {"alpha": 0.75},
    "MobileNetV3Small": {"alpha": 0.75},
    "NASNetMobile": {},
    "ResNet50": {},
    "ResNet50V2": {},
    "VGG16": {},
    "VGG19": {},
    "Xception": {"size": 71},
}
_ENCODER = {
    "vocabulary_size": 99,
    "num_layers": 2,
    "num_heads": 4,
    "hidden_dim": 32,
    "intermediate_dim": 64,
}
_LENGTH = {"max_sequence_length": 16}
_DECODER = {
    "vocabulary_size": 99,
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 32,
    "intermediate_dim": 64,
}
_BACKBONES: dict[str, dict[str, Any]] = {
    "AlbertBackbone": {**_ENCODER, **_LENGTH, "embedding_dim": 16},
    "BartBackbone": {**_ENCODER, **_LENGTH},
    "BertBackbone": {**_ENCODER, **_LENGTH},
    "BloomBackbone": _ENCODER,
    "DebertaV3Backbone": {**_ENCODER, **_LENGTH, "bucket_size": 8},
    "DistilBertBackbone": {**_ENCODER, **_LENGTH},
    "ElectraBackbone": {
        **{key: value for key, value in _ENCODER.items() if key != "vocabulary_size"},
        **_LENGTH,
        "vocab_size": 99,
        "embedding_dim": 16,
    },
    "FNetBackbone": {
        key: value for key, value in (_ENCODER | _LENGTH).items() if "heads" not in key
    },
    "GPT2Backbone": {**_ENCODER, **_LENGTH},
    "GPTNeoXBackbone": _ENCODER,
    "GemmaBackbone": {**_DECODER, "head_dim": 8},
    "LlamaBackbone": _DECODER,
    "MistralBackbone": {**_DECODER, "sliding_window": 8},
    "OPTBackbone": {**_ENCODER, **_LENGTH},
    "Phi3Backbone": _DECODER,
    "Qwen2Backbone": _DECODER,
    "RobertaBackbone": {**_ENCODER, **_LENGTH},
    "XLMRobertaBackbone": {**_ENCODER, **_LENGTH},
}


def _kernel_axes(layer: Any, name: str, rank: int) -> Axes:
    """Return the fan-in axes of a variable by the definition of its layer."""
    layers = keras.layers
    if "kernel" not in name or rank < 2:
        return ()
    if isinstance(layer, layers.EinsumDense):
        inputs, rest = layer.equation.replace("...", "").split(",")
        kernel, outputs = rest.split("->")
        return tuple(
            axis for axis, letter in enumerate(kernel) if letter in inputs and letter not in outputs
        )
    is_transposed = isinstance(layer, layers.Conv1DTranspose | layers.Conv2DTranspose)
    if is_transposed:  # (..., out, in)
        return (*range(rank - 2), rank - 1)
    if isinstance(layer, layers.DepthwiseConv1D | layers.DepthwiseConv2D) or "depthwise" in name:
        return tuple(range(rank - 2))  # (..., in, multiplier)
    return tuple(range(rank - 1))


def _with_layers(model: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each trainable variable with the layer that has it."""
    owner = {
        id(variable): layer
        for layer in model._flatten_layers(include_self=False)
        for variable in layer._trainable_variables
    }
    for variable in model.trainable_variables:
        yield variable, owner[id(variable)]


def _case(model: Any, inputs: Any) -> Case:
    """Return the case of a model, called as in the guide of Keras for JAX training loops."""

    def shapes(variables):
        return [jax.ShapeDtypeStruct(v.shape, jnp.dtype(v.dtype)) for v in variables]

    def fn(trainable, non_trainable, inputs):
        return model.stateless_call(trainable, non_trainable, inputs, training=True)[0]

    expected = [
        _kernel_axes(layer, variable.name, len(variable.shape))
        for variable, layer in _with_layers(model)
    ]
    args = (shapes(model.non_trainable_variables), inputs)
    params = shapes(model.trainable_variables)
    return Case(fn, params, args, lambda path, leaf: expected[int(path)])


def _application(name: str) -> Case:
    options = dict(_APPLICATIONS[name])
    size = options.pop("size", 32)
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=10, **options
    )
    return _case(model, jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32))


def _backbone(name: str) -> Case:
    model = getattr(keras_hub.models, name)(**_BACKBONES[name])
    inputs = {key: jax.ShapeDtypeStruct((2, 16), jnp.int32) for key in model.input}
    return _case(model, inputs)


MODELS = [
    *(Model("keras", name, functools.partial(_application, name)) for name in _APPLICATIONS),
    *(Model("keras-hub", name, functools.partial(_backbone, name)) for name in _BACKBONES),
]
