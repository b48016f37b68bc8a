"""Results: the outputs of a finished task, from the vendor's link to our asset."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.asset import Asset, ImageInfo, StoredFile
from schemas.job import Kept, Result
from service.store import sql
from service.store.assets import asset_of
from service.store.database import Reader, Row, Tx

_SQL = sql.beside(__file__)


async def add(tx: Tx, job: int, name: str, source: Mapping[str, Any], dies_at: int | None) -> None:
    await tx.run(_SQL["add"], {"job": job, "name": name, "source": json.dumps(dict(source)), "dies_at": dies_at})


async def of_job(reader: Reader, job: int) -> Sequence[Result]:
    return [
        Result(row["id"], row["name"], json.loads(row["source"]), row["dies_at"], _kept(row))
        for row in await reader.all(_SQL["of_job"], {"job": job})
    ]


def _kept(row: Row) -> Kept | None:
    if row["kept_at"] is None:
        return None
    image = ImageInfo(row["content_type"], row["width"], row["height"])
    return Kept(row["kept_at"], StoredFile(row["sha256"], row["bytes"]), image)


async def keep(tx: Tx, result: int, file: StoredFile, image: ImageInfo, now: int) -> None:
    """The bytes are durable: from here on the vendor's link may die."""
    values = {
        "result": result,
        "sha256": file.sha256,
        "bytes": file.bytes,
        "content_type": image.content_type,
        "width": image.width,
        "height": image.height,
        "now": now,
    }
    await tx.run(_SQL["keep"], values)


async def is_asset(tx: Tx, result: int, asset: int) -> None:
    await tx.run(_SQL["is_asset"], {"result": result, "asset": asset})


async def made_by(reader: Reader, project: int, asset: int, vendor: str) -> Mapping[str, Any] | None:
    """What `vendor` called the picture when it made it for this project, and when; None where it did not."""
    row = await reader.one(_SQL["made_by"], {"project": project, "asset": asset, "vendor": vendor})
    # A little later than it was: the job is finished when the picture is ours.
    return None if row is None else {**json.loads(row["source"]), "made_at": row["finished_at"]}


async def assets(reader: Reader, job: int) -> Sequence[tuple[str, Asset]]:
    """Each output's name and its asset."""
    return [(row["output"], asset_of(row)) for row in await reader.all(_SQL["assets"], {"job": job})]
