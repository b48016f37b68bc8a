"""The way of a picture's bytes into Shopify's files, once however often it is tried.

stagedUploadsCreate, PUT, fileCreate, then looks until it is processed. The file's name is the key: a try that comes
back finds its file by it, and Shopify itself refuses to make a second one of the same name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from handlers.destinations import shopify_queries as queries
from handlers.destinations.contract import Pictures, Steps
from handlers.destinations.putting import Sleep
from handlers.destinations.shopify_calls import PASSING_FILE_ERRORS, Admin, UserError
from handlers.destinations.shops import Impossible, Placed
from handlers.destinations.tries import CONNECT, Trouble, dig
from handlers.http import Http
from schemas.delivery import Outcome
from schemas.endpoint import Target

UPLOAD_SECONDS = 60.0
# Waits in seconds before each further look at what Shopify does by and by.
WAITS = (0.5, 1.0, 1.0, 2.0, 2.0, 3.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0)


@dataclass(frozen=True, slots=True)
class File:
    id: str
    status: str
    errors: tuple[tuple[str, str], ...]
    name: str | None  # known once it is processed

    @classmethod
    def of(cls, node: Any) -> "File | None":
        if not isinstance(dig(node, "id"), str):
            return None
        url = dig(node, "image", "url")
        errors = tuple((str(dig(e, "code")), str(dig(e, "message"))) for e in dig(node, "fileErrors") or ())
        name = unquote(urlsplit(url).path).rpartition("/")[2] if isinstance(url, str) else None
        return cls(node["id"], str(dig(node, "fileStatus")), errors, name)


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one shop, for one try of one delivery."""

    http: Http
    admin: Admin
    target: Target
    steps: Steps
    sleep: Sleep
    pictures: Pictures

    async def uploaded(self, picture: Placed) -> str:
        """The id of the picture's file, READY."""
        step = f"{picture.step}.upload"
        kept = self.steps.done(step)
        self._at("look-up")
        file = await self._file(kept) if kept else None
        if file is None:
            file = await self._found(picture)
        if file is None:
            file = await self._created(picture)
        if file.id != kept:
            await self.steps.save(step, file.id)
        self._at("processing")
        file = await self._processed(file)
        if file.status == "READY":
            return file.id
        code, why = file.errors[0] if file.errors else ("UNKNOWN", "no reason is given")
        if code not in PASSING_FILE_ERRORS:
            raise Trouble(Outcome.ABORT, f"Shopify can't process the picture: {why} ({code})")
        # Its name is needed once more, and nobody can use it as it is.
        await self.admin.change(queries.DELETE, "fileDelete", fileIds=[file.id])
        raise Trouble(Outcome.RETRY, f"Shopify could not process the picture this time: {why} ({code})")

    async def _file(self, file: str) -> File | None:
        return File.of(dig(await self.admin.ask(queries.FILE, id=file), "node"))

    async def _found(self, picture: Placed) -> File | None:
        """The file of an earlier try, by its name. A search that knows no filter answers with everything there is."""
        data = await self.admin.ask(queries.FILES, query=f'filename:"{picture.filename}"')
        files = [file for node in dig(data, "files", "nodes") or () if (file := File.of(node)) is not None]
        for file in files:
            if file.name is not None and file.name.startswith(picture.name):
                return file
        # One that is not processed has no name yet. Ours is the only one of its name; among others it may be anyone's.
        if len(files) != 1 or files[0].name is not None:
            return None
        self._at("processing")
        file = await self._processed(files[0])
        return file if file.status == "FAILED" or (file.name or "").startswith(picture.name) else None

    async def _created(self, picture: Placed) -> File:
        self._at("upload")
        source = await self._staged(picture)
        self._at("create")
        given = {
            "originalSource": source,
            "filename": picture.filename,
            "contentType": "IMAGE",
            "duplicateResolutionMode": "RAISE_ERROR",
            **({} if picture.alt is None else {"alt": picture.alt}),
        }
        try:
            payload = await self.admin.change(queries.CREATE, "fileCreate", files=[given])
        except UserError as error:
            if error.code != "FILENAME_ALREADY_EXISTS":
                raise
            found = await self._found(picture)
            if found is None:
                # Shopify's search lags behind what it holds.
                raise Trouble(Outcome.RETRY, "an earlier try's file is there, but can't be found yet") from None
            return found
        file = File.of(next(iter(payload.get("files") or ()), None))
        if file is None:
            raise Trouble(Outcome.RETRY, "Shopify says nothing of the file it was to make")
        return file

    async def _staged(self, picture: Placed) -> str:
        """The picture's bytes are with Shopify, under this address."""
        async with self.pictures(self.target, picture.asset) as path:
            if path is None:
                raise Impossible("the result is no longer kept")
            given = {
                "resource": "IMAGE",
                "filename": picture.filename,
                "mimeType": picture.content_type,
                "fileSize": str(picture.bytes),
                "httpMethod": "PUT",
            }
            payload = await self.admin.change(queries.STAGE, "stagedUploadsCreate", input=[given])
            place = next(iter(payload.get("stagedTargets") or ()), None)
            url, source = dig(place, "url"), dig(place, "resourceUrl")
            if not isinstance(url, str) or not isinstance(source, str):
                raise Trouble(Outcome.RETRY, "Shopify names no place to upload to")
            headers = {**_headers(dig(place, "parameters")), "Content-Type": picture.content_type}
            await self._put(url, headers, path)
            return source

    async def _put(self, url: str, headers: Mapping[str, str], path: Path) -> None:
        try:
            answer = await self.http.request(
                "PUT", url, headers=headers, body=path, deadline=UPLOAD_SECONDS, connect=CONNECT, cut=True
            )
        except OSError as error:
            raise Trouble(Outcome.RETRY, f"the picture can't be read here: {error.strerror}") from None
        self.admin.progress.status = answer.status
        if not 200 <= answer.status < 300:
            # Not shown: such an answer repeats the signature.
            raise Trouble(Outcome.RETRY, f"Shopify's storage answers {answer.status}")

    async def _processed(self, file: File) -> File:
        for wait in WAITS:
            if file.status in ("READY", "FAILED"):
                return file
            await self.sleep(wait)
            asked = await self._file(file.id)
            if asked is None:
                raise Trouble(Outcome.RETRY, "the file was deleted at the shop while it was processed")
            file = asked
        raise Trouble(Outcome.RETRY, "Shopify is still processing the picture")

    def _at(self, step: str) -> None:
        self.admin.progress.step = step


def _headers(parameters: Any) -> dict[str, str]:
    """Of a PUT the parameters are headers, under the names that are given."""
    named: Iterable[Any] = parameters if isinstance(parameters, list) else ()
    return {str(dig(entry, "name")): str(dig(entry, "value")) for entry in named}
