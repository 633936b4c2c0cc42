"""Pictures of every kind people have, and files that are none."""

from __future__ import annotations

import contextlib
import io
import struct
import threading
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from fer import images
from fer.errors import ImageError
from fer.images import contact_sheet, describe, read_image, read_photo, read_with_info, shown_name, to_face, to_grey


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey(width: int = 6, height: int = 4) -> Image.Image:
    values = np.arange(width * height, dtype=np.uint8).reshape(height, width) * 3
    return Image.fromarray(values)


def colour(width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, depth: int, colour_type: int, pixels: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_lossless_grey_comes_back_bit_for_bit(kind):
    image = read_image(encode(grey(), kind))
    assert image.mode in ("L", "RGB")
    np.testing.assert_array_equal(to_grey(image), np.asarray(grey()))


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"lossless": True})])
def test_colour_formats_are_read_as_colour(kind, options):
    flat = Image.new("RGB", (20, 10), (200, 100, 50))
    image = read_image(encode(flat, kind, **options))
    assert (image.mode, image.size) == ("RGB", (20, 10))
    assert np.abs(np.asarray(image).astype(int) - (200, 100, 50)).max() <= 3


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    values = np.array([[0, 257, 32896, 65535, 300]], np.uint16)
    image = read_image(encode(Image.fromarray(values)))
    assert image.mode == "L"
    assert np.asarray(image).tolist() == [[0, 1, 128, 255, 1]]


def tiff_of_12_bits(values: list[int]) -> bytes:
    """A TIFF of one row of grey pixels of 12 bits, which Pillow reads and does not write."""
    bits = "".join(f"{v:012b}" for v in values)
    bits += "0" * (-len(bits) % 16)
    pixels = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    tags = {256: len(values), 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(pixels)}
    head = b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(tags))
    return head + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()) + bytes(4)


def test_twelve_bit_grey_is_as_bright_as_it_was():
    image = read_image(tiff_of_12_bits([4095, 4095, 2048, 0, 16, 8]))
    assert np.asarray(image).tolist() == [[255, 255, 128, 0, 1, 0]]


def test_sixteen_bit_big_endian_tiff_and_integers_are_scaled_alike():
    values = np.array([[0, 257 * 10, 65535]])
    tiff = encode(Image.frombytes("I;16B", (3, 1), values.astype(">u2").tobytes()), "TIFF")
    assert np.asarray(read_image(tiff)).tolist() == [[0, 10, 255]]
    integers = encode(Image.fromarray(values.astype(np.int32)), "TIFF")
    assert np.asarray(read_image(integers)).tolist() == [[0, 10, 255]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([-1.0, float("nan"), 1.0], [0, 128, 255]),
    ],
)
def test_floats_are_scaled_by_their_range(values, expected):
    content = encode(Image.fromarray(np.array([values], np.float32)), "TIFF")
    assert np.asarray(read_image(content)).tolist() == [expected]


def test_sixteen_bit_colour_is_read():
    pixels = b"\0" + struct.pack(">6H", 65535, 0, 32896, 0, 65535, 257)
    image, info = read_with_info(png_of(2, 1, 16, 2, pixels))
    assert np.asarray(image).tolist() == [[[255, 0, 128], [0, 255, 1]]]
    assert info.bit_depth == "48-bit colour"


def test_cmyk_jpeg_becomes_the_same_colours():
    content = encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    image, info = read_with_info(content)
    red, green, blue = image.getpixel((8, 8))
    assert red > 240 and green < 15 and blue < 15
    assert info.bit_depth == "32-bit CMYK colour"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_stand_on_white(mode):
    rgba = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    rgba.paste((0, 0, 0, 255), (0, 0, 2, 4))
    if mode == "P":
        palette = Image.new("P", (4, 4), 1)
        palette.putpalette([0, 0, 0, 9, 9, 9])
        palette.paste(0, (0, 0, 2, 4))
        content = encode(palette, "PNG", transparency=1)
    else:
        content = encode(rgba.convert(mode))
    values = to_grey(read_image(content))
    assert (values[:, :2] == 0).all() and (values[:, 2:] == 255).all()


@pytest.mark.parametrize("depth", [8, 16])
def test_the_grey_that_a_png_calls_transparent_is_white(depth):
    values = np.array([[0, 0, 200], [100, 0, 200]]) * (257 if depth == 16 else 1)
    lines = b"".join(b"\0" + row.astype(">u2" if depth == 16 else np.uint8).tobytes() for row in values)
    content = png_of(3, 2, depth, 0, lines)
    at = content.index(b"IDAT") - 4
    content = content[:at] + chunk(b"tRNS", struct.pack(">H", 0)) + content[at:]
    assert np.asarray(read_image(content)).tolist() == [[255, 255, 200], [100, 255, 200]]


def test_half_transparent_black_is_mid_grey():
    values = to_grey(read_image(encode(Image.new("LA", (2, 2), (0, 128)))))
    assert abs(int(values[0, 0]) - 127) <= 1


def test_one_bit_and_palette_pictures_are_read():
    assert to_grey(read_image(encode(Image.new("1", (3, 3), 1)))).tolist() == [[255] * 3] * 3
    palette = encode(colour().quantize(16))
    assert read_image(palette).mode == "RGB"


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_frame_of_several_is_taken(kind):
    first, second = Image.new("RGB", (8, 8), "white"), Image.new("RGB", (8, 8), "black")
    content = encode(first, kind, save_all=True, append_images=[second])
    assert to_grey(read_image(content)).min() > 250


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_photo_is_turned_upright(kind, orientation):
    upright = Image.new("L", (32, 16), 0)
    upright.paste(255, (0, 0, 8, 8))  # a white patch at the top left
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image, info = read_with_info(encode(stored, kind, exif=exif))
    assert image.size == (32, 16)
    assert (info.width, info.height) == (image.size if kind == "TIFF" else stored.size)
    values = to_grey(image)
    assert values[2, 2] > 240 and values[2, -3] < 15 and values[-3, 2] < 15
    assert not image.info  # where it was taken stays out of what is handed on


def test_broken_exif_leaves_the_picture_as_stored():
    content = encode(colour(), "JPEG", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff rubbish")
    assert read_image(content).size == (40, 30)


def test_a_huge_jpeg_is_decoded_small_where_small_is_enough():
    content = encode(Image.new("L", (3200, 2400), 99), "JPEG")
    assert read_image(content).size == (3200, 2400)
    image, info = read_with_info(content, min_side=192)
    assert image.size == (400, 300)
    assert (info.width, info.height) == (3200, 2400)


def test_sixty_four_megapixels_are_read():
    image = read_image(encode(Image.new("L", (8000, 8000), 7), compress_level=1))
    assert image.size == (8000, 8000)
    assert to_face(image).tolist() == [[7] * 48] * 48


@pytest.mark.parametrize("side", [9_600, 10_001, 14_000, 60_000])
def test_over_the_limit_is_an_error_and_never_a_warning(side):
    content = png_of(side, side, 8, 0, b"")  # 9,600: over Pillow's own limit, under ours, and without pixels
    with pytest.raises(ImageError, match="too large.*100" if side > 10_000 else "damaged"):
        read_image(content, name="big.png")


def test_the_limits_can_be_set():
    content = encode(colour())
    with pytest.raises(ImageError, match="40 x 30 .*At most 0.001"):
        read_image(content, max_pixels=1000)
    with pytest.raises(ImageError, match="At most .* MB are allowed"):
        read_image(content, max_bytes=100)
    assert images.MAX_PHOTO_BYTES == 20 * 2**20


def zip_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x", "x")
    return buffer.getvalue()


NOT_PICTURES = {
    "empty": (b"", "is empty"),
    "text": (b"hello, I am a text", "is not a picture"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG"),
    "xml": (b"<?xml version='1.0'?><svg/>", "SVG"),
    "pdf": (b"%PDF-1.7 ...", "a PDF"),
    "zip": (zip_bytes(), "a zip file"),
    "html": (b"<!doctype html><p>404", "a web page"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
    "zeros": (b"\0" * 5000, "is not a picture"),
    "jpeg start only": (b"\xff\xd8\xff", ""),
    "no side": (png_of(0, 5, 8, 0, b""), ""),
    "ppm": (b"P6 1 1 255 abc", "is not a picture"),
    "zlib": (png_of(9, 9, 8, 0, b"")[:-30] + b"\x55" * 40, "damaged"),
    "gif": (encode(grey(), "GIF")[:20], ""),
    "webp": (encode(colour(), "WEBP")[:60], ""),
}


@pytest.mark.parametrize("kind", NOT_PICTURES)
def test_what_is_no_picture_is_a_plain_sentence(kind):
    content, expected = NOT_PICTURES[kind]
    with pytest.raises(ImageError) as caught:
        read_image(content, name="mine.xyz")
    text = str(caught.value)
    assert expected in text and "mine.xyz" in text
    assert "JPEG" in text and "Error" not in text and "\n" not in text


@pytest.mark.parametrize("brand", [b"heic", b"hevc", b"mif1", b"avif"])
@pytest.mark.parametrize("name", ["photo.heic", "photo.HEIF", "photo.avif", "photo.jpg"])
def test_a_photo_that_a_phone_made_is_told_to_become_a_jpeg_by_its_name_or_by_its_bytes(name, brand):
    with pytest.raises(ImageError) as caught:
        read_photo(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0", name)
    assert str(caught.value) == (
        f"'{name}' is HEIC (or AVIF), which phones make and FER Lab cannot read: save it as JPEG and try again."
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_half_a_file_is_an_error(kind):
    content = encode(colour(200, 200), kind)
    with pytest.raises(ImageError, match="half.*cannot be read|half.*is not a picture"):
        read_image(content[: len(content) // 2], name="half")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_random_damage_gives_a_picture_or_an_error_and_nothing_else(kind):
    content = encode(colour(), kind)
    rng = np.random.default_rng(1)
    for _ in range(60):
        broken = np.frombuffer(content, np.uint8).copy()
        spots = rng.integers(0, min(len(broken), 400), 6)
        broken[spots] = rng.integers(0, 256, 6)
        with contextlib.suppress(ImageError):
            assert read_image(broken.tobytes(), max_pixels=10**6).mode in ("L", "RGB")


def test_the_lock_is_free_again_after_an_error():
    with pytest.raises(ImageError):
        read_image(b"no")
    done = threading.Event()
    thread = threading.Thread(target=lambda: (read_image(encode(grey())), done.set()), daemon=True)
    thread.start()
    assert done.wait(5)


def test_a_face_of_the_right_size_goes_through_unchanged():
    values = np.random.default_rng(2).integers(0, 256, (48, 48), dtype=np.uint8)
    np.testing.assert_array_equal(to_face(values), values)
    np.testing.assert_array_equal(to_face(read_image(encode(Image.fromarray(values)))), values)


def test_a_colour_copy_of_a_grey_face_gives_the_same_face():
    values = np.random.default_rng(3).integers(0, 256, (48, 48), dtype=np.uint8)
    np.testing.assert_array_equal(to_face(np.repeat(values[..., None], 3, axis=2)), values)


def test_resampling_is_antialiased():
    stripes = np.zeros((480, 480), np.uint8)
    stripes[:, ::2] = 255  # finer than the result can hold: must average out
    face = to_face(stripes)
    assert face.shape == (48, 48) and face.dtype == np.uint8
    assert face[:, 2:-2].min() >= 120 and face[:, 2:-2].max() <= 135


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (500, 20)])
def test_any_shape_becomes_a_face(size):
    face = to_face(Image.new("RGB", size, (10, 10, 10)), 64)
    assert face.shape == (64, 64) and (face == 10).all()


def test_the_specification_of_a_file():
    info = describe(encode(grey(), "JPEG", dpi=(96, 96)))
    assert (info.width, info.height, info.bit_depth, info.dpi, info.format) == (6, 4, "8-bit grey", (96, 96), "JPEG")
    assert describe(encode(colour(), "PNG")).dpi is None
    assert describe(encode(colour(), "PNG", dpi=(300, 150))).dpi == (300, 150)
    assert describe(encode(colour(), "TIFF")).dpi is None
    exif = Image.Exif()
    exif[0x010F] = "maker"
    assert describe(encode(colour(), "JPEG", exif=exif)).dpi is None


@pytest.mark.parametrize(
    ("content", "depth"),
    [
        (encode(colour()), "24-bit colour"),
        (encode(Image.new("RGBA", (2, 2))), "32-bit colour with transparency"),
        (encode(Image.new("1", (2, 2))), "1-bit black and white"),
        (encode(colour().quantize(4), bits=2), "2-bit palette"),
        (encode(Image.new("P", (2, 2)), "GIF"), "8-bit palette"),
        (encode(Image.fromarray(np.zeros((2, 2), np.uint16))), "16-bit grey"),
        (png_of(2, 1, 4, 0, b"\0\xf0"), "4-bit grey"),
    ],
)
def test_bit_depths(content, depth):
    assert describe(content).bit_depth == depth


def test_hostile_names_are_made_harmless():
    assert shown_name("a\n\x1b[31m\u202eb.png") == "a\\x0a\\x1b[31m\\x202eb.png"
    long = shown_name("x" * 100_000 + ".png", 60)
    assert len(long) <= 60 and long.endswith(".png") and "..." in long
    assert shown_name("münchen 1.jpg") == "münchen 1.jpg"
    with pytest.raises(ImageError) as caught:
        read_image(b"no", name="evil\n" * 1000)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_contact_sheet_shows_each_picture_in_its_row_with_gaps_that_can_be_seen_through():
    rows = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    sheet = Image.open(io.BytesIO(contact_sheet(rows, scale=2, gap=3)))
    assert (sheet.format, sheet.mode, sheet.size) == ("PNG", "LA", (2 * 21, 2 * 11))
    pixels = np.asarray(sheet)[::2, ::2]
    assert np.array_equal(pixels[7:11, 8:13, 0], rows[1, 1])
    assert (pixels[:4, :5, 1] == 255).all()
    assert (pixels[4:7, :, 1] == 0).all()
