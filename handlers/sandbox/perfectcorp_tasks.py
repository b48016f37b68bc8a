"""Perfect Corp's unit of work: an action on files, kept alive by questions."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from handlers.sandbox.perfectcorp_features import Run
from handlers.sandbox.perfectcorp_storage import StoredFile
from handlers.sandbox.tasks import State, Task, Word, WorkFailedError


@dataclass(eq=False, kw_only=True)
class PerfectCorpTask(Task):
    """`alive_at` is the last sign of a client, by the monotonic clock; `told_at` when the end was first told."""

    run: Run
    alive_at: float = 0.0
    told_at: float | None = None
    lost: bool = False
    results: dict[str, StoredFile] = field(default_factory=dict)


def real_word(task: PerfectCorpTask) -> Word:
    return {State.DONE: "success", State.FAILED: task.failure}.get(task.state, "running")


def fate_of(last: Word) -> State | None:
    """Where a scripted task ends: "success" succeeds, an error code fails, any other status goes on for ever."""
    if last == "success":
        return State.DONE
    return None if last == "running" or str(last).startswith("status:") else State.FAILED


def bytes_of(files: Mapping[str, StoredFile | None]) -> dict[str, bytes]:
    """What the engine finds of the files, when it begins. Raises WorkFailedError for one that is not there."""
    found = {}
    for name, file in files.items():
        if file is None or file.data is None:
            raise WorkFailedError("error_download_mask" if name == "mask_ids" else "error_download_image")
        found[name] = file.data
    return found
