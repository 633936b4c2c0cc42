"""Reading pictures that someone else made: any size and mode in, plain 8-bit pixels or a clear error out.

Used by the data import and by Predict. A picture is decoded from memory, never from a path; only six formats are
tried; its size is checked before a pixel is decoded; and whatever a decoder does with a damaged file becomes an
ImageError.
"""

from __future__ import annotations

import io
import math
import re
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from fer.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
ALLOWED = "JPEG, PNG, WebP, BMP, TIFF or GIF"
EXTENSIONS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".gif": "GIF",
}
OF_PHONES = (".heic", ".heif", ".avif")  # photos too, of kinds that are not read
_PHONE_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis")  # as such files begin
MAX_PIXELS = 100_000_000
MAX_PHOTO_BYTES = 20 * 1024 * 1024
_BACKGROUND = 255  # white stands behind transparent pixels, as on a page
_ORIENTATION = 0x0112
_X_RESOLUTION = 0x011A
_BITS_PER_SAMPLE = 0x0102
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# EXIF is a TIFF inside the file and fails in as many ways; what is not listed here becomes an ImageError.
_EXIF_ERRORS = (ArithmeticError, AttributeError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error)
# mode: (bits a pixel, what the pixel holds)
_DEPTH = {
    "1": (1, "black and white"),
    "L": (8, "grey"),
    "P": (8, "palette"),
    "LA": (16, "grey with transparency"),
    "PA": (16, "palette with transparency"),
    "RGB": (24, "colour"),
    "RGBA": (32, "colour with transparency"),
    "RGBX": (32, "colour"),
    "CMYK": (32, "CMYK colour"),
    "YCbCr": (24, "colour"),
    "LAB": (24, "Lab colour"),
    "I": (32, "grey"),
    "F": (32, "floating-point grey"),
}
# What people send that is not a picture we read: (first bytes, what it is).
_OTHERS = (
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip file"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML or SVG file"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
    (b"8BPS", "a Photoshop file"),
)
# Pillow's warnings are silenced while it decodes, and that setting belongs to the whole process: one thread at a time.
# It also means that only one picture of 100 megapixels is ever being decoded.
_DECODING = threading.Lock()


@dataclass(frozen=True)
class ImageInfo:
    """What a picture file says of itself, for the picture specification.

    width, height: pixels as stored, before it is turned upright (a TIFF's after that); bit_depth: such as '8-bit grey'
    or '24-bit colour'; dpi: (x, y) in dots per inch, or None where the file does not say; format: 'JPEG', 'PNG', ...
    """

    width: int
    height: int
    bit_depth: str
    dpi: tuple[float, float] | None
    format: str


def read_image(
    content: bytes,
    *,
    name: str = "picture",
    max_pixels: int = MAX_PIXELS,
    max_bytes: int | None = None,
    min_side: int | None = None,
) -> Image.Image:
    """Decode a picture: upright, fully loaded, mode 'L' (grey) or 'RGB', 8 bits a channel.

    The first frame of an animation or of several pages; 16-bit pixels are scaled, not clipped; transparent pixels
    stand on white. `max_bytes`: the largest file to accept (`MAX_PHOTO_BYTES` for uploads), None for any. `min_side`:
    where given, a JPEG may be decoded at a half, a quarter or an eighth of its size, as long as both sides keep at
    least that many pixels; cheap for photos that become small anyway. `name` is used in messages only.
    Raises ImageError: empty, too large, not one of the six formats, truncated or damaged.
    """
    return read_with_info(content, name=name, max_pixels=max_pixels, max_bytes=max_bytes, min_side=min_side)[0]


def read_photo(content: bytes, name: str, *, max_bytes: int = MAX_PHOTO_BYTES) -> np.ndarray:
    """A photo that somebody sent, as (H, W) or (H, W, 3) uint8: `read_image` for a file whose name's ending must agree
    with what it holds. Raises ImageError."""
    ending = check_ending(name)
    image, info = read_with_info(content, name=name, max_bytes=max_bytes)
    if info.format != EXTENSIONS[ending]:
        right = next(e for e, kind in EXTENSIONS.items() if kind == info.format)
        raise ImageError(
            f"'{shown_name(name)}' ends in {ending} but holds a {info.format} picture. Rename it to end in {right}."
        )
    return np.asarray(image)


def check_ending(name: str) -> str:
    """The ending of a file's name in small letters, one of `EXTENSIONS`. Raises ImageError for any other."""
    ending = PurePosixPath(name).suffix.lower()
    if ending in OF_PHONES:
        raise ImageError(_of_a_phone(shown_name(name)))
    if ending not in EXTENSIONS:
        raise ImageError(f"'{shown_name(name)}' does not end like a picture. Endings allowed: {', '.join(EXTENSIONS)}.")
    return ending


def is_meant(name: str) -> bool:
    """Whether a file in a folder or zip counts as one of its photos, by its name without folders: those that phones make and
    that cannot be read too, so that they are not passed over in silence; hidden files, such as macOS's '._x.jpg', not."""
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in (*EXTENSIONS, *OF_PHONES)


def read_with_info(
    content: bytes,
    *,
    name: str = "picture",
    max_pixels: int = MAX_PIXELS,
    max_bytes: int | None = None,
    min_side: int | None = None,
) -> tuple[Image.Image, ImageInfo]:
    """`read_image` and `describe` in one go. Raises ImageError."""
    _check_bytes(content, name, max_bytes)
    with _decoder(content, name, max_pixels) as image:
        info = _info(image)
        if min_side and image.format in ("JPEG", "MPO"):
            image.draft(None, (min_side, min_side))
        image.load()
        plain = _upright(_eight_bit(image), image)
    plain.info = {}  # EXIF may say where a photo was taken: it goes no further than this
    return plain, info


def describe(content: bytes, *, name: str = "picture") -> ImageInfo:
    """What the file says of itself; only its header is read. Raises ImageError as `read_image` does for a header."""
    _check_bytes(content, name, None)
    with _decoder(content, name, MAX_PIXELS) as image:
        return _info(image)


def to_grey(image: Image.Image) -> np.ndarray:
    """The picture's luma (ITU-R 601) as (H, W) uint8, 0 to 255; a grey picture's own values."""
    plain = image if image.mode in ("L", "RGB") else _eight_bit(image)
    return np.array(plain.convert("L"))


def to_face(picture: np.ndarray | Image.Image, size: int = 48) -> np.ndarray:
    """A grey picture of the network's size, (size, size) uint8, from a picture or an (H, W[, 3]) uint8 array.

    A grey picture of that size comes back bit for bit. Any other is resampled with an antialiased Lanczos filter, and
    stretched where it is not square, so that no part of a face is cut off.
    """
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    grey = to_grey(image)
    if grey.shape == (size, size):
        return grey
    # reducing_gap: a large picture is first averaged in blocks to three times the target; as good and much faster.
    return np.array(Image.fromarray(grey).resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0))


def contact_sheet(rows: np.ndarray, *, scale: int = 2, gap: int = 4) -> bytes:
    """A PNG of pictures (R, N, H, W) uint8 in R rows, each `scale` times its size, on a ground that can be seen through."""
    count, across, height, width = rows.shape
    sheet = np.zeros((count * (height + gap) - gap, across * (width + gap) - gap, 2), dtype=np.uint8)  # grey, opacity
    for r in range(count):
        for c in range(across):
            y, x = r * (height + gap), c * (width + gap)
            sheet[y : y + height, x : x + width, 0] = rows[r, c]
            sheet[y : y + height, x : x + width, 1] = 255
    image = Image.fromarray(sheet, mode=None).resize((scale * sheet.shape[1], scale * sheet.shape[0]), Image.NEAREST)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def shown_name(name: str, limit: int = 80) -> str:
    """A file name fit for a message: what does not print is spelled out, the middle of a long name is left out."""
    if len(name) <= limit and name.isprintable():
        return name
    kept = name if len(name) <= 2 * limit else name[:limit] + name[-limit:]
    visible = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in kept)
    if len(visible) <= limit:
        return visible
    tail = limit // 3
    return f"{visible[: limit - tail - 3]}...{visible[-tail:]}"


def _check_bytes(content: bytes, name: str, max_bytes: int | None) -> None:
    if not content:
        raise ImageError(f"'{shown_name(name)}' is empty. Choose a {ALLOWED} picture.")
    if max_bytes is not None and len(content) > max_bytes:
        raise ImageError(
            f"'{shown_name(name)}' has {len(content) / 2**20:.1f} MB. "
            f"At most {max_bytes / 2**20:g} MB are allowed; save it smaller."
        )


@contextmanager
def _decoder(content: bytes, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """The opened picture, its size checked and its pixels not yet decoded; what fails inside becomes an ImageError."""
    shown = shown_name(name)
    try:
        with _DECODING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            _check_size(image.size, shown, max_pixels)
            yield image
    except ImageError:
        raise
    except Image.UnidentifiedImageError:
        raise ImageError(_not_a_picture(content, shown)) from None
    except Image.DecompressionBombError:
        raise ImageError(_too_many_pixels(shown, "far more", max_pixels)) from None
    except MemoryError:
        raise ImageError(f"There is not enough memory to read '{shown}'. Choose a smaller picture.") from None
    except Exception as error:
        # Any: on damaged files the decoders raise OSError, ValueError, SyntaxError, struct.error, zlib.error, ...
        raise ImageError(
            f"'{shown}' is damaged or incomplete and cannot be read. Save it again as a {ALLOWED} picture."
        ) from error


def _check_size(size: tuple[int, int], shown: str, max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"'{shown}' has no pixels ({width} x {height}). Choose a picture of at least 1 x 1.")
    if width * height > max_pixels:
        raise ImageError(_too_many_pixels(shown, f"{width:,} x {height:,} = {width * height / 1e6:,.0f}", max_pixels))


def _too_many_pixels(shown: str, size: str, max_pixels: int) -> str:
    return f"'{shown}' is too large: {size} megapixels. At most {max_pixels / 1e6:g} are allowed; save it smaller."


def _not_a_picture(content: bytes, shown: str) -> str:
    if content[4:8] == b"ftyp" and content[8:12] in _PHONE_BRANDS:
        return _of_a_phone(shown)
    start = content[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    kind = next((what for magic, what in _OTHERS if start.lower().startswith(magic.lower())), None)
    said = f"is {kind}, not" if kind else "is not"
    return f"'{shown}' {said} a picture that can be read. Allowed: {ALLOWED}."


def _of_a_phone(shown: str) -> str:
    return f"'{shown}' is HEIC (or AVIF), which phones make and FER Lab cannot read: save it as JPEG and try again."


def _eight_bit(image: Image.Image) -> Image.Image:
    """The picture in mode 'L' or 'RGB'; the same object where it is already."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16)
        narrow = _narrow(values, _bits(image))
        if isinstance(clear := image.info.get("transparency"), int):  # a PNG's one value that is seen through
            narrow[values == clear] = _BACKGROUND
        return Image.fromarray(narrow)
    if image.mode in ("I", "F"):
        return Image.fromarray(_spread(np.asarray(image)))
    if image.mode in ("LA", "La") or (image.mode == "L" and "transparency" in image.info):
        return _on_background(image.convert("LA"), "L")
    if image.mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info:
        return _on_background(image.convert("RGBA"), "RGB")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _on_background(image: Image.Image, mode: str) -> Image.Image:
    alpha = image.getchannel("A")
    plain = Image.new(mode, image.size, (_BACKGROUND,) * len(mode) if mode == "RGB" else _BACKGROUND)
    plain.paste(image.convert(mode), mask=alpha)
    return plain


def _bits(image: Image.Image) -> int:
    """How many of a grey picture's 16 bits are used: TIFF has 12 too, and says so."""
    said = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE)
    bits = said[0] if isinstance(said, tuple) and said else said
    return bits if isinstance(bits, int) and 8 < bits < 16 else 16


def _narrow(values: np.ndarray, bits: int = 16) -> np.ndarray:
    """9 to 16 bits to 8: 0 stays 0, the highest (65,535 of 16) becomes 255, rounded to the nearest; in place of a shift, which
    darkens."""
    highest = 2**bits - 1
    return ((np.minimum(values, highest).astype(np.uint32) * 255 + highest // 2) // highest).astype(np.uint8)


def _spread(values: np.ndarray) -> np.ndarray:
    """32-bit integers or floats to 8 bits. Such files do not state their range: 0 to 1, 255 or 65,535 is told by the
    largest value, anything else is stretched from its lowest to its highest."""
    floats = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(floats.min()), float(floats.max())
    if low < 0 or high > 65535:
        floats = (floats - low) * (255 / max(high - low, 1e-9))
    elif high > 255:
        floats = floats / 257
    elif high <= 1:
        floats = floats * 255
    return np.clip(np.rint(floats), 0, 255).astype(np.uint8)


def _upright(plain: Image.Image, original: Image.Image) -> Image.Image:
    """Turned as the EXIF orientation says; a picture whose EXIF cannot be read is left as it is stored."""
    try:
        turn = _UPRIGHT.get(original.getexif().get(_ORIENTATION, 1))
    except _EXIF_ERRORS:
        return plain
    return plain if turn is None else plain.transpose(turn)


def _info(image: Image.Image) -> ImageInfo:
    width, height = image.size
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    return ImageInfo(width, height, _bit_depth(image), _dpi(image), kind)


def _bit_depth(image: Image.Image) -> str:
    if image.mode.startswith("I;16"):
        return "16-bit grey"
    bits, what = _DEPTH.get(image.mode, (8, image.mode))
    stored = _stored_bits(image)
    if stored and image.mode in ("L", "P", "LA", "RGB", "RGBA", "CMYK"):
        bits = bits * stored // 8
    return f"{bits}-bit {what}"


def _stored_bits(image: Image.Image) -> int | None:
    """Bits a channel in the file, where PNG or TIFF has other than 8 and the decoder changes them."""
    if image.format not in ("PNG", "TIFF") or not image.tile:
        return None
    args = image.tile[0][3]
    raw = args if isinstance(args, str) else args[0] if args else ""
    found = re.search(r";(\d+)", str(raw))
    return int(found[1]) if found else None


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    if image.format in ("JPEG", "MPO") and not image.info.get("jfif_unit") and not _exif_has_resolution(image):
        return None  # Pillow puts 72 where a JPEG has EXIF that does not say
    try:
        x, y = (float(v) for v in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    if not (math.isfinite(x) and math.isfinite(y)) or min(x, y) <= 1:
        return None
    return float(round(x)), float(round(y))


def _exif_has_resolution(image: Image.Image) -> bool:
    try:
        return "exif" in image.info and _X_RESOLUTION in image.getexif()
    except _EXIF_ERRORS:
        return False
