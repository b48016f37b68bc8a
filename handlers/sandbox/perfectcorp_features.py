"""Perfect Corp's twelve documented operations (seed 000): what each takes, says, and makes.

Strict to the letter of each operation's own section. Where the sections differ (content types, file_sets, params,
output_ext, whether request_id is marked as required) the table differs. The limits are those of "Supported Formats &
Dimensions"; the engine applies them, not the calls.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, ImageChops

from handlers.sandbox import pictures
from handlers.sandbox.perfectcorp_accounts import CodedError
from handlers.sandbox.perfectcorp_styles import Style
from handlers.sandbox.pictures import Picture
from handlers.sandbox.tasks import WorkFailedError

MAX_BYTES = 10_000_000  # "< 10MB", read in the strictest way
SIZE_DRAWN = (1024, 1024)
_JPG_PNG = ("image/jpg", "image/jpeg", "image/png")
_FORMATS: Mapping[str, str] = {
    "image/jpg": "JPEG",
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/tiff": "TIFF",
    "image/gif": "GIF",
}

# "Error Codes": what a task may end with. The list is open.
ENGINE_ERRORS: Mapping[str, str] = {
    "exceed_max_filesize": "Input file size exceeds the maximum limit",
    "invalid_parameter": "Invalid parameter value",
    "error_download_image": "Download source image error",
    "error_download_mask": "Download mask image error",
    "error_decode_image": "Decode source image error",
    "error_decode_mask": "Decode mask image error",
    "error_nsfw_content_detected": "NSFW content detected in source image",
    "error_no_face": "No face detected on source image",
    "error_pose": "Failed to detect pose on source image",
    "error_face_parsing": "Failed to do face segmentation on source image",
    "error_inference": "Inference pipeline error",
    "exceed_nsfw_retry_limits": "Exceed the retry limits to avoid generated NSFW image",
    "error_upload": "Upload result image error",
    "error_multiple_people": "Multiple people detected in the source image",
    "error_no_shoulder": "Shoulders are not visible in the source image",
    "error_large_face_angle": "The face angle in the uploaded image is too large",
    "unknown_internal_error": "Others",
}

AGE = 34  # what the engine takes everybody for
AGES = (10, 20, 30, 40, 50, 60, 70)
OWN_AGE = 30  # the res_age of the uploaded picture among them: not the estimated age, as the document warns


@dataclass(frozen=True)
class Given:
    """What a filter works with: the pictures by their file_sets, the action's params, the style that was chosen."""

    pictures: Mapping[str, Image.Image]
    params: Mapping[str, Any]
    style: Style | None


Filter = Callable[[Given], Mapping[str, Image.Image]]
Rule = Callable[[Any], bool]


@dataclass(frozen=True)
class Feature:
    """One operation. `max_side` is the long side in pixels; `output` is output_ext's enum, the first its default."""

    filter: Filter
    sets: tuple[str, ...] = ("src_ids",)
    content_types: tuple[str, ...] = _JPG_PNG
    params: Mapping[str, Rule] = field(default_factory=dict)
    output: tuple[str, ...] = ("jpg",)
    max_side: int | None = 4096
    needs_request_id: bool = True

    @property
    def styled(self) -> bool:
        return "style_ids" in self.params

    @property
    def formats(self) -> frozenset[str]:
        return frozenset(_FORMATS[content_type] for content_type in self.content_types)


def fits(content_type: str, data: bytes) -> bool:
    """Whether the bytes are what they are called."""
    return pictures.measure(data).format == _FORMATS[content_type]


# -- the filters -------------------------------------------------------------------------------------------------------


def _one(make: Callable[[Given], Image.Image]) -> Filter:
    return lambda given: {"0": make(given)}


def _source(given: Given) -> Image.Image:
    return given.pictures["src_ids"]


def _hair(strength: float) -> Filter:
    def make(given: Given) -> Image.Image:
        colour = given.style.colour if given.style else (90, 60, 40)
        return pictures.tinted(_source(given), pictures.crown(_source(given)), colour, strength)

    return _one(make)


def _makeup(given: Given) -> Image.Image:
    colour = pictures.mean_colour(given.pictures["ref_ids"])
    return pictures.tinted(_source(given), pictures.head(_source(given)), colour, 0.35)


def _removal(given: Given) -> Image.Image:
    image, mask = _source(given), pictures.on_background(given.pictures["mask_ids"])
    red, green, blue = mask.split()
    coloured = max(ImageChops.difference(red, other).getextrema()[1] for other in (green, blue))
    if mask.size != image.size or coloured:
        # "A grey scale mask image with the exact same width and hight with the input image".
        raise WorkFailedError("invalid_parameter")
    return pictures.erased(image, red)


def _sod(given: Given) -> Image.Image:
    return pictures.cut_out(_source(given), pictures.foreground(_source(given)))


def _enhance(given: Given) -> Image.Image:
    return pictures.enhance(pictures.enlarge(_source(given), given.params["scale"]), 1.0)


def _aging(given: Given) -> Mapping[str, Image.Image]:
    """By res_age; the uploaded picture stands among them as it is."""
    return {str(age): pictures.aged(_source(given), age - AGE) if age != OWN_AGE else _source(given) for age in AGES}


def _drawing(given: Given) -> Image.Image:
    colour = given.style.colour if given.style else (40, 60, 90)
    return pictures.drawn(given.params["prompt"], SIZE_DRAWN, colour)


# -- the table ---------------------------------------------------------------------------------------------------------


def whole(value: Any) -> bool:
    # 2.0 and "2" are other types, and True is not 1. Ids exceed 2^53: who sends them through a float has lost them.
    return type(value) is int and value >= 0


def _one_id(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1 and whole(value[0])


def _words(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _scale(value: Any) -> bool:
    return whole(value) and value in (1, 2, 4)


_STYLE: Mapping[str, Rule] = {"style_group_id": whole, "style_ids": _one_id}

FEATURES: Mapping[str, Feature] = {
    "hair-style": Feature(_hair(0.6), params=_STYLE, max_side=1024),
    # The limits table has no line for wigs.
    "wig": Feature(_hair(0.8), params=_STYLE, max_side=None),
    # In the next three request_id is not marked as required.
    "hair-ext": Feature(_hair(0.7), params=_STYLE, max_side=1024, needs_request_id=False),
    "hair-bang": Feature(_hair(0.5), params=_STYLE, max_side=1024, needs_request_id=False),
    "hair-vol": Feature(_hair(0.4), params=_STYLE, max_side=1024, needs_request_id=False),
    "aging": Feature(_aging, max_side=None),
    "mu-trans-rec": Feature(
        _one(_makeup),
        sets=("src_ids", "ref_ids"),
        content_types=(*_JPG_PNG, "image/tiff", "image/gif"),
        max_side=1024,
    ),
    "obj-removal": Feature(_one(_removal), sets=("src_ids", "mask_ids"), output=("jpg", "webp")),
    "colorize": Feature(_one(lambda given: pictures.colorize(_source(given), 0.5)), output=("jpg", "webp")),
    "sod": Feature(_one(_sod), output=("png", "webp")),
    "enhance": Feature(_one(_enhance), params={"scale": _scale}, output=("jpg", "webp")),
    # No input: it has no file call at all.
    "text-to-image": Feature(_one(_drawing), sets=(), content_types=(), params={"prompt": _words, **_STYLE}),
}


# -- a file call -------------------------------------------------------------------------------------------------------


def read_slots(feature: Feature, body: object, *, sized: bool) -> Sequence[Mapping[str, Any]]:
    """The slots that a file call wants; `sized` ones tell their file_size. Raises CodedError."""
    files = _fields(body, "the body", needed=("files",))["files"]
    if not isinstance(files, list) or not files:
        raise _wrong("files is an array that is not empty")
    needed = ("content_type", "file_name", *(["file_size"] if sized else []))
    for entry in files:
        slot = _fields(entry, "a file", needed=needed)
        if slot["content_type"] not in feature.content_types:
            raise _wrong("content_type is none of this operation's enum")
        if not isinstance(slot["file_name"], str) or not slot["file_name"]:
            raise _wrong("file_name is a string")
        if sized and not (whole(slot["file_size"]) and slot["file_size"]):
            raise _wrong("file_size is the number of bytes")
    return files


# -- a run -------------------------------------------------------------------------------------------------------------


def _wrong(what: str) -> CodedError:
    return CodedError("invalid_parameter", what)


@dataclass(frozen=True)
class Run:
    """What a run's body asks for. `files` are file ids by file_set."""

    request_id: int | None
    files: Mapping[str, str]
    action_id: int
    params: Mapping[str, Any]
    output_ext: str


def read_run(feature: Feature, body: object) -> Run:
    """Raises CodedError for an unknown, missing or mistyped field."""
    outer = _fields(body, "the body", needed=("payload",), optional=("request_id",))
    if feature.needs_request_id and "request_id" not in outer:
        raise _wrong("no request_id")
    request_id = outer.get("request_id")
    if "request_id" in outer and not whole(request_id):
        raise _wrong("request_id is an integer from 0")
    sets = ("file_sets",) if feature.sets else ()
    payload = _fields(outer["payload"], "payload", needed=(*sets, "actions"), optional=("output_ext",))
    action = _only(payload["actions"], "actions")
    # Operations without params have an action of nothing but its id.
    action = _fields(action, "the action", needed=("id", "params") if feature.params else ("id",))
    if not whole(action["id"]) or action["id"] != 0:
        raise _wrong("action ids are integers and start with 0")
    params = _fields(action["params"], "params", needed=tuple(feature.params)) if feature.params else {}
    if wrong := [name for name, rule in feature.params.items() if not rule(params[name])]:
        raise _wrong(f"params: {', '.join(wrong)} not of the documented type or range")
    extension = payload.get("output_ext", feature.output[0])
    if extension not in feature.output:
        raise _wrong(f"output_ext is {' or '.join(feature.output)}")
    files = _fields(payload["file_sets"], "file_sets", needed=feature.sets) if feature.sets else {}
    return Run(request_id, {name: _file_id(name, ids) for name, ids in files.items()}, 0, params, extension)


def _fields(value: object, name: str, needed: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(f"{name} is no object")
    if unknown := value.keys() - {*needed, *optional}:
        raise _wrong(f"{name}: unknown {', '.join(sorted(unknown))}")
    if missing := [field for field in needed if field not in value]:
        raise _wrong(f"{name}: no {', '.join(missing)}")
    return value


def _only(value: object, name: str) -> object:
    if not isinstance(value, list) or len(value) != 1:
        raise _wrong(f"{name} is an array of exactly one")
    return value[0]


def _file_id(name: str, ids: object) -> str:
    one = _only(ids, name)
    if not isinstance(one, str) or not one:
        raise _wrong(f"{name} holds strings")
    return one


# -- the engine --------------------------------------------------------------------------------------------------------


def process(feature: Feature, files: Mapping[str, bytes], run: Run, style: Style | None) -> Mapping[str, Picture]:
    """The results by name: "0", or the res_age. Blocks. Raises WorkFailedError with the engine's error code."""
    images = {name: _image(feature, name, data) for name, data in files.items()}
    try:
        made = feature.filter(Given(images, run.params, style))
        return {name: pictures.encode(image, run.output_ext) for name, image in made.items()}
    except (OSError, ValueError):
        raise WorkFailedError("error_inference") from None


def _image(feature: Feature, name: str, data: bytes) -> Image.Image:
    unreadable = WorkFailedError("error_decode_mask" if name == "mask_ids" else "error_decode_image")
    measured = pictures.measure(data)
    if measured.format not in feature.formats:
        raise unreadable
    if len(data) >= MAX_BYTES or max(measured.width, measured.height) > (feature.max_side or 65_535):
        raise WorkFailedError("exceed_max_filesize")
    try:
        return pictures.decode(data)
    except (OSError, ValueError, SyntaxError):
        raise unreadable from None


# -- what is told of it ------------------------------------------------------------------------------------------------


def told_results(slug: str, run: Run, links: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """`results` of a task that has succeeded; `links` holds dst_id and url by the result's name."""
    data: list[dict[str, Any]] = [{"dst_id": dst_id, "url": url} for dst_id, url in links.values()]
    told: dict[str, Any] = {"id": run.action_id, "data": data}
    if slug == "aging":
        # "Arranged in ascending order based on the 'res_age' value."
        for entry, age in zip(data, links, strict=True):
            entry["res_age"] = int(age)
        ages = [int(age) for age in links]
        places = {"age": AGE, "age_idx": ages.index(OWN_AGE), "num_of_photos": len(ages)}
        told["custom_info"] = places | {"age_min": min(ages), "age_max": max(ages)}
    if slug == "mu-trans-rec":
        # [open] The document has an object here, "product recommendation information", and shows nothing of it.
        told["recommendation"] = {"lipstick": [{"sku": "sandbox-lipstick-1", "color": "#a83246"}]}
    return [told]
