"""Settings: a TOML file and the environment, which wins. An unknown setting is refused by its name."""

import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from handlers.vendors.contract import Pace, Window

PREFIX = "WIREPHOTO_"
SHORTEST_SECRET_KEY = 32
DEFAULT_FILE = Path("wirephoto.toml")


class Unconfirmed(StrEnum):
    """What to do when nobody knows whether a paid call was taken in, at a vendor where a second one may cost again."""

    RESUBMIT = "resubmit"  # at most once, and `billing.possible_duplicate` says so
    FAIL = "fail"


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _split(value: Any) -> Any:
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            return json.loads(value)
        return [part.strip() for part in value.split(",")] if value.strip() else []
    return value


T = TypeVar("T")
# In the environment a list is written with commas, or as JSON.
Listed = Annotated[list[T], NoDecode, BeforeValidator(_split)]


class InvalidSettings(Exception):
    """The settings can't be used; one line a fault, each with the setting's name, none with its value."""


class Limit(BaseModel):
    model_config = ConfigDict(extra="forbid")

    scope: Literal["ip", "account"] = "account"
    requests: int = Field(ge=1)
    seconds: float = Field(gt=0)


class VendorSettings(BaseModel):
    """What every vendor has; what is unset stays as the vendor's document says."""

    model_config = ConfigDict(extra="forbid")

    base_url: str
    limits: list[Limit] | None = None
    poll_seconds: float | None = Field(None, gt=0)
    max_concurrent: int | None = Field(None, ge=1)
    deadline_seconds: float | None = Field(None, gt=0)
    call_seconds: float | None = Field(None, gt=0)  # how long the paid call, with its upload, may take
    unconfirmed: Unconfirmed = Unconfirmed.RESUBMIT

    @field_validator("base_url")
    @classmethod
    def _url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http or https URL")
        return value.rstrip("/")

    def paced(self, pace: Pace) -> Pace:
        """The vendor's documented pace with these settings laid over it."""
        changes: dict[str, Any] = {
            "interval": self.poll_seconds,
            "first_poll": self.poll_seconds,
            "max_concurrent": self.max_concurrent,
            "deadline": self.deadline_seconds,
            "call": self.call_seconds,
        }
        if self.limits is not None:
            changes["windows"] = tuple(Window(entry.scope, entry.requests, entry.seconds) for entry in self.limits)
        return replace(pace, **{name: value for name, value in changes.items() if value is not None})


class VanceAISettings(VendorSettings):
    base_url: str = "https://api-service.vanceai.com/web_api/v1"
    api_token: SecretStr | None = None
    watchdog_seconds: float | None = Field(None, gt=0)

    def paced(self, pace: Pace) -> Pace:
        paced = super().paced(pace)
        return paced if self.watchdog_seconds is None else replace(paced, watchdog=self.watchdog_seconds)


class PicWishSettings(VendorSettings):
    base_url: str = "https://techhk.aoscdn.com"
    api_key: SecretStr | None = None


class Settings(BaseSettings):
    """Every setting, by the names of the documentation in lower case."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", nested_model_default_partial_update=True
    )

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    public_url: str | None = None
    data_dir: Path = Path("wirephoto-data")
    database_url: SecretStr | None = None  # it may hold a password
    secret_key: SecretStr | None = None
    secret_keys_old: Listed[SecretStr] = Field(default_factory=list)
    api_key: SecretStr | None = None
    allow_networks: Listed[str] = Field(default_factory=list)
    allow_source_networks: Listed[str] = Field(default_factory=list)
    ca_file: Path | None = None
    asset_retention_days: float = Field(30, gt=0)
    event_retention_days: float = Field(30, gt=0)
    metrics_token: SecretStr | None = None
    max_upload_mb: float = Field(100, gt=0, le=2048)
    source_deadline_seconds: float = Field(60, gt=0)
    retry_schedule: Annotated[Listed[Annotated[float, Field(gt=0)]], Field(min_length=1, max_length=50)] | None = None
    log_format: Literal["auto", "json", "console"] = "auto"
    vanceai: VanceAISettings = VanceAISettings()
    picwish: PicWishSettings = PicWishSettings()

    @field_validator("allow_networks", "allow_source_networks")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for number, text in enumerate(value, 1):
            try:
                ipaddress.ip_network(text)
            except ValueError:
                raise ValueError(f"entry {number} is no network such as 10.0.0.0/8 or fd00::/8") from None
        return value

    @field_validator("api_key")
    @classmethod
    def _api_key(cls, value: SecretStr | None) -> SecretStr | None:
        # Any other could never be sent as a key.
        if value is not None and not re.fullmatch(r"wp_[A-Za-z0-9_\-]{20,190}", value.get_secret_value()):
            raise ValueError("must be wp_ and 20 to 190 letters, digits, - or _")
        return value

    @field_validator("secret_key", "secret_keys_old")
    @classmethod
    def _long_keys(cls, value: SecretStr | list[SecretStr] | None) -> SecretStr | list[SecretStr] | None:
        given = value if isinstance(value, list) else [] if value is None else [value]
        if any(len(key.get_secret_value()) < SHORTEST_SECRET_KEY for key in given):
            raise ValueError(f"must have at least {SHORTEST_SECRET_KEY} characters")
        return value

    @field_validator("database_url")
    @classmethod
    def _database_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and urlsplit(value.get_secret_value()).scheme not in ("postgresql", "postgres"):
            raise ValueError("must be postgresql://…; unset, the store is one SQLite file in DATA_DIR")
        return value

    @field_validator("public_url")
    @classmethod
    def _public_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be an http or https URL without a query")
        return value.rstrip("/")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        _ = dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @cached_property
    def networks(self) -> tuple[Network, ...]:
        """Private networks that deliveries may go to."""
        return tuple(ipaddress.ip_network(text) for text in self.allow_networks)

    @cached_property
    def source_networks(self) -> tuple[Network, ...]:
        """Private networks that source URLs may name."""
        return tuple(ipaddress.ip_network(text) for text in self.allow_source_networks)

    @property
    def database_file(self) -> Path:
        return self.data_dir / "wirephoto.sqlite3"

    @property
    def secret_key_file(self) -> Path:
        """Where the key lies that is made at the first start; unused where SECRET_KEY is set."""
        return self.data_dir / "secret.key"

    @property
    def link_base(self) -> str:
        """What our own links begin with."""
        return self.public_url or self.local_url

    @property
    def local_url(self) -> str:
        """Where this machine reaches the service."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - a comparison
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def reply_base(self) -> str | None:
        """Where vendors may call us: https, and plain http only towards an allowed network."""
        if self.public_url is None or self.public_url.startswith("https://"):
            return self.public_url
        host = urlsplit(self.public_url).hostname or ""
        try:
            address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        except ValueError:
            return None
        return self.public_url if any(address in network for network in self.networks) else None

    @property
    def schedule_ms(self) -> tuple[int, ...] | None:
        """The waits between attempts; None: the documented ones."""
        if self.retry_schedule is None:
            return None
        return tuple(round(wait * 1000) for wait in self.retry_schedule)


def load(config: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings. Raises InvalidSettings, which names every faulty one and shows no value."""
    file = config if config is not None else (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    if config is not None and not config.exists():
        raise InvalidSettings(f"there is no file {config}")
    unknown = _unknown_names(os.environ)
    if unknown:
        raise InvalidSettings("\n".join(f"{name}: unknown setting" for name in unknown))

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    try:
        return FromFile(**overrides)
    except ValidationError as error:
        lines = [
            f"{_name(fault['loc'])}: {reason_of(fault['type'], fault['msg'], unknown='unknown setting')}"
            for fault in error.errors(include_input=False)
        ]
        raise InvalidSettings("\n".join(lines)) from None
    except SettingsError:
        # A whole vendor given as one variable; the text would show its value.
        raise InvalidSettings(f"{PREFIX}<VENDOR>: must be a JSON object; better set each part alone") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{file} is not TOML: {_where(error)}") from None


_REASONS = {
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "missing": "is required",
}


def reason_of(kind: str, message: str, *, unknown: str = "unknown") -> str:
    """pydantic's words for one fault, in words for people who never saw pydantic."""
    if kind == "extra_forbidden":
        return unknown
    return _REASONS.get(kind, message.removeprefix("Value error, "))


def _where(error: tomllib.TOMLDecodeError | UnicodeDecodeError) -> str:
    # The reader's own words may quote the line.
    place = re.search(r"\(at (.+)\)$", str(error))
    return f"look at {place[1]}" if place else "look at its characters"


def _name(location: tuple[int | str, ...]) -> str:
    return PREFIX + "__".join(str(part).upper() for part in location)


# Read by the client commands and by nobody else.
CLIENT_NAMES = frozenset({"WIREPHOTO_URL", "WIREPHOTO_KEY"})


def _unknown_names(environment: Mapping[str, str]) -> list[str]:
    """Prefixed names that no setting has: pydantic-settings would pass over a typo in silence."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | CLIENT_NAMES
    for name, part in (("VANCEAI", VanceAISettings), ("PICWISH", PicWishSettings)):
        known |= {f"{PREFIX}{name}__{inner.upper()}" for inner in part.model_fields}
    return sorted(name for name in environment if name.startswith(PREFIX) and name.upper() not in known)
