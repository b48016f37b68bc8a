"""What travels over an endpoint of kind `stream`: a delivery goes out, and what its receiver said comes back."""

from typing import TypedDict

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from schemas.text import Text

LONGEST_MS = 3_600_000


class Handed(TypedDict):
    """One attempt, as the client of a stream is handed it: what to send on, as it is."""

    delivery: str
    attempt: int
    headers: dict[str, str]
    body: str


class AnswerHeaders(BaseModel):
    """The headers of the receiver's answer that mean something; no others are wanted."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"retry-after": "30"}]})

    retry_after: str | None = Field(None, alias="retry-after", max_length=100)
    webhook_delivery: str | None = Field(None, alias="webhook-delivery", max_length=100)

    def as_dict(self) -> dict[str, str]:
        return {name: value for name, value in self.model_dump(by_alias=True).items() if value is not None}


class StreamAnswer(BaseModel):
    """The body of `POST /v1/endpoints/{id}/answers`: the answer to one delivery, or why there was none."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [{"delivery": "dlv_01kbs35cg0jzw71grgcest15j2", "status": 204, "ms": 12}],
        },
    )

    delivery: str = Field(min_length=1, max_length=64)
    status: int | None = Field(None, ge=100, le=599, description="The receiver's HTTP status.")
    error: Text | None = Field(
        None, max_length=500, description="Why there is no status: refused, timed out.", validate_default=True
    )
    ms: int = Field(0, ge=0, le=LONGEST_MS, description="How long the receiver took.")
    headers: AnswerHeaders = Field(default_factory=lambda: AnswerHeaders.model_validate({}))
    body_head: str = Field("", max_length=16_384, description="The beginning of the answer's body; 1 KiB is kept.")

    @field_validator("error")
    @classmethod
    def _one_of_two(cls, error: str | None, info: ValidationInfo) -> str | None:
        if "status" not in info.data:
            return error
        if error is None and info.data["status"] is None:
            raise ValueError("is required where there is no status")
        if error is not None and info.data["status"] is not None:
            raise ValueError("can't stand beside a status")
        return error
