"""Scalars for TensorBoard, written without TensorFlow."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Scalars:
    """A folder that TensorBoard reads; a context manager.

    Args:
      folder: is made if need be.
      first_step: where a resumed run goes on: what was written after it is taken back.
    """

    def __init__(self, folder: Path, first_step: int = 0):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)

    def __enter__(self) -> "Scalars":
        return self

    def __exit__(self, *_) -> None:
        self._writer.close()

    def add(self, step: int, group: str, figures: Mapping[str, Any]) -> None:
        """Writes figures as `group/name`; those that are None, for not finite, are left out."""
        for name, value in figures.items():
            if value is not None:
                self._writer.add_scalar(f"{group}/{name}", value, step)
        self._writer.flush()
