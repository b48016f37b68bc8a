"""An S3 that is not ours: moto's server on loopback, with a bucket; it can go away and come back with all it holds."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.request import Request, urlopen

import pytest
from moto.backends import get_backend
from moto.server import ThreadedMotoServer

from tests.ports import free_port

ACCOUNT = "123456789012"  # moto's own
logging.getLogger("werkzeug").setLevel(logging.ERROR)
# Made up, and taken by moto as all are.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "an-access-key-id",
    "AWS_SECRET_ACCESS_KEY": "a-secret-access-key-that-nobody-may-see",
    "AWS_REGION": "us-east-1",
}


@dataclass
class S3:
    """The server; `url` names a prefix in its bucket, `environment` is what reaches it."""

    bucket: str
    port: int = field(default_factory=free_port)
    _server: ThreadedMotoServer | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/some/prefix"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": self.endpoint, "AWS_ALLOW_HTTP": "true"}

    def start(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Every key is one that the server has never heard of."""
        self._check_keys_after("0")
        try:
            yield
        finally:
            self._check_keys_after("inf")

    def _check_keys_after(self, requests: str) -> None:
        headers = {"Content-Type": "text/plain"}
        asking = Request(f"{self.endpoint}/moto-api/reset-auth", requests.encode(), headers, method="POST")
        with urlopen(asking) as answer:
            assert answer.status == 200

    def keys(self) -> set[str]:
        """What the bucket holds, below the prefix."""
        return {name.removeprefix("some/prefix/") for name in self._objects()}

    def age(self, key: str, now: int) -> None:
        """As if it had been put at `now` (milliseconds): the server's clock is not ours to turn."""
        self._objects()[f"some/prefix/{key}"].last_modified = datetime.fromtimestamp(now / 1000, UTC)

    def empty(self) -> None:
        self._objects().clear()

    def put(self, key: str) -> None:
        with urlopen(Request(f"{self.endpoint}/{self.bucket}/some/prefix/{key}", data=b"?", method="PUT")) as answer:
            assert answer.status == 200

    def damage(self, key: str, content: bytes) -> None:
        self._objects()[f"some/prefix/{key}"].value = content

    def _objects(self) -> Any:
        return get_backend("s3")[ACCOUNT]["aws"].buckets[self.bucket].keys


@contextmanager
def s3_server(bucket: str) -> Iterator[S3]:
    """A started server with its bucket, and the environment that leads there."""
    it = S3(bucket)
    it.start()
    try:
        with urlopen(Request(f"{it.endpoint}/{bucket}", method="PUT")) as answer:
            assert answer.status == 200
        with pytest.MonkeyPatch.context() as environment:
            for name, value in it.environment.items():
                environment.setenv(name, value)
            yield it
    finally:
        it.stop()
