"""The training state: everything that one step passes to the next."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from train.engine import nonfinite
from train.engine.nonfinite import NonFiniteState
from train.tasks.task import MetricSums, zero_sums


class TrainState(NamedTuple):
    """The state after `step` steps, replicated over all devices.

    Attributes:
      step: int32, (); the number of completed steps.
      params: The parameters, a nested dict of float32 arrays.
      stats: The running statistics of batch normalization.
      opt_state: The state of the optimizer chain.
      sums: The sums since the last log line.
      nonfinite: The record of non-finite steps.
    """

    step: jax.Array
    params: Any
    stats: Any
    opt_state: optax.OptState
    sums: MetricSums
    nonfinite: NonFiniteState

    @property
    def of_optimizer(self) -> tuple[optax.OptState, Any]:
        """The state of the optimizer and the parameters, as an update takes them."""
        return self.opt_state, self.params


Init = Callable[[jax.Array], tuple[Any, Any]]
"""Returns random parameters and statistics; see `train.tasks.task.Task.init`."""


def create(
    init: Init,
    metrics: Sequence[str],
    tx: optax.GradientTransformation,
    seed: jax.typing.ArrayLike,
    pretrained: tuple[Any, Any] | None = None,
) -> TrainState:
    """Return the state before the first step, a pure function of its arguments.

    Args:
      init: Initializes the weights.
      metrics: The names of the metrics that training adds up.
      tx: The optimizer chain.
      seed: The seed of the random initialization; may be traced.
      pretrained: Parameters and statistics that replace random ones: dicts that may lack
        entries of the network's.
    """
    params, stats = init_weights(init, seed, pretrained)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        stats=stats,
        opt_state=tx.init(params),
        sums=zero_sums(metrics),
        nonfinite=nonfinite.init(params),
    )


def init_weights(
    init: Init, seed: jax.typing.ArrayLike, pretrained: tuple[Any, Any] | None
) -> tuple[Any, Any]:
    """Return the parameters and statistics of `create`."""
    random = init(jax.random.key(seed))
    if pretrained is None:
        return random
    params, stats = (
        unflatten_dict(flatten_dict(old) | flatten_dict(new))
        for old, new in zip(random, pretrained, strict=True)
    )
    return params, stats


def named_leaves(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree by path, such as `blocks/0/conv1/kernel`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def sha256(tree: Any) -> str:
    """Return a digest of the bytes of the leaves, in the order of their paths."""
    digest = hashlib.sha256()
    for _, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()
