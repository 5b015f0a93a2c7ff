"""A Flax NNX module as pure functions of its parameters."""

import functools
import inspect
import traceback
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from train.errors import UserError, describe_error, short_repr
from train.models.last_layer import Layers, find_last_layer


class Model(NamedTuple):
    """A network without its parameters.

    Attributes:
      init: `key -> (params, stats)`, two nested dicts of arrays: the parameters, and all other
        arrays of the network, such as the running statistics of batch normalization.
      apply: `(params, stats, inputs, train, key=None) -> (logits, stats)`. The inputs are those of
        `train.data.inputs.to_model_inputs`; the logits have shape (batch, classes). All random
        numbers, such as those of dropout, follow from the key. Evaluation does not need a key,
        and neither do networks without random numbers.
      last_layer: Returns the paths of the last layers in the parameters, found by a trace;
        see `train.models.last_layer`.
      input_shape: (height, width, channels) of an image, or (length,) of a text in tokens.
      input_dtype: float32 for images, int32 for texts.
    """

    init: Callable[[jax.Array], tuple[Any, Any]]
    apply: Callable[..., tuple[jax.Array, Any]]
    last_layer: Callable[[], Layers]
    input_shape: tuple[int, ...]
    input_dtype: Any = jnp.float32


class Network:
    """The class of a network, called with those of some arguments that it takes.

    Args:
      name: The value of `config.model.name`, for messages.
      factory: Returns the module: a class, or a function.
    """

    def __init__(self, name: str, factory: Callable[..., Any]):
        self.name = name
        self._factory = factory
        self.definition: Any = getattr(factory, "func", factory)  # without the bound arguments
        self._arguments, self._takes_any = _constructor_arguments(factory, self.definition)

    def takes(self, argument: str) -> bool:
        """Return whether the constructor names an argument."""
        return argument in self._arguments

    def create(self, arguments: dict[str, Any]) -> nnx.Module:
        """Return the module; arguments that it does not take are left out.

        Raises:
          UserError: If it needs other arguments, its constructor fails, or it is not of NNX.
        """
        taken = {k: v for k, v in arguments.items() if self._takes_any or self.takes(k)}
        try:
            inspect.signature(_constructor(self._factory)).bind(**taken)
        except TypeError as error:
            raise self.error(
                f"the trainer cannot call its constructor: {error}; it passes those of "
                f"{', '.join(arguments)} that the constructor takes, so give others a default"
            ) from error
        try:
            module = self._factory(**taken)
        except UserError:
            raise
        except Exception as error:  # the code of a network can raise anything
            raise self.code_error(error) from error
        if not isinstance(module, nnx.Module):
            raise self.error(
                f"it is a {type(module).__name__}, not a flax.nnx.Module; write it in Flax NNX, or "
                "wrap a Linen module in flax.nnx.bridge.ToNNX"
            )
        return module

    def error(self, reason: str) -> UserError:
        """Return an error about the network."""
        return UserError(f"config.model.name={short_repr(self.name)}: {reason}")

    def code_error(self, error: BaseException) -> UserError:
        """Return an error that names the line of the network's file that raised `error`."""
        is_class = isinstance(self.definition, type)
        function = inspect.unwrap(self.definition.__call__ if is_class else self.definition)
        file = getattr(getattr(function, "__code__", None), "co_filename", "")
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == file]
        location = f"{file}, line {lines[-1]}: " if lines else ""
        return self.error(f"{location}{describe_error(error)}; fix the network")


def to_functions(
    network: Network, arguments: dict[str, Any], input_shape: tuple[int, ...], for_texts: bool
) -> Model:
    """Return a network as pure functions.

    Args:
      network: The network.
      arguments: The arguments of its constructor, without `rngs`.
      input_shape: The `input_shape` of the model.
      for_texts: Whether the inputs are token ids; images are cast to the `dtype` argument.

    Raises:
      UserError: As `Network.create`; or if the network cannot be called with its inputs.
    """

    def split(key: jax.Array) -> tuple[nnx.GraphDef, Any, Any, Any]:
        module = network.create({**arguments, "rngs": nnx.Rngs(key)})
        _mark_arrays(module)
        graphdef, *states = nnx.split(module, nnx.Param, _is_random, ...)
        params, random, stats = map(nnx.to_pure_dict, states)
        return graphdef, params, random, stats

    graphdef, params, random, stats = jax.eval_shape(split, jax.random.key(0))
    module = nnx.merge(graphdef, *map(nnx.State, (params, random, stats)))
    input_dtype = jnp.int32 if for_texts else jnp.float32
    call_arguments = _call_arguments(network, module)
    # Layers may add arrays in a call, such as intermediate outputs. They are not part of the state.
    stats_paths = set(nnx.traversals.flatten_mapping(stats))

    def init(key: jax.Array) -> tuple[Any, Any]:
        _, params, _, stats = split(key)
        return params, stats

    def apply(
        params: Any, stats: Any, inputs: jax.Array, train: bool, key: jax.Array | None = None
    ) -> tuple[jax.Array, Any]:
        if jax.tree.leaves(random) and train and key is None:
            raise ValueError("a network with random numbers needs a key in training")
        state = (params, _draw(random, key if train else None), stats)
        module = nnx.merge(graphdef, *map(nnx.State, state))
        # For layers that are called without the mode.
        module.train() if train else module.eval()
        modes = {"train": train, "rngs": nnx.Rngs(key) if train else None}
        inputs = inputs if for_texts else inputs.astype(arguments["dtype"])
        try:
            logits = module(inputs, **{name: modes[name] for name in call_arguments})
        except Exception as error:  # the code of a network can raise anything
            raise network.code_error(error) from error
        _check_logits(network, logits, (inputs.shape[0], arguments["num_classes"]))
        new_stats = nnx.state(module, lambda path, _: path in stats_paths)
        return logits, nnx.to_pure_dict(new_stats)

    @functools.cache
    def last_layer() -> Layers:
        example = jax.ShapeDtypeStruct((1, *input_shape), input_dtype)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), stats)
        found = find_last_layer(lambda p, x: apply(p, zeros, x, False)[0], params, example)
        if not found:
            raise network.error(
                "no last layer is found, because no parameter is multiplied with activations; end "
                "the network with a layer such as nnx.Linear"
            )
        return found

    return Model(init, apply, last_layer, input_shape, input_dtype)


def _constructor(factory: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function with the arguments of a factory; the class of NNX modules hides them."""
    call: Any = factory if isinstance(factory, functools.partial) else functools.partial(factory)
    if isinstance(call.func, type):
        initialize: Any = getattr(call.func, "__init__")  # noqa: B009, mypy: of an instance too
        return functools.partial(initialize, None, *call.args, **call.keywords)
    return call


def _constructor_arguments(
    factory: Callable[..., Any], definition: Callable[..., Any]
) -> tuple[set[str], bool]:
    """Return the named arguments of a constructor, and whether it takes any others.

    A class that takes `**kwargs` is assumed to pass them on to the class that it inherits from.
    """
    classes = definition.__mro__[1:] if isinstance(definition, type) else ()
    inherited = [vars(cls)["__init__"] for cls in classes if "__init__" in vars(cls)]
    names: set[str] = set()
    for constructor in (_constructor(factory), *inherited):
        parameters = inspect.signature(constructor).parameters
        names |= set(parameters)
        if all(each.kind is not each.VAR_KEYWORD for each in parameters.values()):
            return names, False
    return names, True


def _mark_arrays(module: nnx.Module) -> None:
    """Make attributes that are arrays part of the state; Flax takes traced ones for static."""
    for _, layer in nnx.iter_modules(module):
        for name, value in list(vars(layer).items()):
            if isinstance(value, jax.Array):
                setattr(layer, name, nnx.data(value))


def _is_random(path: Any, value: Any) -> bool:
    """Return whether a variable or an array is a random key, or counts the uses of one."""
    del path
    return isinstance(value, nnx.RngState) or jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def _draw(random: Any, key: jax.Array | None) -> Any:
    """Return a random state in which each random key is another one that follows from `key`.

    Without a key it is always the same. It does not depend on the steps before, so that a run that
    is resumed draws the same numbers.
    """
    key = jax.random.key(0) if key is None else key
    leaves, structure = jax.tree.flatten(random)
    drawn = [
        jax.random.split(jax.random.fold_in(key, index), leaf.shape)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else jnp.zeros(leaf.shape, leaf.dtype)
        for index, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, drawn)


def _call_arguments(network: Network, module: nnx.Module) -> Iterable[str]:
    """Return those of `train` and `rngs` that the call of a module takes."""
    signature = inspect.signature(type(module).__call__)
    names = [name for name in ("train", "rngs") if name in signature.parameters]
    try:
        signature.bind(module, None, **dict.fromkeys(names))
    except TypeError as error:
        raise network.error(
            f"the trainer cannot call it: {error}; it passes the inputs and, if __call__ takes "
            "them, train (a bool) and rngs (None in evaluation)"
        ) from error
    return names


def _check_logits(network: Network, logits: Any, expected: tuple[int, int]) -> None:
    shape = getattr(logits, "shape", None)
    if shape != expected:
        result = f"a {type(logits).__name__}" if shape is None else f"an array of shape {shape}"
        raise network.error(
            f"for {expected[0]} example(s) it returns {result}; it must return logits of shape "
            f"{expected}, one per class"
        )
