"""How long a run took, over all its starts."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator


@dataclasses.dataclass
class Timer:
    """Seconds and examples; saved with each checkpoint, so that a resumed run goes on counting.

    Attributes:
      images: or texts, trained on.
      train_seconds: spent on them, with compilation and evaluation left out.
      wall_seconds: spent in all.
    """

    images: int = 0
    train_seconds: float = 0.0
    wall_seconds: float = 0.0
    _ticked: float = dataclasses.field(default_factory=time.monotonic, init=False, repr=False)

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Counts what is done inside as training."""
        start = time.monotonic()
        yield
        self.train_seconds += time.monotonic() - start

    def tick(self) -> None:
        """Adds the time since the last tick, or since the timer was made, to `wall_seconds`."""
        now = time.monotonic()
        self.wall_seconds += now - self._ticked
        self._ticked = now

    def images_per_second(self) -> float:
        return self.images / self.train_seconds if self.train_seconds else 0.0

    def saved(self) -> dict[str, float]:
        """What `add` takes in another process."""
        self.tick()
        return {
            "images": self.images,
            "train_seconds": self.train_seconds,
            "wall_seconds": self.wall_seconds,
        }

    def add(self, images: int, train_seconds: float, wall_seconds: float) -> None:
        """Goes on from what an earlier process had saved."""
        self.images += images
        self.train_seconds += train_seconds
        self.wall_seconds += wall_seconds
