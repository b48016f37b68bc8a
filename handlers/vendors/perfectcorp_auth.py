"""Perfect Corp's access tokens: had for an encrypted word of ours, kept over restarts, renewed before their end.

The id_token is base64 of the RSA PKCS#1 v1.5 encryption of `client_id=…&timestamp=…` with the client_secret, which is a
public key: base64 of an X.509 SubjectPublicKeyInfo (seed 000, "Authentication"; the padding is from public clients).
"""

import asyncio
import base64
import json
from dataclasses import dataclass, field, replace
from typing import Final
from weakref import WeakKeyDictionary

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from handlers.vendors import perfectcorp_words as words
from handlers.vendors import reading
from handlers.vendors.contract import Account, Memory, Purpose, VendorError
from handlers.vendors.reading import Meaning
from schemas.job import ErrorClass

MEMORY: Final = "access_token"
LIVES_MS = 2 * 3_600_000
# Renewed while the old one still opens: whoever asks meanwhile goes on with that.
MARGIN_MS = 5 * 60_000
# A renewal that failed is not tried with every request.
PAUSE_MS = 30_000
# Nor is one that nobody can go on without: once more at once, then after waits that double.
FIRST_PAUSE_MS = 1_000
LONGEST_PAUSE_MS = 16_000
AUTH_SECONDS = 15.0
# Its 4xx mean that the credentials do not fit, whatever the number.
_REFUSED = frozenset({400, 401, 403, 422})
_NO = Meaning(ErrorClass.AUTH, "the vendor refuses the credentials", of_task=False)


@dataclass(frozen=True, slots=True)
class Token:
    """`until` in milliseconds since 1970."""

    text: str = field(repr=False)
    until: int

    def opens(self, now: int, refused: str | None) -> bool:
        return now < self.until and self.text != refused

    def as_text(self) -> str:
        return json.dumps({"token": self.text, "until": self.until})


@dataclass
class _Held:
    """One account's token in this process. `renew_at`: when to ask for another."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    token: Token | None = None
    renew_at: int = 0
    refusal: VendorError | None = None  # what all are told until `again_at`
    refusals: int = 0
    again_at: int = 0

    def take(self, token: Token) -> None:
        self.token, self.renew_at = token, token.until - MARGIN_MS
        self.refusal, self.refusals = None, 0

    def failed(self, error: VendorError, now: int) -> None:
        pause = FIRST_PAUSE_MS << (self.refusals - 1) if 0 < self.refusals < 30 else 0
        self.refusal, self.refusals = error, min(self.refusals + 1, 29)
        self.again_at = now + min(pause, LONGEST_PAUSE_MS)

    def waits(self, now: int) -> bool:
        # A clock that was set back makes nobody wait for longer.
        return self.refusal is not None and now < self.again_at <= now + LONGEST_PAUSE_MS

    def opens(self, now: int, refused: str | None) -> bool:
        return self.token is not None and self.token.opens(now, refused)

    def fresh(self, now: int, refused: str | None) -> bool:
        return self.opens(now, refused) and now < self.renew_at


class Tokens:
    """The tokens of all accounts, told apart by their memories."""

    def __init__(self) -> None:
        self._all: WeakKeyDictionary[Memory, _Held] = WeakKeyDictionary()

    async def current(self, account: Account, refused: str | None = None) -> str:
        """A token that should open; another one than `refused`, which the vendor has just refused.

        However many ask at once, one request is made. Raises VendorError.
        """
        held = self._all.setdefault(account.memory, _Held())
        now = account.now()
        if held.token and (held.fresh(now, refused) or (held.lock.locked() and held.opens(now, refused))):
            return held.token.text
        async with held.lock:
            await self._renewed(held, account, refused)
            assert held.token is not None, "renewed, or raised"
            return held.token.text

    def secrets(self, account: Account) -> tuple[str, ...]:
        """What an answer may repeat."""
        held = self._all.get(account.memory)
        token = () if held is None or held.token is None else (held.token.text,)
        return (*token, *_secrets(account))

    async def _renewed(self, held: _Held, account: Account, refused: str | None) -> None:
        if held.fresh(account.now(), refused):
            return  # by whoever held the lock before
        kept = _kept(await account.memory.recall(MEMORY))
        if kept is not None and kept.opens(account.now(), refused):
            held.take(kept)
        if held.fresh(account.now(), refused):
            return  # before a restart, or by another node
        if held.refusal is not None and held.waits(account.now()):
            raise replace(held.refusal)
        try:
            token = await _had(account)
        except VendorError as error:
            if not held.opens(account.now(), refused):
                held.failed(error, account.now())
                raise
            held.renew_at = account.now() + PAUSE_MS
            return
        held.take(token)
        await account.memory.keep(MEMORY, token.as_text())


def public_key(client_secret: str) -> RSAPublicKey:
    """The key that a client_secret is, with or without PEM armour. Raises VendorError, which shows nothing of it."""
    # Environment files write line ends as \n.
    lines = client_secret.replace("\\n", "\n").splitlines()
    bare = "".join("".join(line.split()) for line in lines if not line.strip().startswith("-----"))
    try:
        key = load_der_public_key(base64.b64decode(bare, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPublicKey):
        message = "the client_secret is no RSA public key: give it as the vendor's console shows it"
        raise VendorError(message, ErrorClass.AUTH, "bad_client_secret", permanent=True)
    return key


def id_token(key: RSAPublicKey, client_id: str, now: int) -> str:
    """`now` in milliseconds since 1970."""
    try:
        sealed = key.encrypt(f"client_id={client_id}&timestamp={now}".encode(), PKCS1v15())
    except ValueError:
        message = "the client_id is too long for the key that the client_secret is"
        raise VendorError(message, ErrorClass.AUTH, "bad_client_id", permanent=True) from None
    return base64.b64encode(sealed).decode()


async def _had(account: Account) -> Token:
    """A new token, by one request. Raises VendorError, of class AUTH where the credentials are refused."""
    key = public_key(account.secrets["client_secret"])
    client_id = account.secrets["client_id"]
    async with account.turn(Purpose.AUTH):
        # After the turn has come: the vendor looks at the time.
        asked_at = account.now()
        proof = id_token(key, client_id, asked_at)
        with reading.told_apart():
            answer = await account.http.request(
                "POST",
                f"{account.base_url.rstrip('/')}/client/auth",
                headers={"Content-Type": "application/json"},
                body=json.dumps({"client_id": client_id, "id_token": proof}).encode(),
                deadline=AUTH_SECONDS,
                cut=True,
            )
    error = words.fault(answer, (proof, *_secrets(account)))
    if error is not None:
        if answer.status in _REFUSED and error.error_class is not ErrorClass.CREDITS:
            raise reading.refused(_NO, error.code, error.message, {})
        raise error
    text = reading.identifier(reading.section(words.said(answer), "result").get("access_token"))
    if text is None or not text.isascii() or not text.isprintable() or " " in text:
        raise reading.unreadable("the answer to the authentication has no access_token: is this Perfect Corp?")
    return Token(text, asked_at + LIVES_MS)


def _secrets(account: Account) -> tuple[str, ...]:
    return tuple(account.secrets.values())


def _kept(text: str | None) -> Token | None:
    try:
        value = json.loads(text or "null")
        return Token(str(value["token"]), int(value["until"]))
    except (ValueError, TypeError, KeyError):
        return None
