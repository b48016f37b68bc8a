"""An asset: an image we hold, an upload or a result."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a file truly is, read from its content and never from its name."""

    content_type: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Bytes that are durably on disk, named by their SHA-256 (hex)."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Asset:
    row: int
    id: str
    project: int
    sha256: str
    bytes: int
    content_type: str
    width: int
    height: int
    filename: str | None
    created_at: int
    expires_at: int
