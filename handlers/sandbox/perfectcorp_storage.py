"""Perfect Corp's storage: upload slots, uploaded files, results, and the signed links that lead to them.

At the vendor this is another server (an S3 in all clients that were seen), which knows nothing of tokens and limits and
answers its own XML. Here it has its own paths.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from aiohttp import web

from handlers.sandbox.requests import Asked
from handlers.sandbox.server import RefusedError

UPLOADS, RESULTS, THUMBS = "/storage/uploads", "/storage/results", "/storage/thumbs"
SIGNATURE = "X-Signature"
_EXPIRES = "X-Expires"

HeaderForm = Literal["object", "key", "name"]


@dataclass(eq=False)
class StoredFile:
    """An upload (or the slot for one), or a result. Times are seconds of the vendor's clock.

    `feature` is where an upload belongs; None for a result, which every operation takes. `size` is known where the
    client has told it.
    """

    id: str
    key: str
    feature: str | None
    content_type: str
    name: str
    place: int = 0
    size: int | None = None
    data: bytes | None = None
    until: float = 0.0

    def headers(self) -> Mapping[str, str | int]:
        """What an upload must be sent with, as the slot says it: two of three values are numbers."""
        length = {} if self.size is None else {"Content-Length": self.size}
        return {"Content-Type": self.content_type, **length, "x-amz-meta-place": self.place}


def refused(status: int, code: str, breach: str) -> RefusedError:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>'
    return RefusedError(web.Response(status=status, text=text, content_type="application/xml"), breach)


class Storage:
    """All files by their id; `new_id` gives hex digits, `clock` the vendor's time."""

    def __init__(self, new_id: Callable[[], str], clock: Callable[[], float]) -> None:
        self.files: dict[str, StoredFile] = {}
        self._by_key: dict[str, StoredFile] = {}
        self._new_id = new_id
        self._clock = clock
        self._secret = new_id()

    def opaque_id(self) -> str:
        """64 letters of base64 with a plus, a slash and an equals sign among them, as the vendor's ids have them."""
        while True:
            letters = base64.b64encode(hashlib.sha512(self._new_id().encode()).digest()[:47]).decode()
            if {"+", "/"} <= set(letters):
                return letters

    def add(
        self, feature: str | None, content_type: str, name: str, place: int = 0, size: int | None = None
    ) -> StoredFile:
        file = StoredFile(self.opaque_id(), self._new_id(), feature, content_type, name, place, size)
        self.files[file.id] = self._by_key[file.key] = file
        return file

    def live(self, file_id: str) -> StoredFile | None:
        """The file, if it has its bytes and they are still kept."""
        file = self.files.get(file_id)
        return file if file is not None and file.data is not None and self._clock() <= file.until else None

    def link(self, origin: str, folder: str, file: StoredFile, seconds: float) -> str:
        """A signed URL that lives `seconds`."""
        path, expires = _path(folder, file), str(int(self._clock() + seconds))
        query = urlencode({_EXPIRES: expires, SIGNATURE: self._signed(path, expires)})
        return f"{origin}{path}?{query}"

    def slot(self, origin: str, file: StoredFile, seconds: float, form: HeaderForm) -> dict[str, object]:
        """One of a slot's `requests`."""
        headers = file.headers()
        told: object = headers if form == "object" else [{form: name, "value": headers[name]} for name in headers]
        return {"headers": told, "url": self.link(origin, UPLOADS, file, seconds), "method": "PUT"}

    def receive(self, asked: Asked, kept_seconds: float) -> StoredFile:
        """An upload, exactly as its slot says. Raises RefusedError."""
        file = self._linked(asked, UPLOADS)
        given = asked.request.headers
        if file.data is not None:
            raise refused(403, "AccessDenied", "a second upload into one slot")
        if "Transfer-Encoding" in given or "Content-Length" not in given:
            raise refused(403, "NotImplemented", "an upload without Content-Length")
        for name, value in file.headers().items():
            # A length is what arrived: a header that says otherwise never gets this far.
            if given.get(name) != str(value):
                raise refused(403, "SignatureDoesNotMatch", f"{name} is not as the slot says")
        file.data, file.until = asked.body, self._clock() + kept_seconds
        return file

    def result(self, asked: Asked) -> StoredFile:
        """What a link leads to. Raises RefusedError."""
        file = self._linked(asked, RESULTS)
        if file.data is None or self._clock() > file.until:
            raise refused(404, "NoSuchKey", "a result was fetched after its thirty days")
        return file

    def _linked(self, asked: Asked, folder: str) -> StoredFile:
        if "Authorization" in asked.request.headers:
            # Storage has no business with the token, and takes one kind of credential only.
            raise refused(400, "InvalidArgument", "the access token was sent to storage")
        file, expires = self._by_key.get(asked.request.match_info["key"]), asked.fields.get(_EXPIRES, "")
        signed = {_EXPIRES: expires, SIGNATURE: self._signed(_path(folder, file), expires)} if file else {}
        if file is None or asked.fields != signed or asked.request.path != _path(folder, file):
            raise refused(403, "SignatureDoesNotMatch", "a link that nobody gave, or not as it was given")
        if self._clock() > int(expires):
            raise refused(403, "AccessDenied", "a link was used after its end")
        return file

    def _signed(self, path: str, expires: str) -> str:
        return base64.b64encode(hashlib.sha256(f"{self._secret} {path} {expires}".encode()).digest()).decode()


def _path(folder: str, file: StoredFile) -> str:
    return f"{folder}/{file.key}.{file.content_type.removeprefix('image/')}"
