"""Secrets at rest: sealed with the service's own key, each bound to the row it belongs to."""

import base64
import contextlib
import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class WrongKey(Exception):
    """The secret key is not the one that this store's secrets were sealed with."""


class Vault:
    """`key` seals; `old` keys still open what they sealed. A key is any text of at least 32 characters."""

    def __init__(self, key: str, old: Sequence[str] = ()) -> None:
        if min(len(text) for text in (key, *old)) < 32:
            raise ValueError("SECRET_KEY must have at least 32 characters")
        self._newest, *_ = fernets = [Fernet(_derive(text, b"wirephoto vault")) for text in (key, *old)]
        self._fernet = MultiFernet(fernets)
        self.link_key = _derive(key, b"wirephoto links")
        self.old_link_keys = tuple(_derive(text, b"wirephoto links") for text in old)
        self.fingerprint = _fingerprint(key)
        self.fingerprints = frozenset(_fingerprint(text) for text in (key, *old))

    def seal(self, owner: str, secret: str) -> str:
        """`owner` is the id of the row: a sealed text moved to another row does not open."""
        return self._fernet.encrypt(f"{owner}\n{secret}".encode()).decode()

    def open(self, owner: str, sealed: str) -> str:
        """Raises WrongKey."""
        try:
            inside = self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise WrongKey("a stored secret does not open with this secret key") from None
        found, _, secret = inside.partition("\n")
        if found != owner:
            raise WrongKey("a stored secret belongs to another row")
        return secret

    def is_newest(self, sealed: str) -> bool:
        """Whether no old key is needed for it."""
        try:
            self._newest.decrypt(sealed.encode())
        except InvalidToken:
            return False
        return True

    def sealed_anew(self, sealed: str) -> str:
        """The same secret of the same row, sealed with the newest key. Raises WrongKey."""
        try:
            return self._fernet.rotate(sealed.encode()).decode()
        except InvalidToken:
            raise WrongKey("a stored secret does not open with this secret key") from None


def _derive(key: str, purpose: bytes) -> bytes:
    derived = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=purpose).derive(key.encode())
    return base64.urlsafe_b64encode(derived)


def _fingerprint(key: str) -> str:
    return hashlib.sha256(_derive(key, b"wirephoto fingerprint")).hexdigest()[:16]


def key_file(path: Path) -> str:
    """The key in `path`, made (mode 0600) where there is none yet."""
    if not path.exists():
        # Whole or not at all: half a key, left by a kill in its midst, would be refused at every later start.
        half = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        try:
            with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as made:  # noqa: PTH123 - a mode from the first instant
                made.write(secrets.token_urlsafe(48) + "\n")
                made.flush()
                # Secrets sealed with a key that a power cut takes away are lost for good.
                os.fsync(made.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(half, path)
        finally:
            half.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return path.read_text(encoding="ascii").strip()
