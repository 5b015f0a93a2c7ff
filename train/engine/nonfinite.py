"""Detection of NaN and infinity in the loss and the gradients, without a host sync per step."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from train.errors import UserError

_MAX_NAMED_LEAVES = 3  # in an error message


class NonFiniteState(NamedTuple):
    """Record of the non-finite steps so far; part of the training state.

    Attributes:
      first_step: int32, (); the first non-finite step, or -1.
      leaves: bool, (1 + gradient leaves,); in that step, whether the loss and each gradient leaf
        was non-finite.
      consecutive: int32, (); the current number of consecutive non-finite steps.
      max_consecutive: int32, (); the largest value that `consecutive` has had.
      skipped: int32, (); the total number of non-finite steps.
    """

    first_step: jax.Array
    leaves: jax.Array
    consecutive: jax.Array
    max_consecutive: jax.Array
    skipped: jax.Array


def init(params: Any) -> NonFiniteState:
    """Return the state before the first step."""
    num_leaves = 1 + len(jax.tree.leaves(params))
    zero = jnp.zeros((), jnp.int32)
    return NonFiniteState(zero - 1, jnp.zeros(num_leaves, bool), zero, zero, zero)


def update(state: NonFiniteState, step: jax.Array, loss: jax.Array, grads: Any) -> NonFiniteState:
    """Return the state after a step; its `consecutive` is 0 if loss and gradients are finite."""
    leaves = jnp.stack([~jnp.isfinite(leaf).all() for leaf in (loss, *jax.tree.leaves(grads))])
    nonfinite = leaves.any()
    is_first = nonfinite & (state.first_step < 0)
    consecutive = jnp.where(nonfinite, state.consecutive + 1, 0)
    return NonFiniteState(
        first_step=jnp.where(is_first, step, state.first_step),
        leaves=jnp.where(is_first, leaves, state.leaves),
        consecutive=consecutive,
        max_consecutive=jnp.maximum(state.max_consecutive, consecutive),
        skipped=state.skipped + nonfinite,
    )


def raise_if_nonfinite(
    state: NonFiniteState,
    leaf_names: Sequence[str],
    config: ConfigDict,
    latest_checkpoint: Callable[[], int | None],
) -> None:
    """Stop a run with non-finite values, as `config.nan_policy` and `config.nan_limit` say.

    Args:
      state: A copy on the host.
      leaf_names: The names of the parameters, in the order of their leaves.
      config: The run's config.
      latest_checkpoint: Returns the step of the newest checkpoint, or None. Called only if the
        run stops.

    Raises:
      UserError: If the run must stop. The message names the first non-finite step, its first
        non-finite leaves, and the newest checkpoint.
    """
    limit = config.nan_limit if config.nan_policy == "skip" else 0
    if int(state.max_consecutive) <= limit:
        return
    names = zip(("the loss", *leaf_names), state.leaves.tolist(), strict=True)
    nonfinite = [name for name, is_nonfinite in names if is_nonfinite]
    hidden = len(nonfinite) - _MAX_NAMED_LEAVES
    more = f" and {hidden} more" if hidden > 0 else ""
    step = latest_checkpoint()
    saved = "nothing was saved" if step is None else f"the last good checkpoint is {step}"
    raise UserError(
        f"not finite at step {int(state.first_step)}: {', '.join(nonfinite[:_MAX_NAMED_LEAVES])}"
        + more
        + (f", then more than {limit} non-finite steps in a row" if limit else "")
        + f"; {saved}; lower the learning rate, or try --config.nan_policy=skip"
    )
