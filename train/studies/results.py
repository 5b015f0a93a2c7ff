"""`results.jsonl`: one line a run, on the disk as soon as the run is done; and its folder."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from train.errors import UserError
from train.output.files import (
    Line,
    explain_write_errors,
    lock,
    read_jsonl,
    write_atomically,
    write_json,
)

TIMES = ("seconds", "finished")
"""The fields of a line that differ when the same run is made again."""

_RUN = {"key", "kind", "optimizer", "gc", "weight_decay", "batch_size"}
_FIELDS = {
    "tune": _RUN | {"seed", "learning_rate", "top1", "loss"},
    "final": _RUN | {"seed", "learning_rate", "top1", "loss", "train_top1", "train_loss", "curve"},
    "time": _RUN | {"seconds"},
}


class Results:
    """The lines of a study's folder by their keys.

    Attributes:
      lines: of all files of the folder, those of other shards too.
    """

    def __init__(self, folder: Path, shard: tuple[int, int] | None):
        """Reads what is there.

        Raises:
          UserError: the folder is none of ours, or a line is damaged.
        """
        self._folder = folder
        name = "results" if shard is None else "results.{}-of-{}".format(*shard)
        self._shard = shard
        self._file = folder / f"{name}.jsonl"
        self._config = folder / "config.json"
        self._refuse_if_not_ours()
        self.lines: dict[str, Line] = {}
        self._read()

    @contextlib.contextmanager
    def held(self, config: dict[str, Any]) -> Iterator[None]:
        """Makes the folder, and keeps others out, but for other shards.

        Args:
          config: the study's, flattened; it is written beside the results.

        Raises:
          UserError: another study works there, or it cannot be written.
        """
        with contextlib.ExitStack() as stack:
            with explain_write_errors(self._file):
                self._folder.mkdir(parents=True, exist_ok=True)
                stack.callback(os.close, lock(self._folder, shared=self._shard is not None))
                self._file.touch()
                stack.callback(os.close, lock(self._file))
                self._drop_half_a_line()
            self._read()  # another process may have worked here while this one started
            write_json(self._config, config)
            yield

    def append(self, lines: Iterable[Line]) -> None:
        """Adds lines in one write; they are on the disk when this returns."""
        lines = list(lines)
        with explain_write_errors(self._file), self._file.open("ab", buffering=0) as stream:
            stream.write("".join(map(_dump, lines)).encode())
            os.fsync(stream.fileno())
        self.lines |= {line["key"]: line for line in lines}

    def gather(self) -> None:
        """Reads what other shards have written, and without a shard writes it into one file."""
        self._read()
        if self._shard is None and self.lines != self._own():
            write_atomically(self._file, "".join(map(_dump, self.lines.values())))

    def _own(self) -> dict[str, Line]:
        return {line["key"]: line for line in read(self._file)}

    def _read(self) -> None:
        for file in sorted(self._folder.glob("results*.jsonl")):
            self.lines |= {line["key"]: line for line in read(file)}

    def _drop_half_a_line(self) -> None:
        whole = self._file.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end < len(whole):
            os.truncate(self._file, end)

    def _refuse_if_not_ours(self) -> None:
        if self._folder.exists() and not self._folder.is_dir():
            raise UserError(f"--workdir {self._folder} is a file; give it a folder")
        names = {file.name for file in self._folder.glob("*")}
        ours = any(name.startswith("results") and name.endswith(".jsonl") for name in names)
        if names and not ours:
            raise UserError(
                f"--workdir {self._folder} holds files and no results.jsonl, so it is no study's "
                "folder; give it a new or an empty one"
            )


def read(file: Path) -> list[Line]:
    """Return the complete lines of a results file.

    Raises:
      UserError: If the file cannot be read, or a line is damaged.
    """
    return read_jsonl(file, _is_valid, "remove that line, and its run is made again")


def _is_valid(line: Line) -> bool:
    return isinstance(line["key"], str) and line.keys() >= _FIELDS[line["kind"]]


def _dump(line: Line) -> str:
    return json.dumps(line, allow_nan=False) + "\n"
