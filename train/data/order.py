"""The order of examples: a pure function of seed and epoch, with no state to save.

Epochs follow one another without a gap, so a batch may end one and begin the next: every example
is seen exactly once per epoch and none is dropped.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

_ORDER = 2**32 - 1  # no step has this number, so the order's keys are not those of a step


def epoch_order(seed: jax.typing.ArrayLike, epoch: jax.Array, num_examples: int) -> jax.Array:
    """The examples of one epoch, each once: int32, (num_examples,)."""
    key = jax.random.fold_in(jax.random.key(seed), _ORDER)
    return jax.random.permutation(jax.random.fold_in(key, epoch), num_examples)


def two_epochs(seed: jax.typing.ArrayLike, epoch: jax.Array, num_examples: int) -> jax.Array:
    """The examples of an epoch and of the next one: int32, (2 * num_examples,)."""
    return jnp.concatenate([epoch_order(seed, epoch + more, num_examples) for more in (0, 1)])


def example_at(seed: int, place: int, num_examples: int) -> int:
    """The example at a place of the training sequence, where the host has to know: streaming."""
    epoch, place = divmod(place, num_examples)
    return int(_host_order(seed, epoch, num_examples)[place])


@functools.lru_cache(maxsize=2)
def _host_order(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    return rng.permutation(num_examples).astype(np.int32)


def epoch_end(epoch: int, batch_size: int, num_examples: int) -> int:
    """The number of steps after which `epoch` epochs are complete."""
    return -(-epoch * num_examples // batch_size)
