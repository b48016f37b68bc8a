"""Where results go on the user's disk, and under which names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from service.client import Client

_ENDINGS: Mapping[str, str] = {"image/jpeg": ".jpg", "image/tiff": ".tif", "image/svg+xml": ".svg"}

Output = Mapping[str, Any]


def ending(content_type: str) -> str:
    """`.png` for `image/png`."""
    return _ENDINGS.get(content_type) or f".{content_type.rpartition('/')[2]}"


def beside(first: Path, outputs: Sequence[Output]) -> list[Path]:
    """The first output under the very name that was asked for, the others beside it: `out.png`, `out-mask.png`."""
    others = [first.with_name(f"{first.stem}-{entry['name']}{ending(entry['content_type'])}") for entry in outputs[1:]]
    return [first, *others][: len(outputs)]


def inside(folder: Path, stem: str, operation: str, outputs: Sequence[Output]) -> list[Path]:
    """`photo-enlarge3.png`, `photo-enlarge3-mask.png` in `folder`."""
    name = f"{stem}-{operation.rpartition('/')[2]}"
    first = outputs[:1]
    return beside(folder / f"{name}{ending(first[0]['content_type'])}", outputs) if first else []


async def save(client: Client, outputs: Sequence[Output], paths: Sequence[Path], *, signed_links: bool = False) -> None:
    """Download each output into its path, by key or by the signed links alone."""
    for entry, path in zip(outputs, paths, strict=True):
        address = entry["url"] if signed_links else f"/v1/assets/{entry['asset']}/content"
        await client.download(address, path, entry["sha256"])
