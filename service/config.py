"""Settings: a TOML file and the environment, which wins. An unknown setting is refused by its name."""

import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from service.vendor_settings import (
    AILabToolsSettings,
    Credential,
    PerfectCorpSettings,
    PicWishSettings,
    VanceAISettings,
    VendorSettings,
)

PREFIX = "WIREPHOTO_"
SHORTEST_SECRET_KEY = 32
LONGEST_DAYS = 36_500
LONGEST_WAIT_SECONDS = 30 * 24 * 3600
DEFAULT_FILE = Path("wirephoto.toml")
_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,62}")


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _split(value: Any) -> Any:
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            return json.loads(value)
        return [part.strip() for part in value.split(",")] if value.strip() else []
    # One number alone is a list of one.
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else value


T = TypeVar("T")
# In the environment a list is written with commas, or as JSON.
Listed = Annotated[list[T], NoDecode, BeforeValidator(_split)]


class InvalidSettings(Exception):
    """The settings can't be used; one line a fault, each with the setting's name, none with its value."""


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
    assets_url: str | None = None
    secret_key: SecretStr | None = None
    secret_keys_old: Listed[SecretStr] = Field(default_factory=list)
    api_key: SecretStr | None = None
    allow_networks: Listed[str] = Field(default_factory=list)
    allow_source_networks: Listed[str] = Field(default_factory=list)
    ca_file: Path | None = None
    asset_retention_days: float = Field(30, gt=0, le=LONGEST_DAYS)
    event_retention_days: float = Field(30, gt=0, le=LONGEST_DAYS)
    metrics_token: Credential = None
    max_upload_mb: float = Field(100, gt=0, le=2048)
    source_deadline_seconds: float = Field(60, gt=0)
    retry_schedule: (
        Annotated[Listed[Annotated[float, Field(gt=0, le=LONGEST_WAIT_SECONDS)]], Field(min_length=1, max_length=50)]
        | None
    ) = None
    log_format: Literal["auto", "json", "console"] = "auto"
    # One section a vendor; SECTIONS below finds them by their type.
    vanceai: VanceAISettings = VanceAISettings()
    perfectcorp: PerfectCorpSettings = PerfectCorpSettings()
    ailabtools: AILabToolsSettings = AILabToolsSettings()
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
        if value is None:
            return None
        try:
            parts = urlsplit(value.get_secret_value())
            _ = parts.port
        except ValueError:
            # The reader's own words would show what it took for the port: often the password.
            raise ValueError("can't be read; in a password write : / ? # @ as %3A %2F %3F %23 %40") from None
        if parts.scheme not in ("postgresql", "postgres"):
            raise ValueError("must be postgresql://…; unset, the store is one SQLite file in DATA_DIR")
        return value

    @field_validator("assets_url")
    @classmethod
    def _assets_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("holds more than a place; credentials belong into AWS_ACCESS_KEY_ID and its like")
        if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
            return value
        if parts.scheme == "s3" and _BUCKET.fullmatch(parts.netloc):
            return value.rstrip("/")
        raise ValueError("must be file:///an/absolute/path or s3://bucket/prefix")

    @field_validator("public_url")
    @classmethod
    def _public_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be an http or https URL without a query")
        if "@" in parts.netloc:
            # It would stand in every link that we give away.
            raise ValueError("can't hold a user name or password")
        _ = parts.port  # out of range: a ValueError of its own
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
    def assets_folder(self) -> Path | None:
        """The folder of the pictures; None where a bucket holds them."""
        if self.assets_url is None:
            return self.data_dir / "assets"
        parts = urlsplit(self.assets_url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

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
    """Read the settings. Raises InvalidSettings, which names every faulty one at once and shows no value."""
    file = config if config is not None else (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    if file is not None and not file.is_file():
        raise InvalidSettings(f"there is no file {file}")
    faults = [f"{name}: {_UNKNOWN}" for name in _unknown_names(os.environ)]

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    try:
        settings = FromFile(**overrides)
    except ValidationError as error:
        faults += _told(error)
    except SettingsError:
        # A whole vendor given as one variable; the text would show its value.
        faults.append(f"{PREFIX}<VENDOR>: must be a JSON object; better set each part alone")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        faults.append(f"{file} is not TOML: {_where(error)}")
    except OSError as error:
        faults.append(f"{file} can't be read: {error.strerror}")
    if faults:
        # The same unknown name may stand in both places.
        raise InvalidSettings("\n".join(dict.fromkeys(faults)))
    return settings


_UNKNOWN = "unknown setting"


def _told(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_input=False):
        yield f"{_name(fault['loc'])}: {reason_of(fault['type'], fault['msg'], unknown=_UNKNOWN)}"


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


# Which vendors have a section: the one table for the environment's names, the README and the accounts.
SECTIONS: Mapping[str, type[VendorSettings]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, VendorSettings)
}


def section(settings: Settings, vendor: str) -> VendorSettings:
    own: VendorSettings = getattr(settings, vendor)
    return own


def _unknown_names(environment: Mapping[str, str]) -> list[str]:
    """Prefixed names that no setting has: pydantic-settings would pass over a typo in silence."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | CLIENT_NAMES
    for vendor, part in SECTIONS.items():
        known |= {f"{PREFIX}{vendor.upper()}__{name.upper()}" for name in part.model_fields}
    return sorted(name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in known)
