"""Pictures on their way to Perfect Corp: a slot for each from the API, then the bytes to where the slot says.

The bytes go to storage with exactly the method and the headers that the slot names, for its link is signed (seed 000,
"Create a new file"). A result of an earlier task needs neither: its dst_id is a file id already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handlers.vendors import reading
from handlers.vendors.contract import Account, InputFile, VendorError
from handlers.vendors.reading import Meaning
from schemas.job import ErrorClass

STORE_SECONDS = 120.0
# "Kept on the server for 30 days": a day less, for the job may wait and the clocks differ.
REUSABLE_MS = 29 * 24 * 3_600_000
_METHODS = frozenset({"PUT", "POST"})
# The client's own business: a length that is not the file's would be no request.
_FRAMING = frozenset({"content-length", "transfer-encoding", "connection"})
_REFUSED = Meaning(ErrorClass.VENDOR, "the vendor's storage refuses the upload", permanent=False, retryable=True)


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one picture's bytes go, and the id that they then have. The link is a secret."""

    file_id: str
    method: str
    url: str
    headers: Mapping[str, str]


def reusable(image: InputFile, now: int) -> str | None:
    """The id under which the vendor still holds this picture; None where it must be uploaded."""
    made = image.made_here or {}
    made_at, dst_id = made.get("made_at"), reading.identifier(made.get("dst_id"))
    # Who doesn't know how old it is uploads it.
    if not isinstance(made_at, int) or not 0 <= now - made_at < REUSABLE_MS:
        return None
    return dst_id


def names(types: Sequence[str]) -> list[str]:
    """A file's name for each: its own, so that slots can be told apart, and nothing of the user's."""
    return [f"picture-{number}.{content_type.rpartition('/')[2]}" for number, content_type in enumerate(types, 1)]


def slots(payload: Mapping[str, Any], wanted: Sequence[str]) -> list[Slot]:
    """A slot for each of the wanted names, in their order. Raises VendorError where one is missing."""
    listed = reading.section(payload, "result").get("files")
    files = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    by_name = {entry.get("file_name"): entry for entry in files if isinstance(entry.get("file_name"), str)}
    if set(wanted) <= set(by_name):
        files = [by_name[name] for name in wanted]
    found = [_slot(entry) for entry in files]
    if len(found) != len(wanted) or None in found:
        raise reading.unreadable("the answer to the file call has no slot for each picture")
    return [slot for slot in found if slot is not None]


def _slot(entry: Mapping[str, Any]) -> Slot | None:
    request = entry.get("requests")
    request = request[0] if isinstance(request, list) and request else request
    if not isinstance(request, dict):
        return None
    file_id, url = reading.identifier(entry.get("file_id")), reading.link(request.get("url"))
    method = (reading.identifier(request.get("method")) or "PUT").upper()
    if file_id is None or url is None or method not in _METHODS:
        return None
    return Slot(file_id, method, url, _headers(request.get("headers")))


def _headers(value: Any) -> dict[str, str]:
    """An object, or a list of objects with key (or name) and value; values may be numbers."""
    pairs: list[tuple[Any, Any]] = list(value.items()) if isinstance(value, dict) else []
    if isinstance(value, list):
        pairs = [
            (entry.get("key", entry.get("name")), entry.get("value")) for entry in value if isinstance(entry, dict)
        ]
    return {
        name: text
        for name, given in pairs
        if isinstance(name, str) and name.lower() not in _FRAMING and (text := _header(given)) is not None
    }


def _header(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return value if isinstance(value, str) else reading.identifier(value) or str(value)


async def store(account: Account, slot: Slot, image: InputFile) -> None:
    """Storage is not the API: no turn, no token, and an address that is the vendor's word. Raises VendorError."""
    with reading.told_apart():
        answer = await account.public_http.request(
            slot.method, slot.url, headers=slot.headers, body=image.path, deadline=STORE_SECONDS, cut=True
        )
    if not reading.fine(answer.status):
        # Its words may repeat the signed link.
        raise reading.refused(_REFUSED, f"upload_{answer.status}", "", answer.headers)


async def store_all(account: Account, slots: Sequence[Slot], images: Sequence[InputFile]) -> None:
    """One after the other. Raises VendorError."""
    for slot, image in zip(slots, images, strict=True):
        await store(account, slot, image)


def checked(images: Mapping[str, InputFile]) -> None:
    """What no single input's limits can say. Raises VendorError."""
    image, mask = images.get("image"), images.get("mask")
    if image is None or mask is None or (image.width, image.height) == (mask.width, mask.height):
        return
    sizes = f"the mask is {mask.width}×{mask.height}, the picture {image.width}×{image.height}: they must be the same"
    raise VendorError(sizes, ErrorClass.INPUT, "mask_size", permanent=True)
