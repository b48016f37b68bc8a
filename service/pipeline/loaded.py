"""What the third step finds in the store before it hands a job in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handlers.vendors.contract import InputLink
from schemas.asset import Asset
from schemas.job import Job
from service.store import assets, jobs, lanes, results, submissions
from service.store.database import Reader
from service.store.submissions import Submission

# A handler may think of those that come next, not of a thousand.
LOOK_BEHIND = 10


@dataclass(frozen=True, slots=True)
class Loaded:
    """A job's pictures and links by input, and the submission before this one, if its answer never came.

    `made_here`: what this job's vendor called those pictures that it made itself. `unanswered_since`: when the first of
    those submissions went out.
    """

    inputs: Mapping[str, Asset | InputLink]
    made_here: Mapping[str, Mapping[str, Any]]
    unanswered: Submission | None
    unanswered_since: int | None
    behind: int


async def load(reader: Reader, job: Job, now: int) -> Loaded:
    inputs: dict[str, Asset | InputLink] = {}
    made_here: dict[str, Mapping[str, Any]] = {}
    for entry in await jobs.inputs_of(reader, job.row):
        if entry.link is not None:
            inputs[entry.name] = InputLink(entry.link)
            continue
        assert entry.asset is not None, "staged inputs have assets"
        asset = await assets.by_row(reader, job.project, entry.asset)
        assert asset is not None, "a job's asset is of its project"
        inputs[entry.name] = asset
        found = await results.made_by(reader, job.project, asset.row, job.vendor)
        if found is not None:
            made_here[entry.name] = found
    earlier = await submissions.of_job(reader, job.row)
    unanswered = [entry for entry in earlier if entry.state == "unanswered"]
    behind = await lanes.behind(reader, jobs.Step.SUBMIT, job, now, LOOK_BEHIND)
    if not unanswered:
        return Loaded(inputs, made_here, None, None, behind)
    return Loaded(inputs, made_here, unanswered[-1], unanswered[0].sent_at, behind)
