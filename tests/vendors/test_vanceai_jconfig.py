"""The same VanceAI job always gives the same config file, and the document's own examples byte for byte (seed 002)."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from handlers.sandbox.vanceai_configs import read_jconfig
from handlers.vendors.vanceai import VanceAI
from handlers.vendors.vanceai_features import FEATURES, STYLES, with_recolor_name
from handlers.vendors.vanceai_jconfig import inputs_named, jconfig
from schemas.catalogue import params_errors

UIDS = {"image": "<uid_from_upload>"}
OUT: dict[str, Any] = {
    "compress": {"quality": 90},
    "dpi": 300,
    "format": "jpg",
    "bg_composed": {"bg_color": {"r": 1, "g": 2, "b": 3}},
}
# Params, and the document's example that they are.
EXAMPLES: Mapping[str, tuple[dict[str, Any], str]] = {
    "enlarge3": (
        {},
        '{"name":"enlarge3","config":{"module":"enlarge3","module_params":{"model_name":"EnlargeStandard_2x_Stable",'
        '"suppress_noise":40,"remove_blur":60,"scale":2}}}',
    ),
    "denoise": (
        {},
        '{"name":"denoise","config":{"module":"denoise","module_params":{"model_name":"DenoiseStable",'
        '"auto_params":true,"remove_noise":75,"sharpen":75}}}',
    ),
    "sharpen3": (
        {},
        '{"name":"va_sharpen_standard","config":{"module":"sharpen3","module_params":{"model_name":'
        '"SharpenGeneralStable","remove_blur":0.5,"suppress_noise":0.5,"remove_artifacts":0.5,"autoparams":true,'
        '"automodel":true}}}',
    ),
    "matting": (
        {},
        '{"name":"matting","config":{"module":"matting","module_params":{"model_name":"MattingStable"}}}',
    ),
    "chainner": (
        {},
        '{"name":"chainner","config":{"module":"chainner","module_params":{"model_name":"Anime_4x_AnimeSharp",'
        '"scale":"2x"}}}',
    ),
    "real_esrgan": (
        {},
        '{"name":"real_esrgan","config":{"module":"real_esrgan","module_params":{"model_name":"RealEsrganStable",'
        '"scale":"2x"}}}',
    ),
    "crease_repair": (
        {},
        '{"name":"crease_repair","config":{"module":"crease_repair","module_params":{"model_name":'
        '"CreaseRepairStable"}}}',
    ),
    "img2sr": (
        {},
        '{"name":"img2sr","config":{"module":"img2sr","module_params":{"model_name":"style_sr_512",'
        '"face_enhancer":true,"strength":0.9}}}',
    ),
    "cartoonize": (
        {},
        '{"name":"cartoonize","config":{"module":"cartoonize","module_params":{"model_name":"CartoonizeStable"}}}',
    ),
    "img2anime": (
        {"cn_configs": [{"cn_name": "cartoon_tile"}, {"cn_name": "cartoon_lineart"}]},
        '{"name":"img2anime","config":{"module":"img2anime","module_params":{"model_name":"style1","prompt":"",'
        '"overwrite":false,"denoising_strength":0.75}},"cn_configs":[{"image_uid":"<uid_from_upload>",'
        '"cn_name":"cartoon_tile"},{"image_uid":"<uid_from_upload>","cn_name":"cartoon_lineart"}]}',
    ),
    "animegan2": (
        {},
        '{"job":"animegan","config":{"module":"animegan2","module_params":{"model_name":"Animegan2Stable",'
        '"single_face":true}}}',
    ),
    "sd_recolor": (
        {},
        '{"name":"recolor","config":{"module":"sd_recolor","module_params":{"model_name":"sd_recolor","prompt":"",'
        '"negative_prompt":""}}}',
    ),
    "deoldify2": (
        {},
        '{"name":"colorize","config":{"module":"deoldify2","module_params":{"model_name":"DeoldifyArtistic",'
        '"render_factor":30}}}',
    ),
    # The second step of the workflow's example.
    "codeformer": (
        {"out_params": {"compress": {"quality": 80}}},
        '{"name":"CodeFormer","config":{"module":"CodeFormer","module_params":{"model_name":"CodeFormerStable"},'
        '"out_params":{"compress":{"quality":80}}}}',
    ),
    "enlarge": (
        {"out_params": {}},
        '{"job":"enlarge","config":{"module":"enlarge","module_params":{"model_name":"EnlargeStable",'
        '"suppress_noise":26,"remove_blur":26,"scale":"2x"},"out_params":{}}}',
    ),
    "workflow": (
        {
            "steps": [
                {"operation": "sharpen3", "params": {"blur_type": 1}},
                {"operation": "codeformer", "out_params": {"compress": {"quality": 80}}},
            ]
        },
        '{"config":[{"name":"va_sharpen_standard","config":{"module":"sharpen3","module_params":{"model_name":'
        '"SharpenGeneralStable","blur_type":1,"remove_blur":0.5,"suppress_noise":0.5,"remove_artifacts":0.5,'
        '"autoparams":true,"automodel":true}}},{"name":"CodeFormer","config":{"module":"CodeFormer","module_params":'
        '{"model_name":"CodeFormerStable"},"out_params":{"compress":{"quality":80}}}}],"name":"va_sharpen_standard"}',
    ),
}
# Every param away from its default, and the bytes that go out.
GIVEN: Mapping[str, tuple[dict[str, Any], str]] = {
    "enlarge3": (
        {"scale": 8, "remove_blur": 0, "suppress_noise": 100},
        '"module_params":{"model_name":"EnlargeStandard_4x_Stable","suppress_noise":100,"remove_blur":0,"scale":8}',
    ),
    "denoise": (
        {"sharpen": 1, "remove_noise": 2, "auto_params": False},
        '"module_params":{"model_name":"DenoiseStable","auto_params":false,"remove_noise":2,"sharpen":1}',
    ),
    "sharpen3": (
        {
            "automodel": False,
            "autoparams": False,
            "blur_type": 1,
            "remove_artifacts": 0.1,
            "suppress_noise": 0.2,
            "remove_blur": 0.3,
        },
        '"module_params":{"model_name":"SharpenGeneralStable","blur_type":1,"remove_blur":0.3,"suppress_noise":0.2,'
        '"remove_artifacts":0.1,"autoparams":false,"automodel":false}',
    ),
    "matting": ({}, '"module_params":{"model_name":"MattingStable"}'),
    "chainner": ({"scale": "8x"}, '"module_params":{"model_name":"Anime_4x_AnimeSharp","scale":"8x"}'),
    "real_esrgan": ({"scale": "1x"}, '"module_params":{"model_name":"RealEsrganStable","scale":"1x"}'),
    "crease_repair": ({}, '"module_params":{"model_name":"CreaseRepairStable"}'),
    "img2sr": (
        {"strength": 1, "face_enhancer": False},
        '"module_params":{"model_name":"style_sr_512","face_enhancer":false,"strength":1}',
    ),
    "cartoonize": ({}, '"module_params":{"model_name":"CartoonizeStable"}'),
    "img2anime": (
        {"denoising_strength": 0.65, "overwrite": True, "prompt": "a cat’s hat", "model_name": "Ghibli_girl"},
        '"module_params":{"model_name":"Ghibli_girl","prompt":"a cat\\u2019s hat","overwrite":true,'
        '"denoising_strength":0.65}',
    ),
    "animegan2": ({"single_face": False}, '"module_params":{"model_name":"Animegan2Stable","single_face":false}'),
    "sd_recolor": (
        {"negative_prompt": "red", "prompt": "blue skirt"},
        '"module_params":{"model_name":"sd_recolor","prompt":"blue skirt","negative_prompt":"red"}',
    ),
    "deoldify2": ({"render_factor": 70}, '"module_params":{"model_name":"DeoldifyArtistic","render_factor":70}'),
    "codeformer": ({}, '"module_params":{"model_name":"CodeFormerStable"}'),
    "enlarge": (
        {"scale": "2x", "remove_blur": 1, "suppress_noise": 2},
        '"module_params":{"model_name":"EnlargeStable","suppress_noise":2,"remove_blur":1,"scale":"2x"}',
    ),
}


def _text(name: str, params: dict[str, Any], extra: dict[str, Any] | None = None) -> str:
    operation = VanceAI.operations[name]
    assert params_errors(operation, params) == []
    text = jconfig(operation, params, extra or {}, UIDS)
    assert text == jconfig(operation, dict(reversed(params.items())), extra or {}, UIDS)
    return text


def _jconfig(name: str, params: dict[str, Any], extra: dict[str, Any] | None = None) -> Any:
    return json.loads(_text(name, params, extra))


def _faults(name: str, params: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(error.field for error in params_errors(VanceAI.operations[name], params)))


@pytest.mark.parametrize("name", VanceAI.operations)
def test_every_operation_is_the_documents_example_byte_for_byte(name: str) -> None:
    params, example = EXAMPLES[name]
    assert _text(name, params) == example
    assert read_jconfig(example), "the sandbox finds it in the document"


@pytest.mark.parametrize("name", FEATURES)
def test_every_param_and_out_param_goes_out_in_the_documents_order_and_type(name: str) -> None:
    params, module_params = GIVEN[name]
    assert params.keys() | {"out_params", "cn_configs"} >= VanceAI.operations[name].params["properties"].keys()
    text = _text(name, {**params, "out_params": OUT})
    assert f'{module_params},"out_params":' + json.dumps(OUT, separators=(",", ":")) in text
    assert read_jconfig(text)


@pytest.mark.parametrize(("scale", "model"), [(2, "2x"), (4, "4x"), (6, "4x"), (8, "4x"), (8.0, "4x")])
def test_the_model_follows_the_scale_and_the_scale_is_a_whole_number(scale: float, model: str) -> None:
    params = _jconfig("enlarge3", {"scale": scale})["config"]["module_params"]
    assert params["model_name"] == f"EnlargeStandard_{model}_Stable"
    assert isinstance(params["scale"], int)


@pytest.mark.parametrize(
    ("name", "params", "switches"),
    [
        ("denoise", {"sharpen": 10}, {"auto_params": False}),
        ("denoise", {"sharpen": 10, "auto_params": True}, {"auto_params": True}),
        ("sharpen3", {"remove_blur": 1}, {"autoparams": False, "automodel": True}),
        ("sharpen3", {"blur_type": 1}, {"autoparams": True, "automodel": True}),
    ],
)
def test_a_value_that_the_user_gives_is_not_overridden_by_the_vendors_choice(
    name: str, params: dict[str, Any], switches: dict[str, bool]
) -> None:
    given_params = _jconfig(name, params)["config"]["module_params"]
    assert given_params == given_params | params | switches


def test_the_order_of_the_users_params_does_not_change_a_byte() -> None:
    out = {
        "format": "jpg",
        "dpi": 300.0,
        "compress": {"quality": 90},
        "bg_composed": {"bg_color": {"b": 1, "g": 2, "r": 3}},
    }
    params = {"out_params": out, "automodel": False, "blur_type": 1, "remove_blur": 0.25}
    text = _text("sharpen3", params)
    assert text == (
        '{"name":"va_sharpen_standard","config":{"module":"sharpen3","module_params":{"model_name":'
        '"SharpenGeneralStable","blur_type":1,"remove_blur":0.25,"suppress_noise":0.5,"remove_artifacts":0.5,'
        '"autoparams":false,"automodel":false},"out_params":{"compress":{"quality":90},"dpi":300,"format":"jpg",'
        '"bg_composed":{"bg_color":{"r":3,"g":2,"b":1}}}}}'
    )
    assert read_jconfig(text)


def test_extra_params_go_on_top_unchecked() -> None:
    params = _jconfig("matting", {}, {"model_name": "MattingBeta", "edge": 3})["config"]["module_params"]
    assert params == {"model_name": "MattingBeta", "edge": 3}


@pytest.mark.parametrize(
    ("name", "params", "field"),
    [
        ("enlarge3", {"scale": 3}, "scale"),
        ("enlarge3", {"scale": "2x"}, "scale"),
        ("enlarge3", {"suppress_noise": 101}, "suppress_noise"),
        ("enlarge3", {"supress_noise": 1}, "supress_noise"),
        ("denoise", {"remove_noise": -1}, "remove_noise"),
        ("denoise", {"auto_params": 1}, "auto_params"),
        ("sharpen3", {"remove_blur": 1.01}, "remove_blur"),
        ("matting", {"out_params": {"format": "webp"}}, "out_params.format"),
        ("matting", {"out_params": {"dpi": 2001}}, "out_params.dpi"),
        ("matting", {"out_params": {"compress": {"quality": 101}}}, "out_params.compress.quality"),
        ("matting", {"out_params": {"compress": {}}}, "out_params.compress.quality"),
        ("matting", {"out_params": {"compress": {"quality": 1, "speed": 1}}}, "out_params.compress.speed"),
        (
            "matting",
            {"out_params": {"bg_composed": {"bg_color": {"r": 256, "g": 0, "b": 0}}}},
            "out_params.bg_composed.bg_color.r",
        ),
        ("chainner", {"scale": 2}, "scale"),
        ("chainner", {"scale": "6x"}, "scale"),
        ("real_esrgan", {"scale": "3x"}, "scale"),
        ("img2sr", {"strength": 0.79}, "strength"),
        ("img2anime", {"model_name": "style7"}, "model_name"),
        ("img2anime", {"prompt": "x" * 141}, "prompt"),
        ("img2anime", {"prompt": "eine Mütze"}, "prompt"),
        ("img2anime", {"denoising_strength": 1.1}, "denoising_strength"),
        ("animegan2", {"single_face": "true"}, "single_face"),
        ("sd_recolor", {"prompt": 7}, "prompt"),
        ("deoldify2", {"render_factor": 9}, "render_factor"),
        ("deoldify2", {"render_factor": 71}, "render_factor"),
        ("enlarge", {"scale": 2}, "scale"),
    ],
)
def test_a_param_out_of_its_documented_range_is_refused_by_its_name(
    name: str, params: dict[str, Any], field: str
) -> None:
    assert _faults(name, params) == [f"params.{field}"]


# -- img2anime ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_each_style_has_the_control_nets_of_the_documents_table_and_no_others(style: str) -> None:
    every = list(dict.fromkeys(net for nets in STYLES.values() for net in nets))
    for net in every:
        params = {"model_name": style, "cn_configs": [{"cn_name": net}]}
        assert _faults("img2anime", params) == ([] if net in STYLES[style] else ["params.cn_configs.0.cn_name"])
    # Left out, it is the table's first; the sandbox knows the table by itself.
    chosen = _jconfig("img2anime", {"model_name": style})
    assert chosen["cn_configs"] == [{"image_uid": "<uid_from_upload>", "cn_name": STYLES[style][0]}]
    assert read_jconfig(json.dumps(chosen))


def test_a_style_left_out_is_held_to_the_first_ones_control_nets() -> None:
    assert _faults("img2anime", {"cn_configs": [{"cn_name": "cartoon_canny"}]}) == ["params.cn_configs.0.cn_name"]


def test_a_control_net_looks_at_the_input_that_it_names() -> None:
    operation = VanceAI.operations["img2anime"]
    nets = [{"cn_name": "cartoon_tile", "image_uid": "image"}, {"cn_name": "cartoon_lineart"}]
    uids = {"image": "u1", "control": "u2"}
    told = json.loads(jconfig(operation, {"cn_configs": nets}, {}, uids))["cn_configs"]
    assert [net["image_uid"] for net in told] == ["u1", "u2"]
    assert inputs_named(operation, {"cn_configs": nets}, uids) == {"image", "control"}
    assert inputs_named(operation, {"cn_configs": nets}, {"image"}) == {"image"}
    assert inputs_named(operation, {"cn_configs": nets[:1]}, uids) == {"image"}


@pytest.mark.parametrize("name", ["recolor", "colorize"])
def test_what_recolor_is_called_can_be_chosen(name: str) -> None:
    features = with_recolor_name(name)
    workflow = {"steps": [{"operation": "sd_recolor"}, {"operation": "matting"}]}
    for operation, params in (("sd_recolor", {}), ("workflow", workflow)):
        text = jconfig(VanceAI.operations[operation], params, {}, UIDS, features)
        assert json.loads(text)["name"] == name
        assert read_jconfig(text)


# -- workflow ----------------------------------------------------------------------------------------------------------


def test_a_workflow_is_called_as_its_first_step_with_that_steps_key() -> None:
    steps = [
        {"operation": "animegan2", "out_params": OUT},
        {"operation": "enlarge", "params": {"remove_blur": 1}},
        {"operation": "img2anime", "params": {"model_name": "disney_boy"}},
    ]
    told = _jconfig("workflow", {"steps": steps})
    assert list(told) == ["config", "job"]
    assert told["job"] == "animegan"
    assert [step.get("job") or step["name"] for step in told["config"]] == ["animegan", "enlarge", "img2anime"]
    assert told["config"][0]["config"]["out_params"] == OUT
    assert told["config"][2]["cn_configs"][0]["cn_name"] == "more_cartoon_lineart"
    assert [step.name for step in read_jconfig(json.dumps(told))] == ["animegan", "enlarge", "img2anime"]


def test_extra_params_of_a_workflow_go_on_top_of_the_whole() -> None:
    steps = EXAMPLES["workflow"][0]["steps"]
    assert _jconfig("workflow", {"steps": steps}, {"priority": 1})["priority"] == 1


def test_every_faulty_param_of_every_step_is_named_by_its_place() -> None:
    steps = [
        {"operation": "enlarge3", "params": {"scale": 3, "sharpen": 1}},
        {"operation": "chainner", "params": {"scale": 2}, "out_params": {"dpi": -1}},
        {"operation": "img2anime", "params": {"model_name": "disney_boy", "cn_configs": [{"cn_name": "cartoon_tile"}]}},
        {"operation": "workflow"},
        {"params": {}},
        {"operation": "matting", "params": {"out_params": {}}},
    ]
    assert set(_faults("workflow", {"steps": steps})) == {
        "params.steps.0.params.scale",
        "params.steps.0.params.sharpen",
        "params.steps.1.params.scale",
        "params.steps.1.out_params.dpi",
        "params.steps.2.params.cn_configs.0.cn_name",
        "params.steps.3.operation",
        "params.steps.4.operation",
        "params.steps.5.params.out_params",
    }


@pytest.mark.parametrize(
    ("name", "params", "field"),
    [
        ("workflow", {"steps": [{"operation": "matting"}] * 21}, "steps"),
        ("workflow", {"steps": [7] * 15_000}, "steps"),
        ("img2anime", {"cn_configs": [{"x": place} for place in range(2_500)]}, "cn_configs"),
        (
            "workflow",
            {"steps": [{"operation": "img2anime", "params": {"cn_configs": [{}] * 999}}, {"operation": "matting"}]},
            "steps.0.params.cn_configs",
        ),
    ],
    ids=["one too many", "far too many", "nets", "nets in a step"],
)
def test_a_list_that_is_too_long_is_one_fault_and_not_one_for_each_entry(
    name: str, params: dict[str, Any], field: str
) -> None:
    """Each entry would be checked while all other users wait."""
    errors = params_errors(VanceAI.operations[name], params)
    assert [error.field for error in errors] == [f"params.{field}"]
    assert len(errors[0].reason) <= 300


@pytest.mark.parametrize("steps", [[], [{"operation": "matting"}], None, {"operation": "matting"}])
def test_a_workflow_has_at_least_two_steps(steps: Any) -> None:
    assert _faults("workflow", {"steps": steps}) == ["params.steps"]
    assert _faults("workflow", {}) == ["params.steps"]
