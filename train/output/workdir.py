"""The folder of a run: which configuration owns it, who works in it, whether it is finished."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from train.config.fields import flatten
from train.errors import UserError, short

# Where the data lies, who decodes it, how many steps are dispatched at once and what is written
# beside the results change none of them.
_NOT_COMPUTED = ("data.dir", "data.workers", "steps_per_dispatch", "report.tensorboard")


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
        self.tensorboard = folder / "tensorboard"
        self.curves = folder / "curves.png"
        self.summary = folder / "summary.json"
        self.origin = folder / "origin.json"
        self._fields = json.loads(json.dumps(flatten(config)))
        self._lock: int | None = None
        with self._explained("read"):
            self._refuse_if_not_ours()

    def finished(self) -> dict[str, Any] | None:
        """The summary, if the run has come to its end.

        Raises:
          UserError: it cannot be read.
        """
        if not self.summary.exists():
            return None
        summary = _read_json(self.summary)
        if not isinstance(summary.get("test_top1"), int | float):
            raise UserError(f"{self.summary} is damaged; use another --workdir")
        return summary

    def claim(self, origin: str | None = None) -> None:
        """Makes the folder, says whose it is, and keeps every other run out until this one ends.

        Args:
          origin: the digest of what the run begins from, if it begins so.

        Raises:
          UserError: another run works in it, or it cannot be written.
        """
        with self._explained("write to"):
            self.folder.mkdir(parents=True, exist_ok=True)
            # On the folder itself: a lock that leaves no file, and that a kill cannot leave behind.
            self._lock = lock(self.folder)
            self._refuse_if_not_ours()
            write_json(self.config, self._fields)
            if origin:
                write_json(self.origin, {"init_sha256": origin})

    def began_from(self) -> dict[str, Any]:
        """What the summary says of the run's origin."""
        return _read_json(self.origin) if self.origin.exists() else {}

    def release(self) -> None:
        """Lets other runs in."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextlib.contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot {doing} the work folder {self.folder}: {error.strerror}; "
                "choose another with --workdir"
            ) from None

    def _refuse_if_not_ours(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"--workdir {self.folder} is a file; give it a folder")
        # One listing, because the first of several processes may be filling the folder.
        files = set(self.folder.iterdir()) if self.folder.exists() else set()
        if self.config not in files:
            if files - {_partial(self.config)}:
                raise UserError(
                    f"--workdir {self.folder} holds files and no config.json, so it is not a work "
                    "folder; give it a new or an empty one"
                )
            return
        if self.checkpoints.exists() and not self.checkpoints.is_dir():
            raise UserError(f"{self.checkpoints} is not a folder; use another --workdir")
        theirs = _read_json(self.config)
        differences = [
            f"{name}: {short(theirs.get(name))} there, {short(self._fields.get(name))} now"
            for name in sorted(theirs.keys() | self._fields.keys())
            if name not in _NOT_COMPUTED and theirs.get(name) != self._fields.get(name)
        ]
        if differences:
            raise UserError(
                f"{self.folder} holds a run of another configuration ({'; '.join(differences)}); "
                "use another --workdir, or the configuration of that run"
            )


def lock(path: Path, shared: bool = False) -> int:
    """Holds a file or a folder until the descriptor that it returns is closed.

    Args:
      path: is there.
      shared: with others that hold it so.

    Raises:
      UserError: another process holds it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(
            f"another run is working in {path}; wait for it, or use another --workdir"
        ) from None
    return descriptor


@contextlib.contextmanager
def writing(file: Path) -> Iterator[None]:
    """What is done inside writes `file`.

    Raises:
      UserError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {file}: {error.strerror or error}; make room or fix the folder, and "
            "run the same command again"
        ) from error


def write_atomically(file: Path, text: str) -> None:
    """Replaces `file` so that a reader finds the old or the new text, never a part of one.

    Raises:
      UserError: it cannot be written.
    """
    with writing(file):
        with _partial(file).open("w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        _partial(file).replace(file)


def write_json(file: Path, value: Any) -> None:
    """Writes one JSON value, atomically."""
    write_atomically(file, json.dumps(value, indent=2, sort_keys=True) + "\n")


def _partial(file: Path) -> Path:
    return file.with_name(f".{file.name}.partial")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except (ValueError, RecursionError, OSError):
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{file} is damaged; use another --workdir")
    return value
