"""What went wrong, as RFC 9457 says it: one problem, all faulty fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldError:
    """One faulty field, by its dotted path in the request (`params.scale`), and why."""

    field: str
    reason: str

    def as_json(self) -> dict[str, str]:
        return {"field": self.field, "reason": self.reason}


_TITLES: Mapping[int, str] = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    409: "Conflict",
    410: "Gone",
    411: "Length required",
    412: "Precondition failed",
    413: "Too large",
    415: "Unsupported type",
    416: "Range not satisfiable",
    422: "Invalid request",
    429: "Too many requests",
    500: "Internal error",
    503: "Not ready",
}


@dataclass(eq=False)
class Problem(Exception):
    """An answer of class 4xx or 5xx; `type` is a stable name for programs, `detail` a sentence for people.

    `more`: members of its own, which RFC 9457 calls extensions.
    """

    status: int
    type: str
    detail: str
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.type}: {self.detail}"

    def as_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "type": f"urn:wirephoto:problem:{self.type}",
            "title": _TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            body["errors"] = [error.as_json() for error in self.errors]
        return {**body, **self.more}


def invalid(errors: Sequence[FieldError], detail: str | None = None) -> Problem:
    """A 422 that names every faulty field at once."""
    named = ", ".join(sorted({error.field for error in errors}))
    return Problem(422, "invalid_request", detail or f"These fields are not valid: {named}.", errors)


def not_found(what: str) -> Problem:
    """A 404; also the answer for another project's id, so that nobody learns that it exists."""
    return Problem(404, "not_found", f"There is no such {what}.")
