"""What is counted of a running service, for Prometheus.

Bumped on the hot path, so an instrument is plain numbers in a dict: tens of nanoseconds, no lock. Each is bumped by
one thread only, and after the commit of what it counts. No label holds an id, a tenant's name or anything else that a
client can make up. Adding one is one line in `Metrics` and one where it is bumped.
"""

import bisect
import platform
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

PREFIX = "wirephoto_"
# Bounds in seconds. What happens in this process, what a network does, what a job takes.
QUICK = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
NETWORK = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)
DELAY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0)
LONG = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 86400.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class Count:
    """Only ever grows. `bump` takes the labels' values in their order."""

    def __init__(self, name: str, told: str, *labels: str) -> None:
        self.name, self.told, self.labels = PREFIX + name, told, labels
        self._counts: dict[tuple[str, ...], int] = {}

    def bump(self, *labels: str) -> None:
        self._counts[labels] = self._counts.get(labels, 0) + 1

    def family(self) -> Metric:
        family = CounterMetricFamily(self.name, self.told, labels=self.labels)
        # A copy in one step: another thread may be counting.
        for labels, count in list(self._counts.items()):
            family.add_metric(labels, count)
        return family


class _Row:
    __slots__ = ("counts", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.total = 0.0


class Spread:
    """How values are spread over buckets: a histogram. `bounds` are the buckets' upper ends."""

    def __init__(self, name: str, told: str, bounds: Sequence[float], *labels: str) -> None:
        self.name, self.told, self.labels = PREFIX + name, told, labels
        self._bounds = list(bounds)
        self._rows: dict[tuple[str, ...], _Row] = {}

    def note(self, value: float, *labels: str) -> None:
        row = self._rows.get(labels)
        if row is None:
            row = self._rows[labels] = _Row(len(self._bounds) + 1)
        row.counts[bisect.bisect_left(self._bounds, value)] += 1
        row.total += value

    def family(self) -> Metric:
        family = HistogramMetricFamily(self.name, self.told, labels=self.labels)
        ends = [*map(str, self._bounds), "+Inf"]
        for labels, row in list(self._rows.items()):
            sofar, buckets = 0, []
            for end, count in zip(ends, list(row.counts), strict=True):
                sofar += count
                buckets.append((end, sofar))
            family.add_metric(labels, buckets, row.total)
        return family


class Level:
    """How things stand, set anew for each scrape."""

    def __init__(self, name: str, told: str, *labels: str) -> None:
        self.name, self.told, self.labels = PREFIX + name, told, labels
        self._values: dict[tuple[str, ...], float] = {}

    def clear(self) -> None:
        self._values.clear()

    def set(self, value: float, *labels: str) -> None:
        self._values[labels] = value

    def family(self) -> Metric:
        family = GaugeMetricFamily(self.name, self.told, labels=self.labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        return family


class Metrics(Collector):
    """One running service's own, in its own registry."""

    def __init__(self) -> None:
        self.accepted = Count("jobs_accepted", "Jobs taken in.", "vendor", "operation")
        self.concluded = Count("jobs_concluded", "Jobs that ended, with the error's class.", "vendor", "state", "class")
        self.job_time = Spread("job_seconds", "From a job's acceptance to its end.", LONG, "vendor", "state")
        self.callbacks = Count("callbacks", "Words of vendors that were stored, by the way they came.", "vendor", "via")
        self.events = Count("events", "Events written.", "type")
        self.attempts = Spread("attempt_seconds", "Attempts of deliveries.", NETWORK, "outcome")
        self.settled = Count("deliveries", "Deliveries of which no more will be tried now.", "state")
        self.first_attempt = Spread("first_attempt_delay_seconds", "From an event to its first attempt.", DELAY)
        self.vendor_requests = Count("vendor_requests", "Requests to vendors.", "vendor", "purpose", "outcome")
        self.commit_units = Spread("store_commit_units", "Units in one commit of the store's writer.", SIZES)
        self.commit_time = Spread("store_commit_seconds", "One transaction of the store's writer, fsync too.", QUICK)
        self.store_up = Level("store_up", "Whether the store can be read.")
        self.vendor_paused = Level("vendor_paused", "Whether a vendor's account is paused.", "vendor")
        self.jobs_waiting = Level("jobs_waiting", "Jobs that wait for a step.", "step", "vendor")
        self.jobs_overdue = Level("jobs_overdue_seconds", "How late the longest waiting one is.", "step", "vendor")
        self.jobs_in_hand = Level("jobs_in_hand", "Jobs that a worker holds.", "step", "vendor")
        self.tasks_open = Level("tasks_open", "Tasks at a vendor.", "vendor")
        self.vendor_left = Level(
            "vendor_window_left", "Requests that a rate window still lets through.", "vendor", "scope", "seconds"
        )
        self.vendor_waiting = Level("vendor_requests_waiting", "Requests that wait for their turn.", "vendor")
        self.vendor_keep_alive = Level(
            "vendor_keep_alive_seconds", "Until the next task must be asked; negative: late.", "vendor"
        )
        self.deliveries_waiting = Level("deliveries_waiting", "Deliveries that wait for their next attempt.")
        self.deliveries_overdue = Level("deliveries_overdue_seconds", "How late the longest waiting one is.")
        self.deliveries_in_hand = Level("deliveries_in_hand", "Deliveries that a node holds, queued or under way.")
        self.deliveries_oldest = Level("deliveries_in_hand_oldest_seconds", "The age of the oldest of them.")
        self.build = Level("build_info", "Always 1.", "version", "python")
        self.node = Level("node", "This process's number; each start takes a new one.")
        self.build.set(1, version("wirephoto"), platform.python_version())
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    @property
    def instruments(self) -> Iterator[Count | Spread | Level]:
        return (it for it in vars(self).values() if isinstance(it, Count | Spread | Level))

    @property
    def of_the_store(self) -> tuple[Level, ...]:
        """Read from the store at each scrape."""
        return (
            self.jobs_waiting,
            self.jobs_overdue,
            self.jobs_in_hand,
            self.tasks_open,
            self.deliveries_waiting,
            self.deliveries_overdue,
            self.deliveries_in_hand,
            self.deliveries_oldest,
        )

    def collect(self) -> Iterable[Metric]:
        return [instrument.family() for instrument in self.instruments]

    def committed(self, units: int, seconds: float) -> None:
        """For the store's writer."""
        self.commit_units.note(units)
        self.commit_time.note(seconds)
