"""Files and folders that are nobody's work: hidden ones, and those that systems put anywhere."""

from pathlib import Path

_NAMES = {
    *("Thumbs.db", "desktop.ini", "System Volume Information"),  # Windows
    *("lost+found", "@eaDir"),  # Linux and network storage
}


def is_stray(path: Path) -> bool:
    """Return whether a path is hidden, such as a lock or `.DS_Store`, or has one of the names."""
    return path.name.startswith(".") or path.name in _NAMES
