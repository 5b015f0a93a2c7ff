"""The Linen models of flaxmodels: residual networks and VGG."""

import functools
from typing import Any

import flaxmodels
import jax
import jax.numpy as jnp

from public_models.check import Axes, Case, Model

_IMAGES = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
_CLASSIFIERS = ("ResNet18", "ResNet50", "VGG16")


def _expected(path: str, leaf: Any) -> Axes:
    """Return the axes of `nn.Dense` and `nn.Conv`: all but the last of `kernel`."""
    return tuple(range(len(leaf.shape) - 1)) if path.endswith("kernel") else ()


def _case(module: Any, inputs: Any) -> Case:
    variables = jax.eval_shape(module.init, jax.random.key(0), inputs)
    params = variables.pop("params")

    def fn(params, rest, inputs):
        variables, rngs = {"params": params, **rest}, {"dropout": jax.random.key(1)}
        return module.apply(variables, inputs, rngs=rngs, mutable=list(rest))[0]

    return Case(fn, params, (variables, inputs), _expected)


def _classifier(name: str) -> Case:
    options = {"output": "logits", "pretrained": None, "num_classes": 10}
    return _case(getattr(flaxmodels, name)(**options), _IMAGES)


MODELS = [Model("flaxmodels", name, functools.partial(_classifier, name)) for name in _CLASSIFIERS]
