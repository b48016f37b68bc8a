"""What the sandboxes' "AI" really does: plain Pillow filters, so that every result is a true picture and says so.

Everything here is deterministic and blocks: call it in a thread. Sizes are pixels.
"""

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from PIL import ExifTags, Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageOps, ImageStat, PngImagePlugin

MARK = "Wirephoto sandbox"  # in every result: PNG text chunk "Comment", JPEG comment, WebP's EXIF ImageDescription
MAX_PIXELS = 64_000_000  # of an enlarged picture; beyond it the scale gives way, not the machine
_SMALL = (256, 256)  # foreground estimates need no more
_WHITE = (255, 255, 255)
_CONTENT_TYPES: Mapping[str, str] = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Picture:
    """An encoded image, ready to be sent."""

    data: bytes
    content_type: str
    width: int
    height: int


@dataclass(frozen=True)
class Measured:
    """What can be told of an upload without decoding it. `format` is Pillow's name ("JPEG"), empty for a non-image."""

    format: str
    width: int
    height: int


def measure(data: bytes) -> Measured:
    try:
        with Image.open(io.BytesIO(data)) as image:
            # Many phones write several JPEGs into one file, which Pillow calls MPO; to all others it is a JPEG.
            form = "JPEG" if image.format == "MPO" else image.format
            return Measured(form or "", image.width, image.height)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        # More than any vendor takes; the true size doesn't matter any more.
        return Measured("JPEG", 65_535, 65_535)
    except (OSError, ValueError, SyntaxError):
        return Measured("", 0, 0)


def decode(data: bytes) -> Image.Image:
    """The upright picture as RGB or RGBA. Raises OSError, ValueError or SyntaxError for a damaged or unknown file."""
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
        transparent = "A" in upright.getbands() or "transparency" in upright.info
        return upright.convert("RGBA" if transparent else "RGB")


def encode(image: Image.Image, form: str, *, quality: int = 92, dpi: int = 72) -> Picture:
    """Encode as `png`, `jpg` or `webp`, marked as a sandbox result; jpg has no transparency and is laid on white."""
    buffer = io.BytesIO()
    if form == "png":
        info = PngImagePlugin.PngInfo()
        info.add_text("Comment", MARK)
        image.save(buffer, "PNG", pnginfo=info, dpi=(dpi, dpi), compress_level=3)
    elif form == "webp":
        exif = Image.Exif()
        exif[ExifTags.Base.ImageDescription] = MARK
        image.save(buffer, "WEBP", quality=quality, exif=exif)
    else:
        on_background(image).save(buffer, "JPEG", quality=quality, dpi=(dpi, dpi), comment=MARK.encode())
    return Picture(buffer.getvalue(), _CONTENT_TYPES[form], image.width, image.height)


def on_background(image: Image.Image, colour: Colour = _WHITE) -> Image.Image:
    if "A" not in image.getbands():
        return image.convert("RGB")
    ground = Image.new("RGB", image.size, colour)
    ground.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return ground


def enlarge(image: Image.Image, scale: float) -> Image.Image:
    """`scale` times as wide and high, or as far as MAX_PIXELS allows."""
    room = math.sqrt(MAX_PIXELS / (image.width * image.height))
    factor = max(1.0, min(scale, room))
    size = (int(image.width * factor), int(image.height * factor))
    return image.resize(size, Image.Resampling.LANCZOS)


def denoise(image: Image.Image, strength: float) -> Image.Image:
    """Median filter; `strength` 0–1 mixes it with the original."""
    return Image.blend(image, image.filter(ImageFilter.MedianFilter(3)), strength)


def sharpen(image: Image.Image, strength: float) -> Image.Image:
    """Unsharp mask; `strength` 0–1."""
    return image.filter(ImageFilter.UnsharpMask(radius=2, percent=int(50 + 150 * strength), threshold=2))


def repair(image: Image.Image) -> Image.Image:
    """Fine scratches and spots go, the rest is pulled together again."""
    return sharpen(image.filter(ImageFilter.MedianFilter(5)), 0.3)


def enhance(image: Image.Image, strength: float) -> Image.Image:
    flat = on_background(image)
    better = ImageEnhance.Contrast(flat.filter(ImageFilter.DETAIL)).enhance(1.0 + 0.2 * strength)
    return ImageEnhance.Color(better).enhance(1.0 + 0.3 * strength)


def cartoon(image: Image.Image, strength: float) -> Image.Image:
    """Flat colours inside dark outlines; `strength` 0–1 leaves fewer colours."""
    flat = on_background(image).filter(ImageFilter.MedianFilter(5))
    flat = ImageOps.posterize(ImageEnhance.Color(flat).enhance(1.4), bits=5 - round(2 * strength))
    edges = ImageOps.invert(flat.convert("L").filter(ImageFilter.FIND_EDGES)).point(lambda v: 255 if v > 200 else v)
    return ImageChops.multiply(flat, Image.merge("RGB", (edges, edges, edges)))


def toned(image: Image.Image, style: Image.Image) -> Image.Image:
    """The picture in the tones of another: each channel gets its mean, and its spread within bounds."""
    flat, ground = on_background(image), on_background(style)
    own, wanted = ImageStat.Stat(flat), ImageStat.Stat(ground)
    bands = []
    for band, channel in enumerate(flat.split()):
        spread = max(0.5, min(2.0, wanted.stddev[band] / max(own.stddev[band], 1.0)))
        mean, target = own.mean[band], wanted.mean[band]
        table = [round(max(0.0, min(255.0, (value - mean) * spread + target))) for value in range(256)]
        bands.append(channel.point(table))
    return Image.merge("RGB", bands)


def colorize(image: Image.Image, warmth: float) -> Image.Image:
    """Tones for a black-and-white photograph; `warmth` 0–1 moves the middle from blue-grey to brown."""
    middle = (int(90 + 90 * warmth), 120, int(150 - 70 * warmth))
    return ImageOps.colorize(on_background(image).convert("L"), black=(18, 20, 32), white=(255, 250, 238), mid=middle)


def mean_colour(image: Image.Image, mask: Image.Image | None = None) -> Colour:
    """The mean of what is white in `mask`, or of all."""
    red, green, blue = ImageStat.Stat(on_background(image), mask).mean[:3]
    return round(red), round(green), round(blue)


def tinted(image: Image.Image, mask: Image.Image, colour: Colour, strength: float) -> Image.Image:
    """`colour` laid over what is white in `mask`; `strength` 0–1."""
    flat = on_background(image)
    veiled = Image.blend(flat, Image.new("RGB", flat.size, colour), strength)
    return Image.composite(veiled, flat, mask)


def crown(image: Image.Image) -> Image.Image:
    """A soft greyscale mask round the upper part of the head, where hair is."""
    small = head(image)
    above = ImageChops.offset(small, 0, -image.height // 8)
    above.paste(0, (0, image.height * 7 // 8, image.width, image.height))
    return ImageChops.subtract(above, small.point(lambda v: v // 2))


def erased(image: Image.Image, mask: Image.Image) -> Image.Image:
    """What is white in `mask` is gone: the rest's colours flow in."""
    flat, hole = on_background(image), mask.convert("L")
    rest = ImageOps.invert(hole)
    if rest.getextrema()[1]:
        colour = mean_colour(flat, rest.point(lambda v: 255 if v > 127 else 0))
        flat.paste(Image.new("RGB", flat.size, colour), mask=hole)
    return Image.composite(flat.filter(ImageFilter.GaussianBlur(max(2, min(flat.size) / 24))), flat, hole)


def aged(image: Image.Image, years: int) -> Image.Image:
    """`years` older, or younger where it is below 0: contrast and grey come with age."""
    flat, part = on_background(image), max(-1.0, min(1.0, years / 50))
    if part < 0:
        return Image.blend(flat, flat.filter(ImageFilter.GaussianBlur(2)), -part / 2)
    return ImageEnhance.Color(sharpen(flat, part)).enhance(1.0 - 0.6 * part)


def drawn(words: str, size: tuple[int, int], colour: Colour) -> Image.Image:
    """A picture out of nothing: bands of light and discs that follow from the words, and the words below them."""
    dice = hashlib.sha256(words.encode()).digest()
    ground = ImageOps.colorize(Image.linear_gradient("L").resize(size), black=colour, white=_WHITE)
    draw = ImageDraw.Draw(ground, "RGBA")
    width, height = size
    for place in range(0, 30, 5):
        x, y, reach, *tone = dice[place : place + 5]
        centre, radius = (x * width // 255, y * height // 255), 40 + reach * width // 1000
        box = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
        draw.ellipse(box, fill=(tone[0], tone[1], 255 - tone[0], 120))
    readable = words.encode("ascii", "replace").decode()
    for line, start in enumerate(range(0, min(len(readable), 240), 60)):
        draw.text((32, height - 140 + 28 * line), readable[start : start + 60], fill=(0, 0, 0, 220), font_size=24)
    return ground


def cut_out(image: Image.Image, mask: Image.Image) -> Image.Image:
    whole = on_background(image)
    whole.putalpha(mask)
    return whole


def cropped(image: Image.Image, mask: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Both cut to the mask's box; unchanged where the mask is empty."""
    box = mask.point(lambda v: 255 if v > 8 else 0).getbbox()
    return (image.crop(box), mask.crop(box)) if box else (image, mask)


def foreground(image: Image.Image) -> Image.Image:
    """A soft greyscale mask of what differs from the colours along the picture's border."""
    small = on_background(image)
    small.thumbnail(_SMALL)
    distances = [_distance(small, colour) for colour in _border_colours(small)]
    nearest = ImageOps.autocontrast(reduce(ImageChops.darker, distances), cutoff=2)
    # The middle of a photograph is where its subject mostly is: it needs less difference to count.
    likely = ImageChops.add(nearest, _ellipse(small.size, (0.5, 0.5), (0.34, 0.4)).point(lambda v: v // 5))
    mask = likely.filter(ImageFilter.MedianFilter(7)).point(lambda v: max(0, min(255, (v - 60) * 4)))
    return mask.filter(ImageFilter.GaussianBlur(2)).resize(image.size, Image.Resampling.BICUBIC)


def head(image: Image.Image) -> Image.Image:
    """A soft greyscale mask: an ellipse round the most skin-like spot, or round the middle where there is none."""
    small = on_background(image)
    small.thumbnail(_SMALL)
    cb, cr = small.convert("YCbCr").split()[1:]
    skin = ImageChops.multiply(cb.point(lambda v: 255 * (102 <= v <= 127)), cr.point(lambda v: 255 * (135 <= v <= 165)))
    # Faces stand in the upper middle of portraits; hands and warm cloth do not.
    prior = _ellipse(small.size, (0.5, 0.33), (0.42, 0.36)).filter(ImageFilter.GaussianBlur(small.width / 10))
    dense = ImageChops.multiply(skin, prior).filter(ImageFilter.GaussianBlur(min(small.size) / 14))
    spots = dense.tobytes()
    peak = max(spots)
    place = spots.index(peak) if peak > 100 else small.width * (small.height // 2) + small.width // 2
    centre = ((place % small.width) / small.width, place / small.width / small.height)
    reach = 0.24 * min(small.size)
    mask = _ellipse(small.size, centre, (reach / small.width, 1.25 * reach / small.height))
    return mask.filter(ImageFilter.GaussianBlur(3)).resize(image.size, Image.Resampling.BICUBIC)


def _border_colours(small: Image.Image) -> list[Colour]:
    """The six colours that paint the outermost pixels best."""
    width, height = small.size
    sides = [(0, 0, width, 2), (0, height - 2, width, height), (0, 0, 2, height), (width - 2, 0, width, height)]
    pixels = b"".join(small.crop(side).tobytes() for side in sides)
    strip = Image.frombytes("RGB", (len(pixels) // 3, 1), pixels).quantize(6)
    palette = (strip.getpalette() or [])[: 3 * 6]
    return [(palette[i], palette[i + 1], palette[i + 2]) for i in range(0, len(palette), 3)]


def _distance(image: Image.Image, colour: Colour) -> Image.Image:
    channels = ImageChops.difference(image, Image.new("RGB", image.size, colour)).split()
    return reduce(ImageChops.lighter, channels)


def _ellipse(size: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float]) -> Image.Image:
    """White on black; centre and radii as parts of width and height."""
    (width, height), (x, y), (a, b) = size, centre, radii
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).ellipse(
        ((x - a) * width, (y - b) * height, (x + a) * width, (y + b) * height),
        fill=255,
    )
    return mask
