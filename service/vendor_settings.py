"""Settings that belong to one vendor: where it is, what it takes as credentials, and the pace it is asked at."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    field_validator,
    model_validator,
)

from handlers.vendors import ailabtools, perfectcorp_features, picwish
from handlers.vendors.contract import Pace, Window


class Unconfirmed(StrEnum):
    """What to do when nobody knows whether a paid call was taken in, at a vendor where a second one may cost again."""

    RESUBMIT = "resubmit"  # at most once, and `billing.possible_duplicate` says so
    FAIL = "fail"


def _given(value: SecretStr | None) -> SecretStr | None:
    # An empty variable is a template that nobody filled in: better told at once than at the first refused job.
    if value is not None and not value.get_secret_value().strip():
        raise ValueError("is empty; give the credential, or remove the setting")
    return value


Credential = Annotated[SecretStr | None, AfterValidator(_given)]


class Limit(BaseModel):
    model_config = ConfigDict(extra="forbid")

    scope: Literal["ip", "account"] = "account"
    requests: int = Field(ge=1)
    seconds: float = Field(gt=0)


class VendorSettings(BaseModel):
    """What every vendor has; what is unset stays as the vendor's document says."""

    model_config = ConfigDict(extra="forbid")

    CREDENTIALS: ClassVar[tuple[str, ...]]
    """The settings that an account consists of: all of them, or none."""

    base_url: str
    limits: list[Limit] | None = None
    poll_seconds: float | None = Field(None, gt=0)
    max_concurrent: int | None = Field(None, ge=1)
    deadline_seconds: float | None = Field(None, gt=0)
    call_seconds: float | None = Field(None, gt=0)  # how long the paid call, with its upload, may take
    blocking_call_seconds: float | None = Field(None, gt=0)  # the same where its answer is the finished picture
    unconfirmed: Unconfirmed = Unconfirmed.RESUBMIT
    credits_low: Decimal | None = Field(None, ge=0)  # the operator is told when less is left, in the vendor's unit

    @field_validator("base_url")
    @classmethod
    def _url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http or https URL")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _whole_account(self) -> Self:
        missing = [name.upper() for name in self.CREDENTIALS if getattr(self, name) is None]
        if missing and len(missing) < len(self.CREDENTIALS):
            raise ValueError(f"{' and '.join(missing)} must be given too: half of the credentials opens nothing")
        return self

    def secrets(self) -> Mapping[str, str]:
        """The credentials by name; empty where there is no account."""
        given: dict[str, SecretStr | None] = {name: getattr(self, name) for name in self.CREDENTIALS}
        return {name: secret.get_secret_value() for name, secret in given.items() if secret is not None}

    def options(self) -> Mapping[str, Any]:
        """What else the vendor's client is made with, by name; most need no more than the pace."""
        return {}

    def paced(self, pace: Pace) -> Pace:
        """The vendor's documented pace with these settings laid over it."""
        changes: dict[str, Any] = {
            "interval": self.poll_seconds,
            "first_poll": self.poll_seconds,
            "max_concurrent": self.max_concurrent,
            "deadline": self.deadline_seconds,
            "call": self.call_seconds,
            "blocking_call": self.blocking_call_seconds,
        }
        if self.poll_seconds is not None:
            # Whoever wants to ask more often is not overruled by the document's waits, nor whoever wants to ask less
            # often; but a task that dies unasked must be asked again soon where a question was in vain.
            seldomer = pace.keep_alive is None and self.poll_seconds > pace.interval
            for name in ("least", "on_average", "patience"):
                seconds = getattr(pace, name)
                if seconds is not None and seldomer:
                    changes[name] = seconds * self.poll_seconds / pace.interval
                elif seconds is not None:
                    changes[name] = min(seconds, self.poll_seconds)
        if self.limits is not None:
            changes["windows"] = tuple(Window(entry.scope, entry.requests, entry.seconds) for entry in self.limits)
        return replace(pace, **{name: value for name, value in changes.items() if value is not None})


class VanceAISettings(VendorSettings):
    CREDENTIALS = ("api_token",)

    base_url: str = "https://api-service.vanceai.com/web_api/v1"
    api_token: Credential = None
    watchdog_seconds: float | None = Field(None, gt=0)
    recolor_name: Literal["recolor", "colorize"] = "recolor"  # the document has both

    def options(self) -> Mapping[str, Any]:
        return {"recolor_name": self.recolor_name}

    def paced(self, pace: Pace) -> Pace:
        paced = super().paced(pace)
        return paced if self.watchdog_seconds is None else replace(paced, watchdog=self.watchdog_seconds)


Slug = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
# Of an address: no query, nothing that climbs.
UrlPath = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9][A-Za-z0-9._~-]*)+$", max_length=200)]
# How the documented features are called, and which others the vendor is known to have.
_DOCUMENTED = [name for name, feature in perfectcorp_features.FEATURES.items() if feature.slug is not None]
_DECLARED = [name for name in perfectcorp_features.FEATURES if name not in _DOCUMENTED]


class FeatureCall(BaseModel):
    """How a feature is called of which the vendor's document gives nothing but limits."""

    model_config = ConfigDict(extra="forbid")

    slug: Slug
    params: dict[str, JsonValue] = Field(default_factory=dict)
    output_ext: list[Literal["jpg", "png", "webp"]] = Field(["jpg"], min_length=1)

    @field_validator("params")
    @classmethod
    def _own_names(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if perfectcorp_features.OUTPUT_EXT in value:
            raise ValueError("output_ext stands beside params, not in them")
        return value


class PerfectCorpSettings(VendorSettings):
    CREDENTIALS = ("client_id", "client_secret")

    base_url: str = "https://yce-api-01.perfectcorp.com/s2s/v1.0"
    client_id: Credential = None
    client_secret: Credential = None
    keepalive_seconds: float = Field(10, gt=0)  # a task unasked for longer is dropped by the vendor
    features: dict[str, FeatureCall] = Field(default_factory=dict)
    slugs: dict[str, Slug] = Field(default_factory=dict)
    file_size: bool = False

    @field_validator("features")
    @classmethod
    def _declared(cls, value: dict[str, FeatureCall]) -> dict[str, FeatureCall]:
        moving = [name for name in value if name in _DECLARED and perfectcorp_features.FEATURES[name].moving]
        if moving:
            raise ValueError(f"{', '.join(moving)} takes a video, which Wirephoto can't hold")
        if not set(value) <= set(_DECLARED):
            raise ValueError(f"can tell of {', '.join(_DECLARED)}; a documented one has its name in SLUGS")
        return value

    @field_validator("slugs")
    @classmethod
    def _documented(cls, value: dict[str, str]) -> dict[str, str]:
        if not set(value) <= set(_DOCUMENTED):
            raise ValueError(f"can name {', '.join(_DOCUMENTED)}")
        return value

    def options(self) -> Mapping[str, Any]:
        calls = {name: perfectcorp_features.Call(**call.model_dump()) for name, call in self.features.items()}
        return {"features": calls, "slugs": self.slugs, "file_size": self.file_size}

    def paced(self, pace: Pace) -> Pace:
        return replace(super().paced(pace), keep_alive=self.keepalive_seconds)


class AILabToolsSettings(VendorSettings):
    CREDENTIALS = ("api_key",)

    base_url: str = "https://www.ailabapi.com"
    api_key: Credential = None
    query_path: UrlPath = ailabtools.QUERY_PATH
    credits_path: UrlPath = ailabtools.CREDITS_PATH

    def options(self) -> Mapping[str, Any]:
        return {"query_path": self.query_path, "credits_path": self.credits_path}


class PicWishSettings(VendorSettings):
    CREDENTIALS = ("api_key",)

    base_url: str = "https://techhk.aoscdn.com"
    api_key: Credential = None
    slugs: dict[str, Slug] = Field(default_factory=dict)

    @field_validator("slugs")
    @classmethod
    def _siblings(cls, value: dict[str, str]) -> dict[str, str]:
        if not set(value) <= set(picwish.SIBLINGS):
            raise ValueError(f"can name {', '.join(picwish.SIBLINGS)}")
        return value

    def options(self) -> Mapping[str, Any]:
        return {"slugs": self.slugs}
