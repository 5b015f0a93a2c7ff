"""Which parameters are those of the last layer; all others are those of the body.

The last layer is found in a trace of the network, so it can have any name. It is the layer whose
weights are the last ones to be multiplied with activations before the logits. There can be several,
for example if their outputs are added.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from train.errors import UserError, short_repr

Path = tuple[Any, ...]
"""The keys of a layer or of an array in the nested dict of the parameters."""
Layers = frozenset[Path]

_CONTRACTIONS = {"dot_general", "ragged_dot_general", "conv_general_dilated", "gather"}


class _Value(NamedTuple):
    """What is known about an array of the trace.

    Attributes:
      is_activation: Whether it depends on the inputs of the network.
      params: The parameters that were last multiplied with it; for an array that does not depend
        on the inputs, all parameters that it depends on.
    """

    is_activation: bool = False
    params: Layers = frozenset()


def find_last_layer(logits: Callable[[Any, Any], jax.Array], params: Any, inputs: Any) -> Layers:
    """Return the paths of the last layers; empty if no parameter is multiplied with activations.

    A parameter that is not part of a layer, but of the network itself, is a layer of its own.

    Args:
      logits: Called with the parameters and the inputs.
      params: The parameters, a nested dict of arrays or `jax.ShapeDtypeStruct`s.
      inputs: The inputs, likewise.
    """
    paths_and_leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    values = [
        _Value(False, frozenset([tuple(key.key for key in path)])) for path, _ in paths_and_leaves
    ]
    jaxpr = jax.make_jaxpr(logits)(params, inputs)
    [output] = _interpret(jaxpr, [*values, _Value(is_activation=True)])
    params = output.params if output.is_activation else ()
    return frozenset(path[:-1] or path for path in params)


def is_in(path: Path, layers: Layers) -> bool:
    """Return whether the path of an array is in one of some layers."""
    return any(path[: len(layer)] == layer for layer in layers)


def prefixes(layers: Layers, params: Any) -> list[str]:
    """Return what the names of the arrays of some layers start with, such as `head/`."""
    arrays = flatten_dict(params)
    names = {layer: "/".join(map(str, layer)) for layer in layers}
    return [name if layer in arrays else f"{name}/" for layer, name in names.items()]


def without(layers: Layers, params: Any) -> Any:
    """Return the parameters that are not in one of some layers."""
    flat = flatten_dict(params)
    return unflatten_dict({path: leaf for path, leaf in flat.items() if not is_in(path, layers)})


def label_parts(params: Any, last_layer: Layers) -> Any:
    """Return the same tree with the label "head" or "body" for each array."""
    labels = {path: "head" if is_in(path, last_layer) else "body" for path in flatten_dict(params)}
    return unflatten_dict(labels)


def label_frozen(params: Any, prefixes: Sequence[str]) -> Any:
    """Return the same tree with the label "frozen" or "trained" for each array.

    Args:
      params: The parameters.
      prefixes: The names of the frozen layers or arrays, such as `blocks/0` for all of its arrays.

    Raises:
      UserError: If there is no such layer.
    """
    names = {path: "/".join(map(str, path)) for path in flatten_dict(params)}
    for prefix in prefixes:
        if not any(f"{name}/".startswith(f"{prefix.rstrip('/')}/") for name in names.values()):
            raise UserError(
                f"config.optimizer.freeze names {short_repr(prefix)}, which is no layer of the "
                f"network; its layers are {', '.join(map(str, params))}"
            )
    starts = tuple(f"{prefix.rstrip('/')}/" for prefix in prefixes)
    labels = {
        path: "frozen" if f"{name}/".startswith(starts) else "trained"
        for path, name in names.items()
    }
    return unflatten_dict(labels)


def freeze(params: Any, prefixes: Sequence[str]) -> Any:
    """Return the same parameters without gradients for the frozen ones; see `label_frozen`."""
    return jax.tree.map(
        lambda label, leaf: jax.lax.stop_gradient(leaf) if label == "frozen" else leaf,
        label_frozen(params, prefixes),
        params,
    )


def freeze_body(params: Any, last_layer: Layers) -> Any:
    """Return the same parameters without gradients, except for those of the last layer."""
    frozen = flatten_dict(jax.lax.stop_gradient(params))
    head = {path: leaf for path, leaf in flatten_dict(params).items() if is_in(path, last_layer)}
    return unflatten_dict(frozen | head)


def _interpret(jaxpr: Jaxpr | ClosedJaxpr, inputs: Sequence[_Value]) -> list[_Value]:
    """Return what is known about the outputs of a jaxpr."""
    jaxpr = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    known = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> _Value:
        return _Value() if isinstance(atom, Literal) else known.get(atom, _Value())

    for eqn in jaxpr.eqns:
        known |= zip(eqn.outvars, _evaluate(eqn, [read(atom) for atom in eqn.invars]), strict=True)
    return [read(atom) for atom in jaxpr.outvars]


def _evaluate(eqn: JaxprEqn, inputs: Sequence[_Value]) -> list[_Value]:
    inner = list(_inner_jaxprs(eqn))
    if len(inner) == 1 and len(_inputs(inner[0])) == len(inputs):
        return _interpret(inner[0], inputs)
    activations = [value for value in inputs if value.is_activation]
    params = _union(value for value in inputs if not value.is_activation)
    if not activations:
        output = _Value(False, params)
    elif params and (inner or eqn.primitive.name in _CONTRACTIONS):
        output = _Value(True, params)
    else:  # elementwise: biases and scales do not make a layer
        output = _Value(True, _union(activations))
    return [output] * len(eqn.outvars)


def _inner_jaxprs(eqn: JaxprEqn) -> Iterator[Jaxpr | ClosedJaxpr]:
    for param in eqn.params.values():
        for item in param if isinstance(param, tuple | list) else (param,):
            if isinstance(item, Jaxpr | ClosedJaxpr):
                yield item


def _inputs(jaxpr: Jaxpr | ClosedJaxpr) -> Sequence[Any]:
    return jaxpr.jaxpr.invars if isinstance(jaxpr, ClosedJaxpr) else jaxpr.invars


def _union(values: Any) -> Layers:
    return frozenset().union(*(value.params for value in values))
