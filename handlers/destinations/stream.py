"""The stream destination: the request that a webhook would be, handed to a client that makes it; its answer judged.

Nothing is sent from here: who holds the connection, and waits for the answer, is the service. What is signed and what
an answer means is as for a webhook.
"""

from handlers.destinations.contract import Message
from handlers.destinations.webhook import DEADLINE as WEBHOOK_DEADLINE
from handlers.destinations.webhook import attempt_of, headers_of
from handlers.transport import Answer
from schemas.delivery import Attempt, Outcome
from schemas.endpoint import Target
from schemas.stream import Handed, StreamAnswer

# A webhook's, and some for the two ways over the stream.
DEADLINE = WEBHOOK_DEADLINE + 5.0


def handed(delivery: str, number: int, message: Message, target: Target, started: int) -> Handed:
    """What the client is to send on, byte for byte; an attempt that begins at `started` (ms since 1970)."""
    headers = headers_of(message, target, started)
    return {"delivery": delivery, "attempt": number, "headers": headers, "body": message.body.decode()}


def answered(said: StreamAnswer, started: int, now: int) -> Attempt:
    """What the client's word makes of the attempt, by the table of outcomes."""
    if said.status is None:
        return Attempt(Outcome.RETRY, started, said.ms, error=said.error)
    answer = Answer(said.status, said.headers.as_dict(), said.body_head.encode("utf-8", "replace"), False, said.ms)
    return attempt_of(answer, started, said.ms, now)


def unanswered(started: int, now: int) -> Attempt:
    """Nothing was heard in time."""
    return Attempt(Outcome.RETRY, started, now - started, error=f"timeout: no answer within {DEADLINE:.0f} seconds")
