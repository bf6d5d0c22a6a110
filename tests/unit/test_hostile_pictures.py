"""Small files that would cost much time or memory: refused from their headers, or read as fast as any other."""

from __future__ import annotations

import io
import struct
import tracemalloc
import warnings

import numpy as np
import pytest
from PIL import Image

from vlad.errors import ImageReadError
from vlad.pictures import netpbm
from vlad.pictures.headers import MOST_SCANS, count_scans
from vlad.pictures.reading import read_image


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def colours(side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8))


def with_scans(count: int, *, progressive: bool = True) -> bytes:
    """A JPEG whose last scan is repeated until there are `count` of them."""
    data = encode(colours(), "JPEG", progressive=progressive)
    last, end = data.rfind(b"\xff\xda"), data.rfind(b"\xff\xd9")
    return data[:end] + data[last:end] * (count - data.count(b"\xff\xda")) + data[end:]


@pytest.mark.parametrize("progressive", [True, False])
def test_a_jpeg_of_many_scans_is_refused_from_its_markers(progressive, monkeypatch):
    data = with_scans(1500, progressive=progressive)
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.load", lambda *_: pytest.fail("decoded"), raising=False)
    assert count_scans(data) == 1500
    with pytest.raises(ImageReadError, match="1,500 scans, at most 100 are read"):
        read_image(data)


def test_as_many_scans_as_anybody_uses_are_read():
    assert read_image(with_scans(MOST_SCANS)).shape == (64, 64, 3)
    with pytest.raises(ImageReadError, match="101 scans"):
        read_image(with_scans(MOST_SCANS + 1))


@pytest.mark.parametrize("where", ["before", "after"])
def test_what_only_looks_like_scans_does_not_count(where):
    """A profile before the picture, or the film that phones append to it, may hold the marker's bytes many times."""
    data, noise = with_scans(12), b"\xff\xda" * 30_000
    segment = b"\xff\xe2" + struct.pack(">H", 2 + len(noise)) + noise
    data = data[:2] + segment + data[2:] if where == "before" else data + noise
    assert count_scans(data) == 12 and read_image(data).shape == (64, 64, 3)


def gif(width: int, height: int, *, screen: tuple[int, int], disposal: int = 0, extra: bytes = b"") -> bytes:
    """A GIF whose frame is larger than its screen."""
    data = bytearray(encode(Image.new("P", (width, height), 3), "GIF"))
    data[6:10] = struct.pack("<2H", *screen)
    place = data.find(b",", 13 + 3 * (2 << (data[10] & 7)))
    data[place:place] = bytes((0x21, 0xF9, 4, disposal << 2, 0, 0, 0, 0)) + extra
    return bytes(data)


@pytest.mark.parametrize("disposal", [0, 2])
def test_the_limit_is_asked_about_a_frame_larger_than_its_screen(disposal, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)  # is not asked
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(gif(300, 200, screen=(20, 20), disposal=disposal)).shape == (200, 300, 3)
        monkeypatch.setattr("PIL.GifImagePlugin.GifImageFile._open", lambda *_: pytest.fail("opened before it was asked"))
        with pytest.raises(ImageReadError, match=r"300 x 200 = 60,000 pixels, the limit is 59,999"):
            read_image(gif(300, 200, screen=(20, 20), disposal=disposal), max_pixels=59_999)


def test_comments_of_a_gif_are_passed_over():
    """Pillow gathers them block by block into one more copy each time."""
    data = gif(30, 20, screen=(30, 20), extra=b"\x21\xfe" + (b"\xff" + b"x" * 255) * 8_000 + b"\0")
    tracemalloc.start()
    assert read_image(data).shape == (20, 30, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3.5 * len(data)


def test_transparency_of_a_gif_is_kept():
    image = Image.new("P", (20, 20), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.paste(0, (0, 0, 10, 20))
    pixels = read_image(encode(image, "GIF", transparency=0, comment=b"hello", save_all=True, append_images=[image.rotate(90)]))
    assert (pixels[0, 0] == 255).all() and (pixels[0, 19] == (40, 50, 60)).all()


def pnm(magic: str, maximum: int | None, values: np.ndarray, between: bytes = b" ") -> bytes:
    """`values` (H, W) or (H, W, 3), as text or binary."""
    header = f"{magic}\n# a comment\n{values.shape[1]} {values.shape[0]}\n{'' if maximum is None else maximum}\n".encode()
    if magic in ("P1", "P2", "P3"):
        return header + between.join(str(value).encode() for value in values.ravel()) + b"\n"
    return header + values.astype("u1" if (maximum or 1) < 256 else ">u2").tobytes()


CASES = [
    ("P1", None, 1), ("P2", 255, 1), ("P2", 7, 1), ("P2", 1000, 1), ("P2", 65535, 1), ("P3", 255, 3), ("P3", 100, 3), ("P3", 4095, 3),
    ("P5", 100, 1), ("P5", 4095, 1), ("P6", 100, 3), ("P6", 4095, 3), ("P6", 65535, 3),
]  # fmt: skip


@pytest.mark.parametrize(("magic", "maximum", "channels"), CASES)
def test_pnm_values_are_pillows(magic, maximum, channels, monkeypatch):
    shape = (20, 30) if channels == 1 else (20, 30, 3)
    values = np.random.default_rng(1).integers(0, (maximum or 1) + 1, shape)
    data = pnm(magic, maximum, values, b" # note\n ")
    found = read_image(data)
    monkeypatch.setattr(netpbm, "decode", lambda image: image)
    assert np.array_equal(found, read_image(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pnm("P2", 100, np.full((20, 20), 101)), "value 101, above its maximum 100"),
        (pnm("P2", 100, np.full((20, 20), -1)), "has 0 of 400 values"),
        (pnm("P2", 100, np.full((20, 20), 7)).replace(b"7 7\n", b"7 x\n"), "has 399 of 400 values"),
        (pnm("P3", 255, np.full((20, 20, 3), 10**30)), "above its maximum 255"),
        (pnm("P1", None, np.full((20, 20), 2)), "400 digits 0 or 1"),
        (pnm("P6", 4095, np.zeros((20, 20, 3)))[:-1], "has 1,199 of 1,200 values"),
        (b"P2 20 20 255\n", "has 0 of 400 values"),
    ],
)
def test_a_damaged_pnm_says_what_is_wrong(data, reason):
    with pytest.raises(ImageReadError, match=reason):
        read_image(data)


@pytest.mark.parametrize(("magic", "maximum", "channels"), [("P3", 255, 3), ("P6", 65535, 3), ("P5", 4095, 1)])
def test_pnm_is_not_decoded_value_by_value(magic, maximum, channels, monkeypatch):
    for name in ("PpmPlainDecoder", "PpmDecoder"):
        monkeypatch.setattr(f"PIL.PpmImagePlugin.{name}.decode", lambda *_: pytest.fail("decoded in Python"))
    values = np.random.default_rng(1).integers(0, maximum + 1, (600, 600, channels)).reshape((600, 600) if channels == 1 else (600, 600, 3))
    assert read_image(pnm(magic, maximum, values)).shape == (600, 600, 3)
