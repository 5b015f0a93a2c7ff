"""Detection of NaN and infinity in the loss and the gradients, without a host sync per step."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from train.errors import UserError

_MAX_NAMED_LEAVES = 3  # in an error message
_SMALL = 16384  # elements of the largest array that is padded
_CHUNK = 40  # arrays that are padded together


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


def update(
    state: NonFiniteState, step: jax.Array, loss: jax.Array, grads: Any, axes: Any
) -> NonFiniteState:
    """Return the state after a step; its `consecutive` is 0 if loss and gradients are finite.

    Args:
      state: The state before the step.
      step: int32, ().
      loss: float32, ().
      grads: The gradients of the step.
      axes: A pytree of `optax_gc.FanIn` with the structure of `grads`.
    """
    leaves = _are_nonfinite([loss, *_means(grads, axes)])
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


def _means(grads: Any, axes: Any) -> list[jax.Array]:
    """Return the mean of each gradient over its fan-in axes.

    It is not finite if an element of the gradient is not, or if their sum exceeds float32, in which
    case GC cannot use the gradient either. The compiler computes a mean once, here and in GC. The
    means are small, so checking them costs less than checking the gradients.
    """
    means = jax.tree.map(
        lambda leaf, fan_in: jnp.mean(leaf, fan_in.axes) if fan_in.axes else leaf, grads, axes
    )
    return jax.tree.leaves(means)


def _are_nonfinite(arrays: list[jax.Array]) -> jax.Array:
    """Return for each array whether it has a NaN or an infinity: bool, (arrays,).

    Small arrays are padded and reduced together, because on a GPU each reduction is a kernel.
    """
    small = [index for index, array in enumerate(arrays) if array.size <= _SMALL]
    flags = {
        index: ~jnp.isfinite(array).all()
        for index, array in enumerate(arrays)
        if array.size > _SMALL
    }
    for start in range(0, len(small), _CHUNK):
        chunk = small[start : start + _CHUNK]
        width = max(arrays[index].size for index in chunk)
        rows = [jnp.pad(arrays[i].ravel(), (0, width - arrays[i].size)) for i in chunk]
        flags |= dict(zip(chunk, ~jnp.isfinite(jnp.stack(rows)).all(axis=1), strict=True))
    return jnp.stack([flags[index] for index in range(len(arrays))])


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
