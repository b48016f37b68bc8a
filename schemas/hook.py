"""A hook is an endpoint as no-code tools make it: subscribed to in one call, found again, and given back in one call.

Each tool has its own name for where it wants to be called: REST hooks say `target_url`, Zapier's examples `hookUrl` or
`targetUrl`, Make `url`.
"""

import hashlib
import json
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from schemas.endpoint import Format, Terms
from schemas.job import HttpUrl
from schemas.registration import Filter, Pattern

URL_NAMES = ("hookUrl", "target_url", "targetUrl", "url")
EVENT_NAMES = ("events", "event")

Patterns = Annotated[list[Pattern], Field(min_length=1, max_length=32)]
_one, _many = TypeAdapter(Pattern), TypeAdapter(Patterns)


def _patterns(value: Any) -> tuple[str, ...]:
    """One name, or a list of them: so that a fault is named by the place where it was sent."""
    return (_one.validate_python(value),) if isinstance(value, str) else tuple(_many.validate_python(value))


OneOrMany = Annotated[tuple[str, ...], PlainValidator(_patterns, json_schema_input_type=Pattern | Patterns)]


def _one_of_each(schema: dict[str, Any]) -> None:
    # Some tools send null for what their user left empty, so a name may be there and say nothing.
    schema["examples"] = [{"hookUrl": "https://flows.example/hooks/1", "event": "job.succeeded"}]
    schema["allOf"] = [{"anyOf": [{"required": [name]} for name in names]} for names in (URL_NAMES, EVENT_NAMES)]


class HookRequest(BaseModel):
    """The body of `POST /v1/hooks`: one of the names for the URL, and one of the names for the events."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_one_of_each)

    hook_url: HttpUrl | None = Field(None, alias="hookUrl", description="Where to send; the next three are the same.")
    target_url: HttpUrl | None = None
    target_url_2: HttpUrl | None = Field(None, alias="targetUrl")
    url: HttpUrl | None = None
    events: OneOrMany | None = Field(None, description="Types of events, or `job.*`, or `*`: one, or a list of them.")
    event: OneOrMany | None = Field(None, description="The same by another name.")
    filter: Filter | None = None
    format: Format | None = Field(None, description="By default `flat`: scalars first.")

    @model_validator(mode="wrap")
    @classmethod
    def _names(cls, value: Any, handler: ModelWrapValidatorHandler["HookRequest"]) -> "HookRequest":
        """Beside all that is wrong with single fields: of the names of one thing there must be exactly one."""
        faults: list[InitErrorDetails] = []
        if isinstance(value, dict):
            faults = [fault for names in (URL_NAMES, EVENT_NAMES) for fault in _not_one(value, names)]
        try:
            made = handler(value)
        except ValidationError as error:
            raise ValidationError.from_exception_data(
                cls.__name__,
                [*(_again(told["loc"], told["type"], told["msg"]) for told in error.errors()), *faults],
            ) from None
        if faults:
            raise ValidationError.from_exception_data(cls.__name__, faults)
        return made

    @property
    def named_url(self) -> tuple[str, str]:
        """The URL, after the name that it was sent by."""
        by_name = zip(URL_NAMES, (self.hook_url, self.target_url, self.target_url_2, self.url), strict=True)
        return next((name, url) for name, url in by_name if url is not None)

    def terms(self, sealed_headers: str) -> Terms:
        """What is subscribed to; a name that stands there twice is one."""
        return Terms(
            url=self.named_url[1],
            sealed_headers=sealed_headers,
            events=tuple(dict.fromkeys(self.events or self.event or ())),
            filter=self.filter or {},
            description="a hook",
            format=self.format or Format.FLAT,
        )


def _again(where: tuple[int | str, ...], kind: str, told: str) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError(kind, told), loc=where, input=None)


def _not_one(value: dict[str, Any], names: tuple[str, ...]) -> list[InitErrorDetails]:
    given = [name for name in names if value.get(name) is not None]
    if len(given) == 1:
        return []
    if not given:
        return [_again((names[0],), "missing_name", f"is required, as one of {', '.join(names)}")]
    return [_again((name,), "twice", f"give one of {', '.join(given)}") for name in given]


def digest(terms: Terms) -> str:
    """What makes two subscriptions the same: URL, events in whatever order, filter and format."""
    told = [terms.url, sorted(terms.events), terms.filter, terms.format]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
