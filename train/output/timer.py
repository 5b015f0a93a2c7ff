"""The time that a run takes, over all its starts."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator


@dataclasses.dataclass
class Timer:
    """Seconds and examples; saved with each checkpoint, so that a resumed run keeps counting.

    Attributes:
      examples: The number of training examples processed.
      train_seconds: The time spent on training steps, without compilation and evaluation.
      wall_seconds: The total time.
    """

    examples: int = 0
    train_seconds: float = 0.0
    wall_seconds: float = 0.0
    _training_since: float | None = dataclasses.field(default=None, init=False, repr=False)
    _last_tick: float = dataclasses.field(default_factory=time.monotonic, init=False, repr=False)

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Add the time of the block to `train_seconds`."""
        self._training_since = time.monotonic()
        yield
        self.train_seconds = self.train_seconds_so_far()
        self._training_since = None

    def train_seconds_so_far(self) -> float:
        """Return `train_seconds` with the running block of `training`."""
        since = self._training_since
        return self.train_seconds + (0.0 if since is None else time.monotonic() - since)

    def tick(self) -> None:
        """Add the time since the last tick, or since the start, to `wall_seconds`."""
        now = time.monotonic()
        self.wall_seconds += now - self._last_tick
        self._last_tick = now

    def examples_per_second(self) -> float:
        """Return the training throughput; 0 before the first step."""
        seconds = self.train_seconds_so_far()
        return self.examples / seconds if seconds else 0.0

    def saved(self) -> dict[str, float]:
        """Return what a checkpoint stores."""
        self.tick()
        return {
            "examples": self.examples,
            "train_seconds": self.train_seconds,
            "wall_seconds": self.wall_seconds,
        }

    def add(self, examples: int, train_seconds: float, wall_seconds: float) -> None:
        """Add the values that a checkpoint stored."""
        self.examples += examples
        self.train_seconds += train_seconds
        self.wall_seconds += wall_seconds
