"""All that a run carries from one step to the next."""

import hashlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from train.engine.nonfinite import NonFiniteState, healthy
from train.models import Model


class MetricSums(NamedTuple):
    """What the figures of a log line are made of: sums over the examples since the line before."""

    examples: jax.Array  # float32, ()
    loss: jax.Array
    top1: jax.Array
    top5: jax.Array

    @classmethod
    def zeros(cls) -> "MetricSums":
        return cls(*(jnp.zeros(()) for _ in cls._fields))

    def means(self) -> dict[str, float]:
        """Loss, top-1 and top-5, each per example; NaN if there was none."""
        values = jax.device_get(self)
        if not values.examples:
            return dict.fromkeys(self._fields[1:], float("nan"))
        return {
            name: float(getattr(values, name)) / float(values.examples) for name in self._fields[1:]
        }


class TrainState(NamedTuple):
    """The state of a run after `step` steps; everything in it is replicated."""

    step: jax.Array  # int32, ()
    params: Any
    stats: Any  # running statistics of batch normalization
    opt_state: optax.OptState
    sums: MetricSums
    health: NonFiniteState


def create(
    model: Model,
    tx: optax.GradientTransformation,
    seed: jax.typing.ArrayLike,
    initial: tuple[Any, Any] | None = None,
) -> TrainState:
    """The state before the first step, a pure function of `seed` and of what it begins from.

    Args:
      model: the network.
      tx: its optimizer.
      seed: of all that begins at random.
      initial: parameters and statistics that do not: dicts that may lack entries of the network's.
    """
    params, stats = init_weights(model, seed, initial)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        stats=stats,
        opt_state=tx.init(params),
        sums=MetricSums.zeros(),
        health=healthy(params),
    )


def init_weights(
    model: Model, seed: jax.typing.ArrayLike, initial: tuple[Any, Any] | None
) -> tuple[Any, Any]:
    """Parameters and statistics as `create` has them."""
    params, stats = model.init(jax.random.key(seed))
    return (params, stats) if initial is None else (params | initial[0], stats | initial[1])


def path_name(path: Any) -> str:
    """A leaf's path in one text, as `blocks/0/conv1/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def sha256(tree: Any) -> str:
    """A digest of the leaves' bytes in the order of their paths."""
    digest = hashlib.sha256()
    for _, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()
