"""How an operator tells what Perfect Corp's document doesn't: slugs, calls of declared features, the keep-alive."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from handlers.vendors.perfectcorp import PACE, PerfectCorp
from service.accounts import KNOWN
from service.config import InvalidSettings, Settings, load

RELIGHT = {"slug": "relight", "params": {"strength": 0.5}, "output_ext": ["webp"]}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WIREPHOTO_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def _made(settings: Settings) -> PerfectCorp:
    (known,) = [known for known in KNOWN if known.name == "perfectcorp"]
    vendor = known.made(settings.perfectcorp)
    assert isinstance(vendor, PerfectCorp)
    return vendor


def test_without_a_setting_the_document_holds() -> None:
    vendor = _made(load())
    assert vendor.pace == PACE
    assert vendor.operations == PerfectCorp().operations


def test_the_keep_alive_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIREPHOTO_PERFECTCORP__KEEPALIVE_SECONDS", "7.5")
    monkeypatch.setenv("WIREPHOTO_PERFECTCORP__POLL_SECONDS", "3")
    pace = _made(load()).pace
    assert (pace.keep_alive, pace.interval) == (7.5, 3)


def test_a_declared_feature_becomes_callable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "WIREPHOTO_PERFECTCORP__FEATURES", json.dumps({"lighting": RELIGHT, "replace": {"slug": "ai-replace"}})
    )
    operations = _made(load()).operations
    assert not operations["lighting"].declared
    assert set(operations["lighting"].params["properties"]) == {"strength", "output_ext"}
    assert operations["replace"].params["properties"]["output_ext"]["default"] == "jpg"
    assert operations["face-swap"].declared


def test_a_feature_can_be_told_of_in_the_file() -> None:
    Path("wirephoto.toml").write_text(
        '[perfectcorp.features.lighting]\nslug = "relight"\nparams = {strength = 0.5}\n'
        '[perfectcorp.slugs]\naging = "age"\n'
    )
    settings = load()
    assert not _made(settings).operations["lighting"].declared
    assert settings.perfectcorp.options()["slugs"] == {"aging": "age"}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("FEATURES", {"video-enhance": RELIGHT}, "video"),
        ("FEATURES", {"hair-style": RELIGHT}, "SLUGS"),
        ("FEATURES", {"no-such": RELIGHT}, "lighting"),
        ("FEATURES", {"lighting": {"params": {}}}, "LIGHTING__SLUG: is required"),
        ("FEATURES", {"lighting": {**RELIGHT, "slug": "../x"}}, "LIGHTING__SLUG"),
        ("FEATURES", {"lighting": {**RELIGHT, "output_ext": []}}, "LIGHTING__OUTPUT_EXT"),
        ("FEATURES", {"lighting": {**RELIGHT, "output_ext": ["bmp"]}}, "LIGHTING__OUTPUT_EXT"),
        ("FEATURES", {"lighting": {**RELIGHT, "params": {"output_ext": "jpg"}}}, "LIGHTING__PARAMS: output_ext"),
        ("FEATURES", {"lighting": {**RELIGHT, "more": 1}}, "LIGHTING__MORE: unknown setting"),
        ("SLUGS", {"lighting": "relight"}, "hair-style"),
        ("SLUGS", {"aging": "a/b"}, "SLUGS__AGING"),
        ("SLUGS", ["aging"], "must be an object"),
    ],
)
def test_what_cannot_be_meant_so_is_refused_by_name(
    name: str, value: Any, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"WIREPHOTO_PERFECTCORP__{name}", json.dumps(value))
    with pytest.raises(InvalidSettings) as refused:
        load()
    told = str(refused.value)
    assert told.startswith(f"WIREPHOTO_PERFECTCORP__{name}")
    assert says in told
