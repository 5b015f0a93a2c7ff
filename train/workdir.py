"""The folder of a run: which configuration owns it, and whether it is finished."""

import json
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from train.config import flatten
from train.errors import UserError

_ELSEWHERE = ("data.dir",)  # where the data lies does not change what is computed


class WorkDir:
    """Paths of a run's files.

    Raises:
      UserError: the folder belongs to another configuration, or is none of ours.
    """

    def __init__(self, folder: Path, config: ConfigDict):
        self.folder = folder
        self.config = folder / "config.json"
        self.metrics = folder / "metrics.jsonl"
        self.checkpoints = folder / "checkpoints"
        self.curves = folder / "curves.png"
        self.summary = folder / "summary.json"
        self._fields = json.loads(json.dumps(flatten(config)))
        self._refuse_if_not_ours()

    def finished(self) -> dict[str, Any] | None:
        """The summary, if the run has come to its end."""
        return json.loads(self.summary.read_text()) if self.summary.exists() else None

    def create(self) -> None:
        """Makes the folder and says whose it is."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.config, self._fields)
        except OSError as error:
            raise UserError(
                f"cannot write to the work folder {self.folder}: {error.strerror}; "
                "choose another with --workdir"
            ) from None

    def _refuse_if_not_ours(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"--workdir {self.folder} is a file; give it a folder")
        if not self.config.exists():
            if self.folder.exists() and any(self.folder.iterdir()):
                raise UserError(
                    f"--workdir {self.folder} holds files and no config.json, so it is not a work "
                    "folder; give it a new or an empty one"
                )
            return
        try:
            theirs = json.loads(self.config.read_text())
        except ValueError:
            raise UserError(f"{self.config} is damaged; use another --workdir") from None
        differences = [
            f"{name}: {theirs.get(name)!r} there, {self._fields.get(name)!r} now"
            for name in sorted(theirs.keys() | self._fields.keys())
            if name not in _ELSEWHERE and theirs.get(name) != self._fields.get(name)
        ]
        if differences:
            raise UserError(
                f"{self.folder} holds a run of another configuration ({'; '.join(differences)}); "
                "use another --workdir, or the configuration of that run"
            )


def write_atomically(file: Path, text: str) -> None:
    """Replaces `file` so that a reader finds the old or the new text, never a part of one."""
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)


def write_json(file: Path, value: Any) -> None:
    """Writes one JSON value, atomically."""
    write_atomically(file, json.dumps(value, indent=2, sort_keys=True) + "\n")
