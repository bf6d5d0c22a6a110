"""What each kind of picture becomes, pixel by pixel, and what every failure says. All files are made here."""

from __future__ import annotations

import gzip
import io
import os
import random
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile, features
from waiting import LIMIT

from vlad.backbones.base import Preprocessing
from vlad.backbones.preprocessing import preprocess
from vlad.errors import ImageReadError
from vlad.pictures.reading import find_images, read_image

SIDE = 16


def colours(height: int = SIDE, width: int = 20) -> np.ndarray:
    """A picture in which no two rows, columns or channels are alike."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 11, columns * 9, 255 - rows * 3 - columns * 5], axis=2).astype(np.uint8)


def encode(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def plain(colour: tuple[int, ...] | int | str, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (SIDE, SIDE), colour)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(width: int, height: int, bits: int, colour_type: int, rows: bytes, extra: bytes = b"") -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


def raw_tiff(width: int, height: int, body: bytes, *, order: str = "<", **tags: int | tuple[int, ...]) -> bytes:
    """An uncompressed single-strip TIFF with SHORT tags, for the variants that Pillow reads and does not write."""
    numbers = {"bits": 258, "photometric": 262, "samples": 277, "sample_format": 339}
    values = {256: (width,), 257: (height,), 258: (16,), 259: (1,), 262: (1,), 277: (1,), 278: (height,)}
    values |= {numbers[name]: value if isinstance(value, tuple) else (value,) for name, value in tags.items()}
    count = len(values) + 2
    start = 8 + 2 + 12 * count + 4
    tail, entries = b"", {}
    for tag, value in values.items():
        packed = struct.pack(f"{order}{len(value)}H", *value)
        if len(packed) > 4:
            packed, tail = struct.pack(f"{order}I", start + len(tail)), tail + packed
        entries[tag] = struct.pack(f"{order}HHI", tag, 3, len(value)) + packed.ljust(4, b"\0")
    for tag, number in ((273, start + len(tail)), (279, len(body))):
        entries[tag] = struct.pack(f"{order}HHII", tag, 4, 1, number)
    directory = struct.pack(f"{order}H", count) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    return (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8) + directory + tail + body


def grey_rgb(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, axis=2)


def wide_gradient() -> np.ndarray:
    """uint16 from 0 to 65535 in uneven steps."""
    return np.linspace(0, 65535, SIDE * 20).round().astype(np.uint16).reshape(SIDE, 20)


def by_full_range(values: np.ndarray) -> np.ndarray:
    return np.rint(values.astype(np.float64) / 65535 * 255).astype(np.uint8)


def assert_pixels(actual: np.ndarray, expected: np.ndarray, tolerance: int = 0) -> None:
    assert actual.dtype == np.uint8
    assert actual.flags.c_contiguous and actual.flags.writeable
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= tolerance


# Sources


class Unseekable(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation("a pipe")


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def at_its_end(data: bytes) -> io.BytesIO:
    file = io.BytesIO(data)
    file.read()
    return file


SOURCES: dict[str, Callable[[Path], Any]] = {
    "str": lambda folder: str(write(folder / "part.png", encode(colours()))),
    "path": lambda folder: write(folder / "part.png", encode(colours())),
    "bytes": lambda _: encode(colours()),
    "bytearray": lambda _: bytearray(encode(colours())),
    "memoryview": lambda _: memoryview(encode(colours())),
    "file object": lambda _: io.BytesIO(encode(colours())),
    "file object read to its end": lambda _: at_its_end(encode(colours())),
    "unseekable file object": lambda _: Unseekable(encode(colours())),
    "lazily opened PIL image": lambda _: Image.open(io.BytesIO(encode(colours()))),
    "PIL image": lambda _: Image.fromarray(colours()),
    "array": lambda _: colours(),
    "array upside down": lambda _: colours()[::-1].copy()[::-1],
    "tensor": lambda _: torch.from_numpy(colours()).permute(2, 0, 1),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_the_same_pixels(kind: str, tmp_path: Path) -> None:
    assert_pixels(read_image(SOURCES[kind](tmp_path)), colours())


def test_an_open_file_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "part.png"
    path.write_bytes(encode(colours()))
    with path.open("rb") as file:
        read_image(file)
        assert_pixels(read_image(file), colours())


def test_an_open_file_is_read_through_its_own_read(tmp_path: Path) -> None:
    path = write(tmp_path / "part.tif.gz", gzip.compress(encode(colours(), "TIFF", compression="tiff_lzw")))
    with gzip.open(path) as file:  # its fileno() leads to the compressed bytes
        assert_pixels(read_image(file), colours())


def test_the_result_is_no_view_of_the_source() -> None:
    pixels = colours()
    read_image(pixels)[:] = 0
    assert np.array_equal(pixels, colours())


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize(
    ("values", "level"),
    [
        (np.uint8(200), 200),
        (np.uint16(65535), 255),
        (np.uint16(51400), 200),
        (np.uint16(51529), 201),
        (np.bool_(True), 255),
        (np.float32(200 / 255), 200),
        (np.float32(1.0000001), 255),
        (np.float32(-1e-7), 0),
        (np.float64(0.5), 128),
        (np.float16(1), 255),
    ],
    ids=lambda value: f"{type(value).__name__} {value}",
)
def test_array_and_tensor_values(values: np.generic, level: int, channels_first: bool) -> None:
    array = np.full((SIDE, SIDE, 3), values)
    source = torch.from_numpy(array.transpose(2, 0, 1).copy()) if channels_first else array
    assert_pixels(read_image(source), np.full((SIDE, SIDE, 3), level, np.uint8))


def test_array_layouts() -> None:
    pixels = colours()
    grey = pixels[:, :, 0]
    alpha = np.full_like(grey, 255)
    alpha[0] = 0
    rgba = np.dstack([pixels, alpha])
    on_white = pixels.copy()
    on_white[0] = 255
    assert_pixels(read_image(grey), grey_rgb(grey))
    assert_pixels(read_image(grey[:, :, None]), grey_rgb(grey))
    assert_pixels(read_image(rgba), on_white)
    assert_pixels(read_image(torch.from_numpy(grey)[None]), grey_rgb(grey))
    assert_pixels(read_image(torch.from_numpy(rgba).permute(2, 0, 1)), on_white)
    assert_pixels(read_image((torch.from_numpy(rgba).permute(2, 0, 1) / 255).requires_grad_()), on_white)
    assert_pixels(read_image(torch.ones(3, SIDE, SIDE, dtype=torch.bfloat16)), np.full((SIDE, SIDE, 3), 255, np.uint8))
    assert_pixels(read_image(np.full((SIDE, SIDE), 65535, ">u2")), np.full((SIDE, SIDE, 3), 255, np.uint8))


# Files, by format


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("PPM", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"compression": "tiff_adobe_deflate"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG2000", {"irreversible": False}, 0),
        ("JPEG", {"quality": 100, "subsampling": 0}, 4),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 4),
        ("WEBP", {"quality": 100}, 24),
    ],
)
@pytest.mark.parametrize("from_file", [False, True])
def test_formats(kind: str, options: dict[str, Any], tolerance: int, from_file: bool, tmp_path: Path) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = encode(colours(), kind, **options)
    path = tmp_path / "suffix.does_not_matter"
    path.write_bytes(data)
    assert_pixels(read_image(path if from_file else data), colours(), tolerance)


def test_greyscale_and_one_bit() -> None:
    grey = colours()[:, :, 1]
    checks = grey > 90
    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        assert_pixels(read_image(encode(grey, kind)), grey_rgb(grey))
        assert_pixels(read_image(encode(Image.fromarray(checks), kind)), grey_rgb(checks * np.uint8(255)))


def test_palette() -> None:
    indexed = Image.new("P", (SIDE, SIDE), 1)
    indexed.putpalette([10, 20, 30, 40, 50, 60])
    indexed.putpixel((3, 2), 0)
    expected = np.full((SIDE, SIDE, 3), (40, 50, 60), np.uint8)
    expected[2, 3] = (10, 20, 30)
    for kind in ("PNG", "GIF", "TIFF", "BMP"):
        assert_pixels(read_image(encode(indexed, kind)), expected)
    expected[2, 3] = 255
    assert_pixels(read_image(encode(indexed, transparency=0)), expected)
    assert_pixels(read_image(encode(indexed, "GIF", transparency=0)), expected)
    assert_pixels(read_image(encode(indexed, transparency=b"\x00\xff")), expected)
    expected[2, 3] = (132, 137, 142)  # half of (10, 20, 30) on white
    assert_pixels(read_image(encode(indexed, transparency=b"\x80\xff")), expected, tolerance=1)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (plain((100, 0), "LA"), (255, 255, 255)),
        (plain((100, 255), "LA"), (100, 100, 100)),
        (plain((0, 51), "LA"), (204, 204, 204)),
        (plain((200, 0, 0, 0), "RGBA"), (255, 255, 255)),
        (plain((200, 0, 0, 255), "RGBA"), (200, 0, 0)),
        (plain((255, 0, 0, 102), "RGBA"), (255, 153, 153)),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, tuple) else "",
)
def test_transparency_is_white(image: Image.Image, expected: tuple[int, int, int]) -> None:
    target = np.full((SIDE, SIDE, 3), expected, np.uint8)
    assert_pixels(read_image(image), target, tolerance=1)
    assert_pixels(read_image(encode(image)), target, tolerance=1)
    if image.mode == "RGBA":
        assert_pixels(read_image(encode(image, "WEBP", lossless=True, exact=True)), target, tolerance=1)


def test_transparent_key_colours_are_white() -> None:
    assert_pixels(read_image(encode(plain(7, "L"), transparency=7)), np.full((SIDE, SIDE, 3), 255, np.uint8))
    assert_pixels(read_image(encode(plain((7, 8, 9)), transparency=(7, 8, 9))), np.full((SIDE, SIDE, 3), 255, np.uint8))
    values = np.full((SIDE, SIDE), 30_000, ">u2")
    values[0] = 257
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    expected = np.full((SIDE, SIDE, 3), 117, np.uint8)
    expected[0] = 255
    assert_pixels(read_image(raw_png(SIDE, SIDE, 16, 0, rows, png_chunk(b"tRNS", struct.pack(">H", 257)))), expected)


def test_palette_with_alpha_channel() -> None:
    image = Image.new("PA", (SIDE, SIDE))
    image.putpalette([10, 20, 30] * 256)
    image.putalpha(255)
    assert_pixels(read_image(image), np.full((SIDE, SIDE, 3), (10, 20, 30), np.uint8))
    image.putalpha(0)
    assert_pixels(read_image(image), np.full((SIDE, SIDE, 3), 255, np.uint8))


@pytest.mark.parametrize(("kind", "tolerance"), [("TIFF", 0), ("JPEG", 3)])
def test_cmyk(kind: str, tolerance: int) -> None:
    for ink, expected in (((0, 255, 255, 0), (255, 0, 0)), ((0, 0, 0, 255), (0, 0, 0)), ((0, 0, 0, 0), (255, 255, 255))):
        data = encode(plain(ink, "CMYK"), kind)
        assert_pixels(read_image(data), np.full((SIDE, SIDE, 3), expected, np.uint8), tolerance)


def test_other_colour_spaces() -> None:
    red = np.full((SIDE, SIDE, 3), (254, 0, 0), np.uint8)
    assert_pixels(read_image(plain((76, 85, 255), "YCbCr")), red, tolerance=1)
    assert_pixels(read_image(plain((0, 255, 255), "HSV")), red, tolerance=1)
    assert_pixels(read_image(plain((128, 128, 128), "LAB")), np.full((SIDE, SIDE, 3), 119, np.uint8), tolerance=3)
    assert_pixels(read_image(encode(plain((128, 128, 128), "LAB"), "TIFF")), np.full((SIDE, SIDE, 3), 119, np.uint8), tolerance=3)


def test_icc_profile_is_left_alone() -> None:
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    assert_pixels(read_image(encode(colours(), icc_profile=swapped)), colours())


# More than eight bits


def test_wide_grey_files_use_the_full_range() -> None:
    values = wide_gradient()
    expected = grey_rgb(by_full_range(values))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    files = {
        "png": encode(Image.fromarray(values)),
        "hand-made png": raw_png(20, SIDE, 16, 0, rows),
        "tiff": encode(Image.fromarray(values), "TIFF"),
        "tiff, lzw": encode(Image.fromarray(values), "TIFF", compression="tiff_lzw"),
        "tiff, little endian": raw_tiff(20, SIDE, values.astype("<u2").tobytes()),
        "tiff, big endian": raw_tiff(20, SIDE, values.astype(">u2").tobytes(), order=">"),
        "tiff, white is zero": raw_tiff(20, SIDE, (65535 - values).astype("<u2").tobytes(), photometric=0),
        "pgm": b"P5 20 16 65535\n" + values.astype(">u2").tobytes(),
        "pil I;16": Image.fromarray(values),
        "pil I": Image.fromarray(values.astype(np.int32)),
        "array": values,
        "tensor": torch.from_numpy(values)[None],
        "jpeg 2000": encode(Image.fromarray(values), "JPEG2000", irreversible=False),
    }
    for name, file in files.items():
        actual = read_image(file)
        assert np.array_equal(actual, expected), name
    assert Image.open(io.BytesIO(files["tiff, big endian"])).mode == "I;16B"


def test_wide_scale_does_not_depend_on_the_picture() -> None:
    bright, dark = wide_gradient(), wide_gradient()
    dark[dark > 30_000] = 30_000
    same = dark == bright
    assert np.array_equal(read_image(encode(Image.fromarray(dark)))[same], read_image(encode(Image.fromarray(bright)))[same])


def test_wide_colour_is_read_in_full() -> None:
    values = np.stack([wide_gradient(), wide_gradient()[::-1], wide_gradient()[:, ::-1]], axis=2)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    for name, data in {
        "png": raw_png(20, SIDE, 16, 2, rows),
        "tiff": raw_tiff(20, SIDE, values.astype("<u2").tobytes(), bits=(16, 16, 16), photometric=2, samples=3),
        "tiff, big endian": raw_tiff(20, SIDE, values.astype(">u2").tobytes(), order=">", bits=(16, 16, 16), photometric=2, samples=3),
    }.items():
        actual = read_image(data)
        assert np.array_equal(actual, by_full_range(values)), name


def test_stated_depth_is_the_range() -> None:
    values = (wide_gradient() >> 4).reshape(-1, 2).astype(int)
    packed = np.stack([values[:, 0] >> 4, (values[:, 0] & 15) << 4 | values[:, 1] >> 8, values[:, 1] & 255], axis=1).astype(np.uint8)
    expected = grey_rgb(np.rint(values / 4095 * 255).astype(np.uint8).reshape(SIDE, 20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_pixels(read_image(raw_tiff(20, SIDE, packed.tobytes(), bits=12)), expected)
        assert_pixels(read_image(b"P5 20 16 4095\n" + values.reshape(SIDE, 20).astype(">u2").tobytes()), expected, tolerance=1)


def test_twelve_bits_in_sixteen_stay_dark_and_say_so() -> None:
    values = wide_gradient() >> 4
    with pytest.warns(UserWarning, match=r"^bytes: nearly black, its 16-bit maximum is 4095; if 4095 is white there, set white_level=4095"):
        dark = read_image(encode(Image.fromarray(values)))
    assert dark.max() == 16
    assert_pixels(read_image(values / 4095), grey_rgb(np.rint(values / 4095 * 255).astype(np.uint8)))


def test_black_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(np.zeros((SIDE, SIDE), np.uint16)).max() == 0


def test_float_tiff_in_the_unit_range_is_kept() -> None:
    values = np.linspace(0.2, 0.6, SIDE * 20, dtype=np.float32).reshape(SIDE, 20)
    expected = grey_rgb(np.rint(values * 255).astype(np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_pixels(read_image(encode(Image.fromarray(values), "TIFF")), expected)
        assert_pixels(read_image(Image.fromarray(values)), expected)
        big_endian = raw_tiff(20, SIDE, values.astype(">f4").tobytes(), order=">", bits=32, sample_format=3)
        assert_pixels(read_image(big_endian), expected)
        assert_pixels(read_image(b"Pf 20 16 -1.0\n" + values[::-1].astype("<f4").tobytes()), expected)
        white_is_zero = raw_tiff(20, SIDE, (1 - values).astype("<f4").tobytes(), bits=32, sample_format=3, photometric=0)
        assert_pixels(read_image(white_is_zero), expected, tolerance=1)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_other_ranges_are_stretched_and_say_so(kind: type) -> None:
    values = np.linspace(-3000, 100_000, SIDE * 20).round().astype(kind).reshape(SIDE, 20)
    expected = np.rint((values + 3000) / 103_000 * 255).astype(np.uint8)
    with pytest.warns(UserWarning, match=r"stretched from \[-3000, 100000\]"):
        assert_pixels(read_image(encode(Image.fromarray(values), "TIFF")), grey_rgb(expected), tolerance=1)


def test_negative_integers_are_no_sixteen_bits() -> None:
    values = np.full((SIDE, SIDE), -100, np.int32)
    values[0] = 155
    with pytest.warns(UserWarning, match=r"stretched from \[-100, 155\]"):
        assert read_image(Image.fromarray(values))[:2, 0, 0].tolist() == [255, 0]


@pytest.mark.filterwarnings("ignore:bytes. stretched")
def test_extreme_floats() -> None:
    values = np.full((SIDE, SIDE), -3.4e38, np.float32)
    values[0] = 3.4e38
    assert read_image(encode(Image.fromarray(values), "TIFF"))[:2, 0, 0].tolist() == [255, 0]
    assert read_image(encode(Image.fromarray(np.full((SIDE, SIDE), 7, np.float32)), "TIFF")).max() == 0


@given(st.lists(st.integers(0, 65535), min_size=2, max_size=40))
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore:ndarray")
def test_sixteen_bits_are_monotone_and_nearest(levels: list[int]) -> None:
    values = np.resize(np.array(sorted(levels), np.uint16), (SIDE * SIDE))
    actual = read_image(values.reshape(SIDE, SIDE))[:, :, 0].ravel()
    assert (np.diff(actual[: len(levels)].astype(int)) >= 0).all()
    assert np.abs(actual.astype(float) - values / 257).max() <= 0.5


@given(st.integers(0, 2**32 - 1), st.integers(SIDE, 40), st.integers(SIDE, 40))
@settings(max_examples=25, deadline=None)
def test_png_round_trip_is_the_identity(seed: int, height: int, width: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert_pixels(read_image(encode(pixels)), pixels)
    assert_pixels(read_image(pixels.astype(np.uint16) * 257), pixels)
    assert_pixels(read_image(pixels / 255), pixels)


# Orientation and frames

# By the EXIF standard: where the stored row 0 and the stored column 0 are on display.
ORIENTATIONS = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def displayed(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Put every stored pixel where the standard says, one by one."""
    height, width = pixels.shape[:2]
    row_edge, column_edge = ORIENTATIONS[orientation]
    turned = row_edge in ("left", "right")
    result = np.zeros((width, height, 3) if turned else pixels.shape, np.uint8)
    for row in range(height):
        for column in range(width):
            from_edge = {row_edge: row, column_edge: column}
            y = from_edge["top"] if "top" in from_edge else result.shape[0] - 1 - from_edge["bottom"]
            x = from_edge["left"] if "left" in from_edge else result.shape[1] - 1 - from_edge["right"]
            result[y, x] = pixels[row, column]
    return result


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [("PNG", {}, 0), ("JPEG", {"quality": 100, "subsampling": 0}, 4), ("WEBP", {"lossless": True}, 0), ("TIFF", {}, 0)],
    ids=["PNG", "JPEG", "WEBP", "TIFF"],
)
def test_orientation(orientation: int, kind: str, options: dict[str, Any], tolerance: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(colours(), kind, exif=exif, **options)
    expected = displayed(colours(), orientation)
    assert_pixels(read_image(data), expected, tolerance)
    assert_pixels(read_image(Image.open(io.BytesIO(data))), expected, tolerance)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("orientation", [3, 6])
def test_orientation_of_avif(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(colours(), "AVIF", exif=exif, quality=100, subsampling="4:4:4")
    assert_pixels(read_image(data), displayed(colours(), orientation), tolerance=4)


def test_orientation_of_wide_grey() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = grey_rgb(by_full_range(wide_gradient()))
    assert_pixels(read_image(encode(Image.fromarray(wide_gradient()), exif=exif)), displayed(grey, 6))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0rubbish", b"Exif\0\0"])
def test_broken_exif_shows_the_picture_as_stored(exif: bytes) -> None:
    assert_pixels(read_image(encode(colours(), exif=exif)), colours())


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG", "MPO", "AVIF"])
def test_first_of_several_frames(kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    frames = [plain(colour) for colour in ((200, 10, 10), (10, 200, 10), (10, 10, 200))]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 3
    assert_pixels(read_image(data), np.full((SIDE, SIDE, 3), (200, 10, 10), np.uint8), tolerance=6)


def test_pil_image_is_read_at_its_frame() -> None:
    data = encode(plain((200, 10, 10)), "TIFF", save_all=True, append_images=[plain((10, 200, 10))])
    image = Image.open(io.BytesIO(data))
    image.seek(1)
    assert_pixels(read_image(image), np.full((SIDE, SIDE, 3), (10, 200, 10), np.uint8))


# Errors


def huge_png() -> bytes:
    """A header of 200 megapixels over no pixels at all; whoever decodes it finds it truncated."""
    return raw_png(20_000, 10_000, 8, 2, b"")


BAD_DATA = {
    "empty": (b"", r"empty \(0 bytes\).*again"),
    "text": (b"These are no pixels, whatever the suffix says.", r"is none of PNG JPEG .*, it starts with b'These"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "starts with b'version https://git-lfs.*Git LFS pointer"),
    "truncated jpeg": (encode(colours(200, 200), "JPEG")[:1500], r"cannot be read \(.*truncated.*cut off"),
    "truncated png": (encode(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))[:5000], r"cannot be read .*cut off"),
    "truncated tiff": (encode(colours(), "TIFF")[:300], r"cannot be read .*cut off"),
    "truncated webp": (encode(colours(), "WEBP")[:60], r"cannot be read .*cut off"),
    "header only": (encode(colours())[:20], r"cannot be read .*cut off"),
    "one letter": (b"P", r"is none of PNG"),
    "first line of a pgm": (b"P5 20", r"cannot be read .*cut off"),
    "huge": (huge_png(), r"20000 x 10000 = 200,000,000 pixels, the limit is 100,000,000; .*max_pixels"),
    "gigantic": (raw_png(2**31 - 1, 2**31 - 1, 8, 2, b""), r"the limit is 100,000,000"),
    "too small": (encode(colours(40, 15)), r"15 x 40 = 600 pixels, each side needs at least 16"),
    "nan": (encode(Image.fromarray(np.full((SIDE, SIDE), np.nan, np.float32)), "TIFF"), "NaN or infinite"),
    "infinite": (encode(Image.fromarray(np.full((SIDE, SIDE), np.inf, np.float32)), "TIFF"), "NaN or infinite"),
    "unknown tiff": (raw_tiff(20, SIDE, bytes(SIDE * 20), bits=7), r"cannot be read \(unknown pixel mode\).*rare variant"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_files(case: str, tmp_path: Path) -> None:
    data, reason = BAD_DATA[case]
    path = tmp_path / f"{case}.png"
    path.write_bytes(data)
    with pytest.raises(ImageReadError, match=reason) as from_path:
        read_image(path)
    assert str(from_path.value).startswith(f"{path}: ")
    with pytest.raises(ImageReadError, match=reason) as from_bytes:
        read_image(data)
    assert str(from_bytes.value).startswith("bytes: ")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing.png", "no such file; check the path"),
        (".", r"is a folder; .*find_images\(\)"),
        ("", "empty path"),
        ("https://example.org/part.png", "is a URL.*download the picture first"),
        ("s3://bucket/part.png", "is a URL"),
        (Path("http://example.org/part.png"), "is a URL"),
        ("data:image/png;base64,AAAA", "is a URL"),
        ("nul\0byte.png", "null byte"),
        ("x" * 5000, "too long"),
    ],
)
def test_bad_paths(path: str | Path, reason: str) -> None:
    with pytest.raises(ImageReadError, match=reason) as caught:
        read_image(path)
    assert str(caught.value).startswith(str(path)[:300])
    assert len(str(caught.value)) < 700
    assert caught.value.__cause__ is not None


def test_permission_denied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything, so a mode of 000 would test nothing there
    with pytest.raises(ImageReadError, match=r"locked\.png: may not be opened; .*permission"):
        read_image(tmp_path / "locked.png")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, r"^None of type NoneType: is no picture; give one path"),
        (7, r"^7 of type int: is no picture"),
        ([colours()], r"of type list: is no picture; give one"),
        (np.zeros((SIDE, SIDE, 2), np.uint8), r"^ndarray of shape \(16, 16, 2\): expected \(H, W\) or \(H, W, C\)"),
        (np.zeros((3, SIDE, 20), np.uint8), "expected .*channels last"),
        (np.zeros((1, SIDE, SIDE, 3), np.uint8), "one picture at a time"),
        (np.zeros(9, np.uint8), "expected"),
        (np.zeros((0, 0, 3), np.uint8), "each side needs at least 16"),
        (np.zeros((15, 20, 3), np.uint8), r"20 x 15 = 300 pixels, each side needs at least 16"),
        (np.zeros((SIDE, SIDE), np.int64), "has dtype int64, expected uint8, uint16, bool or float"),
        (np.zeros((SIDE, SIDE), np.uint32), "has dtype uint32"),
        (np.zeros((SIDE, SIDE), np.complex64), "has dtype complex64"),
        (np.full((SIDE, SIDE), "a"), "has dtype <U1"),
        (np.full((SIDE, SIDE), 200.0), r"values from 200 to 200, floats must lie in \[0, 1\]; divide by 255"),
        (np.full((SIDE, SIDE), -0.1), r"must lie in \[0, 1\]"),
        (np.full((SIDE, SIDE), np.nan), "NaN or infinite"),
        (np.full((SIDE, SIDE), -np.inf, np.float32), "NaN or infinite"),
        (torch.zeros(SIDE, SIDE), r"^Tensor of shape \(16, 16\): expected \(C, H, W\)"),
        (torch.zeros(1, 3, SIDE, SIDE), "one picture at a time"),
        (torch.zeros(SIDE, SIDE, 3), "channels first"),
        (torch.zeros(3, SIDE, SIDE, dtype=torch.int64), "has dtype int64"),
        (torch.full((3, SIDE, SIDE), -2.1), r"must lie in \[0, 1\].*normalisation"),
        (torch.full((3, SIDE, SIDE), torch.nan), "NaN or infinite"),
        (io.StringIO("text"), "^file object: is open in text mode"),
        (plain((1, 2, 3)).resize((8, 300)), r"^PIL image of mode RGB: has 8 x 300"),
        (io.BytesIO(), "^file object: is empty"),
    ],
    ids=lambda value: f"{type(value).__name__}" if not isinstance(value, str) else value[:30],
)
def test_bad_objects(source: Any, reason: str) -> None:
    with pytest.raises(ImageReadError, match=reason):
        read_image(source)


def test_text_mode_and_closed_files(tmp_path: Path) -> None:
    path = tmp_path / "part.png"
    path.write_bytes(encode(colours()))
    with path.open(encoding="utf-8") as text, pytest.raises(ImageReadError, match=r"part\.png: is open in text mode; .*'rb'"):
        read_image(text)  # type: ignore[arg-type]
    with path.open("rb") as closed:
        pass
    with pytest.raises(ImageReadError, match="closed file"):
        read_image(closed)


def test_limits_can_be_moved() -> None:
    assert read_image(encode(colours(4, 5)), min_size=1).shape == (4, 5, 3)
    assert read_image(colours(), max_pixels=320).shape == (16, 20, 3)
    for source in (colours(), encode(colours()), Image.fromarray(colours()), torch.from_numpy(colours()).permute(2, 0, 1)):
        with pytest.raises(ImageReadError, match="the limit is 319"):
            read_image(source, max_pixels=319)


def test_header_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: Any) -> None:
        raise AssertionError("decoded a picture that is over the limit")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    with pytest.raises(ImageReadError, match="the limit is"):
        read_image(huge_png())
    with pytest.raises(ImageReadError, match="decoded a picture"):
        read_image(huge_png(), max_pixels=10**9)


def test_a_pillow_without_the_format_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    factory, _ = Image.OPEN["BMP"]
    monkeypatch.setitem(Image.OPEN, "BMP", (factory, lambda head: "BMP support not installed" if head[:2] == b"BM" else False))
    with pytest.raises(ImageReadError, match="BMP support not installed"):
        read_image(encode(colours(), "BMP"))


# Pillow's settings


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM", "GIF", "JPEG2000", "AVIF", "TIFF lzw", "TIFF palette"])
def test_pillows_own_limit_is_neither_asked_nor_moved(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    image = plain((200, 100, 50)).convert("P" if kind == "TIFF palette" else "RGB")
    data = encode(image, kind.split()[0], **({"compression": "tiff_lzw"} if kind == "TIFF lzw" else {}))
    path = tmp_path / "part"
    path.write_bytes(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)  # 256 pixels are far over twice this
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for source in (data, path):
            assert_pixels(read_image(source), np.full((SIDE, SIDE, 3), (200, 100, 50), np.uint8), tolerance=60 if "palette" in kind else 9)
    assert Image.MAX_IMAGE_PIXELS == 5


def test_process_wide_settings_stay_as_they_were() -> None:
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_image(encode(colours()))
        for data, _ in BAD_DATA.values():
            with pytest.raises(ImageReadError):
                read_image(data)
    assert [str(warning.message) for warning in caught if "Bomb" in warning.category.__name__] == []
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before


def test_import_needs_no_torch() -> None:
    code = "import sys, vlad; read = vlad.read_image; assert 'torch' not in sys.modules; import numpy; read(numpy.zeros((16, 16), 'u1'))"
    subprocess.run([sys.executable, "-c", code + "; assert 'torch' not in sys.modules"], check=True, timeout=LIMIT)


def test_threads_do_not_mix_pictures(tmp_path: Path) -> None:
    kinds = ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "PNG"]
    for number, kind in enumerate(kinds):
        (tmp_path / f"{number}").write_bytes(encode(Image.new("RGB", (300, 200), (number * 30, 0, 0)), kind))
    start = threading.Barrier(len(kinds))

    def read(number: int) -> list[np.ndarray]:
        start.wait(timeout=LIMIT)
        return [read_image(tmp_path / f"{number}") for _ in range(5)]

    with ThreadPoolExecutor(len(kinds)) as pool:
        for number, pictures in enumerate(pool.map(read, range(len(kinds)))):
            for picture in pictures:
                assert_pixels(picture, np.full((200, 300, 3), (number * 30, 0, 0), np.uint8), tolerance=9)


# Damaged files

SEEDS = {
    "png": encode(colours()),
    "palette png": encode(plain(3, "P"), transparency=b"\x00\x80"),
    "wide png": encode(Image.fromarray(wide_gradient())),
    "jpeg": encode(colours(), "JPEG", exif=Image.Exif()),
    "mpo": encode(plain((1, 2, 3)), "MPO", save_all=True, append_images=[plain((3, 2, 1))]),
    "tiff": encode(colours(), "TIFF"),
    "lzw tiff": encode(colours(), "TIFF", compression="tiff_lzw"),
    "wide tiff": raw_tiff(20, SIDE, wide_gradient().tobytes()),
    "float tiff": encode(Image.fromarray(wide_gradient().astype(np.float32)), "TIFF"),
    "webp": encode(colours(), "WEBP"),
    "bmp": encode(colours(), "BMP"),
    "gif": encode(plain(3, "P"), "GIF"),
    "pgm": b"P5 20 16 4095\n" + wide_gradient().tobytes(),
    "jpeg 2000": encode(colours(), "JPEG2000"),
} | ({"avif": encode(colours(), "AVIF")} if features.check("avif") else {})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", SEEDS)
def test_damaged_files_give_a_picture_or_our_error(kind: str) -> None:
    chance, original = random.Random(kind), SEEDS[kind]
    outcomes = {"picture": 0, "error": 0}
    for case in range(40):
        data = bytearray(original)
        for _ in range(chance.randint(1, 8)):
            place = chance.randrange(min(len(data), 120) if case % 2 else len(data))
            data[place] = chance.randrange(256)
        if case % 3 == 0:
            del data[chance.randrange(1, len(data)) :]
        try:
            pixels = read_image(bytes(data), max_pixels=1_000_000)
        except ImageReadError as error:
            assert str(error).startswith("bytes: ")
            outcomes["error"] += 1
        else:
            assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and min(pixels.shape[:2]) >= SIDE
            outcomes["picture"] += 1
    assert outcomes["error"] > 5, "the mutations harm nothing, so this tests nothing"


# Finding


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "flat/10.png",
        "flat/2.PNG",
        "flat/1.jpg",
        "flat/notes.txt",
        "flat/.hidden.png",
        "flat/sub/3.bmp",
        "test/good/000.png",
        "test/broken/001.png",
        "test/broken/deep/a.tif",
        "test/.cache/x.png",
        "empty/readme.md",
        "odd/[1].png",
        "case/B3.png",
        "case/a2.png",
        "case/c1.png",
        "single.dat",
        "unnamed",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("inputs", "recursive", "expected"),
    [
        (["flat"], False, ["flat/1.jpg", "flat/2.PNG", "flat/10.png"]),
        (["flat"], True, ["flat/1.jpg", "flat/2.PNG", "flat/10.png", "flat/sub/3.bmp"]),
        (["test"], False, ["test/broken/001.png", "test/broken/deep/a.tif", "test/good/000.png"]),
        (["single.dat"], False, ["single.dat"]),
        (["unnamed"], False, ["unnamed"]),
        (["case"], False, ["case/a2.png", "case/B3.png", "case/c1.png"]),
        (["flat/.hidden.png"], False, ["flat/.hidden.png"]),
        (["test/.cache"], False, ["test/.cache/x.png"]),
        (["flat/10.png", "flat"], False, ["flat/10.png", "flat/1.jpg", "flat/2.PNG"]),
        (["flat/1.jpg", "./flat/../flat/1.jpg"], False, ["flat/1.jpg"]),
        (["flat/*"], False, ["flat/1.jpg", "flat/2.PNG", "flat/10.png", "flat/sub/3.bmp"]),
        (["flat/*.p*"], False, ["flat/10.png"]),
        (["test/*"], False, ["test/broken/001.png", "test/good/000.png"]),
        (["test/**/*.png"], False, ["test/broken/001.png", "test/good/000.png"]),
        (["**"], False, ["case/a2.png", "case/B3.png", "case/c1.png", "flat/1.jpg",
                         "flat/2.PNG", "flat/10.png", "flat/sub/3.bmp", "odd/[1].png",
                         "test/broken/001.png", "test/broken/deep/a.tif", "test/good/000.png"]),
        (["odd/[1].png"], False, ["odd/[1].png"]),
        ("flat/1.jpg", False, ["flat/1.jpg"]),
        ([], False, []),
    ],
)  # fmt: skip
def test_find_images(tree: Path, inputs: Any, recursive: bool, expected: list[str]) -> None:
    assert find_images(inputs, recursive=recursive) == [Path(name) for name in expected]


def test_find_images_keeps_absolute_paths_absolute(tree: Path) -> None:
    assert find_images([tree / "flat/sub"]) == [tree / "flat/sub/3.bmp"]
    assert find_images([f"{tree}/fl*/sub/*.bmp"]) == [tree / "flat/sub/3.bmp"]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("empty", r"^empty: no picture there, .*\.png .*\.jpg .*\.tiff"),
        ("empty/*", r"^empty/\*: no picture there, .*\.png"),
        ("flat/*.xyz", "no picture there"),
        ("missing", "^missing: there is no such file"),
        ("missing/part.png", "no such file"),
        ("https://example.org/part.png", "is a URL"),
        ("", "empty path"),
        (None, "^None of type NoneType: cannot be read"),
    ],
)
def test_find_images_names_what_matches_nothing(tree: Path, item: Any, reason: str) -> None:
    with pytest.raises(ImageReadError, match=reason):
        find_images(["flat", item])


def test_find_images_does_not_pass_over_an_unreadable_folder(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("broken"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ImageReadError, match=r"^test: may not be opened"):
        find_images(["test"])


@given(st.lists(st.integers(0, 10**6), unique=True, min_size=1, max_size=8))
@settings(max_examples=15, deadline=None)
def test_natural_order_is_the_order_of_numbers(tmp_path_factory: pytest.TempPathFactory, numbers: list[int]) -> None:
    folder = tmp_path_factory.mktemp("natural")
    for number in numbers:
        (folder / f"part_{number}.png").write_bytes(b"")
    assert [path.stem for path in find_images([folder])] == [f"part_{number}" for number in sorted(numbers)]


# Preprocessing

CLIP = Preprocessing(size=24, mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))


def reference(square: np.ndarray) -> np.ndarray:
    scaled = square.astype(np.float32) / np.float32(255)
    return ((scaled - np.array(CLIP.mean, np.float32)) / np.array(CLIP.std, np.float32)).transpose(2, 0, 1)


def test_preprocess_does_not_touch_a_picture_of_the_right_size() -> None:
    every_level = np.resize(np.arange(256, dtype=np.uint8), (24, 24, 3))
    result = preprocess([every_level], CLIP)
    assert result.dtype == torch.float32 and result.is_contiguous()
    assert np.array_equal(result[0].numpy(), reference(every_level))


def test_preprocess_resizes_like_pillow() -> None:
    images = [
        np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
        for seed, size in enumerate([(50, 90, 3), (16, 24, 3), (500, 700, 3)])
    ]
    result = preprocess(images, CLIP)
    for image, pixels in zip(images, result, strict=True):
        assert np.array_equal(pixels.numpy(), reference(np.asarray(Image.fromarray(image).resize((24, 24), Image.Resampling.BICUBIC))))


@pytest.mark.slow  # the import alone
def test_preprocess_equals_the_transform_of_open_clip() -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    image = np.random.default_rng(3).integers(0, 256, (75, 133, 3), dtype=np.uint8)
    transform = image_transform_v2(PreprocessCfg(size=24, resize_mode="squash", interpolation="bicubic"), is_train=False)
    assert torch.equal(preprocess([image], CLIP)[0], transform(Image.fromarray(image)))


def test_preprocess_batches_like_single_pictures() -> None:
    images = [colours(30, 40), colours(24, 24), colours(16, 60)]
    assert torch.equal(preprocess(images, CLIP), torch.cat([preprocess([image], CLIP) for image in images]))
    assert preprocess([], CLIP).shape == (0, 3, 24, 24)


@pytest.mark.parametrize("image", [colours() / 255, colours()[:, :, 0], np.dstack([colours(), colours()])])
def test_preprocess_refuses_what_read_image_does_not_give(image: np.ndarray) -> None:
    with pytest.raises(ImageReadError, match=r"expected uint8 \(H, W, 3\).*read_image"):
        preprocess([image], CLIP)
