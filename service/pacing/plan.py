"""The poll plan: how long to leave a task alone before it is asked again."""

from dataclasses import dataclass

from handlers.vendors.contract import Pace

# Part of an account's requests that polls may take together; the rest is for submissions.
POLLS_SHARE = 0.7


@dataclass(frozen=True)
class PollPlan:
    pace: Pace

    def wait_ms(self, asks: int, in_flight: int) -> int:
        """The wait before ask `asks + 1` (milliseconds): the vendor's interval, longer where `in_flight` tasks share
        the account's windows.

        After a minute's worth of asks a task is a long one, and is asked half as often.
        """
        interval = self.pace.interval * (2 if asks * self.pace.interval > 60 else 1)
        rates = [window.requests / window.seconds for window in self.pace.windows]
        if rates:
            interval = max(interval, in_flight / (min(rates) * POLLS_SHARE))
        return round(interval * 1000)
