"""Who else is there when a command runs: the vendors' sandboxes, and a server that says what a test wants."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from handlers.sandbox.ailabtools import AILabToolsSandbox
from handlers.sandbox.perfectcorp import PerfectCorpSandbox
from handlers.sandbox.perfectcorp_words import PerfectCorpSettings as PerfectCorpPlay
from handlers.sandbox.picwish import PicWishSandbox
from handlers.sandbox.picwish import PicWishSettings as PicWishPlay
from handlers.sandbox.server import Sandbox
from handlers.sandbox.vanceai import VanceAISandbox


@contextmanager
def vendors() -> Iterator[dict[str, str]]:
    """The settings that lead to sandboxes, which run in a thread of their own."""
    ready, stop = threading.Event(), threading.Event()
    settings: dict[str, str] = {}

    async def run() -> None:
        # One test after another asks them: more often than the real ones would let them.
        async with (
            VanceAISandbox() as vanceai,
            PerfectCorpSandbox(PerfectCorpPlay(limits=())) as perfectcorp,
            AILabToolsSandbox() as ailabtools,
            PicWishSandbox(PicWishPlay(qps=1000)) as picwish,
        ):
            running: Mapping[str, Sandbox[Any, Any]] = {
                "vanceai": vanceai,
                "perfectcorp": perfectcorp,
                "ailabtools": ailabtools,
                "picwish": picwish,
            }
            for name, vendor in running.items():
                prefix = f"WIREPHOTO_{name.upper()}__"
                settings[f"{prefix}BASE_URL"] = vendor.base_url
                settings.update({f"{prefix}{part.upper()}": value for part, value in vendor.credentials.items()})
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield settings
    finally:
        stop.set()
        thread.join()


@dataclass
class Neighbour:
    """Answers every GET with the last `answer`."""

    url: str = ""
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def answer(self, body: bytes, status: int = 200, content_type: str = "application/json", **headers: str) -> None:
        self.status, self.body, self.headers = status, body, {"Content-Type": content_type, **headers}


@contextmanager
def neighbour() -> Iterator[Neighbour]:
    it = Neighbour()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(it.status)
            for name, value in it.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(it.body)))
            self.end_headers()
            self.wfile.write(it.body)

        def log_message(self, *_: object) -> None:
            """Nothing: the tests' output is not its log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        it.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield it
        finally:
            server.shutdown()
            thread.join()
