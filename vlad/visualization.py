"""Anomaly maps as pictures, on an absolute colour scale: the threshold is always the same colour, so a normal picture stays cold."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_COLOURS = "inferno"  # perceptually even and safe for colour-blind eyes
_HEAT_FROM, _HEAT_FULL = (
    0.30,
    0.75,
)  # on the scale where the threshold is 0.5: below the first nothing is drawn, above the second no more is added
_MAX_OPACITY = 0.5  # what is wrong must stay visible under its heat
_CONTOUR = (64, 240, 255)
_INK, _FAINT, _PAPER = (24, 24, 27), (113, 113, 122), (255, 255, 255)
_RED, _GREEN = (190, 18, 60), (21, 128, 61)


def absolute_scale(values: np.ndarray, threshold: float) -> np.ndarray:
    """Scores in [0, 1] to colour positions in [0, 1]: 0 stays 0, the threshold becomes 0.5, 1 stays 1, straight lines between."""
    threshold = min(max(threshold, 1e-6), 1 - 1e-6)
    return np.interp(values, (0.0, threshold, 1.0), (0.0, 0.5, 1.0)).astype(np.float32)


def colourise(values: np.ndarray, threshold: float) -> np.ndarray:
    """Map (H, W) of scores in [0, 1] to colours, uint8 (H, W, 3) RGB."""
    return _colour_table()[(absolute_scale(values, threshold) * 255).round().astype(np.uint8)]


def draw_overlay(
    image: np.ndarray,
    anomaly_map: np.ndarray,
    *,
    threshold: float,
    mask: np.ndarray | None = None,
    headline: str = "",
    is_anomalous: bool | None = None,
    footer: str = "",
    look: np.ndarray | None = None,
    max_side: int | None = 1600,
) -> Image.Image:
    """The picture with its heat, the outline of the mask, and a legend below.

    Args:
        image: uint8 (H, W, 3) RGB.
        anomaly_map: float (H, W) in [0, 1].
        threshold: score at the middle of the colour scale, in [0, 1].
        mask: bool (H, W) to outline; None outlines nothing.
        headline: the verdict, first line of the legend.
        is_anomalous: colours the headline red or green; None leaves it black.
        footer: second line of the legend, e.g. the model that made the map.
        look: bool (H, W), where was looked at; the rest is dimmed, and its border drawn. None: everywhere.
        max_side: longest side of the picture in the drawing, in pixels; larger pictures are reduced. None keeps them.

    Raises:
        ValueError: map or mask have another size than the picture, or max_side is below 64.
    """
    canvas = draw_heat(image, anomaly_map, threshold=threshold, mask=mask, look=look, max_side=max_side)
    return _with_legend(Image.fromarray(canvas), threshold, headline, is_anomalous, footer)


def draw_heat(
    image: np.ndarray,
    anomaly_map: np.ndarray,
    *,
    threshold: float,
    mask: np.ndarray | None = None,
    look: np.ndarray | None = None,
    opacity: float = _MAX_OPACITY,
    max_side: int | None = 1600,
) -> np.ndarray:
    """The picture with its heat and the outline of the mask, uint8 (h, w, 3) RGB.

    Args:
        image, anomaly_map, threshold, mask, look, max_side: as of `draw_overlay`.
        opacity: of the hottest places, in [0, 1].

    Raises:
        ValueError: as of `draw_overlay`.
    """
    if max_side is not None and max_side < 64:
        raise ValueError(f"max_side must be None or at least 64 pixels, got {max_side}")
    for name, array in (("anomaly_map", anomaly_map), ("mask", mask), ("look", look)):
        if array is not None and array.shape != image.shape[:2]:
            raise ValueError(f"{name} must have the picture's size {image.shape[:2]}, got {array.shape}")
    height, width = image.shape[:2]
    scale = min(1.0, max_side / max(height, width)) if max_side else 1.0
    if max(height, width) < (least := min(320, max_side or 320)):  # a thumbnail has no room for contours
        scale = least / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size != (width, height):
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        image = cv2.resize(image, size, interpolation=how)
        anomaly_map = cv2.resize(anomaly_map.astype(np.float32), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas = _blend_heat(image, anomaly_map, threshold, opacity)
    if look is not None and not look.all():
        _dim(canvas, look)
    if mask is not None and mask.any():
        _draw_contours(canvas, mask, size)
    return canvas


def draw_shares(image: np.ndarray, shares: np.ndarray, *, most: float, headline: str) -> Image.Image:
    """A picture that is warm where something happened often, above a scale in percent.

    Args:
        image: uint8 (H, W, 3) RGB; enlarged to 768 pixels where it is smaller.
        shares: float (H, W) in [0, 1].
        most: the share that the end of the scale stands for.
        headline: first line of the legend.
    """
    scale = max(1.0, 768 / max(image.shape[:2]))
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    ground = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    warm = cv2.resize(np.clip(shares / most, 0, 1).astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    labels = ("0 %", f"{most / 2:.1%}", f"{most:.1%}")
    return _with_legend(Image.fromarray(draw_heat(ground, warm, threshold=0.5)), 0.5, headline, None, "share of the pictures", labels)


def draw_places(image: np.ndarray, places: Sequence[tuple[str, tuple[int, int, int, int]]], *, max_side: int = 768) -> np.ndarray:
    """The picture with boxes and a letter at each.

    Args:
        image: uint8 (H, W, 3) RGB.
        places: (letter, (left, top, right, bottom)) in pixels of `image`.
        max_side: longest side in pixels of the drawing; larger pictures are reduced.

    Returns:
        uint8 (h, w, 3) RGB.
    """
    height, width = image.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = Image.fromarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image)
    draw = ImageDraw.Draw(canvas)
    unit = max(12, max(size) // 32)
    line = max(2, max(size) // 300)
    for letter, box in places:
        left, top, right, bottom = (scale * value for value in box)
        frame = (max(0, left - line), max(0, top - line), min(size[0] - 1, right + line), min(size[1] - 1, bottom + line))
        draw.rectangle(frame, outline=(0, 0, 0), width=line + 2)
        draw.rectangle(frame, outline=_CONTOUR, width=line)
        x = min(frame[0], size[0] - unit)
        y = frame[1] - 1.3 * unit if frame[1] >= 1.3 * unit else min(frame[1] + line, size[1] - 1.3 * unit)
        draw.rectangle((x, y, x + unit, y + 1.25 * unit), fill=(0, 0, 0))
        draw.text((x + unit / 2, y + 0.6 * unit), letter, _CONTOUR, _font(unit), anchor="mm")
    return np.array(canvas)


def _blend_heat(image: np.ndarray, anomaly_map: np.ndarray, threshold: float, most: float) -> np.ndarray:
    canvas = image.copy()
    is_warm = anomaly_map > 2 * _HEAT_FROM * min(max(threshold, 1e-6), 1 - 1e-6)  # on the scale's lower half; nothing is drawn elsewhere
    position = absolute_scale(anomaly_map[is_warm], threshold)
    opacity = most * np.clip((position - _HEAT_FROM) / (_HEAT_FULL - _HEAT_FROM), 0, 1)[..., None]
    heat = _colour_table()[(position * 255).round().astype(np.uint8)]
    canvas[is_warm] = (image[is_warm] * (1 - opacity) + heat * opacity).round().astype(np.uint8)
    return canvas


def _dim(canvas: np.ndarray, look: np.ndarray) -> None:
    """Fade what was not looked at towards grey, and draw its border as a thin dashed line."""
    small = cv2.resize(look.astype(np.uint8), (canvas.shape[1], canvas.shape[0]), interpolation=cv2.INTER_NEAREST)
    outside = small == 0
    grey = canvas.mean(2, keepdims=True)
    canvas[outside] = (0.35 * grey + 150)[outside].round().astype(np.uint8)
    contours, _ = cv2.findContours(np.pad(small, 1), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    dash = max(6, max(canvas.shape) // 100)
    for contour in contours:
        for start in range(0, len(contour), 2 * dash):
            cv2.polylines(canvas, [contour[start : start + dash] - 1], False, _INK, max(1, dash // 6), cv2.LINE_AA)


def _draw_contours(canvas: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> None:
    # Down-scaling by area keeps a defect of a single pixel visible.
    small = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA if size[0] < mask.shape[1] else cv2.INTER_LINEAR)
    contours, _ = cv2.findContours((small > (0 if size[0] < mask.shape[1] else 0.5)).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thickness = max(2, round(max(size) / 350))
    cv2.drawContours(canvas, contours, -1, (0, 0, 0), thickness + 2, cv2.LINE_AA)
    cv2.drawContours(canvas, contours, -1, _CONTOUR, thickness, cv2.LINE_AA)


def _with_legend(
    picture: Image.Image,
    threshold: float,
    headline: str,
    is_anomalous: bool | None,
    footer: str,
    labels: tuple[str, str, str] | None = None,
) -> Image.Image:
    """The picture above a strip with the verdict on the left and the colour scale on the right (below each other where it is narrow);
    `labels` of its ends and of the threshold, unless they are numbers from 0 to 1."""
    least, at, most = labels or ("0", f"{threshold:.2f}", "1")
    width = max(picture.width, 240)  # the legend of a narrow picture is wider than the picture
    unit = max(11, min(22, width // 36))
    font, small = _font(round(unit * 1.2)), _font(round(unit * 0.9))
    bar_width, pad = min(width - 2 * unit, 14 * unit), unit
    measure = ImageDraw.Draw(picture)
    side_by_side = max(measure.textlength(headline, font), measure.textlength(footer, small)) <= width - bar_width - 3 * pad
    strip = Image.new("RGB", (width, round(unit * (4.2 if side_by_side else 7.4))), _PAPER)
    draw = ImageDraw.Draw(strip)
    ink = _INK if is_anomalous is None else (_RED if is_anomalous else _GREEN)
    text_width = width - 2 * pad - (bar_width + pad if side_by_side else 0)
    draw.text((pad, 0.7 * unit), _fit(draw, headline, font, text_width), ink, font)
    draw.text((pad, 2.5 * unit), _fit(draw, footer, small, text_width), _FAINT, small)
    left, top = (width - bar_width - pad, round(0.8 * unit)) if side_by_side else (pad, round(4.5 * unit))
    colours = _colour_table()[np.linspace(0, 255, bar_width).round().astype(np.uint8)]
    strip.paste(Image.fromarray(np.repeat(colours[None], unit, axis=0)), (left, top))
    middle = float(absolute_scale(np.array([threshold]), threshold)[0])
    for place, text, anchor in ((0.0, least, "la"), (middle, at, "ma"), (1.0, most, "ra")):
        x = left + place * (bar_width - 1)
        draw.line((x, top + unit, x, top + 1.35 * unit), _INK, 1)
        draw.text((x, top + 1.45 * unit), text, _INK, small, anchor=anchor)
    x = left + middle * (bar_width - 1)
    draw.line((x, top - 0.2 * unit, x, top + unit), _PAPER, max(1, unit // 8))
    whole = Image.new("RGB", (width, picture.height + strip.height), _PAPER)
    whole.paste(picture, ((width - picture.width) // 2, 0))
    whole.paste(strip, (0, picture.height))
    return whole


def _fit(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib: unlike Pillow's own it has Greek, Cyrillic and accented letters for class names."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


@cache
def _colour_table() -> np.ndarray:
    """256 colours, uint8 (256, 3)."""
    from matplotlib import colormaps

    return (colormaps[_COLOURS](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
