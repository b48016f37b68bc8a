"""Perfect Corp's stand-in: a task lives as long as somebody asks for it, and nobody may ask too often (seed 000).

Every request but those to storage counts into both rate limits. What the document leaves open, or what newer documents
say otherwise, is a setting. Limits and the time that a task lives unasked are measured by `monotonic`, all that expires
by `clock`.
"""

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from decimal import Decimal

from aiohttp import web

from handlers.sandbox import pictures
from handlers.sandbox.perfectcorp_accounts import CodedError, Keys, Ledger, Tokens, Windows
from handlers.sandbox.perfectcorp_features import (
    FEATURES,
    Feature,
    Run,
    fits,
    process,
    read_run,
    read_slots,
    told_results,
)
from handlers.sandbox.perfectcorp_storage import RESULTS, SIGNATURE, THUMBS, UPLOADS, Storage, StoredFile
from handlers.sandbox.perfectcorp_styles import STYLES, Style, find, page, page_size
from handlers.sandbox.perfectcorp_tasks import PerfectCorpTask, bytes_of, fate_of, real_word
from handlers.sandbox.perfectcorp_words import ERRORS, PerfectCorpSettings, error_body
from handlers.sandbox.pictures import Picture
from handlers.sandbox.requests import Asked
from handlers.sandbox.server import RefusedError, Route, Sandbox, json_answer
from handlers.sandbox.tasks import State

_PRICE = Decimal(1)
_BEARER = "Bearer "
_Handle = Callable[[Asked], Awaitable[web.Response]]


class PerfectCorpSandbox(Sandbox[PerfectCorpSettings, PerfectCorpTask]):
    """Endpoints for faults: auth, file, style-group, style, run, task, credit, history; upload, result, thumb.

    `play` takes `running`, `success`, any error code for a failure, and `status:…` for a status of its own.
    """

    base_path = "/s2s/v1.0"
    secret_fields = frozenset({SIGNATURE})

    def __init__(
        self,
        settings: PerfectCorpSettings | None = None,
        *,
        client_id: str = "sandbox-client",
        features: Mapping[str, Feature] = FEATURES,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.features = features
        super().__init__(settings or PerfectCorpSettings(), clock=clock, seed=seed, monotonic=monotonic, sleep=sleep)
        self.keys = Keys(client_id, self.settings.key_bits)
        self.tokens = Tokens()
        self.storage = Storage(self.new_id, clock)
        self._windows = Windows()
        self._ledger = Ledger(clock)
        self._lost: list[str] = []
        self._requested: dict[tuple[object, ...], PerfectCorpTask] = {}

    @property
    def credentials(self) -> Mapping[str, str]:
        return {"client_id": self.keys.client_id, "client_secret": self.keys.client_secret}

    def route_table(self) -> Iterable[Route]:
        base, own = self.base_path, "{feature:" + "|".join(self.features) + "}"
        with_files = "{feature:" + "|".join(name for name, feature in self.features.items() if feature.sets) + "}"
        with_styles = "{feature:" + "|".join(name for name, feature in self.features.items() if feature.styled) + "}"
        return (
            Route("auth", ("POST",), f"{base}/client/auth", self._coded(self._auth)),
            Route("file", ("POST",), f"{base}/file/{with_files}", self._coded(self._file)),
            Route("style-group", ("GET",), f"{base}/task/style-group/{with_styles}", self._coded(self._style_groups)),
            Route("style", ("GET",), f"{base}/task/style/{with_styles}", self._coded(self._styles)),
            Route("run", ("POST",), f"{base}/task/{own}", self._coded(self._run)),
            Route("task", ("GET",), f"{base}/task/{own}", self._coded(self._task)),
            Route("credit", ("GET",), f"{base}/client/credit", self._coded(self._credit)),
            Route("history", ("GET",), f"{base}/client/credit/history", self._coded(self._history)),
            Route("upload", ("PUT",), UPLOADS + "/{key:[0-9a-f]+}.{extension}", self._coded(self._upload)),
            Route("result", ("GET", "HEAD"), RESULTS + "/{key:[0-9a-f]+}.{extension}", self._coded(self._result)),
            Route("thumb", ("GET", "HEAD"), THUMBS + "/{style:[0-9]+}.jpg", self._coded(self._thumb)),
        )

    def _coded(self, handle: _Handle) -> _Handle:
        async def answer(asked: Asked) -> web.Response:
            try:
                return await handle(asked)
            except CodedError as error:
                raise self._refusal(error.code, str(error)) from None

        return answer

    @property
    def lost(self) -> list[str]:
        """The ids of all tasks that went unasked for too long, in the order in which that was found out."""
        now = self.monotonic()
        for task in self.tasks.values():
            self._is_lost(task, now)
        return list(self._lost)

    def arrived(self, endpoint: str, request: web.Request, at: float) -> RefusedError | None:  # noqa: ARG002 - it is the path that tells
        """Both limits, over every request to the API; storage has none."""
        if not request.path.startswith(self.base_path):
            return None
        who = {"ip": request.remote or ""}
        if token := request.headers.get("Authorization"):
            who["token"] = token
        overrun = self._windows.arrive(self.settings.limits, who, at, refused_count=self.settings.refused_count)
        if overrun is None:
            return None
        refusal = self._refusal("TooManyRequests", str(overrun))
        if self.settings.retry_after:
            refusal.answer.headers["Retry-After"] = str(math.ceil(overrun.wait))
        return refusal

    def not_found(self, error: web.HTTPException) -> web.Response:
        return self._refusal("MethodNotAllowed" if error.status == 405 else "NotFound").answer

    # -- the account -----------------------------------------------------------------------------------------------

    async def _auth(self, asked: Asked) -> web.Response:
        body = _json(asked)
        if body.keys() != {"client_id", "id_token"} or not all(isinstance(value, str) for value in body.values()):
            raise CodedError("invalid_parameter", "the body has client_id and id_token, both strings")
        client_id, id_token = str(body["client_id"]), str(body["id_token"])
        self.keys.check(client_id, id_token, self.clock(), self.settings.id_token_seconds)
        token = f"{self.new_id()}{self.new_id()}"
        self.tokens.issue(token, self.clock() + self.settings.token_seconds, alone=self.settings.one_token)
        return self._fine({"access_token": token})

    async def _credit(self, asked: Asked) -> web.Response:
        self._check(asked)
        told = {"results": self._ledger.lots(self.settings.credits)}
        return json_answer({"status": 200, **told}) if self.settings.credit_shape == "results" else self._fine(told)

    async def _history(self, asked: Asked) -> web.Response:
        """[public] Newest first."""
        self._check(asked, "page_size", "starting_token")
        start, total = asked.fields.get("starting_token", "0"), len(self._ledger.spent)
        if not start.isdecimal() or int(start) > total:
            raise CodedError("invalid_parameter", "starting_token: none that a page of this list gave")
        count = page_size(asked.fields)
        end = int(start) + count
        following = self._next(str(end) if end < total else None)
        return self._fine({"history": self._ledger.history(int(start), count), **following})

    # -- files -----------------------------------------------------------------------------------------------------

    async def _file(self, asked: Asked) -> web.Response:
        self._check(asked)
        slug = asked.request.match_info["feature"]
        files = read_slots(self.features[slug], _json(asked), sized=self.settings.file_size)
        return self._fine({"files": [self._slot(slug, place, entry) for place, entry in enumerate(files)]})

    def _slot(self, slug: str, place: int, entry: Mapping[str, object]) -> dict[str, object]:
        size = entry.get("file_size")
        content_type, name = str(entry["content_type"]), str(entry["file_name"])
        file = self.storage.add(slug, content_type, name, place, size if isinstance(size, int) else None)
        request = self.storage.slot(self.origin, file, self.settings.slot_seconds, self.settings.headers)
        return {"content_type": content_type, "file_name": name, "file_id": file.id, "requests": [request]}

    async def _upload(self, asked: Asked) -> web.Response:
        file = self.storage.receive(asked, self.settings.file_seconds)
        if not await asyncio.to_thread(fits, file.content_type, asked.body):
            # Storage doesn't look into a file; the engine does, and knows nothing of what it was called.
            self.breach(asked, "the bytes are not of the content_type that the slot was opened for")
        return web.Response()

    async def _result(self, asked: Asked) -> web.Response:
        file = self.storage.result(asked)
        return web.Response(body=file.data, content_type=file.content_type)

    # -- styles ----------------------------------------------------------------------------------------------------

    async def _style_groups(self, asked: Asked) -> web.Response:
        self._check(asked, "page_size", "starting_token")
        groups, following = page(STYLES.get(asked.request.match_info["feature"], ()), asked.fields)
        told = [{"id": group.id, "info": {"title": group.title}} for group in groups]
        return self._fine({"groups": told, **self._next(following)})

    async def _styles(self, asked: Asked) -> web.Response:
        self._check(asked, "page_size", "starting_token", "style_group_id")
        groups, wanted = STYLES.get(asked.request.match_info["feature"], ()), asked.fields.get("style_group_id")
        chosen = [group for group in groups if wanted in (None, str(group.id))]
        if not chosen:
            raise CodedError("invalid_parameter", "style_group_id: no group of this operation")
        styles, following = page([style for group in chosen for style in group.styles], asked.fields)
        told = [{"id": style.id, "info": {"title": style.title, "thumb": self._thumb_url(style)}} for style in styles]
        return self._fine({"styles": told, **self._next(following)})

    async def _thumb(self, asked: Asked) -> web.Response:
        number = asked.request.match_info["style"]
        every = (style for groups in STYLES.values() for group in groups for style in group.styles)
        style = next((style for style in every if str(style.id) == number), None)
        if style is None:
            return web.Response(status=404)
        picture = pictures.encode(pictures.drawn(style.title, (96, 96), style.colour), "jpg")
        return web.Response(body=picture.data, content_type=picture.content_type)

    def _thumb_url(self, style: Style) -> str:
        return f"{self.origin}{THUMBS}/{style.id}.jpg"

    # -- tasks -----------------------------------------------------------------------------------------------------

    async def _run(self, asked: Asked) -> web.Response:
        self._check(asked)
        slug = asked.request.match_info["feature"]
        feature = self.features[slug]
        run = read_run(feature, _json(asked))
        mark = self._mark(slug, run)
        if run.request_id is not None and (before := self._requested.get(mark)):
            return self._ignored(asked, before, slug, run)
        style = self._style(slug, feature, run)
        files = {name: self._stored(slug, file_id) for name, file_id in run.files.items()}
        if self._balance() < _PRICE:
            raise CodedError("CreditInsufficiency")
        task = PerfectCorpTask(
            id=self.storage.opaque_id(),
            operation=slug,
            created_at=self.clock(),
            script=self.next_script(),
            run=run,
            alive_at=asked.at,
        )
        self.tasks[task.id] = self._requested[mark] = task

        async def make() -> Mapping[str, Picture]:
            outputs = await self.filtered(lambda: process(feature, bytes_of(files), run, style))
            self._finish(task, outputs)
            return outputs

        self.spawn(self.run(task, make, fate_of(task.script[-1]) if task.script else State.DONE))
        return self._fine({"task_id": task.id})

    async def _task(self, asked: Asked) -> web.Response:
        self._check(asked, "task_id")
        task_id = asked.fields.get("task_id", "")
        task = self.tasks.get(task_id)
        if task is None or task.operation != asked.request.match_info["feature"]:
            mended = task_id.replace(" ", "+") in self.tasks
            raise CodedError("InvalidTaskId", "task_id not URL-encoded" if mended else "a task_id that no run gave")
        since = task.told_at
        if self._is_lost(task, asked.at) or self.clock() - task.created_at < self.settings.unseen_seconds:
            raise CodedError("InvalidTaskId")
        if since is not None and self.clock() - since > self.settings.told_seconds:
            raise CodedError("InvalidTaskId", "asked for a task whose end was told long ago")
        if since is None:
            self.check_pace(asked, task)
        task.alive_at = max(task.alive_at, asked.at)
        told = self._told(task, str(task.says(real_word(task), "success")))
        return self._fine({"polling_interval": round(self.settings.poll_seconds * 1000), **told})

    def _told(self, task: PerfectCorpTask, word: str) -> dict[str, object]:
        if word == "running" or word.startswith("status:"):
            return {"status": word.removeprefix("status:")}
        task.told_at = self.clock() if task.told_at is None else task.told_at
        if word != "success":
            return {"status": "error", "error": word}
        seconds = self.settings.link_seconds
        links = {
            name: (file.id, self.storage.link(self.origin, RESULTS, file, seconds))
            for name, file in task.results.items()
        }
        return {"status": "success", "results": told_results(task.operation, task.run, links)}

    def _is_lost(self, task: PerfectCorpTask, now: float) -> bool:
        """ "The task will lose if no polling in 10 seconds", and "no credit will be consumed in this case"."""
        if task.lost or task.told_at is not None or now - task.alive_at <= self.settings.keep_alive_seconds:
            return task.lost
        task.lost = True
        self._lost.append(task.id)
        if not self.settings.lost_is_charged:
            self._ledger.give_back(task.id)
            self.charged = [entry for entry in self.charged if entry[0] != task.id]
        return True

    def _finish(self, task: PerfectCorpTask, outputs: Mapping[str, Picture]) -> None:
        """ "Your credits will be consumed when the resulting image is successfully generated"."""
        if not self._is_lost(task, self.monotonic()) or self.settings.lost_is_charged:
            self._ledger.spend(task.id, _PRICE)
            self.charged.append((task.id, _PRICE))
        for name, picture in outputs.items():
            file = self.storage.add(None, picture.content_type, name)
            file.data, file.until = picture.data, self.clock() + self.settings.result_seconds
            task.results[name] = file

    def _mark(self, slug: str, run: Run) -> tuple[object, ...]:
        """Under what a run's request_id is remembered."""
        if self.settings.request_scope == "client":
            return (run.request_id,)
        return (run.request_id, *(sorted(run.files.values()) or [slug]))

    def _ignored(self, asked: Asked, before: PerfectCorpTask, slug: str, run: Run) -> web.Response:
        """ "Requests with the same request_id will be ignored by the server"."""
        if (before.operation, before.run) != (slug, run):
            self.breach(asked, "a request_id that was used before, for something else")
        return self._fine({"task_id": before.id} if self.settings.repeat_answer == "task_id" else {})

    def _style(self, slug: str, feature: Feature, run: Run) -> Style | None:
        if not feature.styled:
            return None
        groups, params = STYLES.get(slug, ()), run.params
        style = find(groups, params["style_group_id"], params["style_ids"][0])
        if style is None:
            raise CodedError("InvalidStyleId", "style_ids: none of this group's")
        return style

    def _stored(self, slug: str, file_id: str) -> StoredFile | None:
        file = self.storage.live(file_id)
        if file is not None and file.feature not in (slug, None):
            raise CodedError("InvalidFileId", "a file of another operation")
        if file is None and self.settings.missing_file == "request":
            # Unknown, never uploaded or expired: a client with a memory can only meet the last of these.
            known = self.storage.files.get(file_id)
            expired = known is not None and known.data is not None
            raise CodedError("InvalidFileId", "" if expired else "a file that was never uploaded")
        return file

    def _balance(self) -> Decimal:
        now = self.monotonic()
        ahead = sum(not (task.ended.is_set() or self._is_lost(task, now)) for task in self.tasks.values())
        return self.settings.credits - self._ledger.used() - ahead * _PRICE

    # -- checks and answers ----------------------------------------------------------------------------------------

    def _check(self, asked: Asked, *query: str) -> None:
        """The token first; then only the query that the document has, and no body where it has none."""
        given = asked.request.headers.get("Authorization", "")
        token = given.removeprefix(_BEARER)
        if not given.startswith(_BEARER) or not self.tokens.known(token):
            raise CodedError("InvalidAccessToken", "no access token that was ever given, as Bearer")
        if not self.tokens.live(token, self.clock()):
            raise CodedError("InvalidAccessToken")
        if unknown := asked.query_names - set(query):
            raise CodedError("invalid_parameter", f"unknown in the URL: {', '.join(sorted(unknown))}")
        if asked.repeated:
            raise CodedError("invalid_parameter", f"given twice: {', '.join(sorted(asked.repeated))}")
        if asked.request.method == "GET" and asked.encoding != "none":
            raise CodedError("invalid_parameter", "a GET has no body")

    def _next(self, token: str | None) -> dict[str, str | None]:
        return {} if token is None and self.settings.last_page == "absent" else {"next_token": token}

    def _refusal(self, code: str, breach: str = "") -> RefusedError:
        body = error_body(code, self.settings.code_field)
        return RefusedError(json_answer(body, ERRORS[code][0]), breach)

    def _fine(self, result: Mapping[str, object]) -> web.Response:
        return json_answer({"status": 200, "result": result})


def _json(asked: Asked) -> Mapping[str, object]:
    try:
        value = json.loads(asked.body) if asked.request.content_type == "application/json" else None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CodedError("invalid_parameter", "the body is a JSON object, and says that it is JSON")
    return value
