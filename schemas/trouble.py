"""What is wrong with an account at a vendor, and since when."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from schemas.job import ErrorClass


class Kind(StrEnum):
    """Where several things are wrong, the first of this list says most."""

    REFUSED = "refused"
    BROKE = "broke"
    DOWN = "down"
    LOW = "low"


# While one of these lasts no job is handed in: each would be refused, and none of them is to blame.
PAUSING = frozenset({Kind.REFUSED, Kind.BROKE})
# The account works all the same.
HARMLESS = frozenset({Kind.LOW})

_REASONS: Mapping[Kind, str] = {
    Kind.REFUSED: "the vendor refuses our key",
    Kind.BROKE: "the account at the vendor is empty",
    Kind.DOWN: "the vendor gives no answers, or only errors",
    Kind.LOW: "fewer are left than CREDITS_LOW",
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """One kind of trouble, by the vendor's word that began it: `call` is what it was asked then.

    `since` and `probe_at` in milliseconds since 1970. `probe_at` is when it is tried next whether the account is good
    again, and `probes` how often it was tried; None where nothing is paused. `credits`: a decimal string, where the
    vendor has told what is left.
    """

    kind: Kind
    since: int
    call: str
    error_class: ErrorClass
    code: str
    probe_at: int | None = None
    probes: int = 0
    credits: str | None = None

    @property
    def reason(self) -> str:
        told = f" ({self.code})" if self.code else ""
        return f"{self.error_class}: {_REASONS[self.kind]}{told}"
