"""What is to be checked by asking others: who answers where we are told to be, and the asset store."""

import asyncio
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from service.checkup.findings import Finding, fault, note, ok
from service.checkup.folders import unusable
from service.client import Client, ProblemAnswer, Unreachable
from service.config import PREFIX, InvalidSettings, Settings
from service.opening import asset_store
from service.pipeline.core import AssetStore
from service.store.database import StoreUnavailable

# Without credentials the library asks the cloud's own address for a role, long and in vain.
BUCKET_SECONDS = 20.0


@dataclass(frozen=True)
class Answered:
    """Who answers at an address; `installation` is empty unless it is a Wirephoto that tells."""

    wirephoto: bool
    installation: str = ""


async def asked(url: str) -> Answered | None:
    """Who is there; None: nobody."""
    async with Client(url, None) as client:
        try:
            said = await client.get("/healthz")
        except ProblemAnswer:
            return Answered(wirephoto=False)
        except Unreachable:
            return None
    if not isinstance(said, dict) or said.get("status") != "ok":
        return Answered(wirephoto=False)
    return Answered(wirephoto=True, installation=str(said.get("installation", "")))


async def public_url(settings: Settings, up: Answered | None) -> Finding:
    about, url = "public URL", settings.public_url
    if url is None:
        says = f"none: every vendor is asked instead of calling back, and links begin with {settings.link_base}"
        return note(about, says, f"set {PREFIX}PUBLIC_URL to the https address that reaches this service")
    if up is None or not up.wirephoto:
        return note(about, f"{url} was not asked: the service is not up", "start it, and check again")
    answer = await asked(url)
    if answer is None:
        # Not a fault: behind some routers a machine can't reach its own public address.
        return note(about, f"{url} can't be reached from here", f"ask from outside: curl {url}/healthz")
    if not answer.wirephoto:
        return fault(about, f"{url} answers, but it is not a Wirephoto", "let the proxy pass all paths to this service")
    if answer.installation != up.installation:
        mend = f"let the proxy pass it to {settings.local_url}, or correct {PREFIX}PUBLIC_URL"
        return fault(about, f"{url} reaches another Wirephoto than the one that is up here", mend)
    if settings.reply_base is None:
        return note(about, f"{url} is not https: no vendor will be told to call it", "put TLS in front of it")
    return ok(about, f"{url} reaches this service")


async def assets(settings: Settings, installation: str | None, *, readable: bool) -> Finding:
    """Whether 32 bytes can be kept, read and deleted, and whose pictures lie there.

    `readable`: whether the store could be asked for our own id.
    """
    about, where = "asset store", settings.assets_url or str(settings.assets_folder)
    mend = f"look at {PREFIX}ASSETS_URL, and at the rights there: list, read, write, delete"
    if settings.assets_folder is not None:
        why_not = unusable(settings.assets_folder)
        if why_not is not None:
            return fault(about, why_not, mend)
        if not settings.assets_folder.exists():
            return ok(about, f"{where} will be made at the first start")
    with tempfile.TemporaryDirectory() as spool:
        try:
            # The spool of a bucket lies in the data folder, which there may not be yet.
            bucket = settings.assets_folder is None
            there = asset_store(settings.model_copy(update={"data_dir": Path(spool)}) if bucket else settings)
            async with asyncio.timeout(BUCKET_SECONDS):
                await _keep_and_delete(there)
                owner = await there.owner()
        except InvalidSettings as error:
            return fault(about, str(error), "mend that, or keep pictures in a folder")
        except TimeoutError:
            why = f"no answer within {BUCKET_SECONDS:.0f} seconds; are AWS_ACCESS_KEY_ID and its like set?"
            return fault(about, f"{where}: {why}", mend)
        except (StoreUnavailable, OSError) as error:
            return fault(about, f"{where}: {getattr(error, 'strerror', None) or error}", mend)
    if owner is not None and not readable:
        return ok(about, f"{where} takes, gives and removes (whose pictures they are, the store could not tell)")
    if owner is not None and owner != installation:
        says = f"{where} holds another installation's pictures: what expires there is never removed"
        return fault(about, says, "give each installation its own bucket, prefix or folder")
    return ok(about, f"{where} takes, gives and removes")


async def _keep_and_delete(there: AssetStore) -> None:
    """As a picture is kept; a probe that a kill leaves behind is swept like any stray."""
    probe = secrets.token_bytes(32)
    async with there.incoming(len(probe)) as incoming:
        await incoming.write(probe)
        stored = await incoming.keep()
    read = b"".join([chunk async for chunk in there.read(stored.sha256, 0, stored.bytes)])
    await there.delete(stored.sha256)
    if read != probe:
        raise StoreUnavailable("what was read back is not what was kept")
