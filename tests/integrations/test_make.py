"""Our Make app: its templates name only what the API has, and do what they say when they are replayed against it."""

import copy
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from schemas.event import EventType
from schemas.flat import flat
from service.pipeline.samples import sample
from service.web.docs import openapi
from tests.acceptance.helpers import ENLARGE, SIZE, done, pictures
from tests.acceptance.test_api_tenants import with_role
from tests.harness import API_KEY, Receiver, Stand, receiver, stand
from tests.integrations.iml import named
from tests.integrations.make_app import APP, BASE, MANIFEST, Make, MakeError, code, files

pytestmark = pytest.mark.anyio

SEGMENT = "picwish/segmentation"
# What Make calls the types of a form's fields, of those that its documentation lists.
TYPES = {"any", "array", "boolean", "buffer", "collection", "date", "filename", "integer", "number", "password"} | {
    *("select", "text", "uinteger", "url")
}
DOCUMENT = openapi()


@dataclass
class Rig:
    it: Stand
    make: Make
    catch: Receiver  # stands for Make's address


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with stand(tmp_path) as it, receiver() as catch:
        yield Rig(it, Make({"url": it.client.url, "apiKey": API_KEY}, it.client.http), catch)


# --- the files --------------------------------------------------------------------------------------------------------


def components() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for kind, listed in MANIFEST["components"].items():
        for name, component in listed.items():
            yield kind, name, component


def requests() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every request that the app describes, by the file that it is in."""
    for _, _, component in components():
        for part in ("communication", "attach", "detach"):
            file = component["codeFiles"].get(part)
            told = json.loads((APP / file).read_text()) if file else {}
            if "url" in told:
                yield file, told


def test_every_file_is_json_and_every_file_is_named_once() -> None:
    parts = [file for _, _, component in components() for file in component["codeFiles"].values()]
    parts += MANIFEST["generalCodeFiles"].values()
    assert len(parts) == len(set(parts))
    assert {APP / file for file in parts} | {APP / "makecomapp.json"} == files()
    for path in files():
        assert path.name == "README.md" or json.loads(path.read_text()) is not None


def test_what_a_component_refers_to_is_there() -> None:
    known = MANIFEST["components"]
    for kind, name, component in components():
        for other in ("connection", "webhook"):
            assert component.get(other) is None or component[other] in known[other], (kind, name)
        for file in component["codeFiles"].values():
            for rpc in re.findall(r"rpc://(\w+)", (APP / file).read_text()):
                assert rpc in known["rpc"], file
    grouped = [name for group in code_of_groups() for name in group["modules"]]
    assert sorted(grouped) == sorted(known["module"])


def code_of_groups() -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = json.loads((APP / MANIFEST["generalCodeFiles"]["groups"]).read_text())
    return groups


def test_every_field_of_a_form_has_a_name_a_label_and_a_type_of_makes() -> None:
    def hold(fields: Any) -> None:
        for field in fields if isinstance(fields, list) else []:
            assert field["name"], field
            assert field["label"], field
            assert field["type"] in TYPES, field
            hold(field.get("spec"))

    for _, _, component in components():
        for part in ("params", "staticParams", "mappableParams", "interface"):
            if part in component["codeFiles"]:
                hold(json.loads((APP / component["codeFiles"][part]).read_text()))


def path_of(url: str) -> str:
    """The template of the API that a template of the app fills in."""
    bare = re.sub(r"^\{\{.*?\}\}(?=/)", "", url).split("?")[0]
    filled = re.sub(r"\{\{.*?\}\}", "VALUE", bare)
    fitting = [
        path
        for path in DOCUMENT["paths"]
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), filled) and ("{" in path) == ("VALUE" in filled)
    ]
    # An operation's id is two steps of the path, in one value.
    return fitting[0] if fitting else "/v1/operations/{vendor}/{name}" if "/operations/VALUE" in filled else filled


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    return resolved(DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]]) if reference else schema


@pytest.mark.parametrize(("file", "told"), list(requests()), ids=lambda value: value if isinstance(value, str) else "")
def test_every_url_and_every_field_exists_in_the_api(file: str, told: Mapping[str, Any]) -> None:
    operation = DOCUMENT["paths"][path_of(told["url"])][told.get("method", "GET").lower()]
    taken = {parameter["name"] for parameter in operation.get("parameters", [])}
    pagination = told.get("pagination", {})
    query = set(told.get("qs", {})) | set(pagination.get("qs", {})) | set(re.findall(r"[?&]([^=]+)=", told["url"]))
    for name in query:
        assert name in taken or name.startswith("metadata."), (file, name)
    for name in set(told.get("headers", {})) - {"authorization", "accept"}:
        assert name in {header.lower() for header in taken}, (file, name)
    if "body" in told:
        content = operation["requestBody"]["content"][told.get("type", "application/json")]
        assert set(told["body"]) <= set(resolved(content["schema"])["properties"]), file
    response = told.get("response", {})
    answers = operation["responses"]
    shown = resolved(next(iter(answers[min(answers)].get("content", {"": {"schema": {}}}).values()))["schema"])
    success = {**{key: value for key, value in response.items() if key != "error"}, "pagination": pagination}
    for path in named(success):
        head, first, *_ = path.split(".")
        if head == "body":
            assert first in shown["properties"], (file, path)
    if "data" in shown.get("properties", {}):
        entry = resolved(shown["properties"]["data"]["items"])
        items = {path.split(".")[1] for path in named(success) if path.startswith("item.")}
        assert items <= set(entry["properties"]), file
    problem = DOCUMENT["components"]["schemas"]["Problem"]["properties"]
    errors = named({**response.get("error", {}), "base": BASE["response"]["error"]})
    assert {path.split(".")[1] for path in errors if path.startswith("body.")} <= set(problem)


def test_samples_and_interfaces_are_what_the_service_sends() -> None:
    event = json.loads(json.dumps(flat(sample(EventType.JOB_SUCCEEDED))))
    assert code("module", "watchEndedJobs", "samples") == code("module", "watchEvents", "samples") == event
    own = [name for name in event if not name.startswith(("metadata_", "param_", "input_"))]
    assert [entry["name"] for entry in code("module", "watchEndedJobs", "interface")] == own
    job = json.loads(json.dumps(sample(EventType.JOB_SUCCEEDED)["data"]))
    for name in ("submitJob", "getJob", "findJobs"):
        assert code("module", name, "samples") == job
        assert {entry["name"] for entry in code("module", name, "interface")} <= set(job)
    asset = DOCUMENT["components"]["schemas"]["Asset"]["properties"]
    assert {entry["name"] for entry in code("module", "uploadPicture", "interface")} <= set(asset)


# --- replayed ---------------------------------------------------------------------------------------------------------


async def test_a_connection_is_tried_and_named(rig: Rig) -> None:
    assert await rig.make.connect(url=rig.it.client.url, apiKey=API_KEY) == "default (first key)"
    reader = await with_role(rig.it, "read")
    for key, kind in (("wp_nobody", "InvalidAccessTokenError"), (reader.client.key, "InvalidConfigurationError")):
        with pytest.raises(MakeError) as refused:
            await rig.make.connect(url=rig.it.client.url, apiKey=key)
        assert refused.value.kind == kind
    (url, _) = code("connection", "wirephoto", "params")
    pattern = url["validate"]["pattern"]
    for good in ("https://photos.example", "http://10.0.0.7:8080", "https://example.com/wirephoto"):
        assert re.fullmatch(pattern, good), good
    for bad in ("photos.example", "https://photos.example/", "https://photos.example?x", "ftp://a.b"):
        assert not re.fullmatch(pattern, bad), bad


async def test_a_trigger_attaches_gets_real_events_and_detaches(rig: Rig, photo: Path) -> None:
    hook = await rig.make.attach("endedJobs", rig.catch.url)
    assert list(hook) == ["externalHookId"]
    status, shown = await rig.it.client.call("GET", f"/v1/hooks/{hook['externalHookId']}")
    assert (status, shown["hookUrl"], shown["events"]) == (200, rig.catch.url, ["job.succeeded", "job.failed"])
    job = await done(rig.it.client, ENLARGE, photo, metadata={"product_id": "8411"})
    (got,) = await rig.catch.wait_for(1)
    bundle = rig.make.delivered("endedJobs", got.event)
    assert (bundle["job_id"], bundle["metadata_product_id"]) == (job["id"], "8411")
    path = f"/v1/endpoints/{hook['externalHookId']}/test"
    assert (await rig.it.client.call("POST", path))[1]["delivered"]
    test_message = (await rig.catch.wait_for(2))[1].event
    assert rig.make.delivered("endedJobs", test_message) is None, "it starts no scenario"
    for _ in range(2):
        await rig.make.detach("endedJobs", hook)
        assert (await rig.it.client.call("GET", f"/v1/hooks/{hook['externalHookId']}"))[0] == 404


async def test_a_trigger_for_chosen_events(rig: Rig) -> None:
    offered = await rig.make.rpc("listEventTypes")
    assert {"job.queued", "endpoint.disabled"} <= {entry["value"] for entry in offered}
    hook = await rig.make.attach("events", rig.catch.url, events=["job.queued"])
    _, shown = await rig.it.client.call("GET", f"/v1/hooks/{hook['externalHookId']}")
    assert shown["events"] == ["job.queued"]
    await rig.make.detach("events", hook)


async def test_the_form_of_a_job_follows_its_operation(rig: Rig) -> None:
    _, known = await rig.it.client.call("GET", "/v1/operations")
    can = [entry for entry in known["data"] if entry["configured"] and not entry["declared"]]
    assert [entry["value"] for entry in await rig.make.rpc("listOperations")] == [entry["id"] for entry in can]
    for operation in can:
        asked = {"operation": operation["id"]}
        inputs = await rig.make.rpc("listInputs", **asked)
        wanted = [(entry["name"], entry["required"]) for entry in operation["inputs"]]
        assert [(entry["name"], entry["required"]) for entry in inputs] == wanted
        params = await rig.make.rpc("listParams", **asked)
        assert [entry["name"] for entry in params] == list(operation["params"]["properties"])
        required = [entry["name"] for entry in params if entry["required"]]
        assert sorted(required) == sorted(operation["params"]["required"])
        assert {entry["type"] for entry in (*inputs, *params)} <= TYPES, operation["id"]
    form = {entry["name"]: entry for entry in await rig.make.rpc("listParams", operation=ENLARGE)}
    assert form["scale"]["help"].endswith("One of: 2, 4, 6, 8.")
    assert form["suppress_noise"]["type"] == "integer"
    assert form["suppress_noise"]["help"].endswith(" From 0 to 100.")


async def test_a_file_becomes_a_picture_and_the_picture_another(rig: Rig, photo: Path) -> None:
    (asset,) = await rig.make.run("uploadPicture", fileName="cat.jpg", data=photo.read_bytes())
    assert (asset["bytes"], asset["filename"]) == (photo.stat().st_size, "cat.jpg")
    (job,) = await rig.make.run(
        "submitJob",
        operation=ENLARGE,
        inputs={"image": {"asset": asset["id"]}},
        params={"scale": 2},
        metadata=[{"key": "product_id", "value": "8411"}],
        channels=["store-7"],
        wait=True,
    )
    assert (job["state"], job["metadata"], job["channels"]) == ("succeeded", {"product_id": "8411"}, ["store-7"])
    made = await pictures(rig.it.client, job)
    assert made["image"].size == (SIZE[0] * 2, SIZE[1] * 2)
    (cut,) = await rig.make.run("submitJob", operation=SEGMENT, inputs={"image": {"job": job["id"]}}, wait=True)
    assert cut["state"] == "succeeded"
    (got,) = await rig.make.run("getJob", jobId=cut["id"])
    assert got == cut


async def test_the_same_key_is_the_same_job_and_no_key_another(rig: Rig, photo: Path) -> None:
    (asset,) = await rig.make.run("uploadPicture", fileName="cat.jpg", data=photo.read_bytes())
    wanted = {"operation": ENLARGE, "inputs": {"image": {"asset": asset["id"]}}}
    keyed = [(await rig.make.run("submitJob", **wanted, idempotencyKey="order-17"))[0]["id"] for _ in range(2)]
    free = [(await rig.make.run("submitJob", **wanted, idempotencyKey=""))[0]["id"] for _ in range(2)]
    assert len(set(keyed)) == 1
    assert len({*keyed, *free}) == 3


async def test_jobs_are_found_newest_first_over_several_pages(rig: Rig, photo: Path) -> None:
    jobs = [await done(rig.it.client, ENLARGE, photo, metadata={"shop": "north & sons"}) for _ in range(3)]
    await done(rig.it.client, ENLARGE, photo, metadata={"shop": "south"})
    newest_first = [job["id"] for job in reversed(jobs)]
    asked = {"key": "shop", "value": "north & sons"}
    assert [job["id"] for job in await rig.make.run("findJobs", **asked, limit=10)] == newest_first
    one_a_page = copy.deepcopy(code("module", "findJobs"))
    one_a_page["qs"]["limit"] = 1
    assert [job["id"] for job in await rig.make.run("findJobs", one_a_page, **asked, limit=10)] == newest_first
    assert [job["id"] for job in await rig.make.run("findJobs", one_a_page, **asked, limit=2)] == newest_first[:2]
    assert await rig.make.run("findJobs", key="shop", value="nowhere", limit=10) == []


async def test_a_refusal_says_what_is_wrong(rig: Rig) -> None:
    with pytest.raises(MakeError) as refused:
        await rig.make.run("submitJob", operation=ENLARGE, params={"scale": 3})
    assert refused.value.kind == "DataError"
    assert refused.value.message.startswith("These fields are not valid: inputs.image, params.scale.")
    assert "3 is not one of [2, 4, 6, 8]" in refused.value.message
    with pytest.raises(MakeError, match=r"DataError: There is no such job\."):
        await rig.make.run("getJob", jobId="job_0")
