"""Watching for numbers that are not finite, without waiting for the device at every step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from train.errors import UserError

_NAMED = 3  # leaves, in an error


class NonFiniteState(NamedTuple):
    """What was not finite so far; part of the training state."""

    first_bad_step: jax.Array  # int32, (): -1 while all is well
    bad: jax.Array  # bool, (1 + leaves,): in that step, of the loss and of each leaf's gradient
    consecutive: jax.Array  # int32, (): bad steps just now, one after the other
    max_consecutive: jax.Array  # int32, (): the most that there were in a row
    skipped: jax.Array  # int32, (): bad steps in all


def healthy(params: Any) -> NonFiniteState:
    """Before the first step."""
    count = 1 + len(jax.tree.leaves(params))
    zero = jnp.zeros((), jnp.int32)
    return NonFiniteState(zero - 1, jnp.zeros(count, bool), zero, zero, zero)


def examine(health: NonFiniteState, step: jax.Array, loss: jax.Array, grads: Any) -> NonFiniteState:
    """The health after a step with this loss and these gradients; `consecutive` is 0 if finite."""
    bad = jnp.stack([~jnp.isfinite(leaf).all() for leaf in (loss, *jax.tree.leaves(grads))])
    sick = bad.any()
    first = sick & (health.first_bad_step < 0)
    consecutive = jnp.where(sick, health.consecutive + 1, 0)
    return NonFiniteState(
        first_bad_step=jnp.where(first, step, health.first_bad_step),
        bad=jnp.where(first, bad, health.bad),
        consecutive=consecutive,
        max_consecutive=jnp.maximum(health.max_consecutive, consecutive),
        skipped=health.skipped + sick,
    )


def names(params: Any) -> list[str]:
    """What `NonFiniteState.bad` is about, in its order."""
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    keys = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    return ["the loss", *keys]


def raise_if_nonfinite(
    health: NonFiniteState,
    names: list[str],
    config: ConfigDict,
    last_good: Callable[[], int | None],
) -> None:
    """Ends a run whose numbers are not finite, as `config.nan_policy` says.

    Args:
      health: on the host.
      names: see `names`.
      config: the run's.
      last_good: returns the step of the newest checkpoint, if there is one; only asked at the end.

    Raises:
      UserError: with the first bad step, its first bad leaves, and the last good checkpoint.
    """
    limit = config.nan_limit if config.nan_policy == "skip" else 0
    if int(health.max_consecutive) <= limit:
        return
    bad = [name for name, is_bad in zip(names, health.bad.tolist(), strict=True) if is_bad]
    more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    good = last_good()
    saved = "nothing was saved" if good is None else f"the last good checkpoint is {good}"
    raise UserError(
        f"not finite at step {int(health.first_bad_step)}: {', '.join(bad[:_NAMED])}{more}"
        + (f", then more than {limit} bad steps in a row" if limit else "")
        + f"; {saved}; lower the learning rate, clip, or try --config.nan_policy=skip"
    )
