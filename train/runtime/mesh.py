"""The devices of a run, and the sharding of its arrays over them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from train.errors import UserError


class Sharding(NamedTuple):
    """Data parallelism over all devices.

    Attributes:
      replicated: For parameters, optimizer state and metrics: a full copy on each device.
      batch: For arrays whose first axis is the batch: divided over the devices.
    """

    replicated: NamedSharding
    batch: NamedSharding

    @property
    def num_devices(self) -> int:
        """The number of devices in the mesh."""
        return self.batch.mesh.size

    @property
    def platform(self) -> str:
        """The platform of the devices: cpu, gpu or tpu."""
        return self.batch.mesh.devices.flat[0].platform

    def round_up(self, batch_size: int) -> int:
        """Return the smallest multiple of the number of devices that is at least `batch_size`."""
        return -(-batch_size // self.num_devices) * self.num_devices

    def replicate(self, tree: Any) -> Any:
        """Copy host arrays to every device; each process fills its own devices."""
        return jax.tree.map(
            lambda array: jax.make_array_from_callback(
                array.shape, self.replicated, lambda index: array[index]
            ),
            tree,
        )


def make_sharding(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Sharding:
    """Return a sharding over `devices`, or over all devices that JAX finds.

    Raises:
      UserError: If the batch size is not divisible by the number of devices.
    """
    count = len(devices or jax.devices())
    if config.data.batch_size % count:
        raise UserError(
            f"config.data.batch_size={config.data.batch_size} is not divisible by the {count} "
            f"devices; use a multiple of {count}"
        )
    if config.data.batch_size // config.accumulate % count:
        raise UserError(
            f"a part of config.data.batch_size={config.data.batch_size} has "
            f"{config.data.batch_size // config.accumulate} examples with config.accumulate="
            f"{config.accumulate}, which is not divisible by the {count} devices; use fewer parts"
        )
    return over(devices)


def over(devices: Sequence[jax.Device] | None = None) -> Sharding:
    """Return a sharding over `devices`, or over all devices that JAX finds."""
    count = len(devices or jax.devices())
    mesh = jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    return Sharding(NamedSharding(mesh, P()), NamedSharding(mesh, P("data")))
