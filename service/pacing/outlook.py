"""Is a question worth asking? By what is known of how long such tasks live, and by what the vendor wants: pure."""

import math

from service.pacing.lives import Outlook
from service.pacing.waits import Member, Tracked

# From here on a question is taken to be the last one: few are wasted, and a place is free earlier.
LIKELY = 0.8
# After so long a task is a long one: where nothing is known of such tasks, it is asked half as often.
_LONG_MS = 60_000


def of(member: Member, task: Tracked) -> Outlook:
    known = task.outlook
    if known is None or (known.kept_at, known.seen) != (task.kept_at, task.lives.seen):
        known = task.outlook = _worked_out(member, task)
    return known


def floor(member: Member, task: Tracked) -> int:
    """No question is asked sooner, but to keep the task alive; past its deadline it need not wait for long."""
    on_average = task.begun_at + (task.questions + 1) * member.on_average_ms
    wanted = max(task.kept_at + member.least_ms, task.earliest_at, on_average)
    return max(min(wanted, task.deadline_at), task.again_at)


def _worked_out(member: Member, task: Tracked) -> Outlook:
    base, lives = task.begun_at, task.lives
    alive = max(task.kept_at - base, 0)
    likely_at = None
    if lives.known:
        worth_at = base + round(1000 * lives.age_when(alive / 1000, member.patience))
        likely_at = base + math.ceil(1000 * lives.age_finished(alive / 1000, LIKELY))
    elif task.kept_at <= base:
        worth_at = base + round(1000 * member.pace.first_poll)
    else:
        worth_at = task.kept_at + round(1000 * member.pace.interval * (2 if alive > _LONG_MS else 1))
    return Outlook(task.kept_at, lives.seen, worth_at, likely_at)


def unnoticed(task: Tracked, now: int) -> float:
    """For how long it may have lain finished; where nothing is known of such tasks, since when nobody has asked."""
    alive, age = max(task.kept_at - task.begun_at, 0) / 1000, (now - task.begun_at) / 1000
    return task.lives.unnoticed(alive, age) if task.lives.known else age - alive
