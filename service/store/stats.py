"""How an endpoint is doing, counted from its ledger: never more of it than a bound, however much there is."""

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.delivery import DeliveryState, Outcome
from service.store import sql
from service.store.database import Reader

_SQL = sql.beside(__file__)

# Deliveries looked at.
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Last:
    at: int
    status: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Stats:
    """Since some time, but for what is open now. `sampled_since`: what is older than this was too much to look at."""

    sampled_since: int | None
    attempts: Mapping[Outcome, int]
    times: Mapping[str, int | None]
    deliveries: Mapping[DeliveryState, int]
    pending: int
    held: int
    oldest_pending_at: int | None
    last_success: Last | None
    last_failure: Last | None


async def of_endpoint(reader: Reader, endpoint: int, since: int, most: int = MOST) -> Stats:
    looked = {"endpoint": endpoint, "most": most}
    ledger = await reader.all(_SQL["deliveries"], {**looked, "since": since})
    tried = await reader.all(_SQL["attempts"], {**looked, "since": since})
    times = await reader.one(_SQL["times"], {**looked, "since": since})
    assert times is not None
    open_ = {row["state"]: row["count"] for row in await reader.all(_SQL["open"], {"endpoint": endpoint})}
    oldest = await reader.one(_SQL["oldest_pending"], {"endpoint": endpoint})
    deliveries = {DeliveryState(row["state"]): int(row["count"]) for row in ledger}
    full = sum(deliveries.values()) >= most
    return Stats(
        sampled_since=min(row["oldest"] for row in ledger) if full else None,
        attempts={Outcome(row["outcome"]): int(row["count"]) for row in tried},
        times={name: times[name] for name in ("p50", "p95", "p99")},
        deliveries=deliveries,
        pending=int(open_.get(DeliveryState.PENDING, 0)),
        held=int(open_.get(DeliveryState.HELD, 0)),
        oldest_pending_at=None if oldest is None else int(oldest["created_at"]),
        last_success=await _last(reader, looked, delivered=True),
        last_failure=await _last(reader, looked, delivered=False),
    )


async def _last(reader: Reader, looked: Mapping[str, int], *, delivered: bool) -> Last | None:
    row = await reader.one(_SQL["last_attempt"], {**looked, "delivered": int(delivered)})
    return None if row is None else Last(row["started_at"], row["status"], row["error"])
