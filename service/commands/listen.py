"""`wirephoto listen`: deliveries to a URL on one's own machine, without a tunnel.

It makes an endpoint of kind stream and comes for its deliveries. The service signs; this command hands headers and body
on as they are, and says what the receiver answered: that is the attempt, with its retries. Ctrl-C deletes the endpoint.
"""

import asyncio
import contextlib
import json
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import click

from service.client import Client, Json, ProblemAnswer, Unreachable, cause, passing, place
from service.commands import completing
from service.commands.codes import example
from service.commands.events import LONGEST_PAUSE, SHORTEST_PAUSE, until_stopped
from service.commands.shared import Server, client_command, explain, printable

ENDPOINTS = "/v1/endpoints"
# As a webhook has it: the whole exchange, and what is read of the answer.
DEADLINE_SECONDS = 15.0
READ_AT_MOST = 16 * 1024
KEEP_AT_MOST = 1024
HEADER_AT_MOST = 100
# Answers that are remembered, in case that the service has not heard them and hands the same attempt out again.
REMEMBERED = 1_000
_MEANS_SOMETHING = ("retry-after", "webhook-delivery")
# aiohttp would add its own.
_AS_IT_IS = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")

_ENDS = {
    "taken_over": "Another client has taken this endpoint over.",
    "deleted": "The endpoint was deleted.",
    "disabled": "The receiver wants no more (410, or webhook-delivery: disable): the endpoint was disabled.",
}
_AWAY = "The endpoint is gone: nobody came for it for a minute. Start again; it has another secret then."


def _local_url(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    _ = ctx
    if value is not None and not value.lower().startswith(("http://", "https://")):
        raise click.BadParameter("a receiver's URL begins with http:// or https://", param=param)
    return value


@click.command(
    epilog=example(
        "wirephoto listen --forward-to http://localhost:3000/hook",
        "wirephoto listen --events job.succeeded,job.failed --print",
    )
)
@click.option("--forward-to", metavar="URL", callback=_local_url, help="Where the deliveries go on this machine.")
@click.option(
    "--events",
    "patterns",
    shell_complete=completing.EVENT_TYPES,
    help="Event types with commas, such as job.succeeded or job.*; all by default.",
)
@click.option("--print", "bodies", is_flag=True, help="Show each event's body; alone it takes all of them.")
@client_command
def listen(server: Server, forward_to: str | None, patterns: str | None, bodies: bool) -> None:
    """Receive events on this machine, as a webhook would: signed, retried, in the ledger. No tunnel is needed.

    With --json one document a line: first the endpoint with its secret, then each delivery with its answer.
    """
    if forward_to is None and not bodies:
        raise click.UsageError("Say where deliveries go, with --forward-to, or only --print them.")
    wanted: Json = {"kind": "stream", "description": "wirephoto listen"}
    if patterns is not None:
        wanted["events"] = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]

    async def work(client: Client) -> None:
        endpoint = await client.post(ENDPOINTS, wanted)
        async with _receiver() as receiver:
            listener = Listener(server, client, endpoint, forward_to, bodies, receiver)
            try:
                await listener.run()
            finally:
                await listener.put_away()

    server.run(lambda client: until_stopped(work(client)))


@contextlib.asynccontextmanager
async def _receiver() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=DEADLINE_SECONDS)
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=jar, skip_auto_headers=_AS_IT_IS) as session:
        yield session


@dataclass
class Listener:
    """One run of the command."""

    server: Server
    client: Client
    endpoint: Json
    forward_to: str | None
    bodies: bool
    receiver: aiohttp.ClientSession
    _ours: bool = True
    _under_way: set[tuple[str, int]] = field(default_factory=set)
    _said: OrderedDict[tuple[str, int], Json] = field(default_factory=OrderedDict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Until it is stopped. Raises ProblemAnswer where there is nothing to come for any more."""
        self._greet()
        try:
            await self._follow()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def put_away(self) -> None:
        """Delete the endpoint, unless it is another client's now. Without us it would go a minute later anyway."""
        if self._ours:
            with contextlib.suppress(ProblemAnswer, Unreachable):
                await self.client.delete(place(ENDPOINTS, self.endpoint["id"]))

    async def _follow(self) -> None:
        failures, away = 0, False
        while True:
            try:
                messages = self.client.messages(place(ENDPOINTS, self.endpoint["id"], "stream"))
                async with contextlib.aclosing(messages):
                    async for kind, data in messages:
                        if away:
                            self._note("Here again.")
                        failures, away = 0, False
                        self._heed(kind, data)
            except (Unreachable, ProblemAnswer) as error:
                if isinstance(error, ProblemAnswer) and error.status == 404:
                    raise ProblemAnswer(404, _AWAY) from None
                if not passing(error):
                    raise
                if not away:
                    self._note(f"Waiting: {explain(error)}")
                away = True
            await _pause(failures)
            failures += 1

    def _heed(self, kind: str, data: str) -> None:
        if kind == "delivery":
            self._take(json.loads(data))
        elif kind == "closed":
            reason = json.loads(data)["reason"]
            self._ours = reason != "taken_over"
            if reason in _ENDS:
                raise ProblemAnswer(409, _ENDS[reason])

    def _take(self, handed: Json) -> None:
        key = (str(handed["delivery"]), int(handed["attempt"]))
        if key in self._under_way:
            return
        self._under_way.add(key)
        self._spawn(self._deliver(key, handed))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, key: tuple[str, int], handed: Json) -> None:
        try:
            said = self._said.get(key)
            if said is None:
                said = self._said[key] = {"delivery": handed["delivery"], **await self._forward(handed)}
                if len(self._said) > REMEMBERED:
                    self._said.popitem(last=False)
            self._show(handed, said, await self._report(said))
        finally:
            self._under_way.discard(key)

    async def _forward(self, handed: Json) -> Json:
        """The receiver's answer, or why there is none."""
        if self.forward_to is None:
            return {"status": 200}
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with self.receiver.post(
                self.forward_to, data=handed["body"].encode(), headers=handed["headers"], allow_redirects=False
            ) as answer:
                head = await _head(answer)
                told = {
                    name: answer.headers[name][:HEADER_AT_MOST] for name in _MEANS_SOMETHING if name in answer.headers
                }
                said = {"status": answer.status, "headers": told, "body_head": head.decode("utf-8", "replace")}
        except aiohttp.InvalidURL:
            said = {"error": "bad_url: this is not a URL"}
        except TimeoutError:
            said = {"error": f"timeout: no complete answer within {DEADLINE_SECONDS:.0f} seconds"}
        except aiohttp.ClientError as error:
            said = {"error": f"connect: {cause(error)}"}
        return {**said, "ms": round((loop.time() - began) * 1000)}

    async def _report(self, said: Json) -> Json | None:
        """What the answer came to. None where the service does not wait for it any more."""
        failures = 0
        while True:
            try:
                came_to: Json = await self.client.post(place(ENDPOINTS, self.endpoint["id"], "answers"), said)
            except (Unreachable, ProblemAnswer) as error:
                if not passing(error):
                    return None
                await _pause(failures)
                failures += 1
            else:
                return came_to

    # --- what is told ---------------------------------------------------------------------------------------------

    def _greet(self) -> None:
        made = self.endpoint

        def for_people() -> None:
            where = self.forward_to or "this terminal"
            click.echo(f"{made['id']} hears of {', '.join(made['events'])}; deliveries go to {where}")
            click.echo(f"secret: {made['secret']}")

        self.server.show(made, for_people)

    def _show(self, handed: Json, said: Json, came_to: Json | None) -> None:
        event = json.loads(handed["body"])
        told = {
            "delivery": handed["delivery"],
            "attempt": handed["attempt"],
            "event": handed["headers"]["webhook-id"],
            "type": event["type"],
            "status": said.get("status"),
            "error": said.get("error"),
            "ms": said.get("ms"),
            "outcome": None if came_to is None else came_to["outcome"],
            "next_attempt_at": None if came_to is None else came_to["next_attempt_at"],
        }
        if self.bodies:
            told |= {"headers": handed["headers"], "body": handed["body"]}
        self.server.show(told, lambda: self._line(told, event))

    def _line(self, told: Json, event: Json) -> None:
        answer = told["error"] or told["status"]
        took = "" if told["ms"] is None else f" in {told['ms']} ms"
        again = f", again at {told['next_attempt_at']}" if told["next_attempt_at"] else ""
        meant = told["outcome"] or "too late: no answer is waited for"
        line = f"{event['timestamp']}  {told['type']:<19}  {told['event']}  {answer}{took}  {meant}{again}"
        click.echo(printable(line))
        if self.bodies:
            click.echo(printable(told["body"]))

    def _note(self, text: str) -> None:
        if not self.server.json:
            click.echo(text, err=True)


async def _head(answer: aiohttp.ClientResponse) -> bytes:
    """The beginning of a body; the receiver is heard out as far as a webhook would hear it."""
    head = bytearray()
    async for piece in answer.content.iter_any():
        head += piece
        if len(head) >= READ_AT_MOST:
            break
    return bytes(head[:KEEP_AT_MOST])


async def _pause(failures: int) -> None:
    pause = min(SHORTEST_PAUSE * 2 ** min(failures, 10), LONGEST_PAUSE)
    # Jitter: not all clients come back in the same instant.
    await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - nothing secret about it
