"""What is to be checked on this machine: the address, the data folder and its disk, the file of roots."""

import os
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from handlers.vendors.contract import MAX_RESULT_BYTES
from service.checkup.findings import Finding, fault, note, ok
from service.checkup.folders import nearest, unusable
from service.checkup.outside import Answered
from service.config import PREFIX, Settings

_GB = 1_000_000_000
COMFORTABLE = 2 * _GB


def address(settings: Settings, up: Answered | None, installation: str | None) -> Finding:
    """Whether we are up, or could be. `installation`: what the store says that we are."""
    about, where = "address", f"{settings.host}:{settings.port}"
    if up is not None and up.wirephoto:
        if installation is not None and up.installation != installation:
            mend = f"choose another {PREFIX}PORT, or check with the settings that the other was started with"
            return fault(about, f"another installation's Wirephoto is up on {where}", mend)
        return ok(about, f"a Wirephoto is up on {where}")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        socket.create_server((settings.host, settings.port), family=family).close()
    except OSError as error:
        mend = f"stop what listens there, or choose other {PREFIX}HOST and {PREFIX}PORT"
        return fault(about, f"{where} can't be listened on: {error.strerror or error}", mend)
    return ok(about, f"{where} is free")


def data_folder(settings: Settings) -> Iterator[Finding]:
    about, folder = "data folder", settings.data_dir
    why_not = unusable(folder)
    if why_not is not None:
        yield fault(about, why_not, f"make it writable for this user, or choose another {PREFIX}DATA_DIR")
        return
    if not folder.exists():
        yield ok(about, f"{folder} will be made at the first start")
    elif folder.stat().st_mode & 0o077:
        yield note(about, f"{folder} is open to other users", f"chmod 700 {folder}, or leave it to the next start")
    else:
        yield ok(about, f"{folder} is writable, and by nobody else")
    yield space(shutil.disk_usage(nearest(folder)).free, round(settings.max_upload_mb * 1_000_000) + MAX_RESULT_BYTES)


def space(free: int, needed: int) -> Finding:
    """`needed`: the largest upload and the largest result at once. In bytes."""
    about, says = "disk", f"{free / _GB:.1f} GB are free"
    mend = f"make room, shorten {PREFIX}ASSET_RETENTION_DAYS, or keep pictures in a bucket: {PREFIX}ASSETS_URL"
    if free < needed:
        return fault(about, f"{says}; one upload and one result may need {needed / _GB:.1f} GB", mend)
    return note(about, says, mend) if free < COMFORTABLE else ok(about, says)


def ca_file(file: Path | None) -> Iterator[Finding]:
    if file is None:
        return
    try:
        ssl.create_default_context(cafile=os.fspath(file))
    except (OSError, ssl.SSLError) as error:
        mend = f"let {PREFIX}CA_FILE name a readable PEM file"
        yield fault("CA file", f"{file} can't be used: {error.strerror or error}", mend)
    else:
        yield ok("CA file", f"{file} holds usable roots")
