"""Perfect Corp's stand-in has the document's twelve operations, each with its own fields (seed 000)."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageStat

from handlers.sandbox.perfectcorp_features import FEATURES
from tests.vendors.perfectcorp_by_hand import ALL, AT_ONCE, STYLED, Client, code, encoded, running, small_photo

pytestmark = pytest.mark.anyio

JPG_PNG = ["image/jpg", "image/jpeg", "image/png"]
EXTENSIONS = {
    "obj-removal": ("jpg", "webp"),
    "colorize": ("jpg", "webp"),
    "enhance": ("jpg", "webp"),
    "sod": ("png", "webp"),
}


@pytest.fixture
def photo(photos: Path) -> bytes:
    return small_photo(photos)


async def picture(client: Client, slug: str, *file_ids: str, **params: Any) -> Image.Image:
    said = await client.finished(slug, *file_ids, **params)
    assert said["status"] == "success", said
    return await client.image(said["results"][0]["data"][0]["url"])


def test_the_table_has_the_documents_twelve_operations() -> None:
    assert sorted(FEATURES) == sorted(ALL)


@pytest.mark.parametrize("slug", [slug for slug in ALL if slug != "text-to-image"])
async def test_an_operation_gives_another_picture_than_it_was_given_and_marks_it(slug: str, photo: bytes) -> None:
    async with running(photo) as client:
        said = await client.finished(slug)
        assert said.keys() == {"polling_interval", "status", "results"}
        (result,) = said["results"]
        assert result["id"] == 0
        first = result["data"][0]
        assert first.keys() - {"res_age"} == {"dst_id", "url"}
        image = await client.image(first["url"])
        assert image.tobytes() != Image.open(io.BytesIO(photo)).tobytes()
        assert b"Wirephoto sandbox" in (await client.link(first["url"]))[1]
        assert client.sandbox.violations == []
        assert len(client.sandbox.charged) == 1


@pytest.mark.parametrize("slug", [slug for slug in ALL if slug != "text-to-image"])
async def test_output_ext_is_the_documents_enum_and_is_respected(slug: str, photo: bytes) -> None:
    formats = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
    async with running(photo) as client:
        # An upload serves any number of tasks of its operation.
        body = await client.body(slug)
        ids = [ids[0] for ids in body["payload"]["file_sets"].values()]
        allowed = EXTENSIONS.get(slug, ("jpg",))
        for extension in allowed:
            assert (await picture(client, slug, *ids, output_ext=extension)).format == formats[extension]
        assert (await picture(client, slug, *ids)).format == formats[allowed[0]]
        assert client.sandbox.violations == []
        for extension in {"jpg", "png", "webp", "heic", "JPG"} - set(allowed):
            wrong = await client.body(slug, *ids, output_ext=extension)
            assert code(await client.run(slug, wrong)) == (400, "invalid_parameter")


@pytest.mark.parametrize("slug", ALL)
async def test_content_types_are_the_operations_own_enum(slug: str, photo: bytes) -> None:
    async with running(photo) as client:
        more = ["image/tiff", "image/gif"]
        for kind in [*JPG_PNG, *more, "image/heic", "image/webp", "JPG"]:
            files = {"files": [{"content_type": kind, "file_name": "a.jpg"}]}
            status, _ = await client.call("POST", f"/file/{slug}", json=files)
            if slug == "text-to-image":
                # It has no input, and so no file call.
                assert status == 404
            else:
                assert status == (200 if kind in JPG_PNG or (kind in more and slug == "mu-trans-rec") else 400)


async def test_makeup_reads_tiff_and_gif(photo: bytes) -> None:
    async with running(photo) as client:
        with Image.open(io.BytesIO(photo)) as image:
            source = await client.upload("mu-trans-rec", encoded(image, "TIFF"), "image/tiff")
            reference = await client.upload("mu-trans-rec", encoded(image, "GIF"), "image/gif")
        said = await client.finished("mu-trans-rec", source, reference)
        assert isinstance(said["results"][0]["recommendation"], dict)
        assert (await client.image(said["results"][0]["data"][0]["url"])).size == (128, 128)
        assert client.sandbox.violations == []


@pytest.mark.parametrize("scale", [1, 2, 4])
async def test_enhance_scales(photo: bytes, scale: int) -> None:
    async with running(photo) as client:
        assert (await picture(client, "enhance", scale=scale)).size == (128 * scale, 128 * scale)


async def test_background_removal_leaves_the_ground_transparent(photo: bytes) -> None:
    async with running(photo) as client:
        for extension in ("png", "webp"):
            image = await picture(client, "sod", output_ext=extension)
            assert image.mode == "RGBA"
            assert image.getchannel("A").getextrema() == (0, 255)


async def test_object_removal_changes_what_the_mask_has_white_and_nothing_else(photo: bytes) -> None:
    async with running(photo) as client:
        image, before = await picture(client, "obj-removal", output_ext="webp"), Image.open(io.BytesIO(photo))
        inside, outside = (12, 12, 36, 36), (64, 64, 128, 128)

        def means(of: Image.Image, box: tuple[int, int, int, int]) -> list[float]:
            return list(ImageStat.Stat(of.convert("RGB").crop(box)).mean)

        assert max(abs(a - b) for a, b in zip(means(image, inside), means(before, inside), strict=True)) > 15
        assert max(abs(a - b) for a, b in zip(means(image, outside), means(before, outside), strict=True)) < 3


async def test_a_mask_of_another_size_or_with_colours_is_refused_by_the_engine(photo: bytes) -> None:
    wrong = [Image.new("L", (127, 128), 255), Image.new("RGB", (128, 128), (255, 0, 0))]
    async with running(photo) as client:
        for mask in wrong:
            ids = (
                await client.upload("obj-removal"),
                await client.upload("obj-removal", encoded(mask, "PNG"), "image/png"),
            )
            assert (await client.finished("obj-removal", *ids))["error"] == "invalid_parameter"
        broken = await client.upload("obj-removal", client.mask()[0][:60], "image/png")
        said = await client.finished("obj-removal", await client.upload("obj-removal"), broken)
        assert said["error"] == "error_decode_mask"
        assert client.sandbox.charged == []


async def test_aging_gives_a_row_of_pictures_in_order_with_the_uploaded_one_among_them(photo: bytes) -> None:
    async with running(photo) as client:
        (result,) = (await client.finished("aging"))["results"]
        ages = [entry["res_age"] for entry in result["data"]]
        assert ages == sorted(ages)
        assert len(ages) > 2
        about = result["custom_info"]
        assert about.keys() == {"age", "age_idx", "age_min", "age_max", "num_of_photos"}
        assert (about["age_min"], about["age_max"], about["num_of_photos"]) == (ages[0], ages[-1], len(ages))
        # "The 'res_age' of the uploaded file may not align with this 'age' value."
        assert ages[about["age_idx"]] != about["age"]
        pictures = [await client.image(entry["url"]) for entry in result["data"]]
        assert len({image.tobytes() for image in pictures}) == len(ages)
        own = ImageStat.Stat(pictures[about["age_idx"]]).mean
        given = ImageStat.Stat(Image.open(io.BytesIO(photo))).mean
        assert max(abs(a - b) for a, b in zip(own, given, strict=True)) < 2
        assert len({entry["dst_id"] for entry in result["data"]}) == len(ages)
        assert len(client.sandbox.charged) == 1


async def test_a_picture_is_drawn_from_words_and_style_alone(photo: bytes) -> None:
    async with running(photo) as client:
        first = await picture(client, "text-to-image")
        same = await picture(client, "text-to-image")
        other = await picture(client, "text-to-image", prompt="A tree, unlike the lighthouse: ☂")
        assert (first.size, first.format) == ((1024, 1024), "JPEG")
        assert first.tobytes() == same.tobytes() != other.tobytes()
        assert client.sandbox.violations == []


async def test_another_style_gives_another_picture(photo: bytes) -> None:
    async with running(photo) as client:
        style = await client.style("wig")
        query = f"/task/style/wig?style_group_id={style['style_group_id']}"
        _, styles = await client.call("GET", query)
        pictures = {
            (await picture(client, "wig", style_ids=[entry["id"]])).tobytes()
            for entry in styles["result"]["styles"][:2]
        }
        assert len(pictures) == 2


# What is wrong with a run; `None` as a value takes the field away.
WRONG_RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "no request_id": ("enhance", {"request_id": None}),
    "request_id a string": ("enhance", {"request_id": "1"}),
    "request_id below 0": ("enhance", {"request_id": -1}),
    "request_id true": ("enhance", {"request_id": True}),
    "request_id a float": ("enhance", {"request_id": 1.0}),
    "request_id null where it is optional": ("hair-ext", {"request_id": ...}),
    "an unknown field": ("enhance", {"surprise": 1}),
    "no payload": ("enhance", {"payload": None}),
    "payload a string": ("enhance", {"payload": "{}"}),
    "an unknown field in payload": ("enhance", {"payload.webhook": "https://x.example"}),
    "no file_sets": ("enhance", {"payload.file_sets": None}),
    "file_sets where there are none": ("text-to-image", {"payload.file_sets": {"src_ids": ["x"]}}),
    "another file_set": ("enhance", {"payload.file_sets.ref_ids": ["x"]}),
    "no mask": ("obj-removal", {"payload.file_sets.mask_ids": None}),
    "no reference": ("mu-trans-rec", {"payload.file_sets.ref_ids": None}),
    "no file": ("enhance", {"payload.file_sets.src_ids": []}),
    "two files": ("enhance", {"payload.file_sets.src_ids": ["x", "y"]}),
    "a file that is a number": ("enhance", {"payload.file_sets.src_ids": [7]}),
    "a file that is no list": ("enhance", {"payload.file_sets.src_ids": "x"}),
    "no actions": ("enhance", {"payload.actions": None}),
    "two actions": ("enhance", {"payload.actions": [{"id": 0, "params": {"scale": 2}}] * 2}),
    "an action's id from 1": ("enhance", {"payload.actions.0.id": 1}),
    "an action's id a string": ("enhance", {"payload.actions.0.id": "0"}),
    "no params": ("enhance", {"payload.actions.0.params": None}),
    "params where there are none": ("sod", {"payload.actions.0.params": {}}),
    "an unknown param": ("enhance", {"payload.actions.0.params.face": True}),
    "scale 3": ("enhance", {"payload.actions.0.params.scale": 3}),
    "scale a string": ("enhance", {"payload.actions.0.params.scale": "2"}),
    "style ids as strings": ("wig", {"payload.actions.0.params.style_ids": ["13045969587275115"]}),
    "style ids through a float": ("wig", {"payload.actions.0.params.style_ids": [1.3045969587275114e16]}),
    "two styles": ("wig", {"payload.actions.0.params.style_ids": [1, 2]}),
    "group id a string": ("wig", {"payload.actions.0.params.style_group_id": "13045969587275115"}),
    "no prompt": ("text-to-image", {"payload.actions.0.params.prompt": None}),
    "an empty prompt": ("text-to-image", {"payload.actions.0.params.prompt": " "}),
}


def changed(body: Any, path: str, value: Any) -> None:
    *way, last = path.split(".")
    for name in way:
        body = body[int(name)] if name.isdecimal() else body[name]
    if value is None:
        del body[last]
    else:
        body[last] = None if value is ... else value


@pytest.mark.parametrize("what", WRONG_RUNS)
async def test_a_run_against_the_document_is_400_and_noted_and_makes_no_task(what: str, photo: bytes) -> None:
    slug, changes = WRONG_RUNS[what]
    async with running(photo) as client:
        body = await client.body(slug)
        for path, value in changes.items():
            changed(body, path, value)
        assert code(await client.run(slug, body)) == (400, "invalid_parameter")
        assert len(client.sandbox.violations) == 1
        assert client.sandbox.tasks == {}


@pytest.mark.parametrize("slug", ["hair-ext", "hair-bang", "hair-vol"])
async def test_a_request_id_may_be_missing_where_the_document_forgot_to_require_it(slug: str, photo: bytes) -> None:
    async with running(photo) as client:
        body = await client.body(slug)
        del body["request_id"]
        first, second = await client.run(slug, body), await client.run(slug, body)
        assert first[0] == second[0] == 200
        assert len(client.sandbox.tasks) == 2
        assert client.sandbox.violations == []


async def test_a_style_must_be_one_of_its_group_and_of_its_operation(photo: bytes) -> None:
    async with running(photo) as client:
        own, others = await client.style("wig"), await client.style("hair-style")
        for params in ({"style_ids": others["style_ids"]}, {"style_group_id": others["style_group_id"]}, others):
            body = await client.body("wig", **{**own, **params})
            assert code(await client.run("wig", body)) == (400, "InvalidStyleId")
        assert len(client.sandbox.violations) == 3


@pytest.mark.parametrize("slug", STYLED)
async def test_groups_and_styles_come_in_pages_with_ids_beyond_what_a_float_holds(slug: str, photo: bytes) -> None:
    async with running(photo) as client:
        groups = await pages(client, f"/task/style-group/{slug}?page_size=2", "groups")
        assert all(group.keys() == {"id", "info"} and group["info"].keys() == {"title"} for group in groups)
        styles = []
        for group in groups:
            query = f"/task/style/{slug}?page_size=7&style_group_id={group['id']}"
            styles += await pages(client, query, "styles")
        assert all(style["info"].keys() == {"title", "thumb"} for style in styles)
        assert (await client.image(styles[0]["info"]["thumb"])).format == "JPEG"
        ids = [entry["id"] for entry in (*groups, *styles)]
        assert len(set(ids)) == len(ids)
        assert all(type(number) is int and number > 2**53 and int(float(number)) != number for number in ids)
        # Without a group: all styles, in the same order.
        assert await pages(client, f"/task/style/{slug}?page_size=20", "styles") == styles
        assert client.sandbox.violations == []


async def pages(client: Client, query: str, name: str) -> list[dict[str, Any]]:
    """All pages of a list, and that only the last one has no token."""
    found, token = [], None
    while True:
        status, answer = await client.call("GET", query + (f"&starting_token={token}" if token else ""))
        assert status == 200, answer
        result = answer["result"]
        found += result[name]
        if (token := result.get("next_token")) is None:
            return found
        assert isinstance(token, str)


@pytest.mark.parametrize(
    "query", ["page_size=0", "page_size=21", "page_size=x", "starting_token=1", "limit=3", "page_size=1&page_size=2"]
)
async def test_a_page_against_the_document_is_400_and_noted(query: str, photo: bytes) -> None:
    async with running(photo) as client:
        for kind in ("style-group", "style"):
            assert code(await client.call("GET", f"/task/{kind}/wig?{query}")) == (400, "invalid_parameter")
        assert len(client.sandbox.violations) == 2


async def test_the_first_page_may_be_asked_for_by_null_and_the_last_may_say_null(photo: bytes) -> None:
    async with running(photo, replace(AT_ONCE, last_page="null")) as client:
        _, answer = await client.call("GET", "/task/style-group/wig?starting_token=null")
        assert answer["result"]["next_token"] is None
        assert len(answer["result"]["groups"]) > 1


@pytest.mark.parametrize("slug", [slug for slug in ALL if slug not in STYLED])
async def test_only_styled_operations_have_style_calls(slug: str, photo: bytes) -> None:
    async with running(photo) as client:
        for kind in ("style-group", "style"):
            assert code(await client.call("GET", f"/task/{kind}/{slug}")) == (404, "NotFound")
        assert len(client.sandbox.violations) == 2
