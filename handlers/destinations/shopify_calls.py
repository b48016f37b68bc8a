"""How Shopify is asked, and what its answers mean: nearly all of its errors come with status 200.

Sources: Shopify's documents "Response codes", "Rate limits" and "Client credentials grant", and the error codes in its
Admin schemas. What a table does not list is tried again.
"""

import asyncio
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from handlers.destinations.shops import Impossible
from handlers.destinations.tries import CONNECT, KEEP, Denied, Progress, Trouble, dig, saying
from handlers.http import Answer, Http, retry_after
from schemas.delivery import Outcome
from schemas.shop import ShopifyConfig

SECONDS = 30.0
# A token is renewed this long before its end.
MARGIN_MS = 5 * 60_000
# Shopify says so with each token; this is its document's word.
LIVES_S = 86_399

# None: our credentials are not taken, or don't reach so far.
Meanings = Mapping[str | int, Outcome | None]

BY_STATUS: Meanings = {
    400: Outcome.ABORT,
    401: None,
    402: Outcome.RETRY,  # the shop is frozen until it has paid
    403: Outcome.RETRY,  # the whole shop is blocked, or a firewall blocks us; a scope that lacks has a code
    404: Outcome.RETRY,  # no such shop; also while it moves
    423: Outcome.RETRY,  # locked: too many asked for too much
    429: Outcome.SLOW_DOWN,
    503: Outcome.SLOW_DOWN,
}
BY_CODE: Meanings = {
    "THROTTLED": Outcome.SLOW_DOWN,
    "ACCESS_DENIED": None,
    "SHOP_INACTIVE": Outcome.RETRY,
    "INTERNAL_SERVER_ERROR": Outcome.RETRY,
    "TIMEOUT": Outcome.RETRY,
    "MAX_COST_EXCEEDED": Outcome.ABORT,
    # A version of the API that lacks what we ask for.
    "undefinedField": Outcome.ABORT,
    "undefinedType": Outcome.ABORT,
    "argumentNotAccepted": Outcome.ABORT,
    "variableMismatch": Outcome.ABORT,
    "INVALID_VARIABLE": Outcome.ABORT,
}
# The product takes no more.
MEDIA_LIMIT = "PRODUCT_MEDIA_LIMIT_EXCEEDED"
# `code` of a mutation's userErrors.
BY_USER_ERROR: Meanings = {
    **dict.fromkeys(
        (
            *("ALT_VALUE_LIMIT_EXCEEDED", "INVALID", "INVALID_FILENAME", "INVALID_FILENAME_EXTENSION"),
            *("INVALID_DUPLICATE_MODE_FOR_TYPE", "MISMATCHED_FILENAME_AND_ORIGINAL_SOURCE"),
            *(MEDIA_LIMIT, "SHOP_MEDIA_LIMIT_EXCEEDED", "PRODUCT_SUSPENDED"),
            *("REFERENCE_TARGET_DOES_NOT_EXIST", "PRODUCT_DOES_NOT_EXIST", "PRODUCT_VARIANT_DOES_NOT_EXIST_ON_PRODUCT"),
            *("TOO_MANY_FILE_REFERENCE", "UNSUPPORTED_FILE_REFERENCE", "UNACCEPTABLE_ASSET"),
            *("UNACCEPTABLE_TRIAL_ASSET", "UNACCEPTABLE_UNVERIFIED_TRIAL_ASSET"),
            *("APP_NOT_AUTHORIZED", "INVALID_TYPE", "INVALID_VALUE", "CAPABILITY_VIOLATION"),
        ),
        Outcome.ABORT,
    ),
    **dict.fromkeys(
        (
            *("FILE_LOCKED", "MEDIA_CANNOT_BE_MODIFIED", "NON_READY_STATE", "NON_READY_MEDIA"),
            # Taken away by somebody since we looked: the next try looks again.
            *("FILE_DOES_NOT_EXIST", "MEDIA_DOES_NOT_EXIST", "MEDIA_DOES_NOT_EXIST_ON_PRODUCT"),
            *("MEDIA_IS_NOT_ATTACHED_TO_VARIANT", "PRODUCT_VARIANT_ALREADY_HAS_MEDIA", "INVALID_FAILED_MEDIA_STATE"),
            *("INVALID_IMAGE_SOURCE_URL", "INTERNAL_ERROR", "STALE_OBJECT"),
        ),
        Outcome.RETRY,
    ),
}
# `code` of a file that could not be processed, where another upload of the same bytes may go better.
PASSING_FILE_ERRORS = frozenset(
    {"IMAGE_DOWNLOAD_FAILURE", "INVALID_SIGNED_URL", "MEDIA_TIMEOUT_ERROR", "FILE_STORAGE_LIMIT_EXCEEDED", "UNKNOWN"}
)


class UserError(Trouble):
    """A mutation's own no, told by its code."""

    def __init__(self, outcome: Outcome, code: str, why: str, answer: Answer) -> None:
        super().__init__(outcome, why, answer)
        self.code = code


def address(config: ShopifyConfig) -> str:
    """The shop, however its address was written."""
    parts = urlsplit(config.shop)
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}"


def gid(kind: str, name: str) -> str:
    """Shopify's global id, for a number too."""
    match = re.fullmatch(rf"(?:gid://shopify/{kind}/)?([0-9]{{1,20}})", name)
    if match is None:
        raise Impossible(f"{name[:60]!r} is no id of a {kind} at Shopify: give its number")
    return f"gid://shopify/{kind}/{int(match[1])}"


@dataclass
class _Held:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    token: str | None = field(default=None, repr=False)
    until: int = 0


class Tokens:
    """Access tokens had for an app's own id and secret, kept in memory until shortly before their end."""

    def __init__(self, http: Http, now: Callable[[], int]) -> None:
        self._http = http
        self._now = now
        self._all: dict[str, _Held] = {}

    async def current(self, config: ShopifyConfig, progress: Progress, refused: str | None = None) -> str:
        """A token that should open, another one than `refused`; however many ask, one request is made."""
        if config.access_token is not None:
            return config.access_token
        held = self._held(config)
        async with held.lock:
            if held.token is None or held.token == refused or self._now() >= held.until:
                held.token = None
                held.token, held.until = await self._had(config, progress)
            return held.token

    def _held(self, config: ShopifyConfig) -> _Held:
        # By digest: a secret that was changed has tokens of its own, and none stands here twice.
        parts = (address(config), config.client_id, config.client_secret)
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        now = self._now()
        self._all = {name: held for name, held in self._all.items() if held.lock.locked() or now < held.until}
        return self._all.setdefault(key, _Held())

    async def _had(self, config: ShopifyConfig, progress: Progress) -> tuple[str, int]:
        asked_at = self._now()
        answer = await self._http.request(
            "POST",
            f"{address(config)}/admin/oauth/access_token",
            headers={"Accept": "application/json"},
            form=[
                ("grant_type", "client_credentials"),
                ("client_id", config.client_id or ""),
                ("client_secret", config.client_secret or ""),
            ],
            deadline=SECONDS,
            connect=CONNECT,
            keep=KEEP,
        )
        progress.status = answer.status
        body = saying(answer)
        if answer.status in (400, 401) or (answer.status == 403 and dig(body, "error")):
            why = dig(body, "error_description") or dig(body, "error") or f"status {answer.status}"
            raise Denied(f"Shopify gives no access token for this client_id and client_secret: {why}", answer)
        token, lives = dig(body, "access_token"), dig(body, "expires_in")
        if answer.status != 200 or not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise _by_status(answer, asked_at)
        progress.hide([token])
        seconds = lives if isinstance(lives, int) and 0 < lives <= LIVES_S else LIVES_S
        return token, asked_at + seconds * 1000 - MARGIN_MS


class Admin:
    """One try's conversation with one shop."""

    def __init__(
        self, http: Http, config: ShopifyConfig, tokens: Tokens, progress: Progress, now: Callable[[], int]
    ) -> None:
        self._http = http
        self._config = config
        self._tokens = tokens
        self._now = now
        self.progress = progress
        self._renewed = False

    async def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        """The answer's `data`. Raises Trouble."""
        answer = await self._asked(document, variables)
        body = saying(answer)
        if answer.status != 200:
            raise _by_status(answer, self._now())
        errors = dig(body, "errors")
        if errors:
            raise _by_errors(errors, body, answer, self._now())
        data = dig(body, "data")
        if not isinstance(data, dict):
            raise Trouble(Outcome.RETRY, "the answer is none of Shopify's GraphQL Admin: is this the shop's address?")
        self._last = answer
        return data

    async def change(self, document: str, name: str, *, errors: str = "userErrors", **variables: Any) -> dict[str, Any]:
        """A mutation's payload. Raises UserError and Trouble."""
        payload = dig(await self.ask(document, **variables), name)
        if not isinstance(payload, dict):
            raise Trouble(Outcome.RETRY, f"Shopify did not answer {name}", self._last)
        for error in payload.get(errors) or ():
            code, message = str(dig(error, "code") or "INVALID"), dig(error, "message")
            raise UserError(BY_USER_ERROR.get(code) or Outcome.RETRY, code, f"{message} ({code})", self._last)
        return payload

    async def _asked(self, document: str, variables: Mapping[str, Any]) -> Answer:
        token = await self._tokens.current(self._config, self.progress)
        answer = await self._sent(token, document, variables)
        if answer.status == 401 and self._config.access_token is None and not self._renewed:
            self._renewed = True
            token = await self._tokens.current(self._config, self.progress, refused=token)
            answer = await self._sent(token, document, variables)
        return answer

    async def _sent(self, token: str, document: str, variables: Mapping[str, Any]) -> Answer:
        self.progress.hide([token])
        answer = await self._http.request(
            "POST",
            f"{address(self._config)}/admin/api/{self._config.api_version}/graphql.json",
            headers={
                "X-Shopify-Access-Token": token,
                "Content-Type": "application/json",
                "Accept": "application/json",
            },
            body=json.dumps({"query": document, "variables": variables}).encode(),
            deadline=SECONDS,
            connect=CONNECT,
            keep=KEEP,
        )
        self.progress.status = answer.status
        return answer


def _meant(meaning: Outcome | None, why: str, answer: Answer, wait: float | None = None) -> Trouble:
    if meaning is None:
        return Denied(why, answer)
    return Trouble(meaning, why, answer, wait if meaning is Outcome.SLOW_DOWN else None)


def _by_status(answer: Answer, now: int) -> Trouble:
    errors = dig(saying(answer), "errors")
    # A throttle with status 429 says in its body for how long.
    wait = retry_after(answer.headers, now) or _restored(saying(answer))
    why = f"Shopify answers {answer.status}" + (f": {errors}" if isinstance(errors, str) else "")
    if 300 <= answer.status < 400:
        why += ", a redirect: give the shop's own address, https://NAME.myshopify.com"
    return _meant(BY_STATUS.get(answer.status, Outcome.RETRY), why, answer, wait)


def _by_errors(errors: Any, body: Any, answer: Answer, now: int) -> Trouble:
    first = errors[0] if isinstance(errors, list) else {"message": errors}
    # Older answers have the word and no code.
    code = dig(first, "extensions", "code") or ("THROTTLED" if dig(first, "message") == "Throttled" else "")
    wait = retry_after(answer.headers, now) or _restored(body)
    why = f"{dig(first, 'message')} ({code})" if code else str(dig(first, "message"))
    if code == "ACCESS_DENIED" and (needs := dig(first, "extensions", "requiredAccess")):
        why += f"; required: {needs}"
    return _meant(BY_CODE.get(str(code), Outcome.RETRY), why, answer, wait)


def _restored(body: Any) -> float | None:
    """In how many seconds the bucket holds enough for the same question, by what a throttled answer says of it."""
    cost = dig(body, "extensions", "cost")
    wanted, status = dig(cost, "requestedQueryCost"), dig(cost, "throttleStatus")
    there, rate = dig(status, "currentlyAvailable"), dig(status, "restoreRate")
    if not all(isinstance(number, int | float) for number in (wanted, there, rate)) or rate <= 0:
        return None
    return float(max(1, math.ceil((wanted - there) / rate)))
