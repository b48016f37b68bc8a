"""The same VanceAI job always gives the same config file, and the document's own examples byte for byte (seed 002)."""

import json
from typing import Any

import pytest

from handlers.sandbox.vanceai_configs import read_jconfig
from handlers.vendors.vanceai import FEATURES, VanceAI, jconfig
from schemas.catalogue import params_errors

EXAMPLES = {
    "enlarge3": '{"name":"enlarge3","config":{"module":"enlarge3","module_params":{"model_name":'
    '"EnlargeStandard_2x_Stable","suppress_noise":40,"remove_blur":60,"scale":2}}}',
    "denoise": '{"name":"denoise","config":{"module":"denoise","module_params":{"model_name":"DenoiseStable",'
    '"auto_params":true,"remove_noise":75,"sharpen":75}}}',
    "sharpen3": '{"name":"va_sharpen_standard","config":{"module":"sharpen3","module_params":{"model_name":'
    '"SharpenGeneralStable","remove_blur":0.5,"suppress_noise":0.5,"remove_artifacts":0.5,"autoparams":true,'
    '"automodel":true}}}',
    "matting": '{"name":"matting","config":{"module":"matting","module_params":{"model_name":"MattingStable"}}}',
}


def _jconfig(name: str, params: dict[str, Any], extra: dict[str, Any] | None = None) -> Any:
    operation = VanceAI.operations[name]
    assert params_errors(operation, params) == []
    return json.loads(jconfig(operation, params, extra or {}))


@pytest.mark.parametrize("name", FEATURES)
def test_without_params_the_config_is_the_documents_example_byte_for_byte(name: str) -> None:
    assert jconfig(VanceAI.operations[name], {}, {}) == EXAMPLES[name]


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
    operation = VanceAI.operations["sharpen3"]
    text = jconfig(operation, params, {})
    assert text == jconfig(operation, dict(reversed(params.items())), {})
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
    ("name", "params"),
    [
        ("enlarge3", {"scale": 3}),
        ("enlarge3", {"scale": "2x"}),
        ("enlarge3", {"suppress_noise": 101}),
        ("enlarge3", {"supress_noise": 1}),
        ("denoise", {"remove_noise": -1}),
        ("sharpen3", {"remove_blur": 1.01}),
        ("matting", {"out_params": {"format": "webp"}}),
        ("matting", {"out_params": {"dpi": 2001}}),
        ("matting", {"out_params": {"compress": {"quality": 101}}}),
        ("matting", {"out_params": {"bg_composed": {"bg_color": {"r": 256, "g": 0, "b": 0}}}}),
    ],
)
def test_a_param_out_of_its_documented_range_is_refused(name: str, params: dict[str, Any]) -> None:
    assert params_errors(VanceAI.operations[name], params) != []
