"""Draw a defect: what was painted onto a good picture, and whether the detector finds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vlad.app.notes import quietly
from vlad.errors import ConfigError

if TYPE_CHECKING:
    from vlad.app.service import Service
    from vlad.detector import AnomalyDetector
    from vlad.prediction import Prediction

_LEAST_CHANGE = 12  # grey levels in one channel; below it the browser's rounding could have done it
_FOUND = 0.1  # share of the painted pixels that must be marked


@dataclass(frozen=True)
class Finding:
    """What came of a painted defect.

    Attributes:
        before, after: predictions without and with the paint.
        painted: bool (H, W), the changed pixels.
        covered: share of them above the map's threshold, in [0, 1].
        peak_inside: whether the hottest pixel lies on the paint or within 5 % of the picture's longer side of it.
    """

    before: Prediction
    after: Prediction
    painted: np.ndarray
    covered: float
    peak_inside: bool

    @property
    def found(self) -> bool:
        """Whether a visitor would say that it was found: not called normal, and marked where it was painted."""
        return self.after.pred_label is not False and (self.covered >= _FOUND or self.peak_inside)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        return {
            "found": self.found,
            "covered": round(self.covered, 4),
            "peak_inside": self.peak_inside,
            "painted_share": round(float(self.painted.mean()), 6),
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
        }


def look_for_paint(service: Service, detector: AnomalyDetector, clean: np.ndarray, painted: np.ndarray, class_name: str = "") -> Finding:
    """Inspect a picture before and after it was painted on, both uint8 (H, W, 3).

    Raises:
        ConfigError: they differ in size, or nothing was painted.
    """
    if clean.shape != painted.shape:
        raise ConfigError(
            f"The painted picture has {painted.shape[1]} x {painted.shape[0]} pixels, the clean one {clean.shape[1]} x {clean.shape[0]}; "
            "paint on the picture without cropping it."
        )
    changed = (np.abs(clean.astype(np.int16) - painted) >= _LEAST_CHANGE).any(axis=2)
    if not changed.any():
        raise ConfigError("Nothing is painted yet; draw a scratch or a spot on the picture with the brush.")
    with service.turn(), quietly():
        before, after = detector.predict([clean, painted], class_name=class_name or None)
    marked, heat = after.pred_mask, after.anomaly_map
    covered = 0.0 if marked is None else float(marked[changed].mean())
    return Finding(before, after, changed, covered, heat is not None and _is_near(changed, heat))


def _is_near(changed: np.ndarray, heat: np.ndarray) -> bool:
    from scipy import ndimage

    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    distance = ndimage.distance_transform_edt(~changed)[y, x]
    return bool(distance <= 0.05 * max(heat.shape))
