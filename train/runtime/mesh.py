"""The devices of a run, and where its arrays lie on them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from train.errors import UserError


class Sharding(NamedTuple):
    """Data parallelism over all devices."""

    replicated: NamedSharding  # parameters, optimizer state, figures
    batch: NamedSharding  # anything with the batch as first axis

    @property
    def num_devices(self) -> int:
        return self.batch.mesh.size

    def round_up(self, batch_size: int) -> int:
        """The next larger batch that divides over the devices."""
        return -(-batch_size // self.num_devices) * self.num_devices

    def replicate(self, tree: Any) -> Any:
        """Arrays of the host on every device; of several processes, each fills its own."""
        return jax.tree.map(
            lambda array: jax.make_array_from_callback(
                array.shape, self.replicated, lambda index: array[index]
            ),
            tree,
        )


def make_sharding(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Sharding:
    """Lays a mesh over the devices, or over all that JAX sees.

    Raises:
      UserError: the batch does not divide over them.
    """
    count = len(devices or jax.devices())
    if config.data.batch_size % count:
        raise UserError(
            f"config.data.batch_size={config.data.batch_size} does not divide over the {count} "
            f"devices; use a multiple of {count}"
        )
    mesh = jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    return Sharding(NamedSharding(mesh, P()), NamedSharding(mesh, P("data")))
