"""The state in a checkpoint, as Orbax saves and loads it."""

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from orbax.checkpoint import v1 as ocp

from train.checkpoints import manifest
from train.checkpoints.manifest import DamagedError
from train.runtime import distributed

_NAME = "state"  # of its subfolder


def item(tree: Any, content: dict[str, Any]) -> dict[str, Any]:
    """Return what `ocp.training.Checkpointer` saves: the arrays of `tree`, with a manifest.

    Args:
      tree: A tree of arrays.
      content: The manifest, without the digests of the files.
    """
    return {_NAME: _SavedState(tree, content)}


def load(checkpoint: Path, like: Any) -> Any:
    """Return the arrays of a checkpoint, with the structure, types and shardings of `like`.

    Raises:
      DamagedError: If Orbax cannot read them.
    """
    state = _SavedState(like, {})
    try:
        ocp.load_checkpointables(checkpoint.absolute(), {_NAME: state})
    except Exception as error:  # damaged bytes can raise many types
        if distributed.is_lost_process(error):
            raise
        reason = type(error.__cause__ or error).__name__
        raise DamagedError(f"its state: {reason}") from error
    return state.tree


class _SavedState:
    """A tree of arrays with a manifest; Orbax calls the methods of this protocol.

    See `ocp.StatefulCheckpointable`. Each method returns the part that may run in the background.
    """

    def __init__(self, tree: Any, content: dict[str, Any]):
        self.tree = tree
        self._content = content
        self._arrays = ocp.handlers.PyTreeHandler()

    async def save(self, directory: ocp.path.PathAwaitingCreation) -> Awaitable[None]:
        """Copy the arrays off the device, then write them and the manifest.

        The manifest belongs to the save: Orbax gives the checkpoint its final name afterwards.
        """
        write_arrays = await self._arrays.save(directory, self.tree)

        async def write() -> None:
            await write_arrays  # of all processes
            if distributed.is_first_process():
                manifest.write(Path(directory.path), _NAME, self._content)

        return write()

    async def load(self, directory: ocp.path.Path) -> Awaitable[None]:
        """Read the arrays into `tree`, which describes them before."""
        read_arrays = await self._arrays.load(directory, self.tree)

        async def read() -> None:
            self.tree = await read_arrays

        return read()
