"""Assets: upload, look, and the bytes themselves, by key or by signed link, whole or in ranges."""

import re
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from schemas.asset import Asset, ImageInfo, StoredFile
from schemas.problem import FieldError, Problem, invalid, not_found
from service import images
from service.pipeline import shown
from service.security.keys import Role
from service.store import assets
from service.store.incoming import TooLarge
from service.store.keys import Principal
from service.web.forms import clean_name, keep, part_chunks, read_form
from service.web.site import Answer, Site, authenticate, refuse_by_length, site_of, too_large

# More digits than any file has bytes are no range.
_RANGE = re.compile(r"^bytes=(\d{0,18})-(\d{0,18})$")


async def create(request: Request, who: Principal) -> Response:
    """Multipart with one part `file`, or the raw bytes."""
    site = site_of(request)
    try:
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            file, image, name = await _from_form(request, site)
        else:
            file, image, name = await _from_body(request, site)
    except images.NotAnImage as error:
        raise invalid([FieldError("file", error.reason)]) from None
    except TooLarge:
        raise too_large(site.max_upload_bytes) from None
    lives_ms = site.core.asset_retention_ms
    asset = await site.core.db.write(assets.add, who.project, file, image, site.clock.now(), lives_ms, name)
    return Answer(shown.asset(asset, site.core.links), 201, {"Location": f"/v1/assets/{asset.id}"})


async def _from_form(request: Request, site: Site) -> tuple[StoredFile, ImageInfo, str | None]:
    async with read_form(request, site) as form:
        part = form.get("file")
        if part is None or isinstance(part, str) or len(form.multi_items()) != 1:
            raise invalid([FieldError("file", "exactly one file part named file is required")])
        file, image = await keep(part_chunks(part), site)
        return file, image, clean_name(part.filename)


async def _from_body(request: Request, site: Site) -> tuple[StoredFile, ImageInfo, str | None]:
    refuse_by_length(request, site.max_upload_bytes)
    file, image = await keep(request.stream(), site)
    return file, image, None


async def show(request: Request, who: Principal) -> Response:
    site = site_of(request)
    asset = await site.core.db.read(assets.get, who.project, request.path_params["id"])
    if asset is None or asset.expires_at <= site.clock.now():
        raise not_found("asset")
    return Answer(shown.asset(asset, site.core.links))


async def content(request: Request) -> Response:
    """The bytes. A signed link needs no key; whoever has neither learns nothing."""
    site = site_of(request)
    asset = await _readable(request, site)
    if asset is None or asset.expires_at <= site.clock.now():
        raise not_found("asset")
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": f'"{asset.sha256}"',
        "Cache-Control": "private, max-age=86400, immutable",
        "Content-Disposition": f'inline; filename="{asset.id}.{asset.content_type.split("/")[-1]}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    if _known_already(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    start, end = _range(request, asset, headers["ETag"])
    partial = (start, end) != (0, asset.bytes)
    if partial:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{asset.bytes}"
    headers["Content-Length"] = str(end - start)
    body = _nothing() if request.method == "HEAD" else await _begun(site.core.files.read(asset.sha256, start, end))
    return StreamingResponse(body, 206 if partial else 200, headers, asset.content_type)


def _known_already(request: Request, etag: str) -> bool:
    known = [entry.strip().removeprefix("W/") for entry in request.headers.get("if-none-match", "").split(",")]
    return etag in known or known == ["*"]


async def _readable(request: Request, site: Site) -> Asset | None:
    asset_id, query = request.path_params["id"], request.query_params
    if "sig" in query:
        if not site.core.links.holds(asset_id, query.get("exp", ""), query["sig"], site.clock.now()):
            raise Problem(403, "bad_link", "This link is not valid, or has expired.")
        return await site.core.db.read(assets.by_signed_link, asset_id)
    who = await authenticate(request, Role.READ)
    return await site.core.db.read(assets.get, who.project, asset_id)


def _range(request: Request, asset: Asset, etag: str) -> tuple[int, int]:
    """Start and end (exclusive). Several ranges at once are answered with the whole, as RFC 9110 allows."""
    whole = (0, asset.bytes)
    if request.method != "GET":
        return whole  # RFC 9110, 14.2: a range means something to a GET only
    found = _RANGE.match(request.headers.get("range", "").strip())
    if found is None or request.headers.get("if-range", etag) != etag or not (found[1] or found[2]):
        return whole
    if not found[1]:
        start, end = max(asset.bytes - int(found[2]), 0), asset.bytes
    else:
        start = int(found[1])
        end = min(int(found[2]) + 1, asset.bytes) if found[2] else asset.bytes
        if found[2] and int(found[2]) < start:
            return whole
    if start >= asset.bytes or start >= end:
        headers = {"Content-Range": f"bytes */{asset.bytes}"}
        raise Problem(416, "bad_range", "This range lies outside the asset.", headers=headers)
    return start, end


async def _begun(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks, the first of them in hand: what can't be read is told before the answer has begun."""
    first = await anext(chunks, b"")

    async def rest() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    return rest()


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
