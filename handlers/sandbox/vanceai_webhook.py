"""VanceAI's webhook, as far as anyone knows it.

Documented (seed 002): a POST to the URL given with /transform once the job has finished. Seen in public: at most three
times in all, again only on an answer of 400 or more. The body, its type and any signature are documented nowhere, so a
test chooses them; a client has to live with every choice.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

import aiohttp

Shape = Literal["json", "form", "empty", "text"]
_ANSWER_SECONDS = 10


@dataclass(frozen=True)
class WebhookPlan:
    """How the announcement is made. Times are seconds.

    `early` comes before /transform has answered (whose answer then waits for the job). `copies` is how often the same
    news is sent as if it were the first time; each is repeated up to `attempts` times in all, `repeat_seconds` apart,
    on an answer of 400 or more. `content_type` and `body` override what `shape` gives.
    """

    shape: Shape = "json"
    body: bytes | None = None
    content_type: str | None = None
    method: str = "POST"
    early: bool = False
    never: bool = False
    copies: int = 1
    delay: float = 0.0
    attempts: int = 3
    repeat_seconds: float = 1.0


@dataclass(frozen=True)
class WebhookSent:
    """One request to the client's URL; `status` is its answer, None when there was none."""

    trans_id: str
    status: int | None


def _as_json(trans_id: str, status: str) -> tuple[bytes, str]:
    value = {"code": 200, "cscode": 200, "data": {"trans_id": trans_id, "status": status}}
    return json.dumps(value).encode(), "application/json"


def _as_form(trans_id: str, status: str) -> tuple[bytes, str]:
    return urlencode({"trans_id": trans_id, "status": status}).encode(), "application/x-www-form-urlencoded"


_SHAPES: Mapping[Shape, Callable[[str, str], tuple[bytes, str]]] = {
    "json": _as_json,
    "form": _as_form,
    "empty": lambda _id, _status: (b"", "application/octet-stream"),
    "text": lambda trans_id, status: (f"{trans_id} {status}".encode(), "text/plain"),
}


async def announce(
    session: aiohttp.ClientSession,
    url: str,
    plan: WebhookPlan,
    trans_id: str,
    status: str,
    sent: Callable[[WebhookSent], None],
) -> None:
    """Tell the client's URL that the job has ended; `sent` is called after each request."""
    body, content_type = _SHAPES[plan.shape](trans_id, status)
    body = body if plan.body is None else plan.body
    await asyncio.sleep(plan.delay)
    for _ in range(plan.copies):
        for attempt in range(plan.attempts):
            if attempt:
                await asyncio.sleep(plan.repeat_seconds)
            answer = await _request(session, url, plan, body, plan.content_type or content_type)
            sent(WebhookSent(trans_id, answer))
            if answer is None or answer < 400:
                # Only a bad answer is known to bring a repetition; no answer is the end of it.
                break


async def _request(
    session: aiohttp.ClientSession, url: str, plan: WebhookPlan, body: bytes, content_type: str
) -> int | None:
    try:
        async with session.request(
            plan.method,
            url,
            data=body,
            headers={"Content-Type": content_type},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS),
        ) as answer:
            return answer.status
    except (aiohttp.ClientError, TimeoutError):
        return None
