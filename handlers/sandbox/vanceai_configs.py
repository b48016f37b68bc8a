"""VanceAI's "Config Files" (seed 002, "Description of config file"): what a jconfig may say, and the filter behind it.

Strict to the letter: the key (`name` or `job`), names, modules, models, ranges and JSON types are those of the
document's tables and examples. A parameter with a default, and a switch, may be left out; a model and a scale may not.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from handlers.sandbox import pictures

Params = Mapping[str, Any]
Rule = Callable[[Any], bool]
Filter = Callable[[Image.Image, Params], Image.Image]

_PROMPT_LETTERS = 140


class JconfigError(Exception):
    """`code` is VanceAI's: 10013 can't be parsed, 10001 says something that the document doesn't allow."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def whole(low: int, high: int) -> Rule:
    return lambda value: type(value) is int and low <= value <= high


def number(low: float, high: float) -> Rule:
    return lambda value: type(value) in (int, float) and low <= value <= high


def one_of(*values: str | int) -> Rule:
    # 2 is not "2", and True is not 1.
    return lambda value: any(type(value) is type(allowed) and value == allowed for allowed in values)


def flag(value: Any) -> bool:
    return isinstance(value, bool)


def text(value: Any) -> bool:
    return isinstance(value, str)


def short_english(value: Any) -> bool:
    foreign = isinstance(value, str) and any(letter.isalpha() and not letter.isascii() for letter in value)
    return isinstance(value, str) and len(value) <= _PROMPT_LETTERS and not foreign


@dataclass(frozen=True)
class Config:
    """One config file. `models`: the model_names it knows."""

    name: str
    models: tuple[str, ...]
    filter: Filter
    params: Mapping[str, Rule] = field(default_factory=dict)
    needed: frozenset[str] = frozenset()
    key: str = "name"
    other_names: tuple[str, ...] = ()
    credits: int = 1


@dataclass(frozen=True)
class ControlNet:
    image_uid: str
    cn_name: str


@dataclass(frozen=True)
class Step:
    config: Config
    name: str
    params: Params
    out_params: Params
    control_nets: tuple[ControlNet, ...]


_TILE_OR_LINEART = frozenset({"cartoon_tile", "cartoon_lineart"})
_NORMAL_OR_CANNY = frozenset({"cartoon_normal", "cartoon_canny"})
_LINEARTS = frozenset({"more_cartoon_lineart", "more_real_lineart"})
_NOFORGE = frozenset({"cartoon_normal_noforge"})

# "The cn_name and denoising_strength for each style".
STYLES: Mapping[str, frozenset[str]] = {
    **{f"style{n}": _TILE_OR_LINEART for n in range(1, 7)},
    "us_comic_boy": _NORMAL_OR_CANNY,
    "us_comic_girl": _NORMAL_OR_CANNY,
    "disney_boy": _LINEARTS,
    "disney_girl": _LINEARTS,
    "Ghibli_boy": _NOFORGE,
    "Ghibli_girl": _NOFORGE,
}

# "When using 2x, the scale value must be 2, and when using 4x, the scale value can be 4, 6 or 8."
ENLARGE3_SCALES: Mapping[str, frozenset[int]] = {
    "EnlargeStandard_2x_Stable": frozenset({2}),
    "EnlargeStandard_4x_Stable": frozenset({4, 6, 8}),
}


def _times(image: Image.Image, params: Params) -> Image.Image:
    return pictures.enlarge(image, float(str(params["scale"]).removesuffix("x")))


def _denoise(image: Image.Image, params: Params) -> Image.Image:
    automatic = params.get("auto_params", False)
    noise, edges = (75, 75) if automatic else (params.get("remove_noise", 75), params.get("sharpen", 75))
    return pictures.sharpen(pictures.denoise(image, noise / 100), edges / 100)


def _sharpen(image: Image.Image, params: Params) -> Image.Image:
    return pictures.sharpen(image, 0.5 if params.get("autoparams", False) else params.get("remove_blur", 0.5))


def _anime(image: Image.Image, params: Params) -> Image.Image:
    return pictures.cartoon(image, params.get("denoising_strength", 0.75))


# By module, which is what tells them apart.
CONFIGS: Mapping[str, Config] = {
    "enlarge3": Config(
        name="enlarge3",
        models=tuple(ENLARGE3_SCALES),
        params={"suppress_noise": whole(0, 100), "remove_blur": whole(0, 100), "scale": one_of(2, 4, 6, 8)},
        needed=frozenset({"scale"}),
        filter=_times,
    ),
    "denoise": Config(
        name="denoise",
        models=("DenoiseStable",),
        params={"auto_params": flag, "remove_noise": whole(0, 100), "sharpen": whole(0, 100)},
        filter=_denoise,
    ),
    "sharpen3": Config(
        name="va_sharpen_standard",
        models=("SharpenGeneralStable",),
        params={
            "blur_type": whole(0, 1000),  # in the workflow's example (1), in no table
            "remove_blur": number(0, 1),
            "suppress_noise": number(0, 1),
            "remove_artifacts": number(0, 1),
            "autoparams": flag,
            "automodel": flag,
        },
        filter=_sharpen,
        credits=2,
    ),
    "matting": Config(
        name="matting",
        models=("MattingStable",),
        filter=lambda image, _: pictures.cut_out(image, pictures.foreground(image)),
    ),
    "chainner": Config(
        name="chainner",
        models=("Anime_4x_AnimeSharp",),
        params={"scale": one_of("2x", "4x", "8x")},
        needed=frozenset({"scale"}),
        filter=_times,
    ),
    "real_esrgan": Config(
        name="real_esrgan",
        models=("RealEsrganStable",),
        params={"scale": one_of("1x", "2x", "4x", "6x", "8x")},
        needed=frozenset({"scale"}),
        filter=lambda image, params: _times(pictures.sharpen(image, 0.4), params),
    ),
    "crease_repair": Config(
        name="crease_repair",
        models=("CreaseRepairStable",),
        filter=lambda image, _: pictures.repair(image),
    ),
    "img2sr": Config(
        name="img2sr",
        models=("style_sr_512",),
        params={"face_enhancer": flag, "strength": number(0.8, 1)},
        filter=lambda image, params: pictures.enhance(image, params.get("strength", 0.9)),
    ),
    "cartoonize": Config(
        name="cartoonize",
        models=("CartoonizeStable",),
        filter=lambda image, _: pictures.cartoon(image, 0.75),
    ),
    "img2anime": Config(
        name="img2anime",
        models=tuple(STYLES),
        params={"prompt": short_english, "overwrite": flag, "denoising_strength": number(0, 1)},
        filter=_anime,
    ),
    "animegan2": Config(
        key="job",
        name="animegan",
        models=("Animegan2Stable",),
        params={"single_face": flag},
        filter=lambda image, _: pictures.cartoon(image, 0.4),
    ),
    "sd_recolor": Config(
        # The example says recolor, the table under it colorize; settings choose when a test wants only one.
        name="recolor",
        other_names=("colorize",),
        models=("sd_recolor",),
        params={"prompt": text, "negative_prompt": text},
        filter=lambda image, _: pictures.colorize(image, 0.5),
    ),
    "deoldify2": Config(
        name="colorize",
        models=("DeoldifyArtistic",),
        params={"render_factor": whole(10, 70)},
        filter=lambda image, params: pictures.colorize(image, params.get("render_factor", 30) / 70 + 0.4),
    ),
    "CodeFormer": Config(
        name="CodeFormer",
        models=("CodeFormerStable",),
        filter=lambda image, _: pictures.sharpen(pictures.enhance(image, 0.4), 0.6),
    ),
    "enlarge": Config(
        # The legacy config of the /transform example; its scale is a string, its only shown value "2x".
        key="job",
        name="enlarge",
        models=("EnlargeStable",),
        params={"suppress_noise": whole(0, 100), "remove_blur": whole(0, 100), "scale": one_of("2x")},
        needed=frozenset({"scale"}),
        filter=_times,
    ),
}

_COLOUR = whole(0, 255)


def read_jconfig(jconfig: str) -> Sequence[Step]:
    """The steps in their order, all checked. Raises JconfigError."""
    try:
        value = json.loads(jconfig, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise JconfigError(10013, "jconfig is no JSON") from None
    if not isinstance(value, dict):
        raise JconfigError(10013, "jconfig is no JSON object")
    if not isinstance(value.get("config"), list):
        return [_step(value)]
    _only(value, {"name", "job", "config"}, "jconfig")
    steps = [_step(_object(step, "a step")) for step in value["config"]]
    if not steps:
        raise JconfigError(10001, "a workflow without steps")
    first = steps[0]
    if {key: given for key, given in value.items() if key != "config"} != {first.config.key: first.name}:
        raise JconfigError(10001, f"a workflow is named as its first step: {first.config.key}")
    return steps


def _step(value: Mapping[str, Any]) -> Step:
    inner = _object(value.get("config"), "config")
    _only(inner, {"module", "module_params", "out_params"}, "config")
    config = CONFIGS.get(str(inner.get("module")))
    if config is None:
        raise JconfigError(10001, "config.module is not in the document")
    styled = inner["module"] == "img2anime"
    _only(value, {config.key, "config"} | ({"cn_configs"} if styled else set()), inner["module"])
    name = value.get(config.key)
    if name not in (config.name, *config.other_names):
        raise JconfigError(10001, f"{inner['module']}: {config.key} must be {config.name}")
    params = _object(inner.get("module_params"), "module_params")
    _check_params(inner["module"], config, params)
    out_params = _object(inner.get("out_params", {}), "out_params")
    _check_out_params(out_params)
    nets = _control_nets(value["cn_configs"], params["model_name"]) if "cn_configs" in value else ()
    return Step(config, str(name), params, out_params, nets)


def _check_params(module: str, config: Config, params: Params) -> None:
    rules = {"model_name": one_of(*config.models), **config.params}
    _only(params, rules.keys(), f"{module}.module_params")
    if missing := {"model_name", *config.needed} - params.keys():
        raise JconfigError(10001, f"{module}.module_params: missing {', '.join(sorted(missing))}")
    if wrong := [name for name, value in params.items() if not rules[name](value)]:
        raise JconfigError(10001, f"{module}.module_params: wrong value or type of {', '.join(wrong)}")
    if module == "enlarge3" and params["scale"] not in ENLARGE3_SCALES[params["model_name"]]:
        raise JconfigError(10001, "enlarge3: scale does not go with model_name")


def _check_out_params(out: Params) -> None:
    rules: Mapping[str, Rule] = {
        "compress": lambda v: _exactly(v, {"quality": whole(0, 100)}),
        "dpi": whole(0, 2000),
        "format": one_of("jpg", "png"),
        "bg_composed": lambda v: _exactly(
            v, {"bg_color": lambda colour: _exactly(colour, {"r": _COLOUR, "g": _COLOUR, "b": _COLOUR})}
        ),
    }
    _only(out, rules.keys(), "out_params")
    if wrong := [name for name, value in out.items() if not rules[name](value)]:
        raise JconfigError(10001, f"out_params: wrong value or type of {', '.join(wrong)}")


def _control_nets(value: Any, style: str) -> tuple[ControlNet, ...]:
    """One or more of the style's row in the table."""
    entries = value if isinstance(value, list) else []
    good = [e for e in entries if _exactly(e, {"image_uid": text, "cn_name": one_of(*STYLES[style])})]
    nets = tuple(ControlNet(e["image_uid"], e["cn_name"]) for e in good)
    if not entries or len(nets) != len(entries) or len(set(nets)) != len(nets):
        raise JconfigError(10001, "cn_configs: one or more of the style's own cn_name, each with an image_uid, once")
    return nets


def _exactly(value: Any, rules: Mapping[str, Rule]) -> bool:
    if not isinstance(value, dict) or value.keys() != rules.keys():
        return False
    return all(rule(value[name]) for name, rule in rules.items())


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise JconfigError(10001, f"{what} is no object")
    return value


def _only(value: Mapping[str, Any], known: Any, what: str) -> None:
    if unknown := sorted(value.keys() - set(known)):
        raise JconfigError(10001, f"{what}: unknown {', '.join(unknown)}")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
