"""`results.jsonl`: one line per run, written as soon as the run is finished; and its folder."""

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from train import tasks
from train.data.dataset import Fingerprint
from train.errors import UserError
from train.output.data_check import check_data, record_data
from train.output.files import (
    LOCK_FILE,
    Line,
    explain_write_errors,
    lock,
    read_jsonl,
    write_atomically,
    write_json,
)
from train.output.stray_files import is_stray
from train.studies import keys
from train.studies.design import Shard
from train.tasks.task import Headline

TIMES = ("seconds", "finished")
"""The fields of a line that differ when the same run is made again."""

_HEADLINES = [task.headline.name for task in tasks.TASKS]
_RUN = {"key", "kind", "optimizer", "gc", "weight_decay", "batch_size"}
_FIELDS = {
    "tune": _RUN | {"seed", "learning_rate", "loss"},
    "final": _RUN | {"seed", "learning_rate", "loss", "train_loss", "curve"},
    "time": _RUN | {"seconds"},
}


class Results:
    """The lines in a study's folder by key.

    Attributes:
      lines: The lines of all files in the folder, those of other shards included.
    """

    def __init__(self, folder: Path, shard: Shard | None):
        """Read the results in a folder; without a shard, all of the study's runs are made here.

        Raises:
          UserError: If the folder is not a study's, or a line is damaged.
        """
        self._folder = folder
        name = "results" if shard is None else f"results.{shard.number}-of-{shard.total}"
        self._shard = shard
        self._file = folder / f"{name}.jsonl"
        self._config = folder / "config.json"
        self._check_folder()
        self.lines: dict[str, Line] = {}
        self._read_folder()

    @contextlib.contextmanager
    def acquire(
        self, config: dict[str, Any], fingerprints: dict[str, Fingerprint] | None = None
    ) -> Iterator[None]:
        """Create the folder and keep out other studies; other shards are allowed.

        Args:
          config: The study's config, flattened; it is written beside the results.
          fingerprints: Those of the data; None if the data is not read.

        Raises:
          UserError: If another study uses the folder, the data has changed since the study began,
            or the folder cannot be written.
        """
        with contextlib.ExitStack() as stack:
            with explain_write_errors(self._file):
                self._folder.mkdir(parents=True, exist_ok=True)
                stack.callback(
                    os.close, lock(self._folder / LOCK_FILE, shared=self._shard is not None)
                )
                self._file.touch()
                stack.callback(os.close, lock(self._file))
                self._drop_incomplete_line()
            if fingerprints:
                check_data(self._folder, fingerprints)
                record_data(self._folder, fingerprints)
            self._read_folder()  # another process may have written since this one started
            write_json(self._config, config)
            yield

    def append(self, lines: Iterable[Line]) -> None:
        """Append lines in one write and sync them to disk."""
        lines = list(lines)
        with explain_write_errors(self._file), self._file.open("ab", buffering=0) as stream:
            stream.write("".join(map(_dump, lines)).encode())
            os.fsync(stream.fileno())
        self.lines |= {line["key"]: line for line in lines}

    def gather(self) -> None:
        """Read the lines of other shards; without a shard, write all lines to one file."""
        self._read_folder()
        if self._shard is None and self.lines != _by_key(self._file):
            write_atomically(self._file, "".join(map(_dump, self.lines.values())))

    def _read_folder(self) -> None:
        for file in sorted(self._folder.glob("results*.jsonl")):
            self.lines |= _by_key(file)

    def _drop_incomplete_line(self) -> None:
        """Cut off a last line that a kill left incomplete."""
        content = self._file.read_bytes()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            os.truncate(self._file, end)

    def _check_folder(self) -> None:
        if self._folder.exists() and not self._folder.is_dir():
            raise UserError(f"--workdir {self._folder} is a file; give it a folder")
        names = {file.name for file in self._folder.glob("*") if not is_stray(file)}
        has_results = any(name.startswith("results") and name.endswith(".jsonl") for name in names)
        if names and not has_results:
            raise UserError(
                f"--workdir {self._folder} contains files but no results.jsonl, so it is not a "
                "study's folder; use a new or an empty one"
            )


def read(file: Path) -> list[Line]:
    """Return the complete lines of a results file.

    Raises:
      UserError: If the file cannot be read, or a line is damaged.
    """
    return read_jsonl(file, _is_valid, "remove that line, and its run is made again")


def headline(line: Line) -> Headline:
    """Return the headline metric of the task of a line."""
    return next(task.headline for task in tasks.TASKS if task.headline.name in line)


def is_diverged(line: Line) -> bool:
    """Return whether the run of a line diverged: a loss is null, which stands for non-finite.

    Its top-1 is no sign: it is 0, because the logits of such a network are NaN.
    """
    names = ("loss", "train_loss", *_HEADLINES, *(f"train_{name}" for name in _HEADLINES))
    values = (line[name] for name in names if name in line)
    return not all(value is not None and math.isfinite(value) for value in values)


def machine(line: Line) -> str:
    """Return the type of machine that computed a line: the processor, or the accelerator."""
    is_cpu = line["device"] == "cpu" and "processor" in line
    return f"cpu ({line['processor']})" if is_cpu else line["device"]


def _by_key(file: Path) -> dict[str, Line]:
    return {line["key"]: line for line in map(_with_current_key, read(file))}


def _with_current_key(line: Line) -> Line:
    """Return a line with the key that its settings have today; older lines have no settings."""
    if "settings" not in line:
        return line
    return line | {"key": keys.digest(line["kind"], line["settings"])}


def _is_valid(line: Line) -> bool:
    has_score = line["kind"] == "time" or any(name in line for name in _HEADLINES)
    return isinstance(line["key"], str) and has_score and line.keys() >= _FIELDS[line["kind"]]


def _dump(line: Line) -> str:
    return json.dumps(line, allow_nan=False) + "\n"
