"""TensorBoard event files, written without TensorFlow."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Scalars:
    """A TensorBoard log folder; a context manager that closes it.

    Args:
      folder: The folder; it is created.
      first_step: The step at which a run resumes: later scalars of an earlier start are purged.
    """

    def __init__(self, folder: Path, first_step: int = 0):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)

    def __enter__(self) -> "Scalars":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Write what is not yet written."""
        self._writer.close()

    def add(self, step: int, group: str, metrics: Mapping[str, Any]) -> None:
        """Write metrics as `group/name`; None, which stands for a non-finite value, is skipped."""
        for name, value in metrics.items():
            if value is not None:
                self._writer.add_scalar(f"{group}/{name}", value, step)
        self._writer.flush()
