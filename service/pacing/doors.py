"""The door to a vendor, pure: who may hand in a job while the account is paused.

Shut, nobody may. Ajar, one job may: it shows whether the account is good again, and if it is not the door is shut
behind it, until the next probe sets it ajar. What has gone through before is asked for and fetched as ever.
"""

from schemas.trouble import Trouble
from service.pacing.health import Health


class Door:
    def __init__(self, health: Health) -> None:
        self._health = health
        self._ajar = 0  # for the trouble that began then
        self._through: int | None = None

    @property
    def shut(self) -> bool:
        """Whether jobs wait; the one that is let through excepted."""
        return bool(self._health.pausing)

    @property
    def ajar(self) -> bool:
        return any(trouble.since == self._ajar for trouble in self._health.pausing)

    def set_ajar(self, trouble: Trouble) -> None:
        """For one job, now or when there is one; not beyond the end of this trouble."""
        self._ajar = trouble.since

    def let_through(self, job: int) -> None:
        self._ajar = 0
        self._through = job

    def bars(self, job: int) -> bool:
        """Whether a job that was taken up before the door was shut must wait after all."""
        return self.shut and job != self._through
