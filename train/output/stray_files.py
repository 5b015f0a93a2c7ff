"""Files and folders that are nobody's work: those that systems and runs put into any folder."""

from fnmatch import fnmatchcase
from pathlib import Path

_PATTERNS = (
    *(".lock", ".*.partial"),  # of this package
    *("lost+found", ".nfs*", ".Trash-*", ".directory"),  # Linux
    *("@eaDir", "#recycle", ".snapshot", ".zfs"),  # network storage
    *(".DS_Store", "._*", ".Spotlight-V100", ".Trashes", ".fseventsd"),  # macOS
    *("Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "System Volume Information"),  # Windows
)


def is_stray(path: Path) -> bool:
    """Return whether a file or folder of this name may be in a new work folder."""
    return any(fnmatchcase(path.name, pattern) for pattern in _PATTERNS)
