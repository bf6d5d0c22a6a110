"""How a picture looks as a whole: its light, sharpness, compression and size, beside those of the references.

A score says how far a picture is from the references, not why. What the camera did (light, focus, compression, another setting) is in every
patch, and can be told from a few numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

_SIDE = 512  # pixels of the longer side at which light and sharpness are measured
_QUANTILES = np.linspace(0.1, 0.9, 9)
_BLOCK = 8  # of JPEG
_LIGHT, _SOFT, _HARD, _BLOCKY, _SIZE, _SHAPE = 0.08, 0.65, 1.6, 0.2, 1.5, 0.05  # beyond every reference by so much it is told
_DARK, _SEEN = 2.0, 16.0  # grey levels that are none, and from which on a share of them says something
_MOST_GAIN = 2.5
_CLEAR = (5, 250)  # grey levels between which light is neither lost nor cut off


@dataclass(frozen=True)
class Appearance:
    """What is measured of a picture.

    Attributes:
        light: quantiles of its grey levels in [0, 255], from 0.1 to 0.9.
        sharpness: the finest detail beside the coarser, >= 0.
        blockiness: steps at the borders of JPEG's blocks beside steps elsewhere; 1 without.
        size: (H, W).
    """

    light: tuple[float, ...]
    sharpness: float
    blockiness: float
    size: tuple[int, int]

    @property
    def brightness(self) -> float:
        return float(np.mean(self.light))


def measure(picture: np.ndarray) -> Appearance:
    """Of a picture uint8 (H, W, 3)."""
    grey = _small(picture)
    values = grey.astype(np.float32)
    fine, coarse = cv2.GaussianBlur(values, (0, 0), 1.0), cv2.GaussianBlur(values, (0, 0), 4.0)
    sharpness = float(np.abs(values - fine).mean() / (np.abs(fine - coarse).mean() + 0.5))
    return Appearance(_light(grey), sharpness, _blockiness(picture), (picture.shape[0], picture.shape[1]))


def _small(picture: np.ndarray) -> np.ndarray:
    """Grey uint8 (h, w), the size at which pictures are measured."""
    height, width = picture.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    small = cv2.resize(picture, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)
    grey: np.ndarray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    return grey


def _light(grey: np.ndarray) -> tuple[float, ...]:
    """Quantiles of grey levels, each the lowest level that so many pixels do not exceed."""
    below = np.cumsum(np.bincount(grey.ravel(), minlength=256)) / grey.size
    return tuple(map(float, np.searchsorted(below, _QUANTILES)))


def _blockiness(picture: np.ndarray) -> float:
    """Of the middle of a picture, on the grid of blocks that begins at its corner."""
    height, width = picture.shape[:2]
    top, left = (max(0, (side - _SIDE) // 2) // _BLOCK * _BLOCK for side in (height, width))
    grey = cv2.cvtColor(np.ascontiguousarray(picture[top : top + _SIDE, left : left + _SIDE]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    ratios = []
    for values in (grey, grey.T):
        steps = np.abs(np.diff(values, axis=1)).mean(axis=0)
        border = np.arange(len(steps)) % _BLOCK == _BLOCK - 1
        if border.any() and not border.all():
            ratios.append((steps[border].mean() + 0.1) / (steps[~border].mean() + 0.1))
    return float(np.mean(ratios)) if ratios else 1.0


def differences(picture: Appearance, references: Sequence[Appearance]) -> tuple[str, ...]:
    """In which respects a picture lies beyond every reference, in words; empty without references."""
    if not references:
        return ()
    found = []
    light = [one.brightness for one in references]
    spread = 0.5 * (max(light) - min(light))
    low, high = min(light) - spread, max(light) + spread
    if picture.brightness < low * (1 - _LIGHT) - _DARK:
        found.append(f"darker than every reference by {1 - picture.brightness / min(light):.0%}")
    elif picture.brightness > high * (1 + _LIGHT) + _DARK:
        share = f" by {picture.brightness / max(light) - 1:.0%}" if max(light) > _SEEN else ""  # of black there is no share
        found.append(f"brighter than every reference{share}")
    sharp = [one.sharpness for one in references]
    is_blocky = picture.blockiness > max(1.0, *(one.blockiness for one in references)) + _BLOCKY
    if is_blocky:
        found.append("compressed more strongly than every reference")
    if picture.sharpness < _SOFT * min(sharp):
        found.append("less sharp than every reference")
    elif picture.sharpness > _HARD * max(sharp):
        found.append("sharper or noisier than every reference")
    sides = [min(one.size) for one in references]
    shapes = [one.size[1] / one.size[0] for one in references]
    shape = picture.size[1] / picture.size[0]
    if shape < min(shapes) * (1 - _SHAPE) or shape > max(shapes) * (1 + _SHAPE):
        found.append(f"of another shape than every reference ({picture.size[1]} x {picture.size[0]} pixels)")
    elif min(picture.size) * _SIZE < min(sides) or min(picture.size) > _SIZE * max(sides):
        found.append(f"of another size than every reference ({picture.size[1]} x {picture.size[0]} pixels)")
    return tuple(found)


def mean_light(pictures: Sequence[Appearance]) -> tuple[float, ...]:
    """The light that pictures have on average."""
    return tuple(map(float, np.mean([one.light for one in pictures], axis=0)))


def with_light(picture: np.ndarray, light: tuple[float, ...]) -> np.ndarray:
    """A picture uint8 (H, W, 3) multiplied so that its grey levels come to those of `light`, by their median ratio; what is cut off at
    white or lost in black says nothing, and has none of its detail back."""
    had, wanted = np.asarray(_light(_small(picture))), np.asarray(light)
    clear = (had > _CLEAR[0]) & (had < _CLEAR[1]) & (wanted > _CLEAR[0]) & (wanted < _CLEAR[1])
    if not clear.any():
        clear = had > _CLEAR[0]
    if not clear.any():
        return picture
    gain = float(np.clip(np.median(wanted[clear] / had[clear]), 1 / _MOST_GAIN, _MOST_GAIN))
    table = np.clip(np.rint(np.arange(256) * gain), 0, 255).astype(np.uint8)
    matched: np.ndarray = cv2.LUT(picture, table)
    return matched
