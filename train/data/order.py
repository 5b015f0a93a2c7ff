"""The order of examples: a pure function of seed and epoch, with no state to save."""

import functools

import numpy as np


@functools.lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    """The examples of one epoch, each once: int64, (num_examples,)."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(num_examples)


def batch_ids(seed: int, step: int, batch_size: int, num_examples: int) -> np.ndarray:
    """The examples of one step: int64, (batch_size,).

    Epochs follow one another without a gap, so a batch may end one and begin the next: every
    example is seen exactly once per epoch and none is dropped.
    """
    places = step * batch_size + np.arange(batch_size)
    epochs, places = np.divmod(places, num_examples)
    ids = np.empty(batch_size, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        ids[here] = epoch_order(seed, int(epoch), num_examples)[places[here]]
    return ids


def epoch_end(epoch: int, batch_size: int, num_examples: int) -> int:
    """The number of steps after which `epoch` epochs are complete."""
    return -(-epoch * num_examples // batch_size)
