"""The description of the API is true: every route is in it, answers, and takes the bodies that it says."""

import re
import time
from pathlib import Path
from statistics import median

import jsonschema
import jsonschema_rs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from schemas.event import EventType
from schemas.event_types import Schemas
from schemas.hook import HookRequest
from schemas.job import JobRequest
from schemas.registration import EndpointPatch, EndpointRequest, Rotation
from schemas.replay import ReplayRequest
from schemas.stream import StreamAnswer
from service.web.projects import KeyRequest, ProjectRequest
from service.web.route import Route
from service.web.routes import ROUTES
from tests.harness import receiver, stand

pytestmark = pytest.mark.anyio

MODELS = (
    JobRequest,
    EndpointRequest,
    EndpointPatch,
    Rotation,
    HookRequest,
    StreamAnswer,
    ReplayRequest,
    ProjectRequest,
    KeyRequest,
)
PROBLEM = "application/problem+json"


def filled(path: str) -> str:
    """The path with parameters that nobody has."""
    known = {"vendor": "vanceai", "name": "enlarge3"}
    return re.sub(r"\{(\w+)\}", lambda found: known.get(found[1], "nothing"), path)


async def test_the_description_is_valid_and_names_every_route_and_no_other(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        status, described = await it.client.call("GET", "/openapi.json", key="")
        assert status == 200
        OpenAPIV31SpecValidator(described).validate()
        told = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
        assert told == {(route.method.value, route.path) for route in ROUTES}
        ids = [operation["operationId"] for methods in described["paths"].values() for operation in methods.values()]
        ids += [methods["post"]["operationId"] for methods in described["webhooks"].values()]
        assert len(set(ids)) == len(ids)


async def test_the_bodies_described_are_the_very_models_that_judge_them(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        _, described = await it.client.call("GET", "/openapi.json")
        schemas = described["components"]["schemas"]
        for model in MODELS:
            own = model.model_json_schema(ref_template="#/components/schemas/{model}", schema_generator=Schemas)
            own.pop("$defs", None)
            assert schemas[model.__name__] == own
        for route in ROUTES:
            operation = described["paths"][route.path][route.method.lower()]
            body = route.body if isinstance(route, Route) else None
            if body is not None:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                assert schema == {"$ref": f"#/components/schemas/{body.__name__}"}
            # What needs no key says so, for the default is that one is needed.
            ways = operation.get("security")
            assert (ways is not None and (not ways or {} in ways)) is not isinstance(route, Route)


async def test_every_route_answers(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        for route in ROUTES:
            status, body, headers = await it.client.call_full(route.method, filled(route.path))
            assert status < 500, route
            assert status != 405, route
            if status >= 400:
                assert headers["Content-Type"] == PROBLEM, route
                assert body["status"] == status


async def test_every_parameter_tells_its_form_and_every_answer_its_type(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        _, described = await it.client.call("GET", "/openapi.json")
        for path, methods in described["paths"].items():
            for method, operation in methods.items():
                where = f"{method} {path}"
                assert operation["summary"], where
                assert operation["tags"], where
                for parameter in operation["parameters"]:
                    assert parameter["schema"].get("type") or parameter["schema"].get("$ref"), (where, parameter)
                assert any(status < "300" for status in operation["responses"]), where
                for status, answer in operation["responses"].items():
                    assert "$ref" in answer or "content" in answer or status in ("204", "304"), (where, status)
        tags = {tag["name"] for tag in described["tags"]}
        used = {tag for methods in described["paths"].values() for one in methods.values() for tag in one["tags"]}
        assert used | {"webhooks"} == tags
        limits = {
            parameter["name"]: parameter["schema"] for parameter in described["paths"]["/v1/jobs"]["get"]["parameters"]
        }
        assert limits["limit"] == {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}
        assert limits["state"] == {"$ref": "#/components/schemas/JobState"}


async def test_the_holder_of_answers_refuses_what_is_not_told(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        held = it.client.described
        assert held is not None
        _, endpoints, headers = await it.client.call_full("GET", "/v1/endpoints")
        held.hold("GET", "/v1/endpoints", 200, headers, endpoints)
        made = await it.client.subscribe("https://shop.example/")
        del made["secret"]
        page = {"data": [made], "next": None}
        held.hold("GET", "/v1/endpoints", 200, headers, page)
        unauthenticated = {"Content-Type": PROBLEM}  # without the header that says how
        for status, got, body in (
            (418, headers, endpoints),
            (200, {"Content-Type": "text/html"}, endpoints),
            (200, headers, {"data": [{**made, "surprise": 1}], "next": None}),
            (200, headers, {"data": [{**made, "state": "asleep"}], "next": None}),
            (200, headers, {"data": [{**made, "created_at": "yesterday"}], "next": None}),
            (200, headers, {"data": [made]}),
            (401, unauthenticated, {"type": "urn:wirephoto:problem:x", "title": "a", "status": 401, "detail": "b"}),
        ):
            with pytest.raises((AssertionError, jsonschema_rs.ValidationError)):
                held.hold("GET", "/v1/endpoints", status, got, body)


async def test_what_a_subscriber_gets_is_what_webhooks_tell(tmp_path: Path, photo: Path) -> None:
    async with stand(tmp_path) as it, receiver() as there:
        held = it.client.described
        assert held is not None
        webhooks = held.document["webhooks"]
        assert set(webhooks) == {*EventType, "endpoint.test"}
        endpoint = await it.client.subscribe(there.url)
        await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/test")
        await it.client.submit("vanceai/enlarge3", photo, headers={"Prefer": "wait=20"})
        for got in await there.wait_for(4):
            told = webhooks[got.event["type"]]["post"]
            held.validate(told["requestBody"]["content"]["application/json"]["schema"], got.event)
            for header in told["parameters"]:
                held.validate(header["schema"], got.headers[header["name"]])
            assert got.headers["content-type"] in told["requestBody"]["content"]
        for told in webhooks.values():
            assert {"2XX", "410", "429"} <= set(told["post"]["responses"])


async def test_the_examples_of_bodies_are_taken_in(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        made = await it.client.subscribe("https://shop.example/")
        _, described = await it.client.call("GET", "/openapi.json")
        count = 0
        for route in ROUTES:
            # An answer is to something that was handed out over a stream.
            if not isinstance(route, Route) or route.body in (None, StreamAnswer):
                continue
            for example in described["components"]["schemas"][route.body.__name__]["examples"]:
                status, answer = await it.client.call(route.method, route.path.format(id=made["id"]), json=example)
                assert status in (200, 201, 202), (route, answer)
                count += 1
        assert count >= 5


async def test_what_does_not_exist_is_a_problem_in_the_same_form(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        for path in (
            "/",
            "/v1",
            "/v2/jobs",
            "/v1/jobs/",
            "/v1/jobs/a/b/c",
            "/v1//jobs",
            "/v1/jobs/%00",
            "/static/../x",
        ):
            for key in (None, ""):
                status, body, headers = await it.client.call_full("GET", path, key=key, allow_redirects=False)
                if status == 401 and key == "":
                    continue
                assert (status, headers["Content-Type"]) == (404, PROBLEM), path
                assert body["type"] == "urn:wirephoto:problem:not_found"


async def test_a_wrong_method_is_told_the_right_ones(tmp_path: Path) -> None:
    there: dict[str, set[str]] = {}
    for route in ROUTES:
        there.setdefault(route.path, set()).add(route.method.value)
    async with stand(tmp_path) as it:
        for path, methods in there.items():
            for wrong in {"GET", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"} - methods:
                status, body, headers = await it.client.call_full(wrong, filled(path))
                assert (status, headers["Content-Type"]) == (405, PROBLEM), (wrong, path)
                allowed = {method.strip() for method in headers["Allow"].split(",")}
                assert allowed == methods | ({"HEAD"} if "GET" in methods else set())
                assert body["type"] == "urn:wirephoto:problem:method_not_allowed"


async def test_the_catalogue_says_what_each_operation_takes(tmp_path: Path) -> None:
    async with stand(tmp_path, picwish_settings={"api_key": None}) as it:
        _, catalogue = await it.client.call("GET", "/v1/operations")
        by_id = {operation["id"]: operation for operation in catalogue["data"]}
        assert {"vanceai/enlarge3", "vanceai/denoise", "picwish/self-face-cutout"} <= set(by_id)
        for name, operation in by_id.items():
            jsonschema.Draft202012Validator.check_schema(operation["params"])
            assert operation["inputs"] or name.endswith("text-to-image")
            assert operation["outputs"]
            assert operation["source"]
            assert operation["configured"] is name.startswith("vanceai/")
            assert await it.client.call("GET", f"/v1/operations/{name}") == (200, operation)
        enlarge = by_id["vanceai/enlarge3"]
        assert enlarge["params"]["properties"]["scale"]["enum"] == [2, 4, 6, 8]
        assert enlarge["inputs"][0]["limits"] == {"max_bytes": 10_000_000, "max_pixels": 34_000_000}
        assert enlarge["inputs"][0]["content_types"] == ["image/jpeg", "image/png"]
        assert (await it.client.call("GET", "/v1/operations/vanceai/enlarge9"))[0] == 404


async def test_the_page_for_people_names_every_route_and_runs_nothing(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        status, page, headers = await it.client.call_full("GET", "/docs", key="")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        text = page.decode()
        for route in ROUTES:
            assert route.path in text
        assert "<script" not in text
        assert re.findall(r'(?:src|href)="(?!#|/openapi\.json)', text) == [], "nothing comes from elsewhere"
        for name in EventType:
            assert f"<code>{name}</code>" in text
        assert 'id="webhooks"' in text
        assert 'id="schema-JobSucceededEvent"' in text
        # Every link leads to a place on the page.
        places = set(re.findall(r'id="([^"]+)"', text))
        assert set(re.findall(r'href="#([^"]+)"', text)) <= places
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")


async def test_readiness_tells_of_a_worker_that_has_died(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        well = {"status": "ok", "installation": it.wirephoto.core.installation}
        assert await it.client.call("GET", "/healthz", key="") == (200, well)
        assert await it.client.call("GET", "/readyz", key="") == (200, {"status": "ready"})
        await it.wirephoto.site.alive["deliver"].stop(0)
        status, body = await it.client.call("GET", "/readyz", key="")
        assert status == 503
        assert body["reasons"] == ["worker deliver has died"]
        assert (await it.client.call("GET", "/healthz", key=""))[0] == 200


async def test_an_answer_does_not_wait_for_the_clients_delayed_ack(tmp_path: Path) -> None:
    """Head and body are two writes; held back by Nagle's algorithm, each answer took 40 ms more."""
    async with stand(tmp_path) as it:
        took = []
        for _ in range(15):
            started = time.perf_counter()
            await it.client.call("GET", "/healthz")
            took.append(time.perf_counter() - started)
        assert median(took) < 0.03
