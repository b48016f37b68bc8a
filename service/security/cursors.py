"""Cursors of lists: where a page ended, sealed, so that nobody learns a row's number, and with it others' volume."""

from service.security.vault import Vault, WrongKey

_LONGEST = 400


class Cursors:
    """A cursor opens for the list and the project that it was made for, also where its row is gone by then."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def after(self, listing: str, project: int, position: int) -> str:
        return self._vault.seal(_owner(listing, project), str(position))

    def position(self, listing: str, project: int, cursor: str) -> int:
        """Raises ValueError where this is none of ours, or another list's."""
        if len(cursor) > _LONGEST:
            raise ValueError("too long for a cursor")
        try:
            return int(self._vault.open(_owner(listing, project), cursor))
        except WrongKey:
            raise ValueError("no cursor of this list") from None


def _owner(listing: str, project: int) -> str:
    return f"list {listing} of {project}"
