"""What `wirephoto check` looks at: one finding each, with how it is mended. Nothing is changed."""

import os
import socket
import sqlite3
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from service.accounts import KNOWN
from service.app import vault_of
from service.client import Client, ProblemAnswer, Unreachable
from service.config import PREFIX, InvalidSettings, Settings, load
from service.security.vault import Vault
from service.store import meta
from service.store.database import Locked
from service.store.sqlite import Sqlite


class Level(StrEnum):
    OK = "ok"
    NOTE = "note"  # worth knowing, and no hindrance
    FAULT = "fault"


@dataclass(frozen=True)
class Finding:
    about: str
    level: Level
    says: str
    mend: str = ""

    def as_json(self) -> dict[str, str]:
        return {"about": self.about, "level": self.level, "says": self.says, "mend": self.mend}


def _ok(about: str, says: str) -> Finding:
    return Finding(about, Level.OK, says)


def _note(about: str, says: str, mend: str = "") -> Finding:
    return Finding(about, Level.NOTE, says, mend)


def _fault(about: str, says: str, mend: str) -> Finding:
    return Finding(about, Level.FAULT, says, mend)


async def checkup(config: Path | None) -> list[Finding]:
    """All findings, in the order in which a start would meet them."""
    try:
        settings = load(config)
    except InvalidSettings as error:
        mend = "correct it in the file or in the environment; the names are in the documentation"
        return [_fault("settings", line, mend) for line in str(error).splitlines()]
    up = await _answers(settings.local_url)
    return [
        _ok("settings", "every one is known and valid"),
        _address(settings, up=up),
        _data_folder(settings.data_dir),
        *await _store_and_key(settings, up=up),
        *_vendors(settings, up=up),
        await _public_url(settings, up=up),
        *_ca_file(settings.ca_file),
    ]


async def _answers(url: str) -> bool | None:
    """True: a Wirephoto. False: somebody else. None: nobody."""
    async with Client(url, None) as client:
        try:
            said = await client.get("/healthz")
        except ProblemAnswer:
            return False
        except Unreachable:
            return None
    return bool(said == {"status": "ok"})


def _address(settings: Settings, *, up: bool | None) -> Finding:
    about, where = "address", f"{settings.host}:{settings.port}"
    if up:
        return _ok(about, f"a Wirephoto is up on {where}")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        socket.create_server((settings.host, settings.port), family=family).close()
    except OSError as error:
        mend = f"stop what listens there, or choose other {PREFIX}HOST and {PREFIX}PORT"
        return _fault(about, f"{where} can't be listened on: {error.strerror or error}", mend)
    return _ok(about, f"{where} is free")


def _data_folder(folder: Path) -> Finding:
    about = "data folder"
    # The first start makes it, and all that is missing above it.
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir():
        return _fault(about, f"{existing} is not a folder", f"choose another {PREFIX}DATA_DIR")
    try:
        # Permission bits tell little of read-only mounts and full disks: only a write does.
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        mend = f"make it writable for this user, or choose another {PREFIX}DATA_DIR"
        return _fault(about, f"{existing} can't be written to: {error.strerror}", mend)
    if existing != folder and folder.absolute() != existing:
        return _ok(about, f"{folder} will be made at the first start")
    return _ok(about, f"{folder} is writable")


async def _store_and_key(settings: Settings, *, up: bool | None) -> list[Finding]:
    vault, key = _key(settings)
    path = settings.database_file
    if not path.exists():
        return [_ok("store", "will be made at the first start"), key]
    store = Sqlite(path)
    try:
        await store.open()
        known = frozenset((await store.read(meta.get, "key_fingerprint") or "").split())
    except Locked:
        if up:
            return [_ok("store", "in use by the Wirephoto that is up"), key]
        mend = "end that process, or check with the settings that it was started with"
        return [_fault("store", "another process holds it, but no Wirephoto answers at these settings", mend), key]
    except (sqlite3.Error, OSError) as error:
        mend = f"look at {path}: its owner, its disk; or put a backup in its place"
        return [_fault("store", f"can't be opened: {error}", mend), key]
    finally:
        await store.close()
    return [_ok("store", "opens"), _fits(vault, known, key)]


def _key(settings: Settings) -> tuple[Vault | None, Finding]:
    """The vault, where there is a key already, and what is to be said of the key alone."""
    about, file = "secret key", settings.secret_key_file
    if settings.secret_key is None and not file.exists():
        # Asking for the vault would make the file.
        return None, _ok(about, "will be made at the first start")
    try:
        vault = vault_of(settings)
    except (ValueError, OSError) as error:
        says = error.strerror if isinstance(error, OSError) else str(error)
        return None, _fault(about, f"can't be used: {says}", f"give another {PREFIX}SECRET_KEY, or mend {file}")
    if settings.secret_key is None and file.stat().st_mode & 0o077:
        return vault, _fault(about, f"{file} can be read by other users", f"chmod 600 {file}")
    return vault, _ok(about, f"fingerprint {vault.fingerprint}")


def _fits(vault: Vault | None, known: frozenset[str], key: Finding) -> Finding:
    """Whether the keys given open all that the store's secrets were ever sealed with."""
    missing = known - (frozenset() if vault is None else vault.fingerprints)
    if key.level is Level.FAULT or not missing:
        return key
    mend = f"give the missing one as {PREFIX}SECRET_KEY, or list it in {PREFIX}SECRET_KEYS_OLD"
    says = "none is given" if vault is None else f"{vault.fingerprint} is given"
    return _fault(key.about, f"the store's secrets were sealed with {', '.join(sorted(missing))}; {says}", mend)


def _vendors(settings: Settings, *, up: bool | None) -> Iterator[Finding]:
    names = []
    for known in KNOWN:
        own = known.settings(settings)
        secret: SecretStr | None = getattr(own, known.credential)
        setting = f"{PREFIX}{known.name.upper()}__{known.credential.upper()}"
        names.append(setting)
        if secret is None:
            yield _note(f"vendor {known.name}", "not configured: its operations are refused", f"set {setting}")
        elif not secret.get_secret_value().strip():
            yield _fault(f"vendor {known.name}", f"{setting} is empty", "give the credential, or remove the setting")
        else:
            yield _ok(f"vendor {known.name}", f"configured, at {urlsplit(own.base_url).hostname}")
    if not any(getattr(known.settings(settings), known.credential) for known in KNOWN):
        mend = f"set {' or '.join(names)}; to try without an account: wirephoto serve --sandbox"
        if up:
            yield _note("vendors", "none is configured here; the service that is up may have other settings", mend)
        else:
            yield _fault("vendors", "none is configured, so no job can run", mend)


async def _public_url(settings: Settings, *, up: bool | None) -> Finding:
    about, url = "public URL", settings.public_url
    if url is None:
        says = f"none: every vendor is asked instead of calling back, and links begin with {settings.link_base}"
        return _note(about, says, f"set {PREFIX}PUBLIC_URL to the https address that reaches this service")
    answer = await _answers(url) if up else None
    if answer is False:
        mend = "let the proxy pass all paths to this service"
        return _fault(about, f"{url} answers, but it is not a Wirephoto", mend)
    if up and answer is None:
        # Not a fault: behind some routers a machine can't reach its own public address.
        return _note(about, f"{url} can't be reached from here", f"ask from outside: curl {url}/healthz")
    if settings.reply_base is None:
        return _note(about, f"{url} is not https: no vendor will be told to call it", "put TLS in front of it")
    return _ok(about, f"{url} reaches a Wirephoto" if up else f"{url} (not asked: the service is not up)")


def _ca_file(file: Path | None) -> Iterator[Finding]:
    if file is None:
        return
    try:
        ssl.create_default_context(cafile=os.fspath(file))
    except (OSError, ssl.SSLError) as error:
        mend = f"let {PREFIX}CA_FILE name a readable PEM file"
        yield _fault("CA file", f"{file} can't be used: {error.strerror or error}", mend)
    else:
        yield _ok("CA file", f"{file} holds usable roots")
