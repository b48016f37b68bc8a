"""What is measured, and how: each figure beside its baseline, in turn in the same run, each process by itself."""

import io
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from tests.bench.child import ROOT, Child
from tests.harness import API_KEY

AT_ONCE = 32
KIB = 1024
MIB = 1024 * 1024
WARM_STREAMS = 20
FSYNCS = 200


@dataclass(frozen=True)
class Size:
    """How much of everything a run does."""

    rounds: int = 5
    deliveries: int = 6_400
    jobs: int = 1_280
    trickled: int = 1_000
    pending: int = 100_000
    streams: int = 1_000


QUICK = Size(rounds=1, deliveries=64, jobs=32, trickled=20, pending=200, streams=20)


@dataclass(frozen=True)
class Figure:
    """One row. `bar` and `goal` as they stand in the design; `more` says whether a larger figure is the better one."""

    name: str
    unit: str
    value: float
    baseline: float | None = None
    ratio: float | None = None
    bar: float | None = None
    goal: float | None = None
    more: bool = True
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def judged(self) -> float:
        return self.value if self.ratio is None else self.ratio

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Place:
    """Where a run stores: `url` None is SQLite in `folder`; `server_cpu` is what a database server has used so far."""

    folder: Path
    url: str | None
    server_cpu: Callable[[], float]
    size: Size
    step: Callable[[str], None]

    def subject(self) -> Child:
        args = [str(self.folder / "data"), *([self.url] if self.url else [])]
        return Child("subject", *args)


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def delivery(
    place: Place, fan_out: int, bar: float | None, goal: float | None, signatures: Sequence[str] = ("v1",)
) -> Figure:
    """Deliveries per CPU-second, beside the bare aiohttp loop that posts as many bytes to the same receiver."""
    count, rounds = place.size.deliveries, []
    name = f"deliveries, fan-out {fan_out}" + (f", {' and '.join(signatures)}" if len(signatures) > 1 else "")
    with Child("receiver") as receiver, Child("bare", "client") as client, place.subject() as subject:
        url = receiver.hello["url"]
        subject.ask("subscribe", url=url, count=fan_out, at_once=AT_ONCE, signatures=signatures)
        subject.ask("deliver", count=fan_out * AT_ONCE, fan_out=fan_out, at_once=AT_ONCE)
        for _ in range(place.size.rounds):
            bare = client.ask("post", url=url, count=count, at_once=AT_ONCE)
            server = place.server_cpu()
            ours = subject.ask("deliver", count=count, fan_out=fan_out, at_once=AT_ONCE)
            rounds.append((bare["cpu"], ours["cpu"], ours, place.server_cpu() - server))
            place.step(name)
    return Figure(
        name,
        "/CPU-s",
        value=_median([count / ours for _, ours, _, _ in rounds]),
        baseline=_median([count / bare for bare, _, _, _ in rounds]),
        ratio=_median([bare / ours for bare, ours, _, _ in rounds]),
        bar=bar,
        goal=goal,
        parts={
            "loop µs each": _median([told["loop"] / count * 1e6 for _, _, told, _ in rounds]),
            "writer µs each": _median([told["writer"] / count * 1e6 for _, _, told, _ in rounds]),
            "database server µs each": _median([server / count * 1e6 for _, _, _, server in rounds]),
            "per second of time": _median([count / told["wall"] for _, _, told, _ in rounds]),
        },
    )


def latency(place: Place) -> list[Figure]:
    """From the moment that we know of the commit to the receiver's reading of the request, at 30 % of full speed."""
    took: list[list[float]] = []
    with Child("receiver") as receiver, place.subject() as subject:
        subject.ask("subscribe", url=receiver.hello["url"], count=1, at_once=AT_ONCE)
        full = subject.ask("deliver", count=place.size.deliveries, fan_out=1, at_once=AT_ONCE)
        each_ms = full["wall"] / place.size.deliveries * 1000 / 0.3
        for _ in range(place.size.rounds):
            receiver.ask("note")
            committed = subject.ask("trickle", count=place.size.trickled, each_ms=each_ms)["committed"]
            notes = receiver.ask("noted")["notes"]
            took.append(sorted((notes[event] - at) / 1e6 for event, at in committed.items()))
            place.step("commit → receiver")

    def percentile(part: float) -> float:
        return _median([entries[min(len(entries) - 1, int(len(entries) * part))] for entries in took])

    load = {"events per second": 1000 / each_ms}
    return [
        Figure("commit → receiver, p50 at 30 % load", "ms", percentile(0.5), bar=1, goal=0.2, more=False, parts=load),
        Figure("commit → receiver, p99 at 30 % load", "ms", percentile(0.99), bar=5, goal=1, more=False, parts=load),
    ]


def _small_picture() -> bytes:
    held = io.BytesIO()
    Image.effect_noise((64, 64), 60).convert("RGB").save(held, "PNG")
    return held.getvalue()


def _upload(url: str, picture: bytes) -> str:
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "image/png"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/assets", picture, headers)) as answer:
        return str(json.load(answer)["id"])


def intake(place: Place, *, multipart: bool) -> Figure:
    """Jobs accepted per CPU-second, beside a bare Starlette route under uvicorn that reads and answers as much."""
    count, rounds = place.size.jobs, []
    picture = _small_picture()
    headers = {"Authorization": f"Bearer {API_KEY}"}
    with Child("bare", "server") as bare, Child("bare", "client") as client, place.subject() as subject:
        url = subject.hello["url"]
        job: dict[str, Any] = {"operation": "vanceai/enlarge3", "params": {"scale": 2}, "metadata": {"product": "8411"}}
        if not multipart:
            job["inputs"] = {"image": {"asset": _upload(url, picture)}}
        load = {"headers": headers, "job": job, "at_once": AT_ONCE, "picture": picture.hex() if multipart else None}
        for at in (bare.hello["url"], url):
            client.ask("submit", url=f"{at}/v1/jobs", count=AT_ONCE, **load)
        for _ in range(place.size.rounds):
            before = bare.ask("nothing")["cpu_total"]
            client.ask("submit", url=f"{bare.hello['url']}/v1/jobs", count=count, **load)
            after = bare.ask("nothing")["cpu_total"]
            ours, server = subject.ask("nothing"), place.server_cpu()
            wall = client.ask("submit", url=f"{url}/v1/jobs", count=count, **load)["wall"]
            then = subject.ask("nothing")
            rounds.append(
                (
                    after - before,
                    then["cpu_total"] - ours["cpu_total"],
                    then["writer_total"] - ours["writer_total"],
                    place.server_cpu() - server,
                    wall,
                )
            )
            place.step("jobs accepted")
    return Figure(
        "jobs accepted, " + ("multipart with a picture" if multipart else "JSON with an asset"),
        "/CPU-s",
        value=_median([count / ours for _, ours, _, _, _ in rounds]),
        baseline=_median([count / theirs for theirs, _, _, _, _ in rounds]),
        ratio=_median([theirs / ours for theirs, ours, _, _, _ in rounds]),
        # The design's row is the JSON job.
        bar=None if multipart else 0.35,
        goal=None if multipart else 0.6,
        parts={
            "writer µs each": _median([writer / count * 1e6 for _, _, writer, _, _ in rounds]),
            "database server µs each": _median([server / count * 1e6 for _, _, _, server, _ in rounds]),
            "per second of time": _median([count / wall for _, _, _, _, wall in rounds]),
        },
    )


def pending(place: Place) -> list[Figure]:
    """Memory and the start, with deliveries that a hanging receiver leaves undone."""
    fan_out = 10
    with Child("receiver") as receiver:
        receiver.ask("hang")
        idle, fresh = _serve(place)
        with place.subject() as subject:
            subject.ask("subscribe", url=receiver.hello["url"], count=fan_out, at_once=AT_ONCE)
            before = subject.ask("memory")["rss"]
            subject.ask("pend", count=place.size.pending, fan_out=fan_out)
            added = subject.ask("memory")["rss"] - before
            place.step("pending deliveries")
        starts = []
        for _ in range(place.size.rounds):
            starts.append(_serve(place)[1])
            place.step("start")
    empty = {"s with none": fresh}
    many = f"{place.size.pending:,} pending deliveries"
    return [
        Figure("RSS, idle", "MiB", idle / MIB, bar=90, goal=60, more=False),
        Figure(f"RSS, added by {many}", "MiB", added / MIB, bar=64, goal=16, more=False),
        Figure(f"start → ready with {many}", "s", _median(starts), bar=2, goal=0.5, more=False, parts=empty),
    ]


def streams(place: Place) -> Figure:
    """What an idle client of the log's stream costs: its socket, its request and its place among the followers."""
    count = place.size.streams
    with ExitStack() as stack, place.subject() as subject:
        # The first ones also load what all of them need.
        for _ in range(WARM_STREAMS):
            stack.enter_context(_stream(subject.hello["url"]))
        before = subject.ask("memory")["rss"]
        for _ in range(count):
            stack.enter_context(_stream(subject.hello["url"]))
        added = subject.ask("memory")["rss"] - before
        place.step("idle streams")
    return Figure(f"RSS, added by each of {count:,} idle streams", "KiB", added / count / KIB, bar=64, more=False)


def _stream(url: str) -> socket.socket:
    """A client that has heard the beginning of the stream."""
    host, _, port = url.removeprefix("http://").partition(":")
    sock = socket.create_connection((host, int(port)))
    request = f"GET /v1/events/stream HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {API_KEY}\r\n\r\n"
    sock.sendall(request.encode())
    heard = b""
    while b"retry:" not in heard:
        piece = sock.recv(4096)
        if not piece:
            raise RuntimeError(f"no stream: {heard[:200]!r}")
        heard += piece
    return sock


def _serve(place: Place) -> tuple[int, float]:
    """`wirephoto serve` from its first instant until it is ready: its memory in bytes, and the seconds."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("WIREPHOTO_")},
        "WIREPHOTO_DATA_DIR": str(place.folder / "data"),
        "WIREPHOTO_API_KEY": API_KEY,
        "WIREPHOTO_PORT": "0",
        "WIREPHOTO_ALLOW_NETWORKS": '["127.0.0.0/8"]',
        **({"WIREPHOTO_DATABASE_URL": place.url} if place.url else {}),
    }
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", "from service.cli import main; main()", "serve"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = next((word for word in line.split() if word.startswith("http://")), None)
        if url is None:
            raise RuntimeError(f"wirephoto serve did not start: {line!r}")
        with urllib.request.urlopen(f"{url}/readyz"):
            took = time.monotonic() - started
        return psutil.Process(process.pid).memory_info().rss, took
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def fsync(place: Place) -> Figure:
    """What the disk gives: 4 KiB appended and synced, one after the other."""
    file = place.folder / "fsync"
    handle = os.open(file, os.O_WRONLY | os.O_CREAT)
    try:
        started = time.monotonic()
        for _ in range(FSYNCS):
            os.write(handle, bytes(4096))
            os.fdatasync(handle)
        took = time.monotonic() - started
    finally:
        os.close(handle)
        file.unlink()
    return Figure("the disk: 4 KiB appended and synced", "/s", FSYNCS / took)
