"""A trace of some training steps by `jax.profiler`, for TensorBoard, XProf or Perfetto."""

from pathlib import Path
from typing import Any

import jax

_WARMUP = 3  # steps before the trace, of which the first ones allocate memory


class Profiler:
    """Traces some steps after the first ones of a start; a context manager that ends the trace."""

    def __init__(self, folder: Path, steps: int, first_step: int):
        """Prepare a trace.

        Args:
          folder: The folder to write to; it is created.
          steps: The number of steps; 0 for no trace.
          first_step: The step at which the run starts or resumes.
        """
        self._folder = folder
        self._start = first_step + _WARMUP if steps else -1
        self._stop = self._start + steps
        self._is_tracing = False

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *_) -> None:
        if self._is_tracing:
            jax.profiler.stop_trace()

    def max_dispatch_step(self, step: int, limit: int) -> int:
        """Return the last step that one dispatch can reach from `step`, at most `limit`."""
        return min([limit, *(edge for edge in (self._start, self._stop) if edge > step)])

    def before(self, step: int, state: Any) -> None:
        """Start the trace if `step` is its first one; wait for the steps before it."""
        if step == self._start:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._folder)
            self._is_tracing = True

    def after(self, step: int, state: Any) -> None:
        """End the trace if `step` is its last one; wait for the steps in it."""
        if self._is_tracing and step >= self._stop:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
            self._is_tracing = False
