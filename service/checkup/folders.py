"""Whether a folder, or where the first start would make it, can be written to."""

import tempfile
from pathlib import Path


def nearest(folder: Path) -> Path:
    """The folder, or what there is of the way to it: the first start makes what is missing."""
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())


def unusable(folder: Path) -> str | None:
    """Why nothing can be written there. Permission bits tell little of read-only mounts and full disks."""
    existing = nearest(folder)
    if not existing.is_dir():
        return f"{existing} is not a folder"
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        return f"{existing} can't be written to: {error.strerror or error}"
    return None
