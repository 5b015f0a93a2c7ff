"""The order of the examples: a pure function of the seed and the epoch, with no state to save.

Epochs follow each other without a gap, so one batch can contain the end of an epoch and the start
of the next one. Each example is used exactly once per epoch, and none is dropped.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

_KEY = 2**32 - 1  # not a step number, so the keys of the order differ from those of the steps


def epoch_order(seed: jax.typing.ArrayLike, epoch: jax.Array, num_examples: int) -> jax.Array:
    """Return the ids of the examples of an epoch: int32, (num_examples,)."""
    key = jax.random.fold_in(jax.random.key(seed), _KEY)
    return jax.random.permutation(jax.random.fold_in(key, epoch), num_examples)


def two_epochs(seed: jax.typing.ArrayLike, epoch: jax.Array, num_examples: int) -> jax.Array:
    """Return the order of an epoch and of the next one: int32, (2 * num_examples,)."""
    return jnp.concatenate([epoch_order(seed, epoch + i, num_examples) for i in (0, 1)])


def example_at(seed: int, position: int, num_examples: int) -> int:
    """Return the id of the example at a position of the training sequence of a streamed set.

    It is computed on the host, in another order than that of `epoch_order`.
    """
    epoch, index = divmod(position, num_examples)
    return int(_host_order(seed, epoch, num_examples)[index])


@functools.lru_cache(maxsize=4)  # two epochs, of up to two sequences
def _host_order(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    return rng.permutation(num_examples).astype(np.int32)


def epoch_end(epoch: int, batch_size: int, num_examples: int) -> int:
    """Return the number of steps after which `epoch` epochs are complete."""
    return -(-epoch * num_examples // batch_size)
