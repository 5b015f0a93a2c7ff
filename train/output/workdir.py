"""The work folder of a run: its files, its config, and the lock that keeps other runs out."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from train import tasks
from train.config import flatten
from train.config.fields import field_specs
from train.config.schema import Config, may_change_on_resume
from train.data.dataset import Fingerprint, Signature
from train.data.standardization import Standardization
from train.errors import UserError, short_repr
from train.output.data_check import check_data, record_data
from train.output.files import LOCK_FILE, lock, read_json, write_json
from train.output.saved_run import record_signature, record_standardization
from train.output.stray_files import is_stray
from train.tasks.task import summary_name


class WorkDir:
    """The paths of the files of a run.

    Raises:
      UserError: If the folder holds a run of another config, or other files.
    """

    def __init__(self, folder: Path, config: ConfigDict):
        self.folder = folder
        self.config = folder / "config.json"
        self.metrics = folder / "metrics.jsonl"
        self.checkpoints = folder / "checkpoints"
        self.curves = folder / "curves.png"
        self.summary = folder / "summary.json"
        self.init_source_file = folder / "init_source.json"
        self._fields = json.loads(json.dumps(flatten(config)))
        task = tasks.task_class(config)
        self._headline = summary_name(task, task.headline.name)
        self._lock: int | None = None
        with self._explain_errors("read"):
            self._check_folder()

    def read_summary(self) -> dict[str, Any] | None:
        """Return the summary of a finished run, or None.

        Raises:
          UserError: If the file cannot be read.
        """
        if not self.summary.exists():
            return None
        summary = read_json(self.summary)
        # None: an average precision that is undefined.
        if not isinstance(summary.get(self._headline, ""), int | float | None):
            raise UserError(f"{self.summary} is damaged; use another --workdir")
        return summary

    def acquire(
        self,
        fingerprints: dict[str, Fingerprint],
        signature: Signature,
        init_sha256: str | None = None,
        measured: Standardization | None = None,
    ) -> None:
        """Create the folder, write its config, and lock it until `release`.

        Args:
          fingerprints: Those of the data.
          signature: That of the network.
          init_sha256: The digest of the weights that the run starts from, if not random.
          measured: The mean and the standard deviation, if this start of the run measured them.

        Raises:
          UserError: If another run uses the folder, the data has changed since the run began, or
            the folder cannot be written.
        """
        with self._explain_errors("write to"):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock(self.folder / LOCK_FILE)
            self._check_folder()
            check_data(self.folder, fingerprints)
            write_json(self.config, self._fields)  # the first file: it marks a work folder
            if measured:
                record_standardization(self.folder, measured)
            record_data(self.folder, fingerprints)
            record_signature(self.folder, signature)
            if init_sha256:
                write_json(self.init_source_file, {"init_sha256": init_sha256})

    def init_source(self) -> dict[str, Any]:
        """Return the summary's fields about the weights that the run started from."""
        return read_json(self.init_source_file) if self.init_source_file.exists() else {}

    def release(self) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextlib.contextmanager
    def _explain_errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot {action} the work folder {self.folder}: {error.strerror}; "
                "fix it, or choose another with --workdir"
            ) from None

    def _check_folder(self) -> None:
        """Raise UserError unless the folder is new, empty, or holds a run of this config."""
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"--workdir {self.folder} is a file; give it a folder")
        # One listing, because another process of the run may be creating files.
        files = set(self.folder.iterdir()) if self.folder.exists() else set()
        if self.config not in files:
            if any(not is_stray(file) for file in files):
                raise UserError(
                    f"--workdir {self.folder} contains files but no config.json, so it is not a "
                    "work folder; use a new or an empty one"
                )
            return
        if self.checkpoints.exists() and not self.checkpoints.is_dir():
            raise UserError(f"{self.checkpoints} is not a folder; use another --workdir")
        # A field that is newer than the folder has its default, which changes nothing.
        defaults = {name: spec.default for name, spec in field_specs(Config).items()}
        saved = json.loads(json.dumps(defaults)) | read_json(self.config)
        differences = [
            f"{name}: {short_repr(saved.get(name))} there, {short_repr(self._fields.get(name))} now"
            for name in sorted(saved.keys() | self._fields.keys())
            if not may_change_on_resume(name) and saved.get(name) != self._fields.get(name)
        ]
        if differences:
            raise UserError(
                f"{self.folder} holds a run of another config ({'; '.join(differences)}); use "
                "another --workdir, or the config of that run"
            )
