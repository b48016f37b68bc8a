"""Perfect Corp: a slot, an upload, a task that dies unless it is asked about every 10 seconds (seed 000).

It never calls back, and takes 100 requests in 5 minutes: polls, submissions, slots and looks all together. A task is
charged when it succeeds; the same request_id again starts nothing and costs nothing.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from handlers.http import Answer, Stream
from handlers.vendors import perfectcorp_features as table
from handlers.vendors import perfectcorp_files as files
from handlers.vendors import perfectcorp_words as words
from handlers.vendors import reading
from handlers.vendors.contract import (
    LARGEST_STYLE_PAGE,
    Account,
    Credits,
    HasStyles,
    InputFile,
    Pace,
    Page,
    Prepared,
    Purpose,
    Submitted,
    Task,
    TellsCreditHistory,
    Vendor,
    VendorError,
    Window,
    Work,
)
from handlers.vendors.perfectcorp_auth import Tokens
from handlers.vendors.perfectcorp_slots import Slots
from schemas.callback import Callback, Update, Via
from schemas.catalogue import Operation
from schemas.job import ErrorClass

# "100 requests per 5 minutes" per IP and "per minute" per token, "both conditions must be met"; "the task will lose if
# no polling in 10 seconds". How long a task may take the document does not say.
PACE = Pace(
    first_poll=5.0,
    interval=5.0,
    deadline=120.0,
    call=30.0,
    blocking_call=30.0,
    windows=(Window("ip", 100, 300.0), Window("account", 100, 60.0)),
    keep_alive=10.0,
    least=1.0,  # polling_interval: the minimum, and far from affordable
    max_concurrent=16,
)
QUERY_SECONDS = 8.0  # less than the keep-alive: an answer that never comes leaves time to ask once more
LOOK_SECONDS = 15.0


class PerfectCorp(Vendor, TellsCreditHistory, HasStyles):
    """Needs the secrets `client_id` and `client_secret`.

    `features` tell how declared features are called; `slugs` stand in for the table's, by the operation's name.
    `file_size`: the file call names the size of each picture, as newer documents want it [public].
    """

    name = "perfectcorp"
    resubmits_free = True

    def __init__(
        self,
        pace: Pace | None = None,
        *,
        features: Mapping[str, table.Call] | None = None,
        slugs: Mapping[str, str] | None = None,
        file_size: bool = False,
    ) -> None:
        self.pace = pace or PACE
        self._features = table.features(features or {}, slugs or {})
        self.operations = {name: table.operation(name, feature) for name, feature in self._features.items()}
        self._tokens = Tokens()
        self._slots = Slots()
        self._file_size = file_size

    async def try_credentials(self, account: Account) -> None:
        """What is left: two calls, for there must be a token first."""
        if _lots(await self._looked(account, "client/credit")) is None:
            raise reading.unreadable("the answer has no credits: this is not Perfect Corp")

    async def prepare(self, account: Account, work: Work) -> Prepared:
        """Slots for all pictures by one request, the uploads, and the number by which a repeated call is known."""
        slug, images = self._slug(work.operation), _images(work)
        files.checked(images)
        held = {name: files.reusable(image, account.now()) for name, image in images.items()}
        reused = {name: file_id for name, file_id in held.items() if file_id is not None}
        uploaded = await self._uploaded(
            account, slug, {name: image for name, image in images.items() if name not in reused}, work.behind
        )
        ids = {name: (reused | uploaded)[name] for name in images}
        return Prepared(
            {
                "slug": slug,
                "request_id": await account.memory.next_number("request_id"),
                "payload": table.payload(work.operation, work.params, work.extra, ids),
                "reused": bool(reused),
            }
        )

    async def submit(self, account: Account, prepared: Prepared, reply_to: str | None, work: Work) -> Submitted:  # noqa: ARG002 - it can't call back, and all that counts was prepared
        data = prepared.data
        answer = await self._call(
            account,
            Purpose.SUBMIT,
            "POST",
            f"task/{data['slug']}",
            self.pace.call,
            body={"request_id": data["request_id"], "payload": data["payload"]},
            paid=True,
        )
        # The picture may be gone from the vendor by now: prepared anew, it is uploaded.
        fault = words.fault(answer, self._tokens.secrets(account), paid=True, reused=bool(data.get("reused")))
        if fault is not None:
            raise fault
        task_id = reading.identifier(reading.section(words.said(answer), "result").get("task_id"))
        if task_id is None:
            # "Requests with the same request_id will be ignored": perhaps the first one's answer was lost.
            error = reading.unreadable("the answer to the submission has no task_id", paid=True)
            error.code = "no_task_id"
            raise error
        return Submitted(task_id)

    async def ask(self, account: Account, task: Task) -> Callback:
        # The id holds + / and =.
        path = f"task/{task.prepared.data['slug']}?task_id={quote(task.id, safe='')}"
        answer = await self._call(account, Purpose.POLL, "GET", path, QUERY_SECONDS)
        secrets = self._tokens.secrets(account)
        callback = reading.callback(Via.POLL, answer, secrets)
        if self.read(callback, task).raw_state is None:
            raise words.fault(answer, secrets) or reading.unreadable("the answer to the question has no status")
        return callback

    def read(self, callback: Callback, task: Task | None) -> Update:
        return words.read(callback, None if task is None else task.id)

    def fetch(self, account: Account, source: Mapping[str, Any]) -> AbstractAsyncContextManager[Stream]:
        return reading.linked_result(account.public_http, str(source["url"]))

    # -- looks -----------------------------------------------------------------------------------------------------

    async def credits(self, account: Account) -> Credits:
        """The sum of what has not expired. "To two decimal places" [public]: `amount_dec`, where it is told."""
        payload = await self._looked(account, "client/credit")
        lots = _lots(payload)
        if lots is None:
            raise reading.unreadable("the answer has no credits")
        left = [_amount(lot) for lot in lots if not _expired(lot, account.now())]
        known = [amount for amount in left if amount is not None]
        return Credits(format(sum(known, Decimal(0)), "f") if len(known) == len(left) else None, payload)

    async def credit_history(self, account: Account, after: str | None, limit: int) -> Page:
        payload = await self._looked(account, "client/credit/history", _page(after, limit))
        result = reading.section(payload, "result")
        return Page(_objects(result, "history"), _next(result))

    def has_styles(self, operation: Operation) -> bool:
        return self._features[operation.name].styled

    async def style_groups(self, account: Account, operation: Operation, after: str | None, limit: int) -> Page:
        payload = await self._looked(account, f"task/style-group/{self._slug(operation)}", _page(after, limit))
        result = reading.section(payload, "result")
        groups = [
            {"id": group_id, "title": reading.readable(reading.section(group, "info").get("title"))}
            for group in _objects(result, "groups")
            if (group_id := reading.identifier(group.get("id"))) is not None
        ]
        return Page(groups, _next(result))

    async def styles(
        self, account: Account, operation: Operation, group: str | None, after: str | None, limit: int
    ) -> Page:
        query = {**({} if group is None else {"style_group_id": group}), **_page(after, limit)}
        payload = await self._looked(account, f"task/style/{self._slug(operation)}", query)
        result = reading.section(payload, "result")
        styles = [
            {
                "id": style_id,
                "title": reading.readable(reading.section(style, "info").get("title")),
                "thumbnail": reading.link(reading.section(style, "info").get("thumb")),
            }
            for style in _objects(result, "styles")
            if (style_id := reading.identifier(style.get("id"))) is not None
        ]
        return Page(styles, _next(result))

    # -- requests --------------------------------------------------------------------------------------------------

    def _slug(self, operation: Operation) -> str:
        slug = self._features[operation.name].slug
        if slug is None:
            message = "how this is called is not known: see PERFECTCORP__FEATURES"
            raise VendorError(message, ErrorClass.INPUT, "declared", permanent=True)
        return slug

    async def _uploaded(
        self, account: Account, slug: str, images: Mapping[str, InputFile], behind: int
    ) -> dict[str, str]:
        """File ids by input."""
        if not images:
            return {}
        pictures = list(images.values())
        if self._file_size:
            # A slot for one picture's size is no other's.
            sizes = [image.bytes for image in pictures]
            slots = await self._opened(account, slug, [image.content_type for image in pictures], sizes)
            await files.store_all(account, slots, pictures)
        else:
            slots = await self._stored(account, slug, pictures, behind)
        return {name: slot.file_id for name, slot in zip(images, slots, strict=True)}

    async def _stored(
        self, account: Account, slug: str, pictures: Sequence[InputFile], behind: int
    ) -> Sequence[files.Slot]:
        """The pictures in slots that were opened ahead, or are opened now."""
        opens = partial(self._opened, account, slug)
        types = [image.content_type for image in pictures]
        slots = await self._slots.take(account.memory, slug, types, behind, account.now, opens)
        try:
            await files.store_all(account, slots, pictures)
        except VendorError:
            if not self._slots.distrust(account.memory, slug):
                raise
            slots = await self._slots.take(account.memory, slug, types, 0, account.now, opens)
            await files.store_all(account, slots, pictures)
        return slots

    async def _opened(
        self, account: Account, slug: str, types: Sequence[str], sizes: Sequence[int] | None = None
    ) -> Sequence[files.Slot]:
        """The file call: a slot for each content type."""
        named = files.names(types)
        wanted: list[dict[str, Any]] = [
            {"content_type": content_type, "file_name": name} for content_type, name in zip(types, named, strict=True)
        ]
        for entry, size in zip(wanted, sizes or (), strict=False):
            entry["file_size"] = size
        answer = await self._call(
            account, Purpose.UPLOAD, "POST", f"file/{slug}", self.pace.call, body={"files": wanted}
        )
        fault = words.fault(answer, self._tokens.secrets(account))
        if fault is not None:
            raise fault
        return files.slots(words.said(answer), named)

    async def _looked(self, account: Account, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What an endpoint that costs nothing tells, without our secrets. Raises VendorError where it says no."""
        whole = f"{path}?{urlencode(query)}" if query else path
        answer = await self._call(account, Purpose.LOOK, "GET", whole, LOOK_SECONDS)
        secrets = self._tokens.secrets(account)
        fault = words.fault(answer, secrets)
        if fault is not None:
            raise fault
        body = reading.redacted_bytes(answer.body, secrets)
        payload = reading.json_object(body, answer.headers.get("Content-Type", ""))
        if not payload:
            raise reading.unreadable("the answer is none of Perfect Corp's")
        return payload

    async def _call(
        self,
        account: Account,
        purpose: Purpose,
        method: str,
        path: str,
        seconds: float,
        *,
        body: Mapping[str, Any] | None = None,
        paid: bool = False,
    ) -> Answer:
        """One request, and one more where its token was refused: with another token."""
        token = await self._tokens.current(account)
        answer = await _send(account, purpose, method, path, seconds, token, body, paid=paid)
        if words.refuses_token(answer):
            token = await self._tokens.current(account, refused=token)
            answer = await _send(account, purpose, method, path, seconds, token, body, paid=paid)
        return answer


async def _send(
    account: Account,
    purpose: Purpose,
    method: str,
    path: str,
    seconds: float,
    token: str,
    body: Mapping[str, Any] | None,
    *,
    paid: bool,
) -> Answer:
    headers = {"Authorization": f"Bearer {token}"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    url = f"{account.base_url.rstrip('/')}/{path}"
    data = None if body is None else json.dumps(body).encode()
    async with account.turn(purpose):
        with reading.told_apart(paid=paid):
            return await account.http.request(method, url, headers=headers, body=data, deadline=seconds, cut=True)


def _images(work: Work) -> dict[str, InputFile]:
    """The job's pictures, in the operation's order. Raises VendorError for a link, and where one is missing."""
    given = {spec.name: work.inputs.get(spec.name) for spec in work.operation.inputs}
    images = {name: image for name, image in given.items() if isinstance(image, InputFile)}
    missing = [
        spec.name
        for spec in work.operation.inputs
        if spec.name not in images and (spec.required or given[spec.name] is not None)
    ]
    if missing:
        message = f"Perfect Corp takes files, not links: {', '.join(missing)}"
        raise VendorError(message, ErrorClass.INPUT, "no_file", permanent=True)
    return images


def _page(after: str | None, limit: int) -> dict[str, str]:
    size = {"page_size": str(min(limit, LARGEST_STYLE_PAGE))}
    return size if after is None else {**size, "starting_token": after}


def _objects(result: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = result.get(name)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _next(result: Mapping[str, Any]) -> str | None:
    """Null, absent and empty all mean the last page."""
    return reading.identifier(result.get("next_token"))


def _lots(payload: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """What was bought or granted, each with its amount and its end: beside the status, or under `result` [public]."""
    for place in (payload, reading.section(payload, "result")):
        if isinstance(place.get("results"), list):
            return _objects(place, "results")
    return None


def _amount(lot: Mapping[str, Any]) -> Decimal | None:
    for name in ("amount_dec", "amount"):
        text = reading.identifier(lot.get(name)) if not isinstance(lot.get(name), float) else str(lot[name])
        try:
            amount = Decimal(text) if text is not None else None
        except ArithmeticError:
            continue
        if amount is not None and amount.is_finite():
            return amount
    return None


def _expired(lot: Mapping[str, Any], now: int) -> bool:
    ends = reading.whole(lot.get("expiry"))
    return ends is not None and 0 < ends <= now
