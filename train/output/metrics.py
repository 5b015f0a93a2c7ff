"""`metrics.jsonl`: one object a line, each written once and never half."""

import json
import math
import os
from pathlib import Path
from typing import Any

from train.errors import UserError
from train.output.workdir import write_atomically, writing

Line = dict[str, Any]

_FIGURES = {
    "train": {"epoch", "loss", "top1", "top5", "learning_rate", "gc_removed_fraction"},
    "test": {"epoch", "loss", "top1", "top5"},
}


class MetricsFile:
    """Lines of a run so far; a line has `step`, `split` and figures."""

    def __init__(self, file: Path, first_step: int, writes: bool):
        """Opens the file as it was after `first_step` steps: later lines are written anew.

        Args:
          file: `metrics.jsonl`.
          first_step: where the run goes on.
          writes: whether this process is the one of several that writes.

        Raises:
          UserError: a line is damaged, or the file of a run that has begun is gone.
        """
        if first_step and not file.exists():
            raise UserError(f"{file} is gone; bring it back, or use another --workdir")
        self._file = file
        self._writes = writes
        self.lines = [line for line in read(file) if line["step"] <= first_step]
        if writes:
            write_atomically(file, "".join(map(_dump, self.lines)))

    def append(self, step: int, split: str, **figures: float) -> Line:
        """Adds a line; it is on the disk when this returns. NaN and inf are written as null."""
        line = {"step": step, "split": split}
        line |= {name: finite_or_none(value) for name, value in figures.items()}
        if self._writes:
            with writing(self._file), self._file.open("a") as stream:
                stream.write(_dump(line))
                stream.flush()
                os.fsync(stream.fileno())
        self.lines.append(line)
        return line

    def of(self, split: str) -> list[Line]:
        """The lines of one split, in order."""
        return [line for line in self.lines if line["split"] == split]


def read(file: Path) -> list[Line]:
    """The whole lines of `metrics.jsonl`; none if there is no such file.

    Raises:
      UserError: one is damaged.
    """
    try:
        *whole_lines, _ = file.read_bytes().split(b"\n")  # what a kill tore has no line end
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(
            f"cannot read {file}: {error.strerror}; fix it, or use another --workdir"
        ) from None
    return [_load(file, number, line) for number, line in enumerate(whole_lines, 1)]


def _load(file: Path, number: int, text: bytes) -> Line:
    try:
        line = json.loads(text)
        sound = isinstance(line["step"], int) and _FIGURES[line["split"]] <= line.keys()
        figures = [line[name] for name in line.keys() - {"split"}]
        sound = sound and all(isinstance(value, int | float | None) for value in figures)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise UserError(
            f"line {number} of {file} is damaged; remove that line, or use another --workdir"
        )
    return line


def _dump(line: Line) -> str:
    return json.dumps(line) + "\n"


def finite_or_none(value: Any) -> float | None:
    """A number as JSON can hold it."""
    return float(value) if math.isfinite(value) else None
