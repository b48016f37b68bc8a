"""What vendors can do and how they do, as answers tell it."""

from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict  # pydantic reads no other TypedDict before Python 3.12

from schemas.forms import Count, Decimal, Time, Url, string


class InputLimits(TypedDict, total=False):
    """What the vendor's document states; an absent one is not stated there."""

    max_bytes: int
    max_pixels: int
    max_side: int
    min_side: int


class OperationInput(TypedDict):
    name: str
    required: bool
    content_types: list[str]
    takes_link: Annotated[bool, Field(description="Whether `pass` hands a link on unseen.")]
    limits: InputLimits


class OperationOutput(TypedDict):
    name: str
    description: str


class Operation(TypedDict):
    """Something a vendor can do."""

    id: Annotated[str, Field(examples=["vanceai/enlarge3"])]
    object: Literal["operation"]
    vendor: str
    name: str
    title: str
    inputs: list[OperationInput]
    params: Annotated[dict[str, Any], Field(description="JSON Schema of `params`.")]
    outputs: list[OperationOutput]
    credits: Annotated[Decimal | None, Field(description="The documented price.")]
    deprecated: bool
    declared: Annotated[
        bool, Field(description="Known from the vendor's tables alone: listed with its limits, and not callable.")
    ]
    source: Annotated[str, Field(description="The document that this comes from.")]
    note: Annotated[str | None, Field(description="What the document leaves open, or what no limit can say.")]
    configured: Annotated[bool, Field(description="Whether this installation has an account at the vendor.")]


class Window(TypedDict):
    """One rate window of an account; what is used of it is shown to the first project alone."""

    scope: str
    requests: int
    seconds: float
    used: Count | None
    left: Count | None
    free_at: Annotated[Time | None, Field(description="When the next request may go, where none may now.")]


class VendorHealth(TypedDict):
    healthy: Annotated[bool | None, Field(description="Null where nothing has told yet.")]
    reason: str | None
    since: Time | None


class Vendor(VendorHealth):
    """How a vendor is doing, and what is under way there.

    What is wrong with an account, and when it is tried again, is shown to the first project alone.
    """

    id: Annotated[str, Field(description="The vendor's name.", examples=["vanceai"])]
    object: Literal["vendor"]
    configured: bool
    state: Annotated[
        str,
        string(
            enum=["ok", "paused", "down"],
            description="`paused`: it refuses our key, or the account is empty, so jobs wait and none is handed in."
            " `down`: it can't be used now.",
        ),
    ]
    next_probe_at: Annotated[
        Time | None, Field(description="With `paused`: when it is tried next whether the account is good again.")
    ]
    announces: Annotated[str, string(enum=["webhook", "poll"], description="How we hear of the end of its work.")]
    windows: list[Window]
    max_concurrent: int | None
    in_flight: Annotated[Count, Field(description="Tasks at the vendor now.")]
    next_poll_at: Time | None
    next_keep_alive_at: Annotated[
        Time | None,
        Field(description="When a task must be asked or is lost, less a margin; null without a keep-alive."),
    ]
    waiting: Annotated[Count | None, Field(description="Requests that wait for their turn in the rate windows.")]
    queued: Count
    jobs: Annotated[dict[str, int], Field(description="Jobs that have not ended, by their state.")]


class Credits(TypedDict):
    """What is left of an account at a vendor."""

    object: Literal["credits"]
    vendor: str
    balance: Annotated[Decimal | None, Field(description="Null where the vendor's words give no sum.")]
    unit: Annotated[Literal["credits"], Field(description="The vendor's own unit, whatever it calls it.")]
    details: Annotated[dict[str, Any], Field(description="The vendor's own words.")]
    at: Time


class CreditUse(TypedDict):
    """One entry of a vendor's history of credits."""

    object: Literal["credit_use"]
    details: Annotated[dict[str, Any], Field(description="The vendor's own words.")]


class StyleGroup(TypedDict):
    """A group of styles. The id is made of digits that a JSON number may not hold."""

    id: Annotated[str, Field(examples=["18213963761051864"])]
    title: str


class Style(TypedDict):
    """One style: its id goes into `style_ids`, its group's into `style_group_id`."""

    id: Annotated[str, Field(examples=["13045969587275114"])]
    title: str
    thumbnail: Annotated[Url | None, Field(description="A picture of it, at the vendor.")]
