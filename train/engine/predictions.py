"""The outputs for a whole split, put together from those of its batches."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np


def concatenate(batches: Iterable[tuple[Any, jax.Array]]) -> Any:
    """Return the outputs for the examples of all batches on the host, in their order.

    Each batch is copied to the host before the next one is dispatched, so that two programs never
    run at the same time.

    Args:
      batches: The outputs and the mask of each batch, which is False for padding; replicated over
        the processes.
    """
    parts = []
    for batch in batches:
        outputs, mask = jax.device_get(batch)
        parts.append(jax.tree.map(lambda array, mask=mask: array[mask], outputs))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
