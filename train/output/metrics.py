"""`metrics.jsonl`: one line per log step and evaluation."""

import functools
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.errors import UserError
from train.output.files import Line, explain_write_errors, read_jsonl, write_atomically

_FIELDS = {"train": {"epoch", "learning_rate", "gc_removed_fraction"}, "test": {"epoch"}}


class MetricsFile:
    """The lines of a run so far; each has `step`, `split` and metrics.

    Attributes:
      lines: The lines in order.
    """

    def __init__(self, file: Path, names: Sequence[str], first_step: int, writes: bool):
        """Open the file and drop the lines after `first_step`, which will be written again.

        Args:
          file: `metrics.jsonl`.
          names: The names of the metrics that every line has.
          first_step: The step at which the run starts or resumes.
          writes: Whether this process writes the file.

        Raises:
          UserError: If a line is damaged, or the run resumes and the file is missing.
        """
        if first_step and not file.exists():
            raise UserError(f"{file} is missing; restore it, or use another --workdir")
        self._file = file
        self._writes = writes
        self.lines = [line for line in read(file, names) if line["step"] <= first_step]
        if writes:
            write_atomically(file, "".join(map(_dump, self.lines)))

    def append(self, step: int, split: str, **metrics: float) -> Line:
        """Append a line and sync it to disk; NaN and infinity are written as null."""
        line = {"step": step, "split": split}
        line |= {name: finite_or_none(value) for name, value in metrics.items()}
        if self._writes:
            with explain_write_errors(self._file), self._file.open("a", encoding="utf-8") as stream:
                stream.write(_dump(line))
                stream.flush()
                os.fsync(stream.fileno())
        self.lines.append(line)
        return line

    def of_split(self, split: str) -> list[Line]:
        """Return the lines of one split, in order."""
        return [line for line in self.lines if line["split"] == split]


def read(file: Path, names: Sequence[str]) -> list[Line]:
    """Return the complete lines of `metrics.jsonl`.

    Args:
      file: The file; it need not exist.
      names: The names of the metrics that every line must have.

    Raises:
      UserError: If the file cannot be read, or a line is damaged.
    """
    return read_jsonl(
        file, functools.partial(_is_valid, names), "remove that line, or use another --workdir"
    )


def finite_or_none(value: Any) -> float | None:
    """Return a number as JSON can represent it."""
    return float(value) if math.isfinite(value) else None


def _is_valid(names: Sequence[str], line: Line) -> bool:
    metrics = [line[name] for name in line.keys() - {"split"}]
    return (
        isinstance(line["step"], int)
        and line.keys() >= {*names, *_FIELDS[line["split"]]}
        and all(isinstance(value, int | float | None) for value in metrics)
    )


def _dump(line: Line) -> str:
    return json.dumps(line) + "\n"
