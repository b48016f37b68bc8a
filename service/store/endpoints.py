"""Endpoints: subscribers' registrations. Secret and header values are sealed before they come here."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

from schemas import filters
from schemas.endpoint import Endpoint, EndpointState, Format, RateLimit, Scheme, Terms
from schemas.hook import digest
from schemas.shop import SealedConfig
from service.store import sql
from service.store.database import Reader, Row, Tx

_SQL = sql.beside(__file__)


# Read again for each event, and always the same.
@lru_cache(maxsize=4096)
def _names(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


@lru_cache(maxsize=4096)
def _headers(text: str) -> tuple[tuple[str, ...], str]:
    """The names, and the sealed values."""
    headers = json.loads(text)
    return tuple(headers["names"]), headers["sealed"]


@lru_cache(maxsize=4096)
def _filter(text: str | None) -> filters.Filter:
    return {} if text is None else json.loads(text)


def _config(text: str | None) -> SealedConfig | None:
    if text is None:
        return None
    config = json.loads(text)
    return SealedConfig(config["shown"], tuple(config["credentials"]), config["sealed"])


def _config_text(config: SealedConfig | None) -> str | None:
    if config is None:
        return None
    return json.dumps({"shown": config.shown, "credentials": config.credentials, "sealed": config.sealed})


def _values(terms: Terms) -> dict[str, str | int | None]:
    limit, schedule = terms.rate_limit, terms.retry_schedule
    return {
        "url": terms.url,
        "events": json.dumps(terms.events),
        "channels": json.dumps(terms.channels),
        "filter": json.dumps(terms.filter) if terms.filter else None,
        "description": terms.description,
        "headers": json.dumps({"names": terms.header_names, "sealed": terms.sealed_headers}),
        "format": terms.format,
        "signatures": json.dumps(terms.signatures),
        "rate_limit": None if limit is None else limit.model_dump_json(),
        "max_in_flight": terms.max_in_flight,
        "ordered": int(terms.ordered),
        "retry_schedule": None if schedule is None else json.dumps(schedule),
        "config": _config_text(terms.config),
    }


def _endpoint(row: Row) -> Endpoint:
    # A job's own webhook hears of that job and is never read again: it would only drive the others out.
    read = _headers if row["job_id"] is None else _headers.__wrapped__
    header_names, sealed_headers = read(row["headers"])
    limit, schedule = row["rate_limit"], row["retry_schedule"]
    terms = Terms(
        url=row["url"],
        sealed_headers=sealed_headers,
        events=_names(row["events"]),
        channels=_names(row["channels"]),
        filter=_filter(row["filter"]),
        description=row["description"],
        header_names=header_names,
        format=Format(row["format"]),
        signatures=tuple(map(Scheme, _names(row["signatures"]))),
        rate_limit=None if limit is None else RateLimit.model_validate_json(limit),
        max_in_flight=row["max_in_flight"],
        ordered=bool(row["ordered"]),
        retry_schedule=None if schedule is None else tuple(json.loads(schedule)),
        config=_config(row["config"]),
    )
    return Endpoint(
        row=row["id"],
        id=row["public_id"],
        project=row["project_id"],
        job=row["job_id"],
        kind=row["kind"],
        terms=terms,
        sealed_secret=row["secret"],
        state=EndpointState(row["state"]),
        disabled_reason=row["disabled_reason"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        failing_since=row["failing_since"],
        broken_at=row["broken_at"],
        rest_until=row["rest_until"],
        sealed_old_secrets=row["old_secrets"],
        hook=row["hook"],
    )


async def add(
    tx: Tx,
    project: int,
    public_id: str,
    kind: str,
    terms: Terms,
    sealed_secret: str,
    now: int,
    job: int | None,
    *,
    hook: bool = False,
) -> Endpoint:
    """`hook`: it can be found by what it subscribes to; two that subscribe to the same break a rule of the store."""
    row = await tx.one(
        _SQL["add"],
        {
            "public_id": public_id,
            "project": project,
            "job": job,
            "kind": kind,
            "secret": sealed_secret,
            "now": now,
            "hook": digest(terms) if hook else None,
            **_values(terms),
        },
    )
    assert row is not None
    return _endpoint(row)


async def get(reader: Reader, project: int, public_id: str) -> Endpoint | None:
    row = await reader.one(_SQL["get"], {"project": project, "public_id": public_id})
    return None if row is None else _endpoint(row)


async def hook(reader: Reader, project: int, terms: Terms) -> Endpoint | None:
    """The live hook that subscribes to just this."""
    row = await reader.one(_SQL["hook"], {"project": project, "hook": digest(terms)})
    return None if row is None else _endpoint(row)


async def by_row(reader: Reader, endpoint: int) -> Endpoint | None:
    """None where it was deleted meanwhile."""
    row = await reader.one(_SQL["by_row"], {"endpoint": endpoint})
    return None if row is None else _endpoint(row)


async def locked(tx: Tx, endpoint: int) -> Endpoint | None:
    """As `by_row`, and it stays so until this unit's end."""
    row = await tx.one(_SQL["locked"], {"endpoint": endpoint})
    return None if row is None else _endpoint(row)


async def listed(
    reader: Reader, project: int, after: int, limit: int, *, hooks_only: bool = False
) -> Sequence[Endpoint]:
    """Oldest first."""
    values = {"project": project, "hooks_only": int(hooks_only), "after": after, "limit": limit}
    rows = await reader.all(_SQL["list"], values)
    return [_endpoint(row) for row in rows]


async def count(reader: Reader, project: int) -> int:
    row = await reader.one(_SQL["count"], {"project": project})
    assert row is not None
    return int(row["count"])


async def of_event(reader: Reader, project: int, job: int | None) -> Sequence[Endpoint]:
    """All that may subscribe to an event: the project's, and the job's own webhook."""
    return [_endpoint(row) for row in await reader.all(_SQL["of_event"], {"project": project, "job": job})]


async def change(tx: Tx, endpoint: int, terms: Terms, now: int) -> None:
    """A hook is found by its new terms; no other hook has them."""
    await tx.run(_SQL["change"], {"endpoint": endpoint, "now": now, "hook": digest(terms), **_values(terms)})


async def rotate(
    tx: Tx, endpoint: int, sealed_secret: str, sealed_old_secrets: str | None, old_until: int | None, now: int
) -> None:
    """Another secret; those before sign beside it, the last of them until `old_until`. None: there is no such one."""
    values = {
        "endpoint": endpoint,
        "secret": sealed_secret,
        "old_secrets": sealed_old_secrets,
        "old_until": old_until,
        "now": now,
    }
    await tx.run(_SQL["rotate"], values)


async def drop_old_secrets(tx: Tx, now: int, limit: int) -> int:
    """Forget secrets whose overlap has ended; how many there were."""
    return await tx.run(_SQL["drop_old_secrets"], {"now": now, "limit": limit})


async def disable(tx: Tx, endpoint: int, reason: str, now: int) -> Endpoint | None:
    """The endpoint as it is now, or None where it was disabled already."""
    row = await tx.one(_SQL["disable"], {"endpoint": endpoint, "reason": reason, "now": now})
    return None if row is None else _endpoint(row)


async def enable(tx: Tx, endpoint: int, now: int) -> bool:
    """False where it was enabled already."""
    return await tx.run(_SQL["enable"], {"endpoint": endpoint, "now": now}) == 1


async def pause(tx: Tx, endpoint: int, now: int) -> bool:
    """False where it was not enabled."""
    return await tx.run(_SQL["pause"], {"endpoint": endpoint, "now": now}) == 1


async def resume(tx: Tx, endpoint: int, now: int) -> bool:
    """False where it was not paused."""
    return await tx.run(_SQL["resume"], {"endpoint": endpoint, "now": now}) == 1


async def failing(tx: Tx, endpoint: int, now: int) -> None:
    """An attempt failed, and none before it, as far as anybody knows."""
    await tx.run(_SQL["failing"], {"endpoint": endpoint, "now": now})


async def broken(tx: Tx, endpoint: int, now: int) -> None:
    await tx.run(_SQL["broken"], {"endpoint": endpoint, "now": now})


async def well(tx: Tx, endpoint: int) -> Endpoint:
    """Its receiver takes what it is sent. The endpoint as it is now."""
    row = await tx.one(_SQL["well"], {"endpoint": endpoint})
    assert row is not None, f"endpoint row {endpoint} is missing"
    return _endpoint(row)


async def rest(tx: Tx, endpoint: int, until: int, said_at: int) -> None:
    """Its receiver wants to be left alone until then; who asked for more keeps it."""
    await tx.run(_SQL["rest"], {"endpoint": endpoint, "until": until, "said_at": said_at})


async def vouch(tx: Tx, endpoint: int, now: int) -> None:
    """Whatever its receiver did before is forgotten."""
    await tx.run(_SQL["vouch"], {"endpoint": endpoint, "now": now})


async def end_rest(tx: Tx, endpoint: int) -> None:
    """Its receiver is another one, or somebody vouches for it."""
    await tx.run(_SQL["end_rest"], {"endpoint": endpoint})


async def delivered_since(tx: Tx, endpoint: int, since: int) -> bool:
    """Whether it took anything, from any node, after this time. Looks at all that it was ever owed."""
    return await tx.one(_SQL["delivered_since"], {"endpoint": endpoint, "since": since}) is not None


async def standing(reader: Reader) -> Mapping[str, int]:
    """How many are enabled, paused, disabled, and enabled but broken; of all projects, those of jobs left out."""
    return {row["standing"]: row["count"] for row in await reader.all(_SQL["standing"], {})}


async def delete(tx: Tx, endpoint: int, now: int) -> bool:
    return await tx.run(_SQL["delete"], {"endpoint": endpoint, "now": now}) == 1


async def seen(tx: Tx, rows: Sequence[int], now: int) -> int:
    """The connections of these endpoints of kind stream are open; how many of them there still are."""
    return sum([await tx.run(_SQL["seen"], {"endpoint": row, "now": now}) for row in rows])


async def unseen(reader: Reader, before: int, limit: int) -> list[tuple[int, int]]:
    """Endpoints of kind stream, with their projects, of which nothing was seen since before `before`."""
    rows = await reader.all(_SQL["unseen"], {"before": before, "limit": limit})
    return [(row["id"], row["project_id"]) for row in rows]


async def delete_unseen(tx: Tx, endpoint: int, before: int, now: int) -> bool:
    """False where it was seen meanwhile."""
    return await tx.run(_SQL["delete_unseen"], {"endpoint": endpoint, "before": before, "now": now}) == 1


async def forget(tx: Tx, before: int, limit: int) -> int:
    """Delete the rows of endpoints that were deleted at `before` or earlier and that nothing names; how many."""
    return await tx.run(_SQL["forget"], {"before": before, "limit": limit})
