"""The check that a run or a study goes on with the data that it began with."""

from pathlib import Path

from train.data.dataset import Fingerprint
from train.errors import UserError
from train.output.files import read_json, write_json

DATA_FILE = "data.json"
"""The file in a work folder with the fingerprint of each split."""


def check_data(folder: Path, fingerprints: dict[str, Fingerprint]) -> None:
    """Compare the data with that of a work folder, if it has fingerprints.

    Raises:
      UserError: If the data has changed, or the file cannot be read.
    """
    file = folder / DATA_FILE
    if not file.exists():
        return
    saved = read_json(file)
    changes = [
        f"{split}: {_describe_change(saved.get(split, {}), fingerprint)}"
        for split, fingerprint in fingerprints.items()
        if saved.get(split) != fingerprint
    ]
    if changes:
        raise UserError(
            f"the data has changed since the work in {folder} began ({'; '.join(changes)}); "
            "restore it, or use another --workdir"
        )


def record_data(folder: Path, fingerprints: dict[str, Fingerprint]) -> None:
    """Write the fingerprints of the data, if the folder is new or of an older version.

    Raises:
      UserError: If the file cannot be written.
    """
    if not (folder / DATA_FILE).exists():
        write_json(folder / DATA_FILE, fingerprints)


def _describe_change(before: Fingerprint, now: Fingerprint) -> str:
    if before.get("examples") != now["examples"]:
        return f"{before.get('examples')} examples then, {now['examples']} now"
    return f"{now['examples']} examples as before, but with other content"
