"""PF-02, PF-10: pictures go up with exactly the headers that a slot names; what the vendor made does not go up."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from handlers.vendors import perfectcorp_files as files
from handlers.vendors.contract import InputFile, InputLink, VendorError, Work
from handlers.vendors.perfectcorp import PerfectCorp
from handlers.vendors.perfectcorp_auth import MEMORY, Token
from schemas.job import ErrorClass
from tests.vendors import clients
from tests.vendors.clients import Client, error_of, work

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000_000
DAY = 24 * 3_600_000
_OWN = {"host", "user-agent", "accept", "accept-encoding", "content-length"}


@dataclass
class Storage:
    """The API's file call and the storage behind it. `headers` are what a slot names."""

    headers: Any = None
    url: str = ""
    change: dict[str, Any] = field(default_factory=dict)
    shuffled: bool = False
    status: int = 200
    wanted: list[Any] = field(default_factory=list)
    stored: dict[str, tuple[str, dict[str, str], bytes]] = field(default_factory=dict)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if not request.path.startswith("/file/"):
            told = {name: value for name, value in request.headers.items() if name.lower() not in _OWN}
            assert "Transfer-Encoding" not in request.headers
            self.stored[request.raw_path] = (request.method, told, await request.read())
            return web.Response(status=self.status, text="<Error>signed</Error>")
        self.wanted.append((request.path, await request.json()))
        made = [self._slot(entry) for entry in self.wanted[-1][1]["files"]]
        if self.shuffled:
            made.reverse()
        return web.json_response({"status": 200, "result": {"files": made}})

    def _slot(self, entry: dict[str, str]) -> dict[str, Any]:
        url = f"{self.url}/bucket/{entry['file_name']}?sig=a%2Fb+c%3D"
        slot = {"method": "PUT", "url": url, "headers": self.headers} | self.change
        return {**entry, "file_id": f"id of {entry['file_name']}", "requests": [slot]}


@asynccontextmanager
async def _stored(**given: Any) -> AsyncIterator[tuple[Client, Storage]]:
    storage = Storage(**given)
    async with (
        clients.serving(storage.handle) as url,
        clients.client(PerfectCorp(), url, now=lambda: NOW) as client,
    ):
        storage.url = url
        await client.account.memory.keep(MEMORY, Token("a-token-of-some-length", NOW + DAY).as_text())
        yield client, storage


@pytest.fixture
def image(photos: Path, tmp_path: Path) -> InputFile:
    return clients.picture(photos, "astronaut.jpg", tmp_path)


def _two(vendor: Any, image: InputFile, mask: InputFile | None = None) -> Work:
    job = work(vendor, "obj-removal", image)
    return replace(job, inputs={"image": image, "mask": mask or image})


# -- slots and uploads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ({"Content-Type": "image/jpg", "x-amz-meta-n": 18213963761051864}, ["image/jpg", "18213963761051864"]),
        (
            [{"key": "Content-Type", "value": "image/jpeg"}, {"key": "x-amz-meta-n", "value": 7}],
            ["image/jpeg", "7"],
        ),
        ([{"name": "x-amz-meta-n", "value": 1.5}, {"name": "content-type", "value": "a/b"}], ["a/b", "1.5"]),
        (None, [None, None]),
        ({"Content-Type": None, "x-amz-meta-n": True}, [None, None]),
        ("nonsense", [None, None]),
    ],
)
async def test_the_bytes_go_up_with_exactly_the_headers_that_the_slot_names(
    headers: Any, sent: list[str | None], image: InputFile
) -> None:
    async with _stored(headers=headers) as (client, storage):
        prepared = await client.vendor.prepare(client.account, work(client.vendor, "colorize", image))
        ((path, (method, told, body)),) = storage.stored.items()
        assert path == "/bucket/picture-1.jpeg?sig=a%2Fb+c%3D"
        assert (method, body) == ("PUT", image.path.read_bytes())
        names = {"content-type": sent[0], "x-amz-meta-n": sent[1]}
        assert {name.lower(): value for name, value in told.items()} == {
            name: value for name, value in names.items() if value is not None
        }
        assert prepared.data["payload"]["file_sets"] == {"src_ids": ["id of picture-1.jpeg"]}
        assert client.turns.taken == ["upload"], "storage is not counted"


async def test_the_length_is_the_files_own_whatever_the_slot_says(image: InputFile) -> None:
    async with _stored(headers={"Content-Length": 5, "Transfer-Encoding": "chunked"}) as (client, storage):
        await client.vendor.prepare(client.account, work(client.vendor, "colorize", image))
        assert next(iter(storage.stored.values()))[2] == image.path.read_bytes()


@pytest.mark.parametrize("shuffled", [False, True])
async def test_one_call_opens_the_slots_of_all_pictures(shuffled: bool, image: InputFile, tmp_path: Path) -> None:
    (tmp_path / "picture-2.png").write_bytes(b"mask")
    mask = replace(image, path=tmp_path / "picture-2.png", content_type="image/png")
    async with _stored(shuffled=shuffled) as (client, storage):
        prepared = await client.vendor.prepare(client.account, _two(client.vendor, image, mask))
        wanted = [
            {"content_type": "image/jpeg", "file_name": "picture-1.jpeg"},
            {"content_type": "image/png", "file_name": "picture-2.png"},
        ]
        assert storage.wanted == [("/file/obj-removal", {"files": wanted})]
        assert prepared.data["payload"]["file_sets"] == {
            "src_ids": ["id of picture-1.jpeg"],
            "mask_ids": ["id of picture-2.png"],
        }
        assert storage.stored["/bucket/picture-2.png?sig=a%2Fb+c%3D"][2] == b"mask"
        assert client.turns.taken == ["upload"]


@pytest.mark.parametrize(
    "change", [{"url": "ftp://x/y"}, {"url": None}, {"method": "DELETE"}, {"method": "GET"}, {"method": "P\r\nX"}]
)
async def test_a_slot_that_cannot_be_used_is_no_slot(change: dict[str, Any], image: InputFile) -> None:
    async with _stored(change=change) as (client, storage):
        error = await error_of(client.vendor.prepare(client.account, work(client.vendor, "sod", image)))
        assert (error.code, error.permanent, storage.stored) == ("unreadable", False, {})


@pytest.mark.parametrize("status", [400, 403, 307, 500, 503])
async def test_a_refused_upload_can_be_tried_again_and_its_link_is_not_told(status: int, image: InputFile) -> None:
    async with _stored(status=status) as (client, storage):
        error = await error_of(client.vendor.prepare(client.account, work(client.vendor, "sod", image)))
        assert (error.error_class, error.code, error.permanent) == (ErrorClass.VENDOR, f"upload_{status}", False)
        assert "sig" not in f"{error}"
        assert len(storage.stored) == 1


async def test_a_header_that_would_become_two_is_not_sent(image: InputFile) -> None:
    async with _stored(headers={"X-A": "1\r\nX-B: 2"}) as (client, storage):
        error = await error_of(client.vendor.prepare(client.account, work(client.vendor, "sod", image)))
        assert (error.error_class, storage.stored) == (ErrorClass.VENDOR, {})


@pytest.mark.parametrize(
    "payload",
    [{}, {"result": None}, {"result": {"files": {}}}, {"result": {"files": [1]}}, {"result": {"files": [{}]}}],
)
def test_an_answer_without_slots_is_unreadable(payload: dict[str, Any]) -> None:
    with pytest.raises(VendorError, match="no slot"):
        files.slots(payload, ["picture-1.jpeg"])


# -- what is not taken -------------------------------------------------------------------------------------------------


async def test_a_mask_of_another_size_is_refused_before_anything_is_sent(image: InputFile) -> None:
    async with _stored() as (client, storage):
        job = _two(client.vendor, image, replace(image, width=image.width + 1))
        error = await error_of(client.vendor.prepare(client.account, job))
        assert (error.error_class, error.code, error.permanent) == (ErrorClass.INPUT, "mask_size", True)
        assert storage.wanted == []


@pytest.mark.parametrize("given", [None, InputLink("https://cdn.example/1.jpg")])
async def test_a_link_is_no_file_and_nothing_is_none(given: InputLink | None) -> None:
    async with _stored() as (client, _):
        error = await error_of(client.vendor.prepare(client.account, work(client.vendor, "sod", given)))
        assert (error.error_class, error.permanent) == (ErrorClass.INPUT, True)


async def test_a_declared_operation_is_not_called() -> None:
    async with _stored() as (client, _):
        error = await error_of(client.vendor.prepare(client.account, work(client.vendor, "lighting", None)))
        assert (error.code, error.permanent, client.turns.taken) == ("declared", True, [])


# -- what the vendor has already ---------------------------------------------------------------------------------------


def _made(image: InputFile, age: int, dst_id: Any = "dst+1/=") -> InputFile:
    return replace(image, made_here={"url": "https://cdn.example/x", "dst_id": dst_id, "made_at": NOW - age})


async def test_a_picture_that_the_vendor_made_is_not_uploaded_again(image: InputFile) -> None:
    async with _stored() as (client, storage):
        prepared = await client.vendor.prepare(
            client.account, work(client.vendor, "enhance", _made(image, DAY), scale=2)
        )
        assert prepared.data["payload"]["file_sets"] == {"src_ids": ["dst+1/="]}
        assert prepared.data["reused"] is True
        assert (storage.wanted, client.turns.taken) == ([], [])


@pytest.mark.parametrize(
    "made_here",
    [
        {"dst_id": "d", "made_at": NOW - 29 * DAY},
        {"dst_id": "d", "made_at": NOW + DAY},
        {"dst_id": "d", "made_at": "yesterday"},
        {"dst_id": "d"},
        {"dst_id": None, "made_at": NOW - DAY},
        {"made_at": NOW - DAY},
    ],
)
async def test_what_may_be_gone_or_has_no_id_is_uploaded(made_here: dict[str, Any], image: InputFile) -> None:
    async with _stored() as (client, storage):
        old = replace(image, made_here=made_here)
        prepared = await client.vendor.prepare(client.account, work(client.vendor, "enhance", old, scale=2))
        assert (len(storage.stored), prepared.data["reused"]) == (1, False)


async def test_of_two_pictures_only_the_one_that_the_vendor_lacks_goes_up(image: InputFile) -> None:
    async with _stored() as (client, storage):
        prepared = await client.vendor.prepare(client.account, _two(client.vendor, _made(image, DAY), image))
        assert prepared.data["payload"]["file_sets"] == {"src_ids": ["dst+1/="], "mask_ids": ["id of picture-1.jpeg"]}
        assert [entry["file_name"] for entry in storage.wanted[0][1]["files"]] == ["picture-1.jpeg"]
