"""The webhook destination: one signed POST to a URL, judged by the table of outcomes."""

from collections.abc import Callable, Mapping

from handlers.destinations.contract import Destination, Message, Steps
from handlers.http import Answer, Http, TransportError, retry_after
from schemas.delivery import Attempt, Outcome
from schemas.endpoint import Target

DEADLINE = 15.0
CONNECT = 5.0
READ_AT_MOST = 16 * 1024
KEEP_AT_MOST = 1024

_BY_STATUS: Mapping[int, Outcome] = {
    410: Outcome.GONE,
    429: Outcome.SLOW_DOWN,
    503: Outcome.SLOW_DOWN,
}
# Standard Webhooks leaves the header to the receiver's platform; these are the words that Wirephoto documents.
_BY_WORD: Mapping[str, Outcome] = {"disable": Outcome.GONE, "abort": Outcome.ABORT}
_WAITS = frozenset({429, 502, 503, 504})


def outcome_of(answer: Answer) -> Outcome:
    """What an answer means. A 3xx is a failure and never followed; what is not listed is tried again."""
    word = answer.headers.get("webhook-delivery", "").strip().lower()
    if word in _BY_WORD:
        return _BY_WORD[word]
    if 200 <= answer.status < 300:
        return Outcome.DELIVERED
    return _BY_STATUS.get(answer.status, Outcome.RETRY)


def headers_of(message: Message, target: Target, started: int) -> dict[str, str]:
    """The headers of an attempt that begins at `started` (ms since 1970), with its signature; names in lower case."""
    return {
        "user-agent": "Wirephoto/1 (+webhooks)",
        # In lower case, so that none is sent twice.
        **{name.lower(): value for name, value in target.headers.items()},
        **message.headers(target, started),
    }


def attempt_of(answer: Answer, started: int, ms: int, now: int) -> Attempt:
    """What an answer makes of the attempt."""
    return Attempt(
        outcome_of(answer),
        started,
        ms,
        status=answer.status,
        response_head=answer.body[:KEEP_AT_MOST].decode("utf-8", "replace").replace("\x00", "\ufffd"),
        retry_after=retry_after(answer.headers, now) if answer.status in _WAITS else None,
    )


class Webhook(Destination):
    """`http` must judge every address; `now` is the service's clock in milliseconds."""

    kind = "webhook"
    deadline = DEADLINE

    def __init__(self, http: Http, now: Callable[[], int]) -> None:
        self._http = http
        self._now = now

    async def send(self, message: Message, target: Target, steps: Steps) -> Attempt:  # noqa: ARG002 - one call, no steps
        started = self._now()
        try:
            answer = await self._http.request(
                "POST",
                target.url,
                headers=headers_of(message, target, started),
                body=message.body,
                deadline=self.deadline,
                connect=CONNECT,
                keep=READ_AT_MOST,
                cut=True,
            )
        except TransportError as error:
            return Attempt(Outcome.RETRY, started, self._now() - started, error=f"{error.kind}: {error}"[:500])
        now = self._now()
        return attempt_of(answer, started, now - started, now)
