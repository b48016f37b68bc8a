"""What all shops have in common: which pictures of an event go onto which product, and under which name.

A shop is a destination whose message is work: the result's bytes are put onto the product that the job's metadata
names. A try may end anywhere and be made again, so the name of each picture is the same for the same job, output and
endpoint: whoever comes back looks for it before uploading, and finds its own.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from handlers.destinations.contract import Message
from schemas.endpoint import Target
from schemas.shop import ShopConfig, filled

_SUFFIXES = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/gif": "gif", "image/avif": "avif"}
_POSITION = re.compile(r"0*[1-9][0-9]{0,8}")


class Impossible(Exception):
    """No further try can help: the delivery is given up, with this reason."""


@dataclass(frozen=True, slots=True)
class Placed:
    """One picture and its place in the shop; `position` counts from 1."""

    asset: str
    name: str  # without suffix; unique for the job, output and endpoint, and the same at every try
    filename: str
    content_type: str
    bytes: int
    width: int
    height: int
    sha256: str
    step: str  # its part of the steps' names, which goes with the shop's address
    job: str
    product: str
    variant: str | None
    alt: str | None
    position: int | None


def placed(message: Message, target: Target) -> Sequence[Placed]:
    """What an event's message means for a shop, in the job's order. Raises Impossible."""
    config = target.shop
    assert config is not None, "a shop's target has its config"
    job = json.loads(message.body)["data"]
    # Numbered before they are chosen from, so that a changed config changes no picture's name.
    chosen = [
        (number, output)
        for number, output in enumerate(job["outputs"], 1)
        if not config.outputs or output["name"] in config.outputs
    ]
    if not chosen:
        named = f" named {' or '.join(config.outputs)}" if config.outputs else ""
        raise Impossible(f"the job has no result{named}")
    pictures: list[Placed] = []
    for number, output in chosen:
        picture = _placed(job, output, number, target.id, config)
        before = sum(other.product == picture.product for other in pictures)
        position = None if picture.position is None else picture.position + before
        pictures.append(replace(picture, position=position))
    return pictures


def _placed(
    job: Mapping[str, Any], output: Mapping[str, Any], number: int, endpoint: str, config: ShopConfig
) -> Placed:
    values = {
        **{f"metadata.{name}": str(value) for name, value in job["metadata"].items()},
        "job": job["id"],
        "operation": job["operation"],
        "output": output["name"],
        "number": str(number),
    }
    product = filled(config.product, values)
    if product is None:
        raise Impossible(f"the job names no product: {config.product} comes to nothing")
    position = filled(config.position, values)
    if position is not None and not _POSITION.fullmatch(position):
        raise Impossible(f"the position {position[:40]!r} is not a number from 1")
    name = _name(job["id"], number, endpoint)
    return Placed(
        asset=output["asset"],
        name=name,
        filename=f"{name}.{_SUFFIXES.get(output['content_type'], 'bin')}",
        content_type=output["content_type"],
        bytes=output["bytes"],
        width=output["width"],
        height=output["height"],
        sha256=output["sha256"],
        step=f"{number}.{_place(config)}",
        job=job["id"],
        product=product,
        variant=filled(config.variant, values),
        alt=filled(config.alt, values),
        position=None if position is None else int(position),
    )


def _place(config: ShopConfig) -> str:
    # The ids that are kept are one shop's own: at another address the same number may be anyone's picture.
    return hashlib.sha256(config.shop.encode()).hexdigest()[:8]


def _name(job: str, number: int, endpoint: str) -> str:
    # Short and plain, for every shop makes its own changes to others.
    digest = hashlib.sha256(f"{job}/{number}/{endpoint}".encode()).hexdigest()[:24]
    return f"wirephoto-{digest}"
