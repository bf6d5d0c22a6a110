"""Other views of a normal picture: rotated ones for the memory, slightly changed and mirrored ones to calibrate on when there are few."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from vlad.pictures.roi import Part


def rotations(picture: np.ndarray, count: int, *, random: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The picture uint8 (H, W, 3) turned about its centre by `count` angles, of which the first is 0, each with the bool mask (H, W) of
    pixels that were in the picture; the others repeat the border. The angles are evenly spread, or with `random` drawn once and for all."""
    yield picture, np.ones(picture.shape[:2], bool)
    drawn = np.random.default_rng(0).uniform(0, 360, count - 1)
    for number in range(1, count):
        yield _warp(picture, degrees=float(drawn[number - 1]) if random else 360 * number / count)


def turned_parts(part: Part, count: int, *, random: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """As `rotations`, with what counts of the turned picture: bool (H, W), or None for all of it."""
    picture, inside = part
    if inside is None:
        yield from ((turned, mask, None) for turned, mask in rotations(picture, count, random=random))
        return
    both = (rotations(one, count, random=random) for one in (picture, inside.astype(np.uint8) * 255))
    for (turned, mask), (moved, _) in zip(*both, strict=True):
        yield turned, mask, (moved > 127) & mask


def valid_patches(mask: np.ndarray, grid: tuple[int, int], shown: tuple[float, float]) -> np.ndarray:
    """bool (P,): patches of a grid whose pixels are all valid; `shown` is the share of the grid that the picture fills."""
    if mask.all():
        return np.ones(grid[0] * grid[1], bool)
    height, width = mask.shape
    pad = ((0, round(height / shown[0]) - height), (0, round(width / shown[1]) - width))
    share = cv2.resize(np.pad(mask, pad, mode="edge").astype(np.float32), (grid[1], grid[0]), interpolation=cv2.INTER_AREA)
    return (share > 0.999).ravel()


def slight_changes(picture: np.ndarray) -> Iterator[np.ndarray]:
    """Eight views uint8 (H, W, 3) as a second picture of the same part might be: moved, turned and scaled a little, brighter, darker,
    blurred, noisy. Nothing is random."""
    height, width = picture.shape[:2]
    step = 0.015 * min(height, width)
    yield _warp(picture, right=step, down=-0.7 * step)[0]
    yield _warp(picture, right=-0.6 * step, down=step)[0]
    yield _warp(picture, degrees=1.5)[0]
    yield _warp(picture, degrees=-1.0, zoom=1.015)[0]
    yield cv2.convertScaleAbs(picture, alpha=1.06, beta=0)
    yield cv2.convertScaleAbs(picture, alpha=0.94, beta=2)
    yield cv2.GaussianBlur(picture, (0, 0), max(0.5, min(height, width) / 600))
    noise = np.random.default_rng(0).normal(0, 1.5, picture.shape)
    yield np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def camera_changes(picture: np.ndarray) -> Iterator[np.ndarray]:
    """Five views uint8 (H, W, 3) as the same camera takes them on another day: darker, brighter, out of focus, compressed, and moved by two
    hundredths of the shorter side. Nothing is random."""
    height, width = picture.shape[:2]
    yield cv2.convertScaleAbs(picture, alpha=0.85, beta=0)
    yield cv2.convertScaleAbs(picture, alpha=1.15, beta=0)
    yield cv2.GaussianBlur(picture, (0, 0), max(0.7, min(height, width) / 400))
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 40])
    compressed = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert compressed is not None  # it was made here
    yield np.ascontiguousarray(compressed[..., ::-1])
    yield _warp(picture, right=0.02 * min(height, width), down=0.02 * min(height, width))[0]


def mirrored(picture: np.ndarray) -> Iterator[np.ndarray]:
    """The picture uint8 (H, W, 3) left to right and upside down. Beside one reference alone each scores about as high as another good
    picture does (on procedural lines within a third either way): it shows the same material and parts, none of it in the same place."""
    yield np.ascontiguousarray(picture[:, ::-1])
    yield np.ascontiguousarray(picture[::-1])


def _warp(
    picture: np.ndarray, *, degrees: float = 0.0, zoom: float = 1.0, right: float = 0.0, down: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, zoom)
    matrix[:, 2] += np.array([right, down])
    turned = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.full((height, width), 255, np.uint8), matrix, (width, height), flags=cv2.INTER_LINEAR)
    return turned, inside > 254
