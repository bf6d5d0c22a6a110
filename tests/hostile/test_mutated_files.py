"""Files in which anything has been changed: a picture comes out, or one error of ours; masks, annotations and lists alike."""

from __future__ import annotations

import io
import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from dicom_files import dicom
from fuzzing import seeds
from PIL import Image

from vlad import read_image
from vlad.errors import DatasetError, ImageReadError
from vlad.evaluation.datasets import load_dataset
from vlad.pictures.masks import read_mask
from vlad.pictures.reading import find_white_level

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (40, 48, 3)).astype(np.uint8)
DEEP = RGB.astype(np.uint16) * 257


def pil(kind: str, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(RGB).convert(mode).save(file, kind, **options)
    return file.getvalue()


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


KINDS: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: pil("PNG"),
    "PNG, palette": lambda: pil("PNG", "P"),
    "PNG, 16 bits": lambda: cv2.imencode(".png", DEEP)[1].tobytes(),
    "JPEG": lambda: pil("JPEG"),
    "JPEG, progressive": lambda: pil("JPEG", progressive=True),
    "GIF": lambda: pil("GIF", "P"),
    "WebP": lambda: pil("WEBP"),
    "BMP": lambda: pil("BMP"),
    "PPM": lambda: pil("PPM"),
    "PGM, 12 bits": lambda: b"P5 48 40 4095\n" + (DEEP[..., 0] >> 4).astype(">u2").tobytes(),
    "TIFF": lambda: pil("TIFF"),
    "TIFF, 16 bits": lambda: tiff(DEEP, photometric="rgb"),
    "TIFF, planar": lambda: tiff(np.moveaxis(DEEP, -1, 0), photometric="rgb", planarconfig="separate", tile=(32, 32)),
    "TIFF, deflate": lambda: tiff(DEEP, photometric="rgb", compression="deflate", predictor=True),
    "TIFF, float": lambda: tiff((DEEP / 65535).astype(np.float32), photometric="rgb"),
    "BigTIFF": lambda: tiff(DEEP, photometric="rgb", bigtiff=True),
    "DICOM": lambda: dicom(DEEP[..., 0] >> 4, WindowCenter=1000, WindowWidth=900),
}


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few changes, most of them near the beginning, where headers are."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        place = min(int(rng.expovariate(1 / (60 if rng.random() < 0.7 else len(found)))), len(found) - 1)
        match rng.randrange(6):
            case 0:
                found[place] ^= 1 << rng.randrange(8)
            case 1:
                found[place] = rng.choice((0, 1, 127, 128, 255))
            case 2:
                found[place : place + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\1\0"))
            case 3:
                del found[place : place + rng.randrange(1, 40)]
            case 4:
                found[place:place] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 40)))
            case _:
                del found[max(1, place) :]
        if not found:
            return b"\0"
    return bytes(found)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures(kind):
    data = KINDS[kind]()
    outcomes = {"picture": 0, "error": 0}
    for seed in seeds(60):
        rng = random.Random(f"{kind} {seed}")
        changed = mutated(data, rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                picture = read_image(changed, max_pixels=1_000_000, white_level=rng.choice((None, 4095)))
                assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3 and picture.flags.c_contiguous
                outcomes["picture"] += 1
            except ImageReadError:
                outcomes["error"] += 1
            except BaseException as error:
                raise AssertionError(f"seed {seed} of {kind}: {error!r}") from error
            find_white_level([changed], max_pixels=1_000_000)
    assert outcomes["error"] > 5, "the mutations harm nothing, so this tests nothing"


@pytest.mark.parametrize("kind", ["npy", "json", "PNG", "PNG, palette", "TIFF, 16 bits", "GIF"])
def test_masks(kind, tmp_path: Path):
    if kind == "npy":
        file = io.BytesIO()
        np.save(file, RGB[..., 0] > 100)
        data, path = file.getvalue(), tmp_path / "mask.npy"
    elif kind == "json":
        shapes = [{"points": [[3, 4], [20, 4], [20, 30]]}, {"shape_type": "circle", "points": [[9, 9], [12, 9]]}]
        data, path = json.dumps({"imageHeight": 40, "imageWidth": 48, "shapes": shapes}).encode(), tmp_path / "mask.json"
    else:
        data, path = KINDS[kind](), tmp_path / "mask.bin"
    for seed in seeds(60):
        path.write_bytes(mutated(data, random.Random(f"{kind} {seed}")))
        try:
            found = read_mask(path)
            assert found.ndim == 2 and found.dtype == np.int64
        except DatasetError:
            pass
        except BaseException as error:
            raise AssertionError(f"seed {seed} of {kind}: {error!r}") from error


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl"])
def test_lists(name, tmp_path: Path):
    rows = [{"image_path": f"{number}.png", "defect": "good" if number % 2 else "dent", "split": "test"} for number in range(6)]
    text = "\n".join(["image_path,defect,split", *(",".join(row.values()) for row in rows)])
    data = text.encode() if name.endswith("csv") else "\n".join(map(json.dumps, rows)).encode()
    for seed in seeds(60):
        (tmp_path / name).write_bytes(mutated(data, random.Random(f"{name} {seed}")))
        try:
            load_dataset(tmp_path / name)
        except DatasetError:
            pass
        except BaseException as error:
            raise AssertionError(f"seed {seed} of {name}: {error!r}") from error


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, "1e999", "NaN", '{"image_path": Infinity}'])
def test_deep_and_infinite_json(text, tmp_path: Path):
    (tmp_path / "list.jsonl").write_text(text)
    with pytest.raises(DatasetError, match="line 1: expected a JSON object"):
        load_dataset(tmp_path / "list.jsonl")
