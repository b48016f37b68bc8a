"""What is to be checked of the vendors: whether each takes its credentials, by a call that costs nothing.

The call is not counted in the store's rate windows: a check runs beside a service, in another process, and must not
write to its store. It is one request, two where there must be a token first (Perfect Corp), so at worst a window is
overrun by as many, once: the vendor's 429 that may follow is waited out by whoever gets it, as any is.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from handlers.http import Answer, Http
from handlers.vendors.contract import Account, Purpose, VendorError
from schemas.job import ErrorClass
from service.accounts import KNOWN, Known
from service.checkup.findings import Finding, fault, note, ok
from service.clock import SystemClock
from service.config import PREFIX, SECTIONS, Settings, section
from service.vendor_memory import ShortMemory

# Receivers refuse signatures whose time is five minutes off, a bucket requests that are fifteen.
MOST_SKEW_SECONDS = 60


class _Watched(Http):
    """Remembers how far the vendor's clock was from ours."""

    skew: float | None = None

    async def request(self, *args: Any, **kwargs: Any) -> Answer:
        answer = await super().request(*args, **kwargs)
        try:
            theirs = parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
        except ValueError:
            return answer
        self.skew = theirs - time.time()
        return answer


@asynccontextmanager
async def _uncounted(purpose: Purpose, *, blocks: bool = False) -> AsyncIterator[None]:  # noqa: ARG001 - the contract's
    yield


async def vendors(settings: Settings, *, up: bool) -> Sequence[Finding]:
    """One finding a vendor, one where there is none, and one of the clock where a vendor's tells another time."""
    looked = await asyncio.gather(*(_vendor(settings, known) for known in KNOWN))
    findings = [finding for finding, _ in looked]
    if not any(section(settings, known.name).secrets() for known in KNOWN):
        mend = f"set {' or '.join(map(_setting, KNOWN))}; to try without an account: wirephoto serve --sandbox"
        if up:
            findings.append(note("vendors", "none is configured here; the service that is up may have others", mend))
        else:
            findings.append(fault("vendors", "none is configured, so no job can run", mend))
    return [*findings, *_clock([skew for _, skew in looked if skew is not None])]


def _setting(known: Known) -> str:
    return " and ".join(f"{PREFIX}{known.name.upper()}__{name.upper()}" for name in SECTIONS[known.name].CREDENTIALS)


async def _vendor(settings: Settings, known: Known) -> tuple[Finding, float | None]:
    about, own, setting = f"vendor {known.name}", section(settings, known.name), _setting(known)
    secrets = own.secrets()
    if not secrets:
        return note(about, "not configured: its operations are refused", f"set {setting}"), None
    try:
        http = _Watched(ca_file=settings.ca_file)
    except OSError:
        return note(about, "not asked: the CA file can't be used"), None
    host = urlsplit(own.base_url).hostname
    clock = SystemClock()
    account = Account(known.name, own.base_url, http, http, _uncounted, ShortMemory(clock), clock.now, secrets)
    try:
        await known.made(own).try_credentials(account)
    except VendorError as error:
        return _no(about, error, str(host), setting), http.skew
    finally:
        await http.close()
    return ok(about, f"{host} takes the credentials"), http.skew


def _no(about: str, error: VendorError, host: str, setting: str) -> Finding:
    if error.error_class is ErrorClass.AUTH:
        return fault(about, f"{host} refuses the credentials: {error.message}", f"correct {setting}")
    if error.error_class is ErrorClass.RATE_LIMIT:
        return note(about, f"{host} is asked too often at this moment", "check again in a minute")
    mend = f"look at the network, and at {setting.partition('__')[0]}__BASE_URL"
    return fault(about, f"{host} can't be asked: {error.message}", mend)


def _clock(skews: Sequence[float]) -> list[Finding]:
    if not skews:
        return []
    skew = min(skews, key=abs)
    if abs(skew) < MOST_SKEW_SECONDS:
        return [ok("clock", "agrees with the vendors'")]
    says = f"is {abs(skew):.0f} seconds {'behind' if skew > 0 else 'ahead of'} the vendors'"
    return [fault("clock", f"{says}: receivers will refuse our signatures", "set it, and keep it set by NTP")]
