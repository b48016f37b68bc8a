"""The description of the API is true: every route is in it, answers, and takes the bodies that it says."""

import re
import time
from pathlib import Path
from statistics import median

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from schemas.endpoint import EndpointPatch, EndpointRequest
from schemas.event_types import Schemas
from schemas.job import JobRequest
from service.web.projects import KeyRequest, ProjectRequest
from service.web.route import Route
from service.web.routes import ROUTES
from tests.harness import stand

pytestmark = pytest.mark.anyio

MODELS = (JobRequest, EndpointRequest, EndpointPatch, ProjectRequest, KeyRequest)
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
        _, described = await it.client.call("GET", "/openapi.json")
        problem = jsonschema.Draft202012Validator(described["components"]["schemas"]["Problem"])
        for route in ROUTES:
            status, body, headers = await it.client.call_full(route.method, filled(route.path))
            assert status < 500, route
            assert status != 405, route
            if status >= 400:
                assert headers["Content-Type"] == PROBLEM, route
                problem.validate(body)
                assert body["status"] == status


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
