"""Every operation of every vendor runs once with a real photograph: a new row of a table is tested by itself."""

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import SecretStr

from handlers.sandbox.ailabtools import AILabToolsSandbox
from handlers.sandbox.ailabtools import AILabToolsSettings as AILabToolsPlay
from handlers.sandbox.perfectcorp import PerfectCorpSandbox
from handlers.sandbox.perfectcorp_words import PerfectCorpSettings as PerfectCorpPlay
from handlers.sandbox.server import Sandbox
from schemas.catalogue import Operation
from service.accounts import KNOWN
from service.vendor_settings import AILabToolsSettings
from tests.acceptance.helpers import done, fast_stand, only_end, pictures
from tests.acceptance.made import NOBODY_THERE, leaving_nothing, noise, picture, upload
from tests.fast_clock import FastClock
from tests.harness import Stand

pytestmark = pytest.mark.anyio

CATALOGUE = [operation for known in KNOWN for operation in known.make(known.pace).operations.values()]
DECLARED = [operation for operation in CATALOGUE if operation.declared]
CALLABLE = [operation for operation in CATALOGUE if not operation.declared]
VENDORS = list(dict.fromkeys(operation.vendor for operation in CATALOGUE))
# Larger than every operation's smallest side, and quick.
SIZE = (240, 180)
# For operations that do nothing without being told what, where their schema can't say it.
PARAMS: Mapping[str, Mapping[str, Any]] = {
    "vanceai/workflow": {
        "steps": [
            {"operation": "sharpen3", "params": {"blur_type": 1}},
            {"operation": "codeformer", "out_params": {"compress": {"quality": 80}, "format": "jpg"}},
        ]
    },
}
WORDS = "a red bicycle"


@dataclass(frozen=True)
class Scene:
    """A service with all vendors."""

    it: Stand
    vendors: Mapping[str, Sandbox[Any, Any]]

    def asked(self) -> int:
        return sum(len(vendor.requests) for vendor in self.vendors.values())

    def kept(self) -> None:
        """No vendor had anything to find fault with."""
        assert {name: vendor.violations for name, vendor in self.vendors.items() if vendor.violations} == {}


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    clock = FastClock(20)
    time: Mapping[str, Any] = {"clock": clock.seconds, "monotonic": clock.seconds}
    # Its keep-alive has tests of its own; at this speed it would be half a second, in a process that paints pictures.
    patient = PerfectCorpPlay(work_seconds=0, keep_alive_seconds=600)
    async with (
        PerfectCorpSandbox(patient, sleep=clock.sleep, **time) as perfectcorp,
        AILabToolsSandbox(AILabToolsPlay(work_seconds=0, poll_seconds=0), **time) as ailabtools,
    ):
        own = AILabToolsSettings(
            base_url=ailabtools.base_url, api_key=SecretStr(ailabtools.key), poll_seconds=1, call_seconds=60
        )
        async with fast_stand(folder, clock, perfectcorp=perfectcorp, ailabtools=own) as it:
            yield Scene(
                it,
                {
                    "vanceai": it.vanceai,
                    "perfectcorp": perfectcorp,
                    "ailabtools": ailabtools,
                    "picwish": it.picwish,
                },
            )


def _mask() -> bytes:
    """Grey; what is white in it is meant."""
    mask = Image.new("L", SIZE)
    mask.paste(255, (60, 40, 120, 90))
    held = io.BytesIO()
    mask.save(held, "PNG")
    return held.getvalue()


@pytest.fixture
def photo(photos: Path, tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    with Image.open(photos / "astronaut.jpg") as image:
        image.resize(SIZE).save(path, quality=92)
    return path


async def _inputs(it: Stand, photo: Path) -> dict[str, dict[str, str]]:
    """An asset for every name of a needed input."""
    names = {spec.name for operation in CALLABLE for spec in operation.inputs if spec.required}
    given = {name: _mask() if name == "mask" else photo.read_bytes() for name in sorted(names)}
    return {name: {"asset": (await upload(it, data))["id"]} for name, data in given.items()}


def _needed(operation: Operation, given: Mapping[str, Any]) -> dict[str, Any]:
    return {spec.name: given[spec.name] for spec in operation.inputs if spec.required}


def _params(operation: Operation, style: Mapping[str, Any]) -> dict[str, Any]:
    """What the operation can't do without: as PARAMS says, the style, or any value that its schema has."""
    needed = {name: operation.params["properties"][name] for name in operation.params["required"]}
    plain = {name: schema["enum"][0] if "enum" in schema else WORDS for name, schema in needed.items()}
    return {**plain, **{name: style[name] for name in needed.keys() & style}, **PARAMS.get(operation.id, {})}


async def _style(it: Stand, operation: Operation) -> Mapping[str, Any]:
    """One that the vendor has for it."""
    if "style_ids" not in operation.params["properties"]:
        return {}
    lists = f"/v1/vendors/{operation.vendor}/{operation.name}"
    _, groups = await it.client.call("GET", f"{lists}/style-groups")
    group = groups["data"][-1]["id"]
    status, styles = await it.client.call("GET", f"{lists}/styles?style_group_id={group}")
    assert status == 200, styles
    return {"style_group_id": group, "style_ids": [styles["data"][-1]["id"]]}


async def _run(it: Stand, operation: Operation, given: Mapping[str, Any]) -> None:
    inputs = _needed(operation, given)
    params = _params(operation, await _style(it, operation))
    job = await done(it.client, operation.id, None, inputs=inputs, params=params)
    found = await pictures(it.client, job)
    names = [output.name for output in operation.outputs]
    assert found
    # Of several the others are numbered.
    assert {name.split("_")[0] for name in found} <= set(names)
    assert all(image.width > 1 and image.height > 1 for image in found.values())
    assert (job["billing"]["charged"], job["billing"]["credits"]) == ("yes", operation.credits)
    await only_end(it.client, job["id"])


@pytest.mark.parametrize("vendor", VENDORS)
async def test_it_gives_a_picture_that_opens_and_one_event(tmp_path: Path, photo: Path, vendor: str) -> None:
    own = [operation for operation in CALLABLE if operation.vendor == vendor]
    async with scene(tmp_path) as at:
        given = await _inputs(at.it, photo)
        ends = await asyncio.gather(*(_run(at.it, operation, given) for operation in own), return_exceptions=True)
        at.kept()
    assert {operation.id: repr(end) for operation, end in zip(own, ends, strict=True) if end is not None} == {}


# By hand, from the vendors' documents: the first size that is too large, and the first number of bytes.
LARGE: Mapping[str, tuple[int, int] | None] = {
    "vanceai": (7000, 5000),  # "34 megapixels"
    "perfectcorp": (4097, 300),
    **dict.fromkeys((f"perfectcorp/hair-{name}" for name in ("style", "ext", "bang", "vol")), (1025, 300)),
    "perfectcorp/makeup-transfer": (1025, 300),
    **dict.fromkeys(("perfectcorp/wig", "perfectcorp/aging"), None),
    "ailabtools/photo-retouching": (3000, 300),
    "ailabtools/try-on-clothes-refiner": (4096, 300),
    "picwish": (4097, 300),
}
HEAVY: Mapping[str, int | None] = {
    "vanceai": 10_000_000,
    "perfectcorp": 9_999_999,
    **dict.fromkeys(("perfectcorp/wig", "perfectcorp/aging"), None),
    "ailabtools/photo-retouching": 3_000_000,
    "ailabtools/try-on-clothes-refiner": 5_000_000,
    "picwish": 20_000_000,
}


async def test_a_picture_beyond_the_limits_of_its_operation_is_refused_before_anything_is_queued(
    tmp_path: Path, photo: Path
) -> None:
    async with scene(tmp_path) as at:
        given = await _inputs(at.it, photo)
        bad = {size: await upload(at.it, picture(size=size, mode="1")) for size in LARGE.values() if size}
        gif, webp = await upload(at.it, picture("GIF", SIZE, "P")), await upload(at.it, picture("WEBP", SIZE))
        heavy = await upload(at.it, noise((2600, 2600)))
        async with leaving_nothing(at.it):
            for operation in CALLABLE:
                large = LARGE[operation.id] if operation.id in LARGE else LARGE[operation.vendor]
                most = HEAVY[operation.id] if operation.id in HEAVY else HEAVY[operation.vendor]
                kind = webp if operation.id == "perfectcorp/makeup-transfer" else gif
                tried = [(kind, f"is {kind['content_type']}; taken are")]
                if large is not None:
                    tried.append((bad[large], f"{large[0]}×{large[1]}"))
                if most is not None:
                    tried.append((heavy, f"at most {most}"))
                for name in _needed(operation, given):
                    for asset, word in tried:
                        inputs = {**_needed(operation, given), name: {"asset": asset["id"]}}
                        told = await _refused(at.it, operation, inputs, f"inputs.{name}.asset")
                        assert word in told, (operation.id, name)
            assert at.asked() == 0


async def _refused(it: Stand, operation: Operation, inputs: Mapping[str, Any], field: str) -> str:
    """What is said of the one faulty field."""
    params = _params(operation, {"style_group_id": "1", "style_ids": ["1"]})
    status, problem = await it.client.submit(operation.id, inputs=inputs, params=params)
    assert status == 422, (operation.id, problem)
    assert {error["field"] for error in problem["errors"]} == {field}, operation.id
    return "; ".join(error["reason"] for error in problem["errors"])


async def test_what_is_only_declared_is_listed_and_refused_by_name(tmp_path: Path) -> None:
    async with scene(tmp_path) as at, leaving_nothing(at.it):
        for operation in DECLARED:
            status, shown = await at.it.client.call("GET", f"/v1/operations/{operation.id}")
            assert (status, shown["declared"]) == (200, True)
            needed = {spec.name: {"url": NOBODY_THERE} for spec in operation.inputs if spec.required}
            status, problem = await at.it.client.submit(operation.id, inputs=needed)
            assert (status, {error["field"] for error in problem["errors"]}) == (422, {"operation"})
        assert at.asked() == 0


async def test_a_faulty_step_of_a_workflow_is_named_before_anything_is_queued(tmp_path: Path, photo: Path) -> None:
    async with fast_stand(tmp_path, FastClock(20)) as it:
        steps = [{"operation": "matting"}, {"operation": "enlarge3", "params": {"scale": 3, "sharpness": 1}}]
        status, problem = await it.client.submit("vanceai/workflow", photo, params={"steps": steps})
        assert status == 422
        fields = {error["field"] for error in problem["errors"]}
        assert fields == {"params.steps.1.params.scale", "params.steps.1.params.sharpness"}
        assert it.vanceai.requests == []


async def test_a_second_picture_guides_an_anime(tmp_path: Path, photo: Path) -> None:
    async with fast_stand(tmp_path, FastClock(20)) as it:
        _, asset = await it.client.call("POST", "/v1/assets", data=photo.read_bytes())
        inputs = {"image": {"asset": asset["id"]}, "control": {"asset": asset["id"]}}
        params = {"model_name": "disney_girl", "cn_configs": [{"cn_name": "more_real_lineart"}]}
        await pictures(it.client, await done(it.client, "vanceai/img2anime", None, inputs=inputs, params=params))
        assert len([seen for seen in it.vanceai.requests if seen.endpoint == "upload"]) == 2
        assert it.vanceai.violations == []


@pytest.mark.parametrize("sync", [0, 1])
async def test_a_mask_alone_is_a_result_where_it_was_asked_for(tmp_path: Path, photo: Path, sync: int) -> None:
    async with fast_stand(tmp_path, FastClock(20)) as it:
        job = await done(it.client, "picwish/segmentation", photo, params={"sync": sync, "output_type": 3})
        assert list(await pictures(it.client, job)) == ["mask"]
        assert it.picwish.violations == []


async def test_a_control_picture_of_no_use_fails_the_job_before_it_costs(tmp_path: Path, photo: Path) -> None:
    async with fast_stand(tmp_path, FastClock(20)) as it:
        params = {"cn_configs": [{"cn_name": "cartoon_tile", "image_uid": "control"}]}
        job = await done(it.client, "vanceai/img2anime", photo, params=params)
        assert (job["state"], job["error"]["class"], job["error"]["code"]) == ("failed", "input", "control_input")
        assert job["error"]["retryable"] is False
        assert it.vanceai.requests == []
