"""What an account has left, pure: when to ask for it, and whether it is little."""

from decimal import Decimal

LOOKS_MS = 600_000


class Purse:
    """`low`: below this balance, in the vendor's own unit, the operator is told; None: nobody wants to know."""

    def __init__(self, low: Decimal | None) -> None:
        self._low = low
        self._next_at = 0

    def due(self, now: int) -> bool:
        """Whether to ask, `now` that something was spent (milliseconds): at most every LOOKS_MS."""
        return self._low is not None and now >= self._next_at

    def asked(self, now: int) -> None:
        self._next_at = now + LOOKS_MS

    def is_low(self, balance: Decimal) -> bool:
        return self._low is not None and balance < self._low
