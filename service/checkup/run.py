"""What `wirephoto check` looks at, in the order in which a start would meet it. Nothing is changed.

A running service is not disturbed: the store is read without its lock, the bucket gets one object of 32 bytes for a
moment, and each vendor one free call.
"""

import asyncio
from pathlib import Path

from service.checkup import machine, outside, store, vendors
from service.checkup.findings import Finding, fault, ok
from service.config import InvalidSettings, load


async def checkup(config: Path | None) -> list[Finding]:
    """All findings; the first is about the settings, and the only ones where these can't be used."""
    try:
        settings = load(config)
    except InvalidSettings as error:
        mend = "correct it in the file or in the environment; the names are in the documentation"
        return [fault("settings", line, mend) for line in str(error).splitlines()]
    up = await outside.asked(settings.local_url)
    held = await store.look(settings, up=up is not None and up.wirephoto)
    assets, public, of_vendors = await asyncio.gather(
        outside.assets(settings, held.installation, readable=not held.has_fault),
        outside.public_url(settings, up),
        vendors.vendors(settings, up=up is not None and up.wirephoto),
    )
    return [
        ok("settings", "every one is known and valid"),
        machine.address(settings, up, held.installation),
        *machine.data_folder(settings),
        *held.findings,
        assets,
        *of_vendors,
        public,
        *machine.ca_file(settings.ca_file),
    ]
