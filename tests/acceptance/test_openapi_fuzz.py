"""Requests that a machine makes up from the description find no answer that the description does not tell of."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import schemathesis
from anyio import to_thread
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.acceptance.made import NOBODY_THERE, picture, queue, upload
from tests.harness import Stand, receiver, stand

pytestmark = pytest.mark.anyio

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.mark.parametrize("examples", [8, pytest.param(30, marks=pytest.mark.slow)])
async def test_made_up_requests_get_the_answers_that_are_told(tmp_path: Path, examples: int) -> None:
    async with stand(tmp_path) as it, receiver() as there:
        _, document = await it.client.call("GET", "/openapi.json", key="")
        ids = await _real_ids(it, there.url)
        found: list[Any] = list(schemathesis.openapi.from_dict(document).get_all_operations())
        operations = [operation.ok() for operation in found]
        assert len(operations) == sum(len(methods) for methods in document["paths"].values())
        # What is deleted can't be asked of any more.
        operations.sort(key=lambda operation: operation.method == "delete")
        with requests.Session() as session:
            session.mount(it.client.url, HeadOfStream())
            for operation in operations:
                # Outside of /v1 whatever is sent is fine.
                wrong = [GenerationMode.NEGATIVE] if operation.path.startswith("/v1/") else []
                for mode in (GenerationMode.POSITIVE, *wrong):
                    await to_thread.run_sync(_fuzz, operation, mode, it, ids, session, examples)


class HeadOfStream(HTTPAdapter):
    """A stream has no end: of it the head is all that is looked at."""

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        answer = super().send(*args, **kwargs)
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            answer._content = b""
            answer.close()
        return answer


async def _real_ids(it: Stand, url: str) -> Mapping[str, str]:
    """One of each kind by the first part of its path, so that not every made-up request ends as a 404."""
    endpoint = await it.client.subscribe(url)
    _, hook = await it.client.call("POST", "/v1/hooks", json={"url": url, "event": "job.*"})
    job = await queue(it)
    _, key = await it.client.call("POST", "/v1/keys", json={"role": "read"})
    asset = await upload(it, picture())
    _, events = await it.client.call("GET", "/v1/events")
    _, deliveries = await it.client.call("GET", "/v1/deliveries")
    everything = {"since": "2020-01-01T00:00:00Z", "only": "all"}
    _, replay = await it.client.call("POST", f"/v1/endpoints/{endpoint['id']}/replay", json=everything)
    return {
        "jobs": job["id"],
        "endpoints": endpoint["id"],
        "hooks": hook["id"],
        "keys": key["id"],
        "assets": asset["id"],
        "events": events["data"][0]["id"],
        "deliveries": deliveries["data"][0]["id"],
        "replays": replay["id"],
    }


def _fuzz(
    operation: Any, mode: GenerationMode, it: Stand, ids: Mapping[str, str], session: requests.Session, examples: int
) -> None:
    cases = operation.as_strategy(generation_mode=mode)
    kind = operation.path.removeprefix("/v1/").partition("/")[0]
    known = {"id": ids.get(kind), "vendor": "vanceai", "name": "enlarge3"}

    # The same requests each time: a test that fails now and then teaches nobody.
    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, real=st.booleans())
    def ask(case: Any, real: bool) -> None:
        for name in case.path_parameters if real else ():
            case.path_parameters[name] = known.get(name) or case.path_parameters[name]
        case.body = _tamed(case.body)
        if re.match(r"wait=\d", case.headers.get("Prefer", "")):
            case.headers["Prefer"] = "wait=1"
        if re.fullmatch(r"\d+", str(case.query.get("wait", ""))):
            case.query["wait"] = 0
        key = {"Authorization": f"Bearer {it.client.key}"}
        case.call_and_validate(base_url=it.client.url, headers=key, checks=CHECKS, session=session)

    ask()


def _tamed(value: Any) -> Any:
    """The same body, but that its links lead nowhere outside of this machine."""
    if isinstance(value, dict):
        return {name: _tamed(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_tamed(inner) for inner in value]
    return NOBODY_THERE if isinstance(value, str) and _leads_out(value) else value


def _leads_out(text: str) -> bool:
    try:
        return bool(urlsplit(text).hostname)
    except ValueError:
        return False
