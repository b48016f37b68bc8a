"""What Zapier stores of our app: fit for its own schema, for its publishing rules, and for what the service sends."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from schemas.event import EventType
from schemas.flat import flat
from service.pipeline.samples import sample
from service.web.docs import openapi
from tests.integrations.node import INTEGRATIONS, talking
from tests.integrations.software import PACKAGES
from tests.integrations.zapier_rig import PROGRAM

pytestmark = pytest.mark.anyio

APP = INTEGRATIONS / "zapier"
HOOKS = {"job_succeeded": "job.succeeded", "job_failed": "job.failed", "event": None}
STEPS = ("triggers", "creates", "searches")


@pytest.fixture
async def definition() -> dict[str, Any]:
    async with talking(PROGRAM, "zapier") as talk:
        assert await talk(run="validate") == [], "Zapier's own schema"
        told: dict[str, Any] = await talk(run="definition")
        return told


def steps(definition: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every step that a user can choose."""
    for kind in STEPS:
        for step in definition[kind].values():
            if not step["display"].get("hidden"):
                yield kind, step


async def test_every_trigger_can_subscribe_unsubscribe_and_show_samples(definition: dict[str, Any]) -> None:
    """Zapier's schema lets an app pass that could never unsubscribe."""
    shown = {step["key"]: step["operation"] for kind, step in steps(definition) if kind == "triggers"}
    assert set(shown) == set(HOOKS)
    for operation in shown.values():
        assert operation["type"] == "hook"
        for name in ("perform", "performList", "performSubscribe", "performUnsubscribe"):
            assert operation[name].startswith("$func$2"), name


async def test_what_people_read_is_written_as_zapier_publishes_it(definition: dict[str, Any]) -> None:
    begins = {"triggers": ("Triggers when ",), "searches": ("Finds ",), "creates": ("Creates ", "Gets ")}
    for kind, step in steps(definition):
        display, operation = step["display"], step["operation"]
        assert display["description"].startswith(begins[kind]), display
        assert display["description"].endswith(".")
        assert "Zapier" not in display["label"]
        words = [word for word in display["label"].split() if word not in {"by", "of", "a"}]
        assert all(word[0].isupper() for word in words), display["label"]
        fields = [field for field in operation.get("inputFields", []) if isinstance(field, dict)]
        for field in fields:
            assert field["label"][0].isupper(), field
            assert 20 <= len(field["helpText"]) <= 1000, field
            assert field["helpText"][-1] in ".`", field
        assert {field["key"] for field in operation["outputFields"]} >= {"id"}
        assert all(re.match("[A-Z]", field["label"]) for field in operation["outputFields"])
    for field in definition["authentication"]["fields"]:
        assert field["required"], field
    secret = {field["key"]: field["type"] for field in definition["authentication"]["fields"]}
    assert secret == {"base_url": "string", "api_key": "password"}


async def test_every_drop_down_leads_to_a_list_of_the_app(definition: dict[str, Any]) -> None:
    hidden = {key for key, step in definition["triggers"].items() if step["display"].get("hidden")}
    led = {
        field["dynamic"].split(".")[0]
        for _, step in steps(definition)
        for field in step["operation"].get("inputFields", [])
        if isinstance(field, dict) and "dynamic" in field
    }
    assert led == hidden == {"operation", "event_type"}


async def test_the_samples_of_the_app_are_the_services_own(definition: dict[str, Any]) -> None:
    kept = json.loads((APP / "lib" / "samples.json").read_text())
    for name in ("job.succeeded", "job.failed"):
        assert kept[name] == json.loads(json.dumps(flat(sample(EventType(name)))))
    job = sample(EventType.JOB_SUCCEEDED)["data"]
    assert kept["job"] == json.loads(json.dumps(job))
    scalars = [name for name, value in kept["job.failed"].items() if not isinstance(value, list)]
    own = [name for name in scalars if not name.startswith(("metadata_", "param_", "input_"))]
    for key in ("job_succeeded", "job_failed"):
        told = definition["triggers"][key]["operation"]["outputFields"]
        assert [field["key"] for field in told] == own, "every field has a label, in the order of the event"


def test_the_choices_of_the_app_are_the_services_own() -> None:
    document = openapi()
    (events,) = re.findall(r"JOB_EVENTS = \[(.+?)\]", (APP / "creates/submit_job.js").read_text())
    (states,) = re.findall(r"STATES = \[(.+?)\]", (APP / "searches/find_job.js").read_text())
    known = json.dumps(document["components"]["schemas"]["JobRequest"])
    assert set(re.findall(r"'(.+?)'", events)) == set(re.findall(r'"(job\.\w+)"', known))
    assert re.findall(r"'(.+?)'", states) == document["components"]["schemas"]["JobState"]["enum"]


def test_the_app_is_tested_with_the_versions_that_it_is_published_with() -> None:
    published = json.loads((APP / "package.json").read_text())["dependencies"]
    tested = json.loads((PACKAGES / "zapier" / "package.json").read_text())["devDependencies"]
    assert published.items() <= tested.items()
