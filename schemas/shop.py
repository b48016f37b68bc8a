"""A shop's `config`: where it is, how we may in, and which product a finished picture belongs to.

Names are the ones a user writes; what is a credential is named in `SECRETS`, is encrypted at rest, and is never shown.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from schemas.job import HttpUrl

# Deliveries under way at once, by default: each is several requests and a picture.
MAX_IN_FLIGHT = 4

# What a template may name: `{metadata.KEY}` of the job, or one of these.
NAMES = ("job", "operation", "output", "number")
_PLACE = re.compile(r"\{([^{}]*)\}")
_METADATA = re.compile(r"^metadata\.[^{}]+$")


class Mode(StrEnum):
    """What becomes of the pictures that the product has already."""

    APPEND = "append"  # all stay, the new one comes after them or at its position
    REPLACE = "replace"  # the new one takes the place of all
    SET_MAIN = "set_main"  # all stay, the new one comes first


def _template(value: str) -> str:
    for name in _PLACE.findall(value):
        if name not in NAMES and not _METADATA.fullmatch(name):
            raise ValueError(
                f"{{{name}}} is unknown; known are {{metadata.KEY}}, {', '.join(f'{{{n}}}' for n in NAMES)}"
            )
    return value


Template = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_template)]

OutputName = Annotated[str, Field(min_length=1, max_length=64)]


def filled(template: str, values: Mapping[str, str]) -> str | None:
    """The template with its names' values, stripped; None where one of them is missing, or nothing is left."""
    names = _PLACE.findall(template)
    if any(name not in values for name in names):
        return None
    return _PLACE.sub(lambda found: values[found[1]], template).strip() or None


def metadata_names(template: str) -> list[str]:
    """The job's metadata that a template needs."""
    return [name.removeprefix("metadata.") for name in _PLACE.findall(template) if name.startswith("metadata.")]


class ShopConfig(BaseModel):
    """What every shop has. `product` must come to a value; of the others, what comes to nothing is left as it is."""

    SECRETS: ClassVar[frozenset[str]] = frozenset()

    # What does not fit is told without its value: it may be a credential.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    shop: HttpUrl
    product: Template = Field("{metadata.product_id}", description="The product's id at the shop.")
    variant: Template = Field("{metadata.variant_id}", description="The variant that is to show it too.")
    alt: Template = Field("{metadata.alt}", description="What the picture shows, for those who can't see it.")
    position: Template = Field("{metadata.position}", description="Its place in the gallery, from 1; for mode append.")
    mode: Mode = Mode.APPEND
    outputs: tuple[OutputName, ...] = Field(
        (), max_length=16, description="Which of a job's results; empty: all. A mask is one too."
    )

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    __str__ = __repr__

    @property
    def shown(self) -> dict[str, Any]:
        """Without its credentials, for answers and events."""
        return self.model_dump(mode="json", exclude=set(self.SECRETS))

    @property
    def secrets(self) -> dict[str, str]:
        """Its credentials, to be sealed."""
        return self.model_dump(mode="json", include=set(self.SECRETS), exclude_none=True)


class Metafield(BaseModel):
    """A field of the product that is to hold the id of the job whose picture it got last."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: str = Field("wirephoto", min_length=3, max_length=255, pattern=r"^[A-Za-z0-9_-]+$")
    key: str = Field("job", min_length=2, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")


class ShopifyConfig(ShopConfig):
    """Shopify's GraphQL Admin: an access token, or an app's own id and secret (client-credentials grant)."""

    SECRETS: ClassVar[frozenset[str]] = frozenset({"access_token", "client_secret"})

    shop: HttpUrl = Field(description="`https://NAME.myshopify.com`.", examples=["https://lamps.myshopify.com"])
    api_version: str = Field("2026-07", pattern=r"^20\d\d-(01|04|07|10)$")
    access_token: str | None = Field(None, min_length=1, max_length=512)
    client_id: str | None = Field(None, min_length=1, max_length=512)
    client_secret: str | None = Field(None, min_length=1, max_length=512)
    metafield: Metafield | None = None

    @model_validator(mode="after")
    def _one_way_in(self) -> "ShopifyConfig":
        grant = self.client_id is not None and self.client_secret is not None
        if (self.client_id is None) != (self.client_secret is None):
            raise ValueError("client_id and client_secret go together")
        if (self.access_token is not None) == grant:
            raise ValueError("either access_token, or client_id with client_secret, is required")
        return self


class WooCommerceConfig(ShopConfig):
    """WordPress with WooCommerce: one application password for both."""

    SECRETS: ClassVar[frozenset[str]] = frozenset({"application_password"})

    shop: HttpUrl = Field(description="The address of the WordPress site.", examples=["https://lamps.example"])
    username: str = Field(min_length=1, max_length=100)
    application_password: str = Field(min_length=1, max_length=200)
    meta_key: str | None = Field(
        None, min_length=1, max_length=255, description="Where the product is to keep the job's id."
    )


class VendureConfig(ShopConfig):
    """Vendure's Admin API, with an API key."""

    SECRETS: ClassVar[frozenset[str]] = frozenset({"api_key"})

    shop: HttpUrl = Field(description="The Admin API's URL.", examples=["https://lamps.example/admin-api"])
    api_key: str = Field(min_length=1, max_length=512)
    channel_token: str | None = Field(None, min_length=1, max_length=255, description="The channel; else the default.")
    max_upload_bytes: int = Field(
        20_971_520, ge=1, description="The server's assetOptions.uploadMaxFileSize, where it was changed."
    )
    custom_field: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$",
        description="The product's custom field that is to keep the job's id.",
    )


AnyShopConfig = ShopifyConfig | WooCommerceConfig | VendureConfig

# The kinds of endpoints that are shops.
SHOPS: Mapping[str, type[ShopConfig]] = {
    "shopify": ShopifyConfig,
    "woocommerce": WooCommerceConfig,
    "vendure": VendureConfig,
}


@dataclass(frozen=True, slots=True)
class SealedConfig:
    """A config at rest: what may be shown, and its credentials, by their names and encrypted."""

    shown: Mapping[str, Any]
    credentials: tuple[str, ...]
    sealed: str


def changed(kind: str, config: ShopConfig, patch: Mapping[str, Any]) -> ShopConfig:
    """Names given replace, what is absent stays, null takes away; the whole is judged anew. Raises ValidationError."""
    whole = {**config.shown, **config.secrets, **patch}
    return SHOPS[kind].model_validate({name: value for name, value in whole.items() if value is not None})


def left_out(config: ShopConfig, patch: Mapping[str, Any]) -> list[str]:
    """The credentials that must be given again: at another address they may be read by somebody else."""
    if patch.get("shop", config.shop) == config.shop:
        return []
    return sorted(config.secrets.keys() - patch.keys())
