"""VanceAI's stand-in takes every config of the document (seed 002) and nothing beside it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.vendors.vanceai_by_hand import ENLARGE, MATTING, SHARPEN, Client, config, running, small_photo

pytestmark = pytest.mark.anyio

CODEFORMER = config("CodeFormer", "CodeFormerStable")
ANIME = config("img2anime", "style1", prompt="", overwrite=False, denoising_strength=0.75)
WORKFLOW = {"config": [SHARPEN, CODEFORMER], "name": "va_sharpen_standard"}
CONFIGS = [
    ENLARGE,
    config("denoise", "DenoiseStable", auto_params=True, remove_noise=75, sharpen=75),
    SHARPEN,
    MATTING,
    config("chainner", "Anime_4x_AnimeSharp", scale="2x"),
    config("real_esrgan", "RealEsrganStable", scale="1x"),
    config("crease_repair", "CreaseRepairStable"),
    config("img2sr", "style_sr_512", face_enhancer=True, strength=0.9),
    config("cartoonize", "CartoonizeStable"),
    ANIME,
    config("animegan2", "Animegan2Stable", key="job", name="animegan", single_face=True),
    config("sd_recolor", "sd_recolor", name="recolor", prompt="blue skirt", negative_prompt=""),
    config("deoldify2", "DeoldifyArtistic", name="colorize", render_factor=30),
    CODEFORMER,
    config("enlarge", "EnlargeStable", key="job", suppress_noise=26, remove_blur=26, scale="2x"),
    WORKFLOW,
]


def label(jconfig: Any) -> str:
    inner = jconfig["config"] if isinstance(jconfig, dict) and "config" in jconfig else "?"
    return str(inner["module"]) if isinstance(inner, dict) and "module" in inner else "other"


@pytest.fixture
def photo(photos: Path) -> bytes:
    return small_photo(photos)


@pytest.fixture
def vendor(photo: bytes) -> Callable[..., AbstractAsyncContextManager[Client]]:
    return partial(running, photo)


@pytest.mark.parametrize("jconfig", CONFIGS, ids=label)
async def test_every_config_of_the_document_gives_a_real_marked_picture(vendor: Any, jconfig: Any) -> None:
    async with vendor() as client:
        image = await client.result(jconfig)
        image.load()
        assert "Wirephoto sandbox" in str(image.info.get("Comment") or image.info.get("comment"))
        assert client.sandbox.violations == []


@pytest.mark.parametrize(
    ("jconfig", "factor"),
    [
        (ENLARGE, 2),
        (config("enlarge3", "EnlargeStandard_4x_Stable", scale=6), 6),
        (config("chainner", "Anime_4x_AnimeSharp", scale="4x"), 4),
        (config("real_esrgan", "RealEsrganStable", scale="1x"), 1),
    ],
)
async def test_enlarging_enlarges_by_the_scale(vendor: Any, jconfig: Any, factor: int) -> None:
    async with vendor() as client:
        assert (await client.result(jconfig)).size == (120 * factor, 80 * factor)


async def test_matting_gives_real_transparency_and_a_background_colour_fills_it(vendor: Any) -> None:
    blue = {"bg_composed": {"bg_color": {"r": 0, "g": 0, "b": 255}}, "format": "png", "dpi": 300}
    async with vendor() as client:
        clear = await client.result(MATTING)
        filled = await client.result({**MATTING, "config": {**MATTING["config"], "out_params": blue}})
    low, high = clear.getchannel("A").getextrema()
    assert (clear.format, clear.mode, low < 10, high > 245) == ("PNG", "RGBA", True, True)
    empty = clear.getchannel("A").tobytes().index(low)
    corner = filled.convert("RGB").getpixel((empty % 120, empty // 120))
    assert isinstance(corner, tuple)
    assert corner[2] > 240
    assert round(filled.info["dpi"][0]) == 300


BAD_CONFIGS = [
    (config("enlarge3", "EnlargeStandard_2x_Stable", scale="2"), "scale is an int"),
    (config("enlarge3", "EnlargeStandard_2x_Stable", scale=4), "2x goes with 2"),
    (config("enlarge3", "EnlargeStandard_4x_Stable", scale=2), "4x goes with 4, 6, 8"),
    (config("enlarge3", "EnlargeStandard_2x_Stable"), "no scale"),
    (config("enlarge3", "EnlargeStandard_2x_Stable", scale=2, suppress_noise=101), "range"),
    (config("enlarge3", "EnlargeStandard_2x_Stable", scale=2, surprise=1), "unknown parameter"),
    (config("enlarge3", "EnlargeStandard_2x_Stable", key="job", scale=2), "name, not job"),
    (config("enlarge", "EnlargeStable", scale="2x"), "job, not name"),
    (config("enlarge", "EnlargeStable", key="job", scale="4x"), "the legacy scale is 2x"),
    (config("chainner", "Anime_4x_AnimeSharp", scale=2), "scale is a string"),
    (config("denoise", "DenoiseStable", auto_params=1), "bool"),
    (config("sharpen3", "SharpenGeneralStable", name="sharpen3"), "name is va_sharpen_standard"),
    (config("img2sr", "style_sr_512", strength=0.79), "range"),
    (config("img2anime", "style7"), "unknown style"),
    (config("img2anime", "style1", prompt="x" * 141), "prompt too long"),
    (config("img2anime", "style1", prompt="猫"), "prompt not English"),
    (config("deoldify2", "DeoldifyArtistic", name="colorize", render_factor=9), "range"),
    ({"name": "enlarge3", "config": ENLARGE["config"] | {"out_params": {"dpi": 2001}}}, "dpi"),
    ({"name": "enlarge3", "config": ENLARGE["config"] | {"out_params": {"format": "webp"}}}, "format"),
    ({"name": "CodeFormer", "config": [SHARPEN, CODEFORMER]}, "not named as the first step"),
    ({"name": "va_sharpen_standard", "config": []}, "no steps"),
    (ANIME | {"cn_configs": [{"image_uid": "x", "cn_name": "cartoon_canny"}]}, "another style's cn_name"),
    (ANIME | {"cn_configs": []}, "no control net"),
]


@pytest.mark.parametrize("jconfig", [bad for bad, _ in BAD_CONFIGS], ids=[why for _, why in BAD_CONFIGS])
async def test_a_config_against_the_document_is_10001_and_noted(vendor: Any, jconfig: Any) -> None:
    async with vendor() as client:
        assert (await client.transform(jconfig))["code"] == 10001
        assert len(client.sandbox.violations) == 1
        assert client.sandbox.tasks == {}


async def test_an_unreadable_jconfig_is_10013_and_an_unknown_uid_10011(vendor: Any) -> None:
    async with vendor() as client:
        uid = await client.uid()
        unknown_net = ANIME | {"cn_configs": [{"image_uid": "0" * 32, "cn_name": "cartoon_tile"}]}
        known_net = ANIME | {"cn_configs": [{"image_uid": uid, "cn_name": "cartoon_tile"}]}
        assert (await client.transform(jconfig="{'name'}"))["code"] == 10013
        assert (await client.answer("transform", uid=uid, jconfig='{"name": NaN'))["code"] == 10013
        assert (await client.transform(uid="0" * 32))["code"] == 10011
        assert (await client.transform(unknown_net))["code"] == 10011
        assert (await client.transform(known_net))["code"] == 200


async def test_a_control_net_may_look_at_two_pictures_but_is_not_said_twice(vendor: Any) -> None:
    async with vendor() as client:
        nets = [{"image_uid": await client.uid(), "cn_name": "cartoon_tile"} for _ in range(2)]
        assert (await client.transform(ANIME | {"cn_configs": nets}))["code"] == 200
        assert client.sandbox.violations == []
        assert (await client.transform(ANIME | {"cn_configs": [nets[0], nets[0]]}))["code"] == 10001
