"""What a check finds: one fact, whether it is well, and how it is mended where it is not."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    OK = "ok"
    NOTE = "note"  # worth knowing, and no hindrance
    FAULT = "fault"


@dataclass(frozen=True)
class Finding:
    about: str
    level: Level
    says: str
    mend: str = ""

    def as_json(self) -> dict[str, str]:
        return {"about": self.about, "level": self.level, "says": self.says, "mend": self.mend}


def ok(about: str, says: str) -> Finding:
    return Finding(about, Level.OK, says)


def note(about: str, says: str, mend: str = "") -> Finding:
    return Finding(about, Level.NOTE, says, mend)


def fault(about: str, says: str, mend: str) -> Finding:
    return Finding(about, Level.FAULT, says, mend)
