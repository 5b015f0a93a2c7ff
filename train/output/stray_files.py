"""Files and folders that file managers and file systems put into any folder."""

import fnmatch
from pathlib import Path

_PATTERNS = (
    *(".DS_Store", "._*", ".Spotlight-V100", ".Trash*", ".fseventsd"),  # macOS
    *("Thumbs.db", "desktop.ini", "System Volume Information"),  # Windows
    *("lost+found", ".nfs*", ".snapshot*", "@eaDir", ".directory"),  # Linux, NFS and NAS
)


def is_stray(path: Path) -> bool:
    """Return whether a path has the name of such a file or folder."""
    return any(fnmatch.fnmatchcase(path.name, pattern) for pattern in _PATTERNS)
