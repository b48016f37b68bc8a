"""What is to be checked of the store, which is only read, without its lock, and of the key that seals its secrets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service import secret_key
from service.app import vault_of
from service.checkup.findings import Finding, Level, fault, note, ok
from service.clock import SystemClock
from service.config import PREFIX, InvalidSettings, Settings
from service.heart import DEAD_AFTER_MS
from service.opening import looking, off_at
from service.security.vault import Vault
from service.store import meta, migrate, nodes, sealed
from service.store.database import NotAStore, Reader, StoreUnavailable

_PAGE = 200
_NEW = "will be made at the first start"


@dataclass(frozen=True)
class Held:
    """What the store tells of itself; `installation` is None where there is none yet, or it can't be read."""

    findings: Sequence[Finding]
    installation: str | None = None

    @property
    def has_fault(self) -> bool:
        return any(finding.level is Level.FAULT for finding in self.findings)


@dataclass(frozen=True)
class _Facts:
    schema: migrate.Schema
    needed: frozenset[str]  # keys, by their fingerprints
    installation: str | None
    beat_at: int | None
    kind: str | None
    old: Mapping[str, int]  # how many secrets an old key has sealed, by where they lie


async def look(settings: Settings, *, up: bool) -> Held:
    """`up`: a Wirephoto answers at these settings."""
    vault, key = _key(settings)
    if settings.database_url is None and not settings.database_file.exists():
        return Held([ok("store", _NEW), key])
    promised: Sequence[Finding] = ()
    try:
        if settings.database_url is not None:
            promised = [_promises(*await off_at(settings.database_url.get_secret_value()))]
        async with looking(settings) as reader:
            facts = await _facts(reader, vault)
    except NotAStore:
        return Held([*promised, ok("store", "is empty; its tables will be made at the first start"), key])
    except InvalidSettings as error:
        return Held([fault("store", str(error), f"install it, or unset {PREFIX}DATABASE_URL"), key])
    except StoreUnavailable as error:
        return Held([*promised, fault("store", str(error), _mend(settings)), key])
    found = [_use(facts, up=up), _schema(facts.schema), _fits(vault, facts.needed, key)]
    return Held([*promised, *found, *_rotation(vault, facts)], facts.installation)


def _promises(version: str, off: Sequence[str]) -> Finding:
    """Whether what a server of databases calls committed outlives a power cut."""
    about, says = "database server", f"PostgreSQL {version}"
    if off:
        says = f"{says} with {' and '.join(off)} off: a power cut may lose what was acknowledged"
        return fault(about, says, "switch it on at the server, or in the pooler before it")
    return ok(about, f"{says}; what it commits is durable")


async def _facts(reader: Reader, vault: Vault | None) -> _Facts:
    schema, needed = await migrate.schema(reader), await secret_key.needed(reader)
    return _Facts(
        schema,
        needed,
        await meta.get(reader, "installation"),
        await nodes.last_beat(reader),
        await meta.get(reader, "kind"),
        await _sealed_by_old(reader, vault, needed) if schema.applied >= schema.known else {},
    )


async def _sealed_by_old(reader: Reader, vault: Vault | None, needed: frozenset[str]) -> Mapping[str, int]:
    if vault is None or needed <= {vault.fingerprint}:
        return {}
    return await sealed.count(reader, lambda text: not vault.is_newest(text), _PAGE)


def _mend(settings: Settings) -> str:
    if settings.database_url is not None:
        return f"look at {PREFIX}DATABASE_URL (user, password, host, name), and at the server"
    return f"look at {settings.database_file}: its owner, its disk; or put a backup in its place"


def _use(facts: _Facts, *, up: bool) -> Finding:
    """Whose heart beats in it: a process that ended well has said so, one that was killed is soon silent."""
    beats = facts.beat_at is not None and facts.beat_at > SystemClock().now() - DEAD_AFTER_MS
    if not beats and facts.kind == "sandbox":
        mend = f"choose another {PREFIX}DATA_DIR or {PREFIX}DATABASE_URL for real vendors"
        return note("store", "holds jobs of the sandboxes: only serve --sandbox takes it", mend)
    if not beats:
        return ok("store", "can be read; no process works on it")
    if up:
        return ok("store", "in use by the Wirephoto that is up")
    mend = "end that process, or check with the settings that it was started with"
    return fault("store", "another process works on it, but no Wirephoto answers at these settings", mend)


def _schema(schema: migrate.Schema) -> Finding:
    about = "schema"
    if schema.changed:
        mend = "put back the version whose migrations these are"
        return fault(about, f"{', '.join(schema.changed)} differs from what was applied here", mend)
    if schema.applied > schema.known:
        says = f"{schema.applied}, made by a newer version; this one knows {schema.known}, and runs on it as it is"
        return note(about, says, "upgrade this one too")
    if schema.applied < schema.known:
        says = f"{schema.applied}; the next start of this version brings it to {schema.known}"
        return note(about, says, "make a backup first")
    return ok(about, f"{schema.applied}, as this version knows it")


def _key(settings: Settings) -> tuple[Vault | None, Finding]:
    """The vault, where there is a key already, and what is to be said of the key alone."""
    about, file = "secret key", settings.secret_key_file
    if settings.secret_key is None and not file.exists():
        # Asking for the vault would make the file.
        return None, ok(about, _NEW)
    try:
        vault = vault_of(settings)
    except (ValueError, OSError) as error:
        says = error.strerror if isinstance(error, OSError) else str(error)
        return None, fault(about, f"can't be used: {says}", f"give another {PREFIX}SECRET_KEY, or mend {file}")
    if settings.secret_key is None and file.stat().st_mode & 0o077:
        return vault, fault(about, f"{file} can be read by other users", f"chmod 600 {file}")
    return vault, ok(about, f"fingerprint {vault.fingerprint}")


def _fits(vault: Vault | None, known: frozenset[str], key: Finding) -> Finding:
    """Whether the keys given open all that the store's secrets were ever sealed with."""
    missing = known - (frozenset() if vault is None else vault.fingerprints)
    if key.level is Level.FAULT or not missing:
        return key
    mend = f"give the missing one as {PREFIX}SECRET_KEY, or list it in {PREFIX}SECRET_KEYS_OLD"
    says = "none is given" if vault is None else f"{vault.fingerprint} is given"
    return fault(key.about, f"the store's secrets were sealed with {', '.join(sorted(missing))}; {says}", mend)


def _rotation(vault: Vault | None, facts: _Facts) -> Sequence[Finding]:
    """How far the change to another key has come, where one is under way or has ended."""
    about = "old secret keys"
    if vault is None or len(vault.fingerprints) == 1 or not facts.needed <= vault.fingerprints:
        return []
    if facts.needed <= {vault.fingerprint}:
        says = "are needed for no secret; links to pictures that were signed with them open only while they are listed"
        return [note(about, says, f"unset {PREFIX}SECRET_KEYS_OLD once these links may die")]
    where = ", ".join(f"{number} of {place}" for place, number in facts.old.items())
    says = f"are still needed: for {where}" if where else "are still marked as needed"
    return [note(about, says, "leave them listed; a Wirephoto with the new key, once all have it, seals them anew")]
