"""How WordPress and WooCommerce are asked, and what their answers mean: the status says little, the `code` most of it.

Sources: the REST API handbooks of both, and the error codes of WordPress's own controllers. What no table lists is
tried again.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from handlers.destinations.shops import Impossible
from handlers.destinations.tries import CONNECT, KEEP, Denied, Progress, Trouble, basic, dig, saying
from handlers.http import Answer, Http, retry_after
from schemas.delivery import Outcome
from schemas.shop import WooCommerceConfig

SECONDS = 30.0
# WordPress makes a picture's smaller sizes before it answers.
UPLOAD_SECONDS = 90.0
# What it tells of an upload whose smaller sizes it did not get done.
UNFINISHED = "X-WP-Upload-Attachment-ID"

# None: our credentials are not taken, or don't reach so far.
Meanings = Mapping[str | int, Outcome | None]

BY_STATUS: Meanings = {
    401: None,
    403: Outcome.RETRY,  # a firewall's; WordPress's own has a code
    404: Outcome.RETRY,
    413: Outcome.ABORT,
    415: Outcome.ABORT,
    429: Outcome.SLOW_DOWN,
    503: Outcome.SLOW_DOWN,  # maintenance, while something is updated
}
BY_CODE: Meanings = {
    **dict.fromkeys(
        (
            *("incorrect_password", "invalid_username", "invalid_email", "invalid_application_credentials"),
            *("application_passwords_disabled", "application_passwords_disabled_for_user", "rest_not_logged_in"),
            *("rest_forbidden", "rest_forbidden_context", "rest_cannot_create", "rest_cannot_edit", "rest_cannot_view"),
            *("woocommerce_rest_cannot_view", "woocommerce_rest_cannot_edit"),
        ),
        None,
    ),
    **dict.fromkeys(
        (
            # Status 400 when it is written to, 404 when it is read.
            *("woocommerce_rest_product_invalid_id", "woocommerce_rest_product_variation_invalid_id"),
            # Status 500, and for good: WordPress takes no such file.
            *("rest_upload_unknown_error", "rest_upload_sideload_error", "rest_upload_file_too_big"),
            *("rest_invalid_param", "rest_missing_callback_param", "rest_upload_invalid_disposition"),
        ),
        Outcome.ABORT,
    ),
    **dict.fromkeys(
        (
            "rest_no_route",  # WooCommerce is switched off, perhaps to be updated
            "rest_upload_hash_mismatch",
            "rest_upload_no_data",
            *("rest_upload_limited_space", "rest_upload_user_quota_exceeded"),
            # Deleted since we looked: the next try looks again.
            *("woocommerce_product_invalid_image_id", "woocommerce_variation_invalid_image_id", "rest_post_invalid_id"),
        ),
        Outcome.RETRY,
    ),
}
_HINTS: Mapping[str, str] = {
    "woocommerce_rest_product_invalid_id": "check what the job's metadata names",
    "woocommerce_rest_product_variation_invalid_id": "check what the job's metadata names",
    # WordPress alone says so of a wrong password too; with WooCommerce it is mostly `incorrect_password`.
    "rest_not_logged_in": "the username or the application password is wrong, or the web server keeps the "
    "Authorization header from WordPress",
    "rest_cannot_create": "the user must be allowed to upload",
    "rest_no_route": "WooCommerce must be active, and permalinks other than plain",
    "application_passwords_disabled": "WordPress takes them over https, or where WP_ENVIRONMENT_TYPE is local",
}
_TAG = re.compile(r"<[^>]{0,200}>")


def address(config: WooCommerceConfig) -> str:
    """The site, however its address was written; WordPress may live in a folder."""
    parts = urlsplit(config.shop)
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}{parts.path.rstrip('/').removesuffix('/wp-json')}"


class Missing(Trouble):
    """What was asked for is not there."""


class Site:
    """One try's conversation with one site."""

    def __init__(self, http: Http, config: WooCommerceConfig, progress: Progress, now: Callable[[], int]) -> None:
        self._http = http
        self._now = now
        self._address = address(config)
        self._authorization = basic(config.username, config.application_password)
        self.progress = progress
        progress.hide([self._authorization])

    async def read(self, path: str, **query: str) -> Any:
        """The JSON of a GET. Raises Trouble; Missing for a 404 with WordPress's own code."""
        return self._said(await self._sent("GET", path, query, None, {}, SECONDS))

    async def write(self, path: str, method: str, **fields: Any) -> Any:
        """The JSON of an answer to JSON. Raises Trouble."""
        headers = {"Content-Type": "application/json"}
        return self._said(await self._sent(method, path, {}, json.dumps(fields).encode(), headers, SECONDS))

    async def upload(self, picture: Path, headers: Mapping[str, str], **query: str) -> Answer:
        """The answer of any status to a picture's bytes: raw, for PHP's limit of uploads is one of forms."""
        return await self._sent("POST", "wp/v2/media", query, picture, headers, UPLOAD_SECONDS)

    async def offers_passwords(self) -> bool:
        """Whether the site says of itself that it takes application passwords; asked without one."""
        answer = await self._http.request(
            "GET", f"{self._address}/wp-json/?_fields=authentication", deadline=SECONDS, connect=CONNECT, keep=KEEP
        )
        return isinstance(dig(saying(answer), "authentication", "application-passwords"), dict)

    async def _sent(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: bytes | Path | None,
        headers: Mapping[str, str],
        deadline: float,
    ) -> Answer:
        answer = await self._http.request(
            method,
            f"{self._address}/wp-json/{path}{'?' if query else ''}{urlencode(query)}",
            headers={
                "Authorization": f"Basic {self._authorization}",
                "Accept": "application/json",
                # A cache's answer is no proof of what the product shows.
                "Cache-Control": "no-cache",
                **headers,
            },
            body=body,
            deadline=deadline,
            connect=CONNECT,
            keep=KEEP,
        )
        self.progress.status = answer.status
        return answer

    def _said(self, answer: Answer) -> Any:
        if not 200 <= answer.status < 300:
            raise self.trouble(answer)
        said = saying(answer)
        if not isinstance(said, dict | list):
            why = "the answer is no JSON: is this WordPress, and does its PHP print no warnings (WP_DEBUG_DISPLAY)?"
            raise Trouble(Outcome.RETRY, why, answer)
        return said

    def trouble(self, answer: Answer) -> Trouble:
        """What an answer that is no 2xx means."""
        said = saying(answer)
        code = dig(said, "code")
        if not isinstance(code, str):
            code = ""
        message = _TAG.sub("", str(dig(said, "message") or f"the site answers {answer.status}"))
        why = f"{message} ({code})" if code else message
        if code in _HINTS:
            why += f"; {_HINTS[code]}"
        if 300 <= answer.status < 400:
            why += ", a redirect: give the address that WordPress itself has"
        meaning = BY_CODE[code] if code in BY_CODE else BY_STATUS.get(answer.status, Outcome.RETRY)
        if meaning is None:
            return Denied(why, answer)
        if answer.status == 404 and code in BY_CODE and code != "rest_no_route":
            return Missing(meaning, why, answer)
        wait = retry_after(answer.headers, self._now()) if meaning is Outcome.SLOW_DOWN else None
        return Trouble(meaning, why, answer, wait)


def number(name: str, what: str) -> str:
    """An id of WooCommerce's. Raises Impossible."""
    if not (name.isascii() and name.isdigit() and len(name) <= 20 and int(name) > 0):
        raise Impossible(f"{name[:60]!r} is no id of a {what} at WooCommerce: give its number")
    return str(int(name))
