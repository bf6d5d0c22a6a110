"""The pictures that a VLM is shown: the whole, its marked places, its heat map, a crop around each place, a normal example."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vlad.prediction import Prediction
from vlad.visualization import draw_overlay, draw_places
from vlad.vlm.answer import Exhibit, Place
from vlad.vlm.places import crop_around


def make_exhibits(
    prediction: Prediction, picture: np.ndarray, places: Sequence[Place], reference: np.ndarray | None, *, max_side: int
) -> tuple[Exhibit, ...]:
    """All pictures, the most important first: a backend that takes few gets the first ones. None is longer than `max_side`."""
    shown = [Exhibit(caption="the whole picture", image=fit(picture, max_side))]
    if places:
        labels = [(place.label, place.box) for place in places]
        marked = draw_places(picture, labels, max_side=max_side)
        shown.append(Exhibit(caption="the same picture with the places marked by letters", image=marked))
    if reference is not None:
        shown.append(Exhibit(caption="a normal example for comparison", image=fit(reference, max_side)))
    for place in places:
        crop = fit(crop_around(picture, place.box), max_side)
        shown.append(Exhibit(caption=f"a closer look at place {place.label}, {place.location}", image=crop))
    if prediction.anomaly_map is not None and prediction.mask_threshold is not None:
        heat = draw_overlay(picture, prediction.anomaly_map, threshold=prediction.mask_threshold, headline="", max_side=max_side)
        shown.append(Exhibit(caption="the heat map of the detector over the picture", image=fit(np.asarray(heat), max_side)))
    return tuple(shown)


def fit(image: np.ndarray, max_side: int) -> np.ndarray:
    """uint8 (H, W, 3), reduced so that no side is longer than `max_side`; smaller ones stay as they are."""
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return image
    return cv2.resize(image, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA).astype(np.uint8)
