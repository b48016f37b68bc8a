"""What is taken for a picture, and that no bytes at all can do more harm than be refused."""

import asyncio
import io
import random
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from schemas.asset import ImageInfo
from service.images import ALLOWED, MAX_PIXELS, NotAnImage, header, inspect, verify
from tests.conftest import PHOTOS

pytestmark = pytest.mark.anyio


def encode(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def photograph(width: int, height: int) -> Image.Image:
    with Image.open(PHOTOS / "coffee.jpg") as whole:
        return whole.convert("RGB").resize((width, height))


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def refused(judge: Callable[[Path], ImageInfo], path: Path, content: bytes) -> NotAnImage:
    path.write_bytes(content)
    with pytest.raises(NotAnImage) as caught:
        judge(path)
    assert str(path) not in caught.value.reason
    return caught.value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    # The name lies on purpose in every test: it must never count.
    return tmp_path / "picture.txt"


@pytest.mark.parametrize(("name", "size"), [("astronaut", (512, 512)), ("coffee", (600, 400)), ("cat", (451, 300))])
async def test_a_real_photograph_is_taken(photos: Path, name: str, size: tuple[int, int]) -> None:
    expected = ImageInfo("image/jpeg", *size)
    assert header(photos / f"{name}.jpg") == expected
    assert verify(photos / f"{name}.jpg") == expected
    assert await inspect(photos / f"{name}.jpg") == expected


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "L", {}),
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {}),
        ("PNG", "1", {}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}),
        ("BMP", "RGB", {}),
        ("TIFF", "RGB", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
        ("TIFF", "RGB", {"big_tiff": True}),
        ("GIF", "P", {}),
    ],
)
async def test_every_allowed_kind_is_known_by_its_content(
    file: Path, kind: str, mode: str, options: dict[str, Any]
) -> None:
    file.write_bytes(encode(photograph(60, 40).convert(mode), kind, **options))
    assert header(file) == verify(file) == ImageInfo(ALLOWED[kind], 60, 40)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF"])
async def test_of_an_animation_the_first_frame_is_judged(file: Path, kind: str) -> None:
    frames = [photograph(60, 40).rotate(angle) for angle in (0, 90, 180)]
    file.write_bytes(encode(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert verify(file) == ImageInfo(ALLOWED[kind], 60, 40)


async def test_an_mpo_counts_as_a_jpeg(file: Path) -> None:
    file.write_bytes(encode(photograph(60, 40), "MPO", save_all=True, append_images=[photograph(60, 40)]))
    assert verify(file) == ImageInfo("image/jpeg", 60, 40)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
async def test_an_exif_orientation_does_not_change_width_and_height(file: Path, kind: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    file.write_bytes(encode(photograph(60, 40), kind, exif=exif))
    assert header(file) == verify(file) == ImageInfo(ALLOWED[kind], 60, 40)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {})])
async def test_a_35_megapixel_picture_is_taken(file: Path, kind: str, options: dict[str, Any]) -> None:
    file.write_bytes(encode(Image.new("L", (7000, 5000), 90), kind, **options))
    assert await inspect(file) == ImageInfo(ALLOWED[kind], 7000, 5000)


async def test_exactly_as_many_pixels_as_allowed_are_taken_and_one_row_more_is_refused(file: Path) -> None:
    file.write_bytes(encode(Image.new("1", (10_000, MAX_PIXELS // 10_000)), "PNG"))
    assert verify(file).height == MAX_PIXELS // 10_000
    content = encode(Image.new("1", (10_000, MAX_PIXELS // 10_000 + 1)), "PNG")
    assert refused(verify, file, content).code == "too_many_pixels"


@pytest.mark.parametrize("judge", [header, verify])
async def test_a_png_that_only_claims_to_be_huge_is_refused_from_its_header(
    file: Path, judge: Callable[[Path], ImageInfo]
) -> None:
    claim = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", claim) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    error = refused(judge, file, content)
    assert (error.code, "50000 × 50000" in error.reason) == ("too_many_pixels", True)


async def test_a_real_decompression_bomb_is_refused_without_decoding(file: Path) -> None:
    bomb = encode(Image.new("1", (20_000, 20_000)), "PNG", compress_level=9)
    assert len(bomb) < 100_000
    assert refused(verify, file, bomb).code == "too_many_pixels"
    # Its pixels replaced by rubbish: had one been decoded, the answer would be another.
    start = bomb.index(b"IDAT") + 4
    rubbish = bomb[:start] + b"\xff" * (len(bomb) - start - 12) + bomb[-12:]
    assert refused(verify, file, rubbish).code == "too_many_pixels"


@pytest.mark.parametrize("chunk", [b"VP8X", b"VP8L"])
async def test_a_webp_that_claims_a_huge_canvas_is_refused_before_the_canvas_is_made(file: Path, chunk: bytes) -> None:
    side = 16_384
    body = {
        b"VP8X": bytes(4) + (side - 1).to_bytes(3, "little") * 2,
        b"VP8L": b"\x2f" + ((side - 1) | (side - 1) << 14).to_bytes(4, "little") + bytes(5),
    }[chunk]
    content = b"WEBP" + chunk + len(body).to_bytes(4, "little") + body
    error = refused(header, file, b"RIFF" + len(content).to_bytes(4, "little") + content)
    assert error.code == "too_many_pixels"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"restart_marker_rows": 1}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("GIF", {}),
    ],
)
async def test_a_picture_cut_anywhere_is_found_truncated(file: Path, kind: str, options: dict[str, Any]) -> None:
    whole = encode(photograph(120, 80), kind, **options)
    # A GIF's last two bytes hold no pixel: the end of the frame and of the file.
    end = 2 if kind == "GIF" else 0
    tail, body = range(1 + end, 40), range(40, len(whole) // 2, len(whole) // 60)
    for cut in [*tail, *body]:
        assert refused(verify, file, whole[:-cut]).code == "truncated", cut


@pytest.mark.parametrize("kind", list(ALLOWED))
async def test_any_beginning_of_a_picture_is_refused_by_verify(file: Path, kind: str) -> None:
    whole = encode(photograph(60, 40), kind)
    for length in range(0, len(whole) // 2, 7):
        refused(verify, file, whole[:length])


async def test_the_header_of_a_truncated_picture_is_still_read(file: Path) -> None:
    file.write_bytes((PHOTOS / "cat.jpg").read_bytes()[:5000])
    assert header(file) == ImageInfo("image/jpeg", 451, 300)


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b"", "not_an_image", "empty"),
        (b"just a text, saved under a wrong name", "not_an_image", "not an image"),
        (b'{"error": "link expired"}', "not_an_image", "JSON"),
        (b'\xef\xbb\xbf\n[{"code": 410}]', "not_an_image", "JSON"),
        (b"\n<!DOCTYPE html><html><svg></svg></html>", "not_an_image", "HTML"),
        (b"<HTML><body>404</body></HTML>", "not_an_image", "HTML"),
        (b"<Error><Code>AccessDenied</Code></Error>", "not_an_image", "XML"),
        (b'<?xml version="1.0"?>\n<!-- x --><svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported_type", "SVG"),
        (b"<svg onload='alert(1)'/>", "unsupported_type", "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "unsupported_type", "HEIC is not supported; convert to JPEG or PNG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "unsupported_type", "HEIC is not supported"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "unsupported_type", "AVIF is not supported"),
        (b"\0\0\0\x18ftypMiHE\0\0\0\0mif1heix", "unsupported_type", "HEIC is not supported"),
        (b"\0\0\0\x14ftypmif1\0\0\0\0mif1heic", "unsupported_type", "HEIF is not supported"),
        (b"\xff\xff\xff\xffftypmif1\0\0\0\0mif", "unsupported_type", "HEIF is not supported"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "unsupported_type", "AVIF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "unsupported_type", "Video"),
        (b"%PDF-1.7\n", "unsupported_type", "PDF"),
        (b"8BPS\0\x01", "unsupported_type", "Photoshop"),
        (b"\xff\xd8\xff\xe0 a JPEG in its first bytes only", "truncated", "JPEG"),
        (b"GIF89a", "truncated", "GIF"),
        (b"BM, said the text that was no bitmap, and went on for a while.", "not_an_image", "not an image"),
        (bytes(64), "not_an_image", "not an image"),
    ],
)
async def test_what_is_no_picture_is_refused_with_a_sentence_for_people(
    tmp_path: Path, content: bytes, code: str, says: str
) -> None:
    for judge in (header, verify):
        error = refused(judge, tmp_path / "photo.jpg", content)
        assert error.code == code
        assert says in error.reason


async def test_compressed_text_that_explodes_is_refused(file: Path) -> None:
    whole = encode(photograph(60, 40), "PNG")
    bomb = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64 * 1024 * 1024), 9))
    before_pixels = whole[:33] + bomb + whole[33:]
    after_pixels = whole[:-12] + bomb + whole[-12:]
    for content in (before_pixels, after_pixels):
        assert refused(verify, file, content).code == "not_an_image"


async def test_a_progressive_jpeg_of_a_thousand_scans_is_refused_undecoded(file: Path) -> None:
    whole = encode(photograph(60, 40), "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    error = refused(verify, file, whole[:-2] + last * 1000 + whole[-2:])
    assert (error.code, "scans" in error.reason) == ("unsupported_type", True)


async def test_a_camera_raw_is_not_taken_for_its_thumbnail(file: Path) -> None:
    content = encode(photograph(60, 40), "TIFF", tiffinfo={50706: b"\x01\x04\x00\x00"})
    assert "Camera raw" in refused(header, file, content).reason


async def test_a_missing_file_is_the_disk_s_error_not_the_picture_s(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await inspect(tmp_path / "gone")


async def test_at_most_two_pictures_are_decoded_at_once(photos: Path) -> None:
    await asyncio.gather(*(inspect(photos / "coffee.jpg") for _ in range(8)))
    assert 1 <= sum(thread.name.startswith("picture") for thread in threading.enumerate()) <= 2


_SEEDS = [
    *((PHOTOS / f"{name}.jpg").read_bytes() for name in ("astronaut", "coffee", "cat")),
    encode(photograph(48, 32), "JPEG", progressive=True),
    encode(photograph(48, 32), "MPO", save_all=True, append_images=[photograph(48, 32)]),
    encode(photograph(48, 32), "PNG"),
    encode(photograph(48, 32), "PNG", save_all=True, append_images=[photograph(48, 32).rotate(90)]),
    encode(photograph(48, 32), "WEBP"),
    encode(photograph(48, 32), "WEBP", lossless=True, save_all=True, append_images=[photograph(48, 32).rotate(90)]),
    encode(photograph(48, 32).quantize(16), "BMP"),
    encode(photograph(48, 32), "TIFF"),
    encode(photograph(48, 32), "TIFF", compression="tiff_lzw"),
    encode(photograph(48, 32), "TIFF", compression="jpeg"),
    encode(photograph(48, 32), "GIF"),
]


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.sampled_from(_SEEDS),
    near_the_front=st.booleans(),
    faults=st.integers(1, 12),
    cut=st.one_of(st.none(), st.floats(0, 1)),
    chance=st.randoms(use_true_random=False),
)
# Pillow warns of much that it forgives; here as in the service that must neither fail nor pass for a verdict.
@pytest.mark.filterwarnings("ignore")
def test_no_bytes_raise_anything_but_not_an_image(
    tmp_path: Path, seed: bytes, near_the_front: bool, faults: int, cut: float | None, chance: random.Random
) -> None:
    content = bytearray(seed)
    for _ in range(faults):
        at = chance.randrange(min(len(content), 200) if near_the_front else len(content))
        content[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    file = tmp_path / "mutated"
    file.write_bytes(content if cut is None else content[: int(len(content) * cut)])
    for judge in (header, verify):
        try:
            info = judge(file)
        except NotAnImage as error:
            assert error.reason  # noqa: PT017 - refusal is one of two right answers, not the expected failure
        else:
            assert info.content_type in ALLOWED.values()
            assert 0 < info.width * info.height <= MAX_PIXELS


@given(content=st.binary(max_size=400))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_are_no_picture(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "random"
    for magic in (
        b"",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"BM" + bytes(16),
        b"II*\0",
        b"GIF89a",
        b"RIFF\x08\0\0\0WEBPVP8X",
    ):
        refused(verify, file, magic + content)
