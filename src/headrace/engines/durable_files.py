"""Files that survive power loss: the content is synced before its name, the name by syncing its folder."""

from __future__ import annotations

import os
from pathlib import Path


def write_synced(path: Path, content: bytes | memoryview) -> None:
    """Write the file, durable on return but for its name."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in the folder durable, such as those of files that were renamed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
