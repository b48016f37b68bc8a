"""Beside the way: a vendor says no to the account, and not to a job. Then jobs wait, instead of failing one by one.

`heard` stands around each call of a vendor. A refused key or an empty account pauses the handing in of jobs (asking and
fetching go on), and is told by an event of the first project, once; a vendor that is down is only told. While an
account is paused a worker, the probe, looks at growing intervals whether it is good again: by a free call where there
is one, and then by letting a single job through, whose success is the proof. Nothing of it is forgotten at a restart.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from decimal import Decimal, InvalidOperation

import structlog

from handlers.vendors.contract import TellsCredits, VendorError
from schemas.event import EventType
from schemas.job import ErrorClass, Job, JobState
from schemas.trouble import HARMLESS, Kind, Trouble
from service.pacing.health import Call, Change, probe_at
from service.pipeline import announce
from service.pipeline.core import Announced, Core
from service.store import jobs, projects, vendor_troubles
from service.store.database import Tx
from service.vendors import Contracted

log = structlog.get_logger()

STEP = "probe"
_EVENTS: Mapping[Kind, EventType] = {
    Kind.REFUSED: EventType.VENDOR_UNAVAILABLE,
    Kind.BROKE: EventType.VENDOR_CREDITS_LOW,
    Kind.DOWN: EventType.VENDOR_UNAVAILABLE,
    Kind.LOW: EventType.VENDOR_CREDITS_LOW,
}
_SPENDS = frozenset({Call.SUBMIT, Call.FETCH})
_OF_THE_ACCOUNT = frozenset({ErrorClass.AUTH, ErrorClass.CREDITS})


class AccountError(VendorError):
    """A no to the account: the job that met it is none the worse for it."""


@asynccontextmanager
async def heard(core: Core, contracted: Contracted, call: Call, job: int | None = None) -> AsyncIterator[None]:
    """Around a call of the vendor: what comes of it tells of the vendor's health. Raises AccountError for VendorError.

    A pause is in the store before whoever met it goes on; the end of one is the probe's to write, for a yes may be the
    answer to a paid call, which is waiting to be written itself. `job`: its row, where it is about to be handed in.
    """
    health = contracted.health
    began = health.asks()
    try:
        yield
    except VendorError as error:
        if error.error_class is ErrorClass.RATE_LIMIT:
            contracted.turns.refused(error.retry_after)
        if error.error_class is ErrorClass.AUTH and job is not None and health.is_the_jobs(job):
            raise
        health.failed(call, began, error.error_class, error.code, core.clock.now())
        await settle(core, contracted)
        if error.error_class in _OF_THE_ACCOUNT:
            raise AccountError(**{field.name: getattr(error, field.name) for field in fields(error)}) from error
        raise
    else:
        health.answered(call, began)
        if health.changes or (call in _SPENDS and contracted.purse.due(core.clock.now())):
            core.wake(STEP, contracted.name)


async def settle(core: Core, contracted: Contracted) -> None:
    """Write down what has changed, in its order, and tell it."""
    health, name = contracted.health, contracted.name
    async with contracted.settling:
        while health.changes:
            change = health.changes[0]
            await core.commit(_settle, core, name, contracted.account_id, change, core.clock.now())
            health.changes.popleft()
            _say(name, change)
            # Either there is a probe to look forward to, or jobs may go on.
            core.wake(STEP, name)
            core.wake(jobs.Step.SUBMIT, name)


def _say(vendor: str, change: Change) -> None:
    if change.begun is not None:
        log.error("vendor.trouble", vendor=vendor, reason=change.begun.reason, probe_at=change.begun.probe_at)
    if change.over:
        log.info("vendor.trouble_over", vendor=vendor, kinds=sorted(change.over))


async def _settle(tx: Tx, core: Core, vendor: str, account: str, change: Change, now: int) -> Announced | None:
    """None where another node was first, or where something else is still wrong."""
    await _lock(tx)
    begun = change.begun
    has_begun = begun is not None and await vendor_troubles.begin(tx, vendor, account, begun)
    ended = [kind for kind in sorted(change.over) if await vendor_troubles.end(tx, vendor, account, kind)]
    if begun is not None and has_begun:
        return await announce.vendor_event(tx, core, _EVENTS[begun.kind], vendor, now, begun)
    if ended and await _works(tx, vendor, account):
        return await announce.vendor_event(tx, core, EventType.VENDOR_RECOVERED, vendor, now)
    return None


async def _works(tx: Tx, vendor: str, account: str) -> bool:
    return all(trouble.kind in HARMLESS for trouble in await vendor_troubles.of_account(tx, vendor, account))


async def _lock(tx: Tx) -> None:
    """One at a time: of two that each end one of two troubles, one must see that it was the last."""
    project = await projects.first(tx)
    assert project is not None, "who has an account has a project"
    await projects.lock(tx, project)


async def take_up(core: Core, contracted: Contracted) -> None:
    """At the start: what is wrong still is. The troubles of earlier credentials are over."""
    name, account = contracted.name, contracted.account_id
    if await core.db.read(vendor_troubles.any_of_others, name, account):
        await core.commit(_changed_account, core, name, account, core.clock.now())
        log.info("vendor.account_changed", vendor=name)
    contracted.health.take_up(await core.db.read(vendor_troubles.of_account, name, account))


async def _changed_account(tx: Tx, core: Core, vendor: str, account: str, now: int) -> Announced | None:
    await _lock(tx)
    ended = await vendor_troubles.end_of_others(tx, vendor, account)
    if not ended or not await _works(tx, vendor, account):
        return None
    return await announce.vendor_event(tx, core, EventType.VENDOR_RECOVERED, vendor, now)


# --- the door ---------------------------------------------------------------------------------------------------------


async def claim_through(
    contracted: Contracted, claim: Callable[[int], Awaitable[Sequence[Job]]], room: int
) -> Sequence[Job]:
    """Jobs to hand in, as far as the door lets them."""
    door = contracted.door
    if not door.shut:
        return await claim(room)
    if not door.ajar:
        return []
    claimed = await claim(1)
    for job in claimed:
        door.let_through(job.row)
    return claimed


async def next_through(contracted: Contracted, next_due: Callable[[], Awaitable[int | None]]) -> int | None:
    """None while the door is shut: who opens it wakes us."""
    door = contracted.door
    if door.ajar or not door.shut:
        return await next_due()
    # Nobody can make use of room now: questions need not leave it.
    contracted.turns.hungry(False)
    return None


# --- the probe --------------------------------------------------------------------------------------------------------


async def probe_now(core: Core, contracted: Contracted) -> None:
    """Whoever has paid, or has mended the key, need not wait for the next probe. Raises StoreUnavailable."""
    async with contracted.settling:
        name, account = contracted.name, contracted.account_id
        stored = await core.db.write(vendor_troubles.hasten, name, account, core.clock.now())
        contracted.health.put_right(stored)
    core.wake(STEP, name)


class Probe:
    """The worker that looks whether a paused account is good again."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def claim(self, contracted: Contracted, room: int) -> Sequence[Trouble | None]:
        """The probes that are due. Each is put off before it is made, so that no crash makes them come too often.

        None is a look into the purse, for which no row stands.
        """
        await settle(self._core, contracted)
        now = self._core.clock.now()
        async with contracted.settling:
            due = [entry for entry in contracted.health.pausing if entry.probe_at is not None and entry.probe_at <= now]
            probes = [entry for entry in due[:room] if await self._is_ours(entry, contracted, now)]
        if len(probes) == room or not contracted.purse.due(now):
            return probes
        contracted.purse.asked(now)
        return [*probes, None]

    async def _is_ours(self, trouble: Trouble, contracted: Contracted, now: int) -> bool:
        db, health, name, account = self._core.db, contracted.health, contracted.name, contracted.account_id
        next_at = probe_at(trouble.probes + 1, now)
        if await db.write(vendor_troubles.probing, name, account, trouble, next_at):
            health.probed(trouble, next_at)
            return True
        # Another node makes it, or has seen the end of the trouble.
        stored = await db.read(vendor_troubles.of_account, name, account)
        health.put_right(stored)
        if all(entry.kind is not trouble.kind for entry in stored):
            health.take_back(trouble.kind)
        return False

    async def next_due(self, contracted: Contracted) -> int | None:
        return contracted.next_probe_at

    async def run(self, trouble: Trouble | None, contracted: Contracted) -> None:
        core = self._core
        if trouble is None:
            await self._look_into(contracted)
            return
        good = await self._looks_good(trouble, contracted)
        log.info("vendor.probed", vendor=contracted.name, kind=trouble.kind, probes=trouble.probes + 1, good=good)
        if good is False:
            return
        if good and await core.db.read(jobs.next_due, jobs.Step.SUBMIT, contracted.name) is None:
            # Nobody is there to prove it: the next job may find out.
            contracted.health.take_back(trouble.kind)
            await settle(core, contracted)
            return
        contracted.door.set_ajar(trouble)
        core.wake(jobs.Step.SUBMIT, contracted.name)

    async def broken(self, trouble: Trouble | None, fault: Exception) -> None:
        """It was put off before it was made: the next one comes."""

    async def _looks_good(self, trouble: Trouble, contracted: Contracted) -> bool | None:
        """What can be learned for free; None where that is nothing."""
        if trouble.kind is Kind.REFUSED:
            try:
                async with heard(self._core, contracted, Call.LOOK):
                    await contracted.vendor.try_credentials(contracted.account)
            except VendorError:
                return False
            return True
        if trouble.call == Call.FETCH and await self._fetches_wait(contracted):
            # They are tried again anyway, and one more result that can't be paid for proves nothing.
            return False
        return await self._has_credits(contracted)

    async def _fetches_wait(self, contracted: Contracted) -> bool:
        counts = await self._core.db.read(jobs.under_way, None)
        return any(entry.vendor == contracted.name and entry.state is JobState.FETCHING for entry in counts)

    async def _has_credits(self, contracted: Contracted) -> bool | None:
        balance = await _balance(contracted)
        # Who doesn't say may still have them.
        return None if balance is None else Decimal(balance) > 0

    async def _look_into(self, contracted: Contracted) -> None:
        """Is little left? The operator wants to know it before it is nothing."""
        balance = await _balance(contracted)
        if balance is not None:
            low = contracted.purse.is_low(Decimal(balance))
            contracted.health.has_left(balance, low=low, now=self._core.clock.now())
            await settle(self._core, contracted)


async def _balance(contracted: Contracted) -> str | None:
    """What is left, as a number; None where the vendor doesn't tell."""
    if not isinstance(contracted.vendor, TellsCredits):
        return None
    try:
        balance = (await contracted.vendor.credits(contracted.account)).balance
        return None if balance is None or not Decimal(balance).is_finite() else balance
    except (VendorError, InvalidOperation) as error:
        log.warning("vendor.credits_untold", vendor=contracted.name, error=type(error).__name__)
        return None
