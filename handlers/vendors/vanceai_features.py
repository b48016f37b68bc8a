"""VanceAI's sixteen operations: the config files of its document (seed 002, "Description of config file") as a table.

Names, modules, ranges and defaults are the document's, and the params stand in the order of its examples, for what
`vanceai_jconfig.py` makes of them is byte-stable. A workflow is several in a row, each checked like one of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.catalogue import MEGAPIXEL, InputSpec, Operation, OutputSpec, params_schema

IMAGE = InputSpec("image", ("image/jpeg", "image/png"), max_bytes=10_000_000, max_pixels=34 * MEGAPIXEL)
CONTROL = replace(IMAGE, name="control", required=False)
OUTPUTS = (OutputSpec("image", "The finished picture."),)
WORKFLOW = "workflow"
MOST_STEPS = 20  # ours: the document gives no limit, and each step is checked while the user waits


def _whole(low: int, high: int, default: int | None = None, **more: Any) -> dict[str, Any]:
    return _ranged("integer", low, high, default) | more


def _ranged(kind: str, low: float, high: float, default: float | None) -> dict[str, Any]:
    schema = {"type": kind, "minimum": low, "maximum": high}
    return schema if default is None else schema | {"default": default}


def _switch(description: str, default: bool | None = None) -> dict[str, Any]:
    schema = {"type": "boolean", "description": description}
    return schema if default is None else schema | {"default": default}


def _words(*allowed: str) -> dict[str, Any]:
    """One of these; the first is the document's example."""
    return {"enum": list(allowed), "default": allowed[0]}


_COLOUR = params_schema({"r": _whole(0, 255), "g": _whole(0, 255), "b": _whole(0, 255)}, ("r", "g", "b"))
OUT_PARAMS = params_schema(
    {
        "compress": params_schema({"quality": _whole(0, 100, description="Higher compresses less.")}, ("quality",)),
        "dpi": _whole(0, 2000, description="300 or 350 suits print."),
        "format": {"enum": ["jpg", "png"]},
        "bg_composed": params_schema({"bg_color": _COLOUR}, ("bg_color",)),
    }
)

# "The cn_name and denoising_strength for each style"; the first is the table's more cartoonish one.
STYLES: Mapping[str, tuple[str, ...]] = {
    **{f"style{number}": ("cartoon_tile", "cartoon_lineart") for number in range(1, 7)},
    **dict.fromkeys(("us_comic_boy", "us_comic_girl"), ("cartoon_normal", "cartoon_canny")),
    **dict.fromkeys(("disney_boy", "disney_girl"), ("more_cartoon_lineart", "more_real_lineart")),
    **dict.fromkeys(("Ghibli_boy", "Ghibli_girl"), ("cartoon_normal_noforge",)),
}
_MOST_NETS = 4  # two of a style's own, on two pictures
_NETS = tuple(dict.fromkeys(net for nets in STYLES.values() for net in nets))


def _nets_of_a_style(nets: tuple[str, ...]) -> dict[str, Any]:
    """As JSON Schema: where the style is one of these, the cn_names are too."""
    styles = [style for style, allowed in STYLES.items() if allowed == nets]
    chosen: dict[str, Any] = {"properties": {"model_name": {"enum": styles}}}
    if next(iter(STYLES)) not in styles:
        chosen["required"] = ["model_name"]  # left out, it is the first style
    allowed = {"items": {"properties": {"cn_name": {"enum": list(nets)}}}, "maxItems": _MOST_NETS}
    return {"if": chosen, "then": {"properties": {"cn_configs": allowed}}}


_CN_CONFIG = params_schema(
    {
        "cn_name": {"enum": list(_NETS), "description": "Each style has its own."},
        "image_uid": {
            "enum": [CONTROL.name, IMAGE.name],
            "description": "The input whose upload is meant: control where that is given, else the image itself.",
        },
    },
    ("cn_name",),
)
_CN_CONFIGS = {
    "type": "array",
    "items": _CN_CONFIG,
    "minItems": 1,
    "maxItems": _MOST_NETS,
    "uniqueItems": True,
    "description": "The control nets; by default the style's more cartoonish one.",
}
# "140 characters at most. English only.": ASCII, and the marks that word processors put into English.
_PROMPT = {
    "type": "string",
    "maxLength": 140,
    "pattern": "^[\\n -~‘’“”–—…]*$",
    "default": "",
    "description": "English only.",
}


@dataclass(frozen=True, slots=True)
class Feature:
    """One config of the document.

    `model` is the model_name, or how it follows from the params. `automatic` names the switches that let the vendor
    choose, each with the params it would override. `nets`: a cn_configs stands beside the config, and `rules` holds
    the styles to their own. `section` is the document's, where it is not the title.
    """

    title: str
    name: str
    module: str
    model: str | Callable[[Mapping[str, Any]], str]
    params: Mapping[str, Any] = field(default_factory=dict)
    automatic: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    credits: str = "1.000"
    key: str = "name"  # `job` in two configs of the document
    nets: bool = False
    rules: tuple[Mapping[str, Any], ...] = ()
    deprecated: bool = False
    section: str = ""


_AUTO = "Lets the vendor choose; on unless one of the params that it overrides is given."
_STRENGTHS = ("remove_blur", "suppress_noise", "remove_artifacts")

FEATURES: Mapping[str, Feature] = {
    "enlarge3": Feature(
        title="AI Image Enlarger",
        name="enlarge3",
        module="enlarge3",
        # "When using 2x, the scale value must be 2, and when using 4x, the scale value can be 4, 6 or 8."
        model=lambda params: f"EnlargeStandard_{2 if params['scale'] == 2 else 4}x_Stable",
        params={
            "suppress_noise": _whole(0, 100, 40),
            "remove_blur": _whole(0, 100, 60),
            "scale": {"type": "integer", "enum": [2, 4, 6, 8], "default": 2},
        },
    ),
    "denoise": Feature(
        title="AI Image Denoiser",
        name="denoise",
        module="denoise",
        model="DenoiseStable",
        params={"auto_params": _switch(_AUTO), "remove_noise": _whole(0, 100, 75), "sharpen": _whole(0, 100, 75)},
        automatic={"auto_params": ("remove_noise", "sharpen")},
    ),
    "sharpen3": Feature(
        title="AI Image Sharpener",
        name="va_sharpen_standard",
        module="sharpen3",
        model="SharpenGeneralStable",
        params={
            # In the document's workflow example (1), in none of its tables: passed through.
            "blur_type": {
                "type": "integer",
                "minimum": 0,
                "description": "Passed through; the document does not explain it.",
            },
            **{name: _ranged("number", 0, 1, 0.5) for name in _STRENGTHS},
            "autoparams": _switch(_AUTO),
            "automodel": _switch("Lets the vendor choose the model; on by default."),
        },
        automatic={"autoparams": _STRENGTHS, "automodel": ()},
        credits="2.000",
    ),
    "matting": Feature(title="AI Background Remover", name="matting", module="matting", model="MattingStable"),
    "chainner": Feature(
        title="AI Anime Upscaler - 4x_AnimeSharp",
        name="chainner",
        module="chainner",
        model="Anime_4x_AnimeSharp",
        params={"scale": _words("2x", "4x", "8x")},
    ),
    "real_esrgan": Feature(
        title="AI Anime Upscaler - real_esrgan",
        name="real_esrgan",
        module="real_esrgan",
        model="RealEsrganStable",
        params={
            "scale": {
                "enum": ["1x", "2x", "4x", "6x", "8x"],
                "default": "2x",
                "description": "1x only enhances the quality.",
            }
        },
    ),
    "crease_repair": Feature(
        title="AI Photo Restorer - Fix", name="crease_repair", module="crease_repair", model="CreaseRepairStable"
    ),
    "img2sr": Feature(
        title="AI Photo Restorer - Enhance",
        name="img2sr",
        module="img2sr",
        model="style_sr_512",
        params={
            "face_enhancer": _switch("Enhances faces too.", default=True),
            "strength": _ranged("number", 0.8, 1, 0.9),
        },
    ),
    "cartoonize": Feature(
        title="Toongineer Cartoonizer",
        name="cartoonize",
        module="cartoonize",
        model="CartoonizeStable",
        deprecated=True,
    ),
    "img2anime": Feature(
        title="AI Image Cartoonizer",
        name="img2anime",
        module="img2anime",
        model=lambda params: str(params["model_name"]),
        params={
            "model_name": {**_words(*STYLES), "description": "The style."},
            "prompt": _PROMPT,
            "overwrite": _switch("Only the prompt is used.", default=False),
            "denoising_strength": _ranged("number", 0, 1, 0.75),
            "cn_configs": _CN_CONFIGS,
        },
        nets=True,
        rules=tuple(_nets_of_a_style(nets) for nets in dict.fromkeys(STYLES.values())),
    ),
    "animegan2": Feature(
        title="VancePortrait - AnimeGANv2",
        name="animegan",
        module="animegan2",
        model="Animegan2Stable",
        params={"single_face": _switch("Only the face is converted.", default=True)},
        key="job",
    ),
    "sd_recolor": Feature(
        title="AI Photo Colorizer (Recolor)",
        name="recolor",
        module="sd_recolor",
        model="sd_recolor",
        params={
            "prompt": {"type": "string", "default": "", "description": "Colours that are wanted: blue skirt, …"},
            "negative_prompt": {"type": "string", "default": "", "description": "Colours that are not."},
        },
    ),
    "deoldify2": Feature(
        title="AI Photo Colorizer (Deoldify)",
        name="colorize",
        module="deoldify2",
        model="DeoldifyArtistic",
        params={"render_factor": _whole(10, 70, 30)},
    ),
    "codeformer": Feature(
        title="CodeFormer",
        name="CodeFormer",
        module="CodeFormer",
        model="CodeFormerStable",
        section="Structure of config file",  # the second step of its example; there is no table
    ),
    "enlarge": Feature(
        title="AI Image Enlarger (legacy)",
        name="enlarge",
        module="enlarge",
        model="EnlargeStable",
        params={
            "suppress_noise": _whole(0, 100, 26),
            "remove_blur": _whole(0, 100, 26),
            "scale": _words("2x"),  # the only one that the document shows
        },
        key="job",
        section="Process image",
    ),
}


def with_recolor_name(name: str) -> Mapping[str, Feature]:
    """The same table; sd_recolor's name is `recolor` in the document's example and `colorize` in the table under it."""
    return {**FEATURES, "sd_recolor": replace(FEATURES["sd_recolor"], name=name)}


def _schema(feature: Feature, more: Mapping[str, Any]) -> dict[str, Any]:
    rules = {"allOf": list(feature.rules)} if feature.rules else {}
    return params_schema({**feature.params, **more}) | rules


def _operation(name: str, feature: Feature) -> Operation:
    return Operation(
        vendor="vanceai",
        name=name,
        title=feature.title,
        inputs=(IMAGE, CONTROL) if feature.nets else (IMAGE,),
        params=_schema(feature, {"out_params": OUT_PARAMS}),
        outputs=OUTPUTS,
        source=f"VanceAI API document, “{feature.section}”"
        if feature.section
        else f"VanceAI API document, config file “{feature.title}”",
        credits=feature.credits,
        deprecated=feature.deprecated,
    )


def _step_schema() -> dict[str, Any]:
    """An operation with its params, which are held to that operation's own schema, and its out_params beside them."""
    fields = {
        "operation": {"enum": list(FEATURES)},
        "params": {"type": "object", "default": {}},
        "out_params": OUT_PARAMS,
    }
    own = [
        {
            "if": {"properties": {"operation": {"const": name}}, "required": ["operation"]},
            "then": {"properties": {"params": _schema(feature, {})}},
        }
        for name, feature in FEATURES.items()
    ]
    return params_schema(fields, ("operation",)) | {"allOf": own}


_WORKFLOW = Operation(
    vendor="vanceai",
    name=WORKFLOW,
    title="Workflow",
    inputs=(IMAGE, CONTROL),
    params=params_schema(
        {
            "steps": {
                "type": "array",
                "items": _step_schema(),
                "minItems": 2,
                "maxItems": MOST_STEPS,
                "description": "Operations of this vendor; each works on the picture of the one before.",
            }
        },
        ("steps",),
    ),
    outputs=OUTPUTS,
    source="VanceAI API document, “Structure of config file”",  # which gives no price for it
)

OPERATIONS: Mapping[str, Operation] = {
    **{name: _operation(name, feature) for name, feature in FEATURES.items()},
    WORKFLOW: _WORKFLOW,
}
