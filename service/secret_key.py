"""Which secret keys a store needs: it remembers the fingerprint of each that may have sealed something in it."""

from service.security.vault import Vault, WrongKey
from service.store import meta, nodes
from service.store.database import Reader, Tx

_FACT = "key_fingerprint"


async def needed(reader: Reader) -> frozenset[str]:
    """By their fingerprints."""
    return _parsed(await meta.get(reader, _FACT))


async def check(reader: Reader, vault: Vault) -> None:
    """Raises WrongKey where one is missing."""
    _refuse(await needed(reader), vault)


async def join(tx: Tx, vault: Vault) -> None:
    """Before a node seals anything, its key is among them. Raises WrongKey."""
    known = _parsed(await meta.locked(tx, _FACT))
    _refuse(known, vault)
    if vault.fingerprint not in known:
        await meta.put(tx, _FACT, " ".join(sorted({*known, vault.fingerprint})))


async def only(tx: Tx, vault: Vault, newest: int) -> bool:
    """Everything is sealed with the newest key: no other is needed. False where a node that joined since has used one.

    `newest`: the last node that had joined when it was begun to look.
    """
    # Locked first, as by a node that joins: it is either seen here, or sees what is put here.
    await meta.locked(tx, _FACT)
    if await nodes.seals_otherwise(tx, vault.fingerprint, newest):
        return False
    await meta.put(tx, _FACT, vault.fingerprint)
    return True


def _parsed(fact: str | None) -> frozenset[str]:
    return frozenset((fact or "").split())


def _refuse(known: frozenset[str], vault: Vault) -> None:
    if not known <= vault.fingerprints:
        raise WrongKey(
            "this store's secrets were sealed with another key: give it as SECRET_KEY, or list it in SECRET_KEYS_OLD"
        )
