"""What Perfect Corp can do: the table of operations, from the document's sections and its table of limits (seed 000).

Twelve have a documented call. Seven more stand in the table of limits alone: they are declared, and callable once a
setting says how. The seed collapses its samples, so all slugs but `hair-style` are from public clients: settings too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from handlers.vendors import reading
from schemas.catalogue import InputSpec, Operation, OutputSpec, params_schema, with_defaults

# The field of `file_sets` that an input goes into.
FILE_SETS: Mapping[str, str] = {"image": "src_ids", "reference": "ref_ids", "mask": "mask_ids"}
OUTPUT_EXT = "output_ext"

# "< 10MB", and not a byte more.
_LARGEST = 9_999_999
_LARGEST_VIDEO = 99_999_999
_PHOTO = ("image/jpeg", "image/png")
# Ids exceed 2^53, so they are taken as strings too. Towards the vendor they are JSON integers.
_STYLE_ID: Mapping[str, Any] = {
    "anyOf": [
        {"type": "string", "pattern": "^[0-9]{1,19}$"},
        {"type": "integer", "minimum": 0, "maximum": 2**53 - 1},
    ]
}
_STYLE: Mapping[str, Any] = {
    "style_group_id": {**_STYLE_ID, "description": "Of the operation's style groups; digits as a string."},
    "style_ids": {
        "type": "array",
        "items": _STYLE_ID,
        "minItems": 1,
        "maxItems": 1,
        "description": "Exactly one style of the group; digits as a string.",
    },
}
_FACE = "The face must be 128 pixels wide at least, within ±10° of pitch, ±45° of yaw and ±15° of roll."
_NO_HEIC = "The table of limits has HEIC too, the upload has not: it is refused."
_NO_CALL = "The document gives its limits and no call: it can be used once PERFECTCORP__FEATURES says how it is called."


@dataclass(frozen=True, slots=True)
class Feature:
    """One section of the document. `slug` is its name in paths; None where no call is documented.

    `output_ext` begins with the default. `result` says what the first output is.
    """

    title: str
    slug: str | None
    inputs: tuple[InputSpec, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    output_ext: tuple[str, ...] = ("jpg",)
    result: str = "The finished picture."
    note: str | None = None
    moving: bool = False  # it takes no picture, but a video, which no asset can hold

    @property
    def styled(self) -> bool:
        return "style_ids" in self.params


def _image(max_side: int | None = None, max_bytes: int | None = _LARGEST, **limits: Any) -> tuple[InputSpec, ...]:
    return (InputSpec("image", _PHOTO, max_bytes=max_bytes, max_side=max_side, **limits),)


def _beside(name: str, max_side: int) -> InputSpec:
    return InputSpec(name, _PHOTO, max_bytes=_LARGEST, max_side=max_side, required=False)


# The one section whose file call takes more.
_MADE_UP = (*_PHOTO, "image/tiff", "image/gif")

# By the operation's name.
FEATURES: Mapping[str, Feature] = {
    "hair-style": Feature(
        title="AI Hairstyle Generator",
        slug="hair-style",
        inputs=_image(1024),
        params=_STYLE,
        note=f"{_FACE} The table of limits names jpg alone; the upload takes png too.",
    ),
    "wig": Feature(
        title="AI Wig Generator",
        slug="wig",
        inputs=_image(max_bytes=None),
        params=_STYLE,
        note="The document states no limits for this one.",
    ),
    "hair-ext": Feature("AI Hair Extension", "hair-ext", _image(1024), _STYLE, note=_FACE),
    "hair-bang": Feature("AI Hair Bang Generator", "hair-bang", _image(1024), _STYLE, note=_FACE),
    "hair-vol": Feature("AI Hair Volume Generator", "hair-vol", _image(1024), _STYLE, note=_FACE),
    "aging": Feature(
        title="AI Aging Generator",
        slug="aging",
        inputs=_image(max_bytes=None),
        result="The youngest; the others are image_2, image_3 and so on by rising age, the uploaded one among them.",
        note="The document states no limits for this one.",
    ),
    "makeup-transfer": Feature(
        title="AI Makeup Transfer",
        slug="mu-trans-rec",
        inputs=(
            InputSpec("image", _MADE_UP, max_bytes=_LARGEST, max_side=1024),
            InputSpec("reference", _MADE_UP, max_bytes=_LARGEST, max_side=1024),
        ),
        note="`reference` wears the makeup.",
    ),
    "obj-removal": Feature(
        title="AI Object Removal",
        slug="obj-removal",
        inputs=(*_image(4096), InputSpec("mask", _PHOTO, max_bytes=_LARGEST, max_side=4096)),
        output_ext=("jpg", "webp"),
        note="`mask` is grey and exactly as large as the picture; what is white in it is removed.",
    ),
    "colorize": Feature("AI Photo Colorize", "colorize", _image(4096), output_ext=("jpg", "webp")),
    "sod": Feature(
        title="AI Photo Background Removal",
        slug="sod",
        inputs=_image(4096),
        output_ext=("png", "webp"),
        result="What stands before the background, on nothing.",
    ),
    "enhance": Feature(
        title="AI Photo Enhance",
        slug="enhance",
        inputs=_image(4096),
        params={"scale": {"type": "integer", "enum": [1, 2, 4]}},
        output_ext=("jpg", "webp"),
    ),
    "text-to-image": Feature(
        title="AI Image Generator",
        slug="text-to-image",
        inputs=(),
        params={"prompt": {"type": "string", "minLength": 1}, **_STYLE},
        result="The picture, 1024 × 1024.",
    ),
    "video-enhance": Feature(
        title="AI Video Enhance",
        slug=None,
        inputs=(InputSpec("video", ("video/mp4", "video/quicktime"), max_bytes=_LARGEST_VIDEO, max_side=1920),),
        result="The video, at most twice as large as its input.",
        note="MPEG-4 or H.264 with aac or mp3. No asset can hold a video here, so it stays declared.",
        moving=True,
    ),
    "background-change": Feature(
        "AI Photo Background Change", None, (*_image(4096), _beside("reference", 4096)), note=f"{_NO_HEIC} {_NO_CALL}"
    ),
    "background-blur": Feature("AI Photo Background Blur", None, _image(4096), note=f"{_NO_HEIC} {_NO_CALL}"),
    "lighting": Feature("AI Photo Lighting", None, _image(4096, min_side=256), note=_NO_CALL),
    "color-correction": Feature("AI Photo Color Correction", None, _image(4096), note=_NO_CALL),
    "replace": Feature(
        title="AI Replace",
        slug=None,
        inputs=(*_image(2048), _beside("mask", 2048)),
        note=f"The short side may have 1024 pixels at most. {_NO_CALL}",
    ),
    "face-swap": Feature("AI Face Swap", None, (*_image(4096), _beside("reference", 4096)), note=_NO_CALL),
}


@dataclass(frozen=True, slots=True)
class Call:
    """How a declared feature is called, as the operator knows it.

    `params` is an example of the action's params: each is a param that users may give, with this value by default.
    """

    slug: str
    params: Mapping[str, Any] = field(default_factory=dict)
    output_ext: Sequence[str] = ("jpg",)


def features(calls: Mapping[str, Call], slugs: Mapping[str, str]) -> Mapping[str, Feature]:
    """The table with the operator's settings laid over it."""
    return {name: _set(feature, calls.get(name), slugs.get(name)) for name, feature in FEATURES.items()}


def _set(feature: Feature, call: Call | None, slug: str | None) -> Feature:
    if call is not None:
        feature = replace(
            feature,
            slug=call.slug,
            params={name: _like(value) for name, value in call.params.items()},
            output_ext=tuple(call.output_ext),
            note="How it is called comes from a setting, not from the document.",
        )
    return feature if slug is None else replace(feature, slug=slug)


# A boolean is a number to Python, so it is asked for first.
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
)


def _like(value: Any) -> Mapping[str, Any]:
    """The schema of values like this one."""
    kind = next((kind for of, kind in _KINDS if isinstance(value, of)), None)
    return {"default": value} if kind is None else {"type": kind, "default": value}


def operation(name: str, feature: Feature) -> Operation:
    own = dict(feature.params)
    extensions = {"enum": list(feature.output_ext), "default": feature.output_ext[0]}
    document = "section" if FEATURES[name].slug is not None else "limits table,"
    return Operation(
        vendor="perfectcorp",
        name=name,
        title=feature.title,
        inputs=feature.inputs,
        params=params_schema(
            own if feature.slug is None else {**own, OUTPUT_EXT: extensions},
            tuple(param for param, schema in own.items() if "default" not in schema),
        ),
        outputs=(OutputSpec("image", feature.result),),
        source=f"Perfect AI API 2.0 document, {document} “{feature.title}”",
        declared=feature.slug is None,
        note=feature.note,
    )


def payload(
    operation: Operation, params: Mapping[str, Any], extra: Mapping[str, Any], files: Mapping[str, str]
) -> dict[str, Any]:
    """The task as it is sent. `files` are file ids by input; `extra` goes on top of the action's params."""
    filled = with_defaults(operation, params)
    extension = filled.pop(OUTPUT_EXT)
    own = {name: _as_sent(name, value) for name, value in reading.arranged(operation.params, filled).items()}
    # One action a task; results come under its id. Where the document shows no params, none are sent.
    action: dict[str, Any] = {"id": 0}
    if own or extra:
        action["params"] = {**own, **extra}
    sets = {FILE_SETS[name]: [file_id] for name, file_id in files.items()}
    return {**({"file_sets": sets} if sets else {}), "actions": [action], OUTPUT_EXT: extension}


def _as_sent(name: str, value: Any) -> Any:
    if name == "style_group_id":
        return int(value)
    return [int(style) for style in value] if name == "style_ids" else value
