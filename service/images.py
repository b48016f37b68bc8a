"""Knowing a picture: what a file truly is, by its content, before a vendor is paid for it or a subscriber is sent it.

A client's upload, a source URL's answer and a vendor's result are all strangers' bytes. The kind is told by the first
bytes, never by a name or a Content-Type; the size is judged from the header, before one pixel is decoded; and the
whole first frame is decoded, since a download that broke off half-way still has a perfect header.
"""

import asyncio
import contextlib
import errno
import os
import struct
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from schemas.asset import ImageInfo

Code: TypeAlias = Literal["not_an_image", "truncated", "too_many_pixels", "unsupported_type"]

ALLOWED: Mapping[str, str] = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "GIF": "image/gif",
}
"""Pillow's name of a format → content type. An MPO (two views in one file) is read as the JPEG it begins with."""

MAX_PIXELS = 100_000_000
"""Width times height. At 4 bytes each a decoded picture then holds at most 400 MB."""

# Pillow's own classes rather than `Image.open`: nothing outside this list is ever tried, and its size check, a
# process-wide limit that warns before it refuses, is left to ours.
_READERS: Mapping[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "GIF": GifImagePlugin.GifImageFile,
}

_MAGIC: Mapping[bytes, str] = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
}

# Known well enough to be refused by name: the sentence then says what to do.
_REFUSED: Mapping[bytes, str] = {
    b"8BPS": "Photoshop (PSD)",
    b"%PDF-": "PDF",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\x00\x00\x01\x00": "ICO",
    b"\x76\x2f\x31\x01": "OpenEXR",
}
# ISO base media files: `ftyp` at byte 4, then the brand, a version, and further brands that the file keeps to as well.
_BRANDS: Mapping[bytes, str] = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    b"crx ": "Camera raw",
}
# Only the container: what is in it stands among the further brands. Some phones write this one first.
_CONTAINERS = frozenset({b"mif1", b"msf1"})
_MOST_BRANDS = 64

# What an error page or an API's answer looks like when it comes in place of a picture.
_TEXTS: Mapping[bytes, str] = {
    b"<!doctype html": "an HTML page",
    b"<html": "an HTML page",
    b"<": "an XML or HTML document",
    b"{": "JSON",
    b"[": "JSON",
}
_HEAD = 4096

# Each scan of a progressive JPEG walks the whole picture and may cost the sender a few bytes. Encoders make about 10.
_MAX_SCANS = 100
_LARGE = 25_000_000
_ONE_LARGE = threading.Lock()
# A pool of our own rather than a semaphore: a cancelled caller lets go of a semaphore while its thread still decodes.
_DECODERS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="picture")


class NotAnImage(Exception):
    """These bytes are not a picture we take. `reason` is a sentence for people, `code` is for programs. Permanent."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def header(path: Path) -> ImageInfo:
    """Kind and size from the header alone; nothing is decoded. Blocking: call it in a thread.

    Width and height are those of the stored raster: an EXIF orientation that asks viewers to turn it changes neither.
    NotAnImage, also above MAX_PIXELS; OSError only where the disk fails.
    """
    with path.open("rb") as file:
        return _open(file)[0]


def verify(path: Path) -> ImageInfo:
    """`header`, then the first frame decoded to its end, so that a truncated or broken file is found. Blocking.

    Later frames of an animation or a multi-page TIFF are not decoded. JPEGs are decoded at an eighth of their size:
    that reads every byte and takes a 64th of the memory. NotAnImage and OSError as for `header`.
    """
    with path.open("rb") as file:
        info, kind = _open(file)
        # A large WebP takes 16 bytes a pixel while it is decoded: never two such at once.
        alone = _ONE_LARGE if info.width * info.height > _LARGE else contextlib.nullcontext()
        with alone, _decoding(kind):
            if kind == "PNG":
                _refuse_png_without_end(file)
            image = _read(file, kind)
            if kind == "JPEG":
                if "progressive" in image.info:
                    _refuse_many_scans(file)
                image.draft("L", (max(1, image.width // 8), max(1, image.height // 8)))
            image.load()
        return info


async def inspect(path: Path) -> ImageInfo:
    """`verify` in a thread; at most two at once, the others wait."""
    return await asyncio.get_running_loop().run_in_executor(_DECODERS, verify, path)


def _open(file: BinaryIO) -> tuple[ImageInfo, str]:
    head = file.read(_HEAD)
    kind = _kind(head)
    with _decoding(kind):
        if kind == "WEBP":
            # Pillow sets up the whole canvas as soon as it opens one.
            width, height = _webp_size(head, os.fstat(file.fileno()).st_size)
        else:
            image = _read(file, kind)
            width, height = image.size
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                _refuse_camera_raw(image)
                if image.tag_v2.get(274) in (5, 6, 7, 8):  # a quarter turn, which Pillow applies to TIFF alone
                    width, height = height, width
    if width * height > MAX_PIXELS:
        raise NotAnImage(
            "too_many_pixels",
            f"This picture claims {width} × {height} pixels; at most {MAX_PIXELS // 1_000_000} megapixels are taken.",
        )
    return ImageInfo(ALLOWED[kind], width, height), kind


def _kind(head: bytes) -> str:
    """The format, by the first bytes. NotAnImage says what else it is, where that can be told."""
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    # Two letters begin many a text: the size of the second header, below 256 in all versions, decides.
    if head.startswith(b"BM") and head[15:18] == bytes(3):
        return "BMP"
    if not head:
        raise NotAnImage("not_an_image", "The file is empty.")
    for magic, name in _REFUSED.items():
        if head.startswith(magic):
            raise _unsupported(name)
    if head[4:8] == b"ftyp":
        raise _unsupported(_media(head))
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    html = text.startswith((b"<!doctype html", b"<html"))
    if text.startswith(b"<") and b"<svg" in text and not html:
        raise _unsupported("SVG")
    for start, name in _TEXTS.items():
        if text.startswith(start):
            raise NotAnImage("not_an_image", f"This is not an image but {name}.")
    raise NotAnImage("not_an_image", "This is not an image of a known kind.")


def _media(head: bytes) -> str:
    """What an ISO base media file holds, by the first of its brands that says so."""
    end = min(int.from_bytes(head[:4], "big"), 16 + 4 * _MOST_BRANDS, len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, end, 4))]
    plain = "HEIF" if _CONTAINERS & set(brands) else "Video"
    return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), plain)


def _unsupported(name: str) -> NotAnImage:
    return NotAnImage("unsupported_type", f"{name} is not supported; convert to JPEG or PNG.")


def _read(file: BinaryIO, kind: str) -> ImageFile.ImageFile:
    file.seek(0)
    return _READERS[kind](file)


@contextlib.contextmanager
def _decoding(kind: str) -> Iterator[None]:
    """Turn whatever a decoder does with strange bytes into NotAnImage, and let the disk's own errors pass."""
    try:
        yield
    except NotAnImage:
        raise
    except MemoryError as error:
        # Ours, not the picture's: it kept within MAX_PIXELS.
        raise OSError(errno.ENOMEM, "Not enough memory to decode a picture") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise NotAnImage("too_many_pixels", f"This {kind} holds more pixels than its header says.") from error
    except Exception as error:  # decoders fail with nearly every type there is, from KeyError to zlib.error
        # Pillow's own OSErrors carry no errno. EINVAL is a seek to where the file's bytes told it to.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        # While it reads a header, Pillow wraps running out of bytes in a SyntaxError.
        ran_out = isinstance(error.__cause__ or error, (EOFError, IndexError, struct.error))
        if ran_out or "truncated" in str(error).lower():
            raise _truncated(kind) from error
        raise NotAnImage(
            "not_an_image", f"This {kind} is damaged, or its metadata breaks a limit: it cannot be decoded."
        ) from error


def _truncated(kind: str) -> NotAnImage:
    return NotAnImage("truncated", f"This {kind} is truncated: its end is missing.")


def _webp_size(head: bytes, size: int) -> tuple[int, int]:
    """The canvas, from the first chunk of the three kinds of WebP (container specification; RFC 9649)."""
    if int.from_bytes(head[4:8], "little") + 8 > size:
        raise _truncated("WEBP")
    chunk, body = head[12:16], head[20:30]
    if len(body) == 10:
        if chunk == b"VP8X":
            return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
        if chunk == b"VP8L" and body[0] == 0x2F:
            bits = int.from_bytes(body[1:5], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        if chunk == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
            width, height = struct.unpack("<HH", body[6:])
            if width & 0x3FFF and height & 0x3FFF:
                return width & 0x3FFF, height & 0x3FFF
    raise NotAnImage("not_an_image", "This WEBP is damaged: it does not say its size.")


def _refuse_png_without_end(file: BinaryIO) -> None:
    """Pillow is content with the last pixel; a file that stops there has still lost its end."""
    at = 8
    while True:
        file.seek(at)
        start = file.read(8)
        if len(start) < 8:
            raise _truncated("PNG")
        if start[4:] == b"IEND":
            if len(file.read(4)) < 4:
                raise _truncated("PNG")
            return
        at += 12 + int.from_bytes(start[:4], "big")


def _refuse_many_scans(file: BinaryIO) -> None:
    # In coded data FF is always followed by 00 or a restart mark, so FF DA is a scan, or rarely a thumbnail's.
    at = file.tell()
    file.seek(0)
    scans, last = 0, b""
    while block := file.read(256 * 1024):
        scans += (last + block).count(b"\xff\xda")
        last = block[-1:] if block[-1:] == b"\xff" else b""
    file.seek(at)
    if scans > _MAX_SCANS:
        raise NotAnImage("unsupported_type", f"This JPEG has {scans} scans; at most {_MAX_SCANS} are taken.")


def _refuse_camera_raw(image: TiffImagePlugin.TiffImageFile) -> None:
    """DNG, NEF, CR2 and their like are TIFFs whose first page is a thumbnail: a stamp in place of the photograph."""
    tags = image.tag_v2
    if 50706 in tags or (330 in tags and int(tags.get(254, 0)) & 1):  # DNGVersion; SubIFDs beside a reduced image
        raise _unsupported("Camera raw")
