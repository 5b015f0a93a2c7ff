"""What every engine does for a study."""

from collections.abc import Generator, Sequence
from typing import Protocol

from train.output.files import Line
from train.studies.design import Arm, Run


class Engine(Protocol):
    """Makes the runs and the timings of a study, but writes nothing.

    Attributes:
      needs_all: Whether the engine is given the runs of all settings together, because it has
        machines for them; otherwise those of one setting after another.
    """

    needs_all: bool

    def make(self, runs: Sequence[Run]) -> Generator[list[Line]]:
        """Make runs, and yield their lines for `results.jsonl` as they finish, in any order.

        The runs of an arm follow each other. What is not finished when the iterator is closed is
        cancelled.

        Raises:
          UserError: If the user must fix something.
          Preempted: After SIGTERM or SIGINT.
        """
        ...

    def time(self, arm: Arm) -> Line:
        """Time steps of an arm and of the first arm of its setting in turn; return the line."""
        ...
