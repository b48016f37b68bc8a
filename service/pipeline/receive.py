"""Fifth step: a vendor spoke. Its words are stored once, as they are; only then does the vendor get its 2xx.

Words that come to a callback URL are unsigned: only a hint. They make the task due, and `poll` asks the vendor.
Answers that we asked for are believed and go to `conclude`.
"""

from dataclasses import dataclass
from enum import StrEnum

from schemas.callback import Callback, Via
from schemas.job import TERMINAL, JobState
from service.pipeline import announce
from service.pipeline.core import Announced, Core
from service.security import keys
from service.store import callbacks, jobs, submissions
from service.store.database import Tx
from service.store.submissions import Submission
from service.vendors import Contracted

# Against a forger who has learned a callback URL: more than the vendor would ever send.
MOST_CALLBACKS_PER_JOB = 32
MOST_BYTES = 256 * 1024

# From here on no callback changes anything. `queued` is before: an earlier submission may speak up while a job waits.
_OVER = frozenset({JobState.FETCHING, *TERMINAL})


class Receipt(StrEnum):
    STORED = "stored"  # or stored before, byte for byte
    UNKNOWN = "unknown"  # no submission has this token
    TOO_MANY = "too_many"


@dataclass(frozen=True, slots=True)
class Received:
    receipt: Receipt
    announced: Announced | None = None


async def receive(core: Core, contracted: Contracted, token: str, callback: Callback) -> Receipt:
    """A webhook came in. When this returns STORED, the words are durable."""
    now = core.clock.now()
    received = await core.db.write(_receive, core, contracted, keys.hash_of(token), callback, now)
    if received.announced is not None:
        core.tell(received.announced)
    if received.receipt is Receipt.STORED:
        core.metrics.callbacks.bump(contracted.name, callback.via)
        core.wake("poll", contracted.name)
    return received.receipt


async def _receive(
    tx: Tx, core: Core, contracted: Contracted, token_hash: str, callback: Callback, now: int
) -> Received:
    named = await submissions.by_token(tx, contracted.name, token_hash)
    if named is None:
        return Received(Receipt.UNKNOWN)
    job = await jobs.locked(tx, named.job)
    submission = await submissions.get(tx, named.row)
    if await callbacks.count(tx, submission.job) >= MOST_CALLBACKS_PER_JOB:
        return Received(Receipt.TOO_MANY)
    row = await callbacks.add(tx, submission.row, submission.job, callback, now)
    if row is None:
        return Received(Receipt.STORED)
    if job.state in _OVER:
        # The late twin: recorded, and changes nothing.
        await callbacks.read(tx, row, "ignored", now)
        return Received(Receipt.STORED)
    announced = None
    update = contracted.vendor.read(callback, None)
    told = update.task_id if submission.task is None else None
    if told is not None and not await submissions.is_of_another(tx, submission, told):
        # The answer to the submission is still to come, or was lost: the token proves whose task this is. A task of
        # somebody else's is a lie all the same: its result would cross the wall between projects.
        announced = await announce.task_known(tx, core, submission, told, now)
    await submissions.hurry(tx, submission.row, now)
    return Received(Receipt.STORED, announced)


async def store_answer(tx: Tx, submission: Submission, node: int, answer: Callback, asked_at: int, now: int) -> None:
    """The vendor's own final words. Where hints had come before we asked, they are what this confirms."""
    await jobs.locked(tx, submission.job)
    hints = [hint for hint in await callbacks.hints(tx, submission.row) if hint.received_at <= asked_at]
    if hints and answer.via is Via.POLL:
        await callbacks.confirm(tx, hints[0].row, answer)
    else:
        await callbacks.add(tx, submission.row, submission.job, answer, now)
    await submissions.wait(tx, submission.row, node)
    await jobs.to_conclude(tx, submission.job, now)
