"""Jobs all day: what the service holds stays as it is, and nobody is forgotten.

The short one lives for hours with few jobs, the slow one for a whole day with many; `retention` is as short as it may
be in comparison, so that all there is goes through the store several times.
"""

import gc
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from handlers import http
from service import heart
from service.pipeline import breaker, messages, record
from service.pipeline.retry import HOUR, SECOND
from tests.long_life import TABLES, Day, Measured, day, lived

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
OURS = (
    tracemalloc.Filter(True, "*/service/*"),
    tracemalloc.Filter(True, "*/handlers/*"),
    tracemalloc.Filter(True, "*/schemas/*"),
    tracemalloc.Filter(False, "*/handlers/sandbox/*"),
)
# Alarms of the healthy may ring while a request of theirs is on its way: a heartbeat's time is the blur of this clock.
BEAT_SECONDS = 30.0
LATEST_SECONDS = 2 * BEAT_SECONDS
SLACK = 1.25
# Connections rest for seconds of the wall clock, of which these hours have few: as many as were ever needed at once.
AT_ONCE = {"handlers.wire.Connection": 100}


@pytest.fixture(autouse=True)
def _quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody else is there to miss a beat, and each costs a commit.
    monkeypatch.setattr(heart, "HEARTBEAT_SECONDS", BEAT_SECONDS)
    # As retention is hours here, not days: whoever never takes anything is disabled in the fourth.
    for module in (breaker, record):
        monkeypatch.setattr(module, "AUTO_DISABLE_MS", 3 * HOUR)
    # Bounds that are reached in the first hours.
    monkeypatch.setattr(messages, "BYTES_IN_MEMORY", MIB // 16)
    monkeypatch.setattr(http, "TARGETS_IN_MEMORY", 8)


def _flat(name: str, measured: Sequence[Measured], of: Callable[[Measured], int], least: int = 0) -> None:
    """The second half of the time never holds more than the first half of it did, by more than chance."""
    half = len(measured) // 2
    early, late = (max(of(entry) for entry in part) for part in (measured[:half], measured[half:]))
    assert late <= max(early * SLACK, least), f"{name}: {[of(entry) for entry in measured]}"


def _row_count(table: str) -> Callable[[Measured], int]:
    return lambda entry: entry.rows[table]


def _living(kind: str) -> Callable[[Measured], int]:
    return lambda entry: entry.objects.get(kind, 0)


def _all_flat(measured: Sequence[Measured]) -> None:
    for table in TABLES:
        _flat(table, measured, _row_count(table), 20)
    _flat("database", measured, lambda entry: entry.database_bytes)
    _flat("write-ahead log", measured, lambda entry: entry.wal_bytes, 5 * MIB)
    _flat("assets", measured, lambda entry: entry.asset_bytes)
    for kind in sorted({kind for entry in measured for kind in entry.objects}):
        _flat(kind, measured, _living(kind), AT_ONCE.get(kind, 40))


def _nobody_forgotten(it: Day) -> None:
    heard, beside = it.heard["well"], it.heard["beside"]
    assert not set(heard.ends) & set(beside.ends), "the wall between projects"
    ends = {**heard.ends, **beside.ends}
    assert set(ends) == set(it.accepted), "every accepted job ended, and was told of"
    assert [job for heard in it.heard.values() for job in heard.twice] == []
    assert [(job, kind) for job, (_, kind) in ends.items() if kind not in it.accepted[job]] == []
    assert set(it.heard["own"].ends) == it.hooks
    # Owed to one who was out of order for hours, and given to him when he was well again, or exhausted by then.
    assert len(it.heard["ill"].ends) > len(heard.ends) / 2
    for name in ("well", "beside", "own"):
        assert it.heard[name].count > 0
        assert it.heard[name].latest_ms <= LATEST_SECONDS * SECOND, name


async def _trimmed_and_expired(it: Day) -> None:
    """Retention did its work: logs begin late, and what was held in the first hours has ended as expired."""
    status, log = await it.stand.client.call("GET", "/v1/events?limit=1")
    assert status == 200
    assert log["data"][0]["sequence"] > len(it.accepted) / 2
    status, expired = await it.stand.client.call("GET", "/v1/deliveries?state=expired&limit=1")
    assert len(expired["data"]) == 1
    status, pending = await it.stand.client.call("GET", "/v1/deliveries?state=pending&limit=200")
    assert all(entry["attempt_count"] for entry in pending["data"]), "whoever is not dead has everything"


@pytest.mark.parametrize("everywhere", ["sqlite"], indirect=True)  # the slow one lives on both
async def test_six_hours_leave_the_store_and_the_memory_as_they_were(tmp_path: Path) -> None:
    async with day(tmp_path, retention_hours=1, every=360) as it:
        measured = await lived(it, 6)
        _all_flat(measured)
        _nobody_forgotten(it)
        await _trimmed_and_expired(it)


class _Memory:
    """How much is held of what the service's own lines have allocated since `began`: tracing costs time."""

    def __init__(self, began: int) -> None:
        self._began = began
        self._hours = 0
        self.held: list[int] = []
        self.resident: list[int] = []

    def __call__(self) -> None:
        self._hours += 1
        self.resident.append(psutil.Process().memory_info().rss)
        if self._hours == self._began:
            tracemalloc.start()
        elif self._hours > self._began:
            gc.collect()
            traces = tracemalloc.take_snapshot().filter_traces(OURS)
            self.held.append(sum(trace.size for trace in traces.traces))
        if self._hours == 24:
            tracemalloc.stop()


@pytest.mark.slow
async def test_a_day_with_two_jobs_a_minute_leaves_the_store_and_the_memory_as_they_were(tmp_path: Path) -> None:
    memory = _Memory(began=17)
    async with day(tmp_path, retention_hours=2, every=30) as it:
        measured = await lived(it, 24, memory)
        for hour, (entry, rss) in enumerate(zip(measured, memory.resident, strict=True), 1):
            print(f"{hour:2} h  {sum(entry.rows.values()):6} rows  {entry.database_bytes / MIB:5.1f} MiB database"
                  f"  {entry.wal_bytes / MIB:4.1f} MiB log  {entry.asset_bytes / MIB:4.1f} MiB assets"
                  f"  {rss / MIB:5.1f} MiB resident")  # fmt: skip
        print(f"held by the service's own lines: {[held // 1024 for held in memory.held]} KiB")
        _all_flat(measured)
        # 120 jobs an hour: a thousand bytes left by each would show.
        assert max(memory.held[1:]) <= memory.held[0] + MIB // 4
        # The test and the stand-ins write down what they have seen, and a heap frays.
        assert max(memory.resident[12:17]) <= max(memory.resident[6:12]) + 8 * MIB
        _nobody_forgotten(it)
        await _trimmed_and_expired(it)
