"""How Vendure is asked, and what its answers mean: most of its errors come with status 200.

Sources: Vendure's documents "Authentication" and "Uploading files", and the code of 3.7.3: its error codes, its guard,
which says FORBIDDEN to a key that it does not know and to a role that does not reach, and its limit of uploads. What a
table does not list is tried again.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handlers.destinations import vendure_queries as queries
from handlers.destinations.shops import Impossible
from handlers.destinations.tries import CONNECT, KEEP, Denied, Progress, Trouble, dig, saying
from handlers.http import Answer, Http, Part, retry_after
from schemas.delivery import Outcome
from schemas.shop import VendureConfig

SECONDS = 30.0
UPLOAD_SECONDS = 90.0

# None: our key is not taken, or does not reach so far.
Meanings = Mapping[str | int, Outcome | None]

BY_STATUS: Meanings = {
    401: None,
    403: Outcome.RETRY,  # a firewall's; Vendure's own has a code
    413: Outcome.ABORT,
    429: Outcome.SLOW_DOWN,
    503: Outcome.SLOW_DOWN,
}
BY_CODE: Meanings = {
    "FORBIDDEN": None,
    "UNAUTHORIZED": None,
    # It would be so for every picture, and goes on once the config is right.
    "CHANNEL_NOT_FOUND": Outcome.REFUSED,
    # Deleted between two of our calls.
    "ENTITY_NOT_FOUND": Outcome.ABORT,
    # A server that lacks what we ask for, or the custom field.
    "GRAPHQL_VALIDATION_FAILED": Outcome.ABORT,
    "GRAPHQL_PARSE_FAILED": Outcome.ABORT,
    "BAD_USER_INPUT": Outcome.ABORT,
    "USER_INPUT_ERROR": Outcome.ABORT,
    "MIME_TYPE_ERROR": Outcome.ABORT,
    "INTERNAL_SERVER_ERROR": Outcome.RETRY,
}
# An error without a code that is for good nevertheless.
TOO_LARGE = "File truncated"


@dataclass(frozen=True, slots=True)
class Gallery:
    """The assets of a product, or of a variant, in their order, and the one that stands for it."""

    owner: str
    assets: tuple[str, ...]
    featured: str | None

    @classmethod
    def of(cls, owner: Any) -> "Gallery":
        assets = tuple(str(dig(asset, "id")) for asset in dig(owner, "assets") or ())
        return cls(str(dig(owner, "id")), assets, dig(owner, "featuredAsset", "id"))


class Admin:
    """One try's conversation with one server."""

    def __init__(self, http: Http, config: VendureConfig, progress: Progress, now: Callable[[], int]) -> None:
        self._http = http
        self._config = config
        self._now = now
        self.progress = progress

    async def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        """The answer's `data`. Raises Trouble."""
        body = json.dumps({"query": document, "variables": variables}).encode()
        return self._data(await self._sent(SECONDS, {"Content-Type": "application/json"}, body=body))

    async def product(self, product: str) -> Gallery:
        """Raises Impossible, Trouble."""
        name = self._config.custom_field
        data = await self.ask(queries.PRODUCT % ("" if name is None else f"customFields {{ {name} }}"), id=product)
        self.is_channel(data)
        if data.get("product") is None:
            raise Impossible(f"the shop has no product {product[:60]!r}: check what the job's metadata names")
        return Gallery.of(data.get("product"))

    async def variant(self, product: str, variant: str) -> Gallery:
        """Of the product with this id. Raises Impossible, Trouble."""
        found = dig(await self.ask(queries.VARIANT, id=variant), "productVariant")
        if dig(found, "product", "id") != product:
            raise Impossible(
                f"product {product[:60]!r} has no variant {variant[:60]!r}: check what the job's metadata names"
            )
        return Gallery.of(found)

    async def language(self) -> str:
        """That of the channel, in which names are given. Raises Trouble."""
        return str(dig(await self.ask(queries.CHANNEL), "activeChannel", "defaultLanguageCode"))

    def is_channel(self, data: Mapping[str, Any]) -> None:
        """Raises Trouble: a server with one channel answers with that one, whatever was asked for."""
        if self._config.channel_token not in (None, dig(data, "activeChannel", "token")):
            raise Trouble(Outcome.REFUSED, "the shop has no channel with this channel_token")

    async def upload(self, path: Path, filename: str, content_type: str, given: Mapping[str, Any]) -> str:
        """The id of the asset that is made of a file; by GraphQL's multipart requests. Raises Trouble."""
        operations = {"query": queries.CREATE, "variables": {"input": [{**given, "file": None}]}}
        parts = [
            Part("operations", json.dumps(operations)),
            Part("map", json.dumps({"0": ["variables.input.0.file"]})),
            Part("0", path, filename=filename, content_type=content_type),
        ]
        try:
            answer = await self._sent(UPLOAD_SECONDS, {}, parts=parts)
        except OSError as error:
            raise Trouble(Outcome.RETRY, f"the picture can't be read here: {error.strerror}") from None
        made = next(iter(self._data(answer).get("createAssets") or ()), None)
        if (code := dig(made, "errorCode")) is not None:
            raise _meant(BY_CODE.get(str(code), Outcome.RETRY), f"{dig(made, 'message')} ({code})", answer)
        if not isinstance(asset := dig(made, "id"), str):
            raise Trouble(Outcome.RETRY, "Vendure says nothing of the asset it was to make", answer)
        return asset

    async def _sent(self, seconds: float, headers: Mapping[str, str], **body: Any) -> Answer:
        config = self._config
        token = {} if config.channel_token is None else {"vendure-token": config.channel_token}
        answer = await self._http.request(
            "POST",
            config.shop,
            headers={
                "vendure-api-key": config.api_key,
                "Accept": "application/json",
                # Asked for by GraphQL servers before they take a form: no browser's form can send it.
                "apollo-require-preflight": "true",
                **token,
                **headers,
            },
            deadline=seconds,
            connect=CONNECT,
            keep=KEEP,
            **body,
        )
        self.progress.status = answer.status
        return answer

    def _data(self, answer: Answer) -> dict[str, Any]:
        body = saying(answer)
        errors = dig(body, "errors")
        if isinstance(errors, list) and errors:
            raise _by_error(errors[0], answer)
        data = dig(body, "data")
        if answer.status != 200 or not isinstance(data, dict):
            raise _by_status(answer, self._now())
        return data


def _meant(meaning: Outcome | None, why: str, answer: Answer, wait: float | None = None) -> Trouble:
    return Denied(why, answer) if meaning is None else Trouble(meaning, why, answer, wait)


def _by_error(error: Any, answer: Answer) -> Trouble:
    code, message = dig(error, "extensions", "code"), str(dig(error, "message"))
    meaning = BY_CODE.get(str(code), Outcome.RETRY)
    if message.startswith(TOO_LARGE):
        meaning = Outcome.ABORT
        message += " Raise assetOptions.uploadMaxFileSize there, or let the operation give less."
    return _meant(meaning, f"{message} ({code})" if code else message, answer)


def _by_status(answer: Answer, now: int) -> Trouble:
    meaning = BY_STATUS.get(answer.status, Outcome.RETRY)
    why = f"the shop answers {answer.status}"
    if answer.status == 413:
        why += ": the picture is larger than the shop, or what stands before it, takes"
    elif meaning is Outcome.RETRY and answer.status < 500:
        why += ", and not as Vendure's Admin API does: is config.shop its URL, such as https://shop.example/admin-api?"
    wait = retry_after(answer.headers, now) if meaning is Outcome.SLOW_DOWN else None
    return _meant(meaning, why, answer, wait)
