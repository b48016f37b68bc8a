"""Assets: images we hold. The bytes lie in the file store, by their hash."""

from collections.abc import Sequence

from schemas import ids
from schemas.asset import Asset, ImageInfo, StoredFile
from service.store import sql
from service.store.database import Reader, Row, Tx

_SQL = sql.beside(__file__)


def asset_of(row: Row) -> Asset:
    return Asset(
        row=row["id"],
        id=row["public_id"],
        project=row["project_id"],
        sha256=row["sha256"],
        bytes=row["bytes"],
        content_type=row["content_type"],
        width=row["width"],
        height=row["height"],
        filename=row["filename"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
    )


async def add(
    tx: Tx, project: int, file: StoredFile, image: ImageInfo, now: int, lives_ms: int, filename: str | None = None
) -> Asset:
    """Only after the file is durable."""
    public_id, expires_at = ids.new_id("ast", now), now + lives_ms
    row = await tx.one(
        _SQL["add"],
        {
            "public_id": public_id,
            "project": project,
            "sha256": file.sha256,
            "bytes": file.bytes,
            "content_type": image.content_type,
            "width": image.width,
            "height": image.height,
            "filename": filename,
            "now": now,
            "expires_at": expires_at,
        },
    )
    assert row is not None
    return Asset(
        int(row["id"]),
        public_id,
        project,
        file.sha256,
        file.bytes,
        image.content_type,
        image.width,
        image.height,
        filename,
        now,
        expires_at,
    )


async def get(reader: Reader, project: int, public_id: str) -> Asset | None:
    row = await reader.one(_SQL["get"], {"project": project, "public_id": public_id})
    return None if row is None else asset_of(row)


async def for_endpoint(reader: Reader, endpoint: str, public_id: str, now: int) -> Asset | None:
    """An asset of the endpoint's own project; None where it has expired, too."""
    row = await reader.one(_SQL["for_endpoint"], {"endpoint": endpoint, "public_id": public_id, "now": now})
    return None if row is None else asset_of(row)


async def by_signed_link(reader: Reader, public_id: str) -> Asset | None:
    """Without the project: only for a link whose signature was checked."""
    row = await reader.one(_SQL["by_signed_link"], {"public_id": public_id})
    return None if row is None else asset_of(row)


async def by_row(reader: Reader, project: int, asset: int) -> Asset | None:
    row = await reader.one(_SQL["by_row"], {"project": project, "asset": asset})
    return None if row is None else asset_of(row)


async def known(reader: Reader, hashes: Sequence[str], now: int) -> set[str]:
    """Which of these hashes are still named by something."""
    return {sha256 for sha256 in hashes if await reader.one(_SQL["known"], {"sha256": sha256, "now": now}) is not None}


async def files(reader: Reader, after: str, limit: int, now: int) -> list[StoredFile]:
    """The files that something still names, by hash, from the one after `after` on."""
    rows = await reader.all(_SQL["files"], {"beyond": after, "limit": limit, "now": now})
    return [StoredFile(row["sha256"], row["bytes"]) for row in rows]


async def expired(reader: Reader, before: int, after: tuple[int, int], limit: int) -> Sequence[tuple[int, int]]:
    """Assets that expired at `before` or earlier, in the order of (expiry, row), those after `after`."""
    values = {"before": before, "after_time": after[0], "after_row": after[1], "limit": limit}
    return [(row["expires_at"], row["id"]) for row in await reader.all(_SQL["expired"], values)]


async def forget(tx: Tx, asset: int, before: int) -> bool:
    """Delete the row of an asset that expired at `before` or earlier; False where a job names it, or it lives."""
    return await tx.run(_SQL["forget"], {"asset": asset, "before": before}) == 1
