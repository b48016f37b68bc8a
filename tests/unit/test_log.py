"""Logs tell what happened and never a secret, whoever wrote the line."""

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from service import log as log_module
from service.log import HIDDEN, hide

API_KEY = "wp_abcdefghijklmnop-QRSTUV"
SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TOKEN = "Zm9vYmFyYmF6cXV4-callback_token"

HIDDEN_TEXTS = {
    API_KEY: f"Bearer {API_KEY}",
    SIGNING: f"signed with {SIGNING}.",
    TOKEN: f"POST https://wirephoto.example/callbacks/vanceai/{TOKEN} 204",
    "abc123": "GET /v1/assets/ast_1/content?exp=1765000000&sig=abc123",
    "vendorkey": "https://api.example/point?api_token=vendorkey&x=1",
    "awssig": "https://bucket.example/a.png?X-Amz-Date=1&X-Amz-Signature=awssig",
    "osssig": "https://bucket.example/a.png?OSSAccessKeyId=1&Signature=osssig",
    "vendortoken": "https://api.example/?access_token=vendortoken",
}


@pytest.mark.parametrize("secret", HIDDEN_TEXTS)
def test_a_secret_is_known_by_its_shape_wherever_it_stands(secret: str) -> None:
    text = HIDDEN_TEXTS[secret]
    for value in (text, [text], (text,), {"a": {"b": [text]}}, {text}, text.encode(), ValueError(text), {text: 1}):
        hidden = hide(value)
        assert secret not in repr(hidden), value
        assert HIDDEN in repr(hidden)


@pytest.mark.parametrize(
    "name", ["token", "api_token", "Authorization", "secret", "webhook_secret", "api_key", "password"]
)
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert hide({name: "x"}) == {name: HIDDEN}
    assert hide({"deep": [{name: b"x"}]}) == {"deep": [{name: HIDDEN}]}


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False), st.lists))
def test_what_is_no_text_stays_what_it_is(value: Any) -> None:
    assert hide(value) == value


PROGRAM = """
import logging, structlog
from service import log as log_module
log_module.configure(json={json})
log = structlog.get_logger()
def fails(argument):
    local = "a-local-of-the-traceback"
    raise ValueError("no such key {api_key}")
log.info("plain", status=503, body=b"{api_key}", error=ValueError("{signing}"))
try:
    fails("an-argument-of-it")
except ValueError:
    log.exception("went.wrong", token="by-its-name")
    logging.getLogger("library").exception("library failed with %s", "{api_key}")
logging.getLogger("library").info("not shown")
"""


def lines(*, as_json: bool) -> list[str]:
    program = PROGRAM.format(json=as_json, api_key=API_KEY, signing=SIGNING)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "", "standard output belongs to the commands"
    for never in (API_KEY, SIGNING, "by-its-name", "a-local-of-the-traceback", "an-argument-of-it"):
        assert never not in done.stderr
    return done.stderr.splitlines()


def test_each_line_is_json_and_tells_what_happened() -> None:
    plain, wrong, library = (json.loads(line) for line in lines(as_json=True))
    assert (plain["event"], plain["level"], plain["status"]) == ("plain", "info", 503)
    assert plain["timestamp"].endswith("Z")
    assert wrong["event"] == "went.wrong"
    (raised,) = wrong["exception"]
    assert raised["exc_type"] == "ValueError"
    assert [frame["name"] for frame in raised["frames"]] == ["<module>", "fails"]
    assert not any(frame.get("locals") for frame in raised["frames"])
    assert library["event"] == f"library failed with {HIDDEN}"
    assert library["level"] == "error"


def test_lines_for_people_hide_the_same() -> None:
    text = "\n".join(lines(as_json=False))
    assert "plain" in text
    assert "went.wrong" in text
    assert "ValueError: no such key" in text
    assert HIDDEN in text


def test_an_object_that_would_show_itself_in_a_line_is_hidden_too(capsys: pytest.CaptureFixture[str]) -> None:
    before, handlers, level = structlog.get_config(), logging.root.handlers, logging.root.level
    try:
        log_module.configure(json=True)
        structlog.get_logger().info("settings", given=SecretStr("never-shown"), url=f"/callbacks/vanceai/{TOKEN}")
    finally:
        structlog.configure(**before)
        logging.root.handlers, logging.root.level = handlers, level
    line = capsys.readouterr().err
    assert json.loads(line)["event"] == "settings"
    assert "never-shown" not in line
    assert TOKEN not in line
