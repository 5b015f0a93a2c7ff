"""The order of the examples: a pure function of the seed and the epoch, with no state to save.

Epochs follow each other without a gap, so one batch can contain the end of an epoch and the start
of the next one. By default each example is used exactly once per epoch, and none is dropped. In a
balanced order an epoch has as many examples, as equally many of each class as possible.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train.data.class_counts import ClassCounts

_KEY = 2**32 - 1  # not a step number, so the keys of the order differ from those of the steps


def epoch_order(
    seed: jax.typing.ArrayLike,
    epoch: jax.Array,
    num_examples: int,
    classes: ClassCounts | None = None,
) -> jax.Array:
    """Return the ids of the examples of an epoch: int32, (num_examples,).

    Args:
      seed: The seed of the run.
      epoch: The number of the epoch.
      num_examples: The number of training examples.
      classes: Their classes, for a balanced order; None for each example once.
    """
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _KEY), epoch)
    if classes is None:
        return jax.random.permutation(key, num_examples)
    sizes = num_examples, len(classes.counts), num_examples
    shuffled, class_order, places = map(jax.random.permutation, jax.random.split(key, 3), sizes)
    return _balance(classes, shuffled, class_order, places, jnp)


def two_epochs(
    seed: jax.typing.ArrayLike,
    epoch: jax.Array,
    num_examples: int,
    classes: ClassCounts | None = None,
) -> jax.Array:
    """Return the order of an epoch and of the next one: int32, (2 * num_examples,)."""
    return jnp.concatenate([epoch_order(seed, epoch + i, num_examples, classes) for i in (0, 1)])


@dataclasses.dataclass(frozen=True, eq=False)
class HostOrder:
    """The order of a streamed set, computed on the host; it differs from that of `epoch_order`.

    Attributes:
      seed: The seed of the run.
      num_examples: The number of training examples.
      classes: Their classes, for a balanced order; None for each example once.
    """

    seed: int
    num_examples: int
    classes: ClassCounts | None = None

    def example_at(self, position: int) -> int:
        """Return the id of the example at a position of the training sequence."""
        epoch, index = divmod(position, self.num_examples)
        return int(_host_order(self, epoch)[index])


@functools.lru_cache(maxsize=4)  # two epochs, of up to two sequences
def _host_order(order: HostOrder, epoch: int) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=[order.seed, epoch]))
    shuffled = rng.permutation(order.num_examples).astype(np.int32)
    if order.classes is None:
        return shuffled
    class_order = rng.permutation(len(order.classes.counts))
    return _balance(order.classes, shuffled, class_order, rng.permutation(order.num_examples), np)


def _balance(classes: ClassCounts, shuffled: Any, class_order: Any, places: Any, xp: Any) -> Any:
    """Return the ids of an epoch in which the numbers of examples of two classes differ by 0 or 1.

    An example is repeated only after all others of its class were used. Of a class with more
    examples than its share, some are left out in this epoch.

    Args:
      classes: The class of each example.
      shuffled: A permutation of the examples.
      class_order: A permutation of the classes; the first ones may have one example more.
      places: A permutation of the places in the epoch.
      xp: `numpy` or `jax.numpy`, of all these arrays.
    """
    labels, counts = classes
    by_class = shuffled[xp.argsort(labels[shuffled], stable=True)]
    first = xp.cumsum(counts) - counts  # of each class in `by_class`
    turn, index = xp.divmod(xp.arange(len(labels)), len(counts))
    label = class_order[index]
    return by_class[first[label] + turn % counts[label]][places]


def epoch_end(epoch: int, batch_size: int, num_examples: int) -> int:
    """Return the number of steps after which `epoch` epochs are complete."""
    return -(-epoch * num_examples // batch_size)
