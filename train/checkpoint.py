"""Saving and restoring a run's state, with Orbax."""

from pathlib import Path

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from train.clock import Clock
from train.state import TrainState


class Checkpoints:
    """The folder `checkpoints/` of a run; a context manager that waits for the last save."""

    def __init__(self, folder: Path, keep: int):
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            item_names=("state", "clock"),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preservation_policy.LatestN(keep)
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()

    def save(self, step: int, state: TrainState, clock: Clock) -> None:
        """Starts to save; returns as soon as the state has been copied off the device."""
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state._asdict()),
            clock=ocp.args.JsonSave(clock.saved()),
        )
        self._manager.save(step, args=items)

    def restore(self, like: TrainState, clock: Clock) -> TrainState:
        """The newest state, placed as `like`, its times added to `clock`; else `like` itself."""
        step = self._manager.latest_step()
        if step is None:
            return like
        shapes = jax.tree.map(ocp.tree.to_shape_dtype_struct, like._asdict())
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(shapes), clock=ocp.args.JsonRestore()
        )
        restored = self._manager.restore(step, args=items)
        clock.add(**restored.clock)
        return TrainState(**restored.state)
