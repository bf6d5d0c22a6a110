"""Where the thresholds of a prediction come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from vlad.config import DetectorConfig
    from vlad.references.calibration import Calibration
    from vlad.references.labels import Labels

TEXT_THRESHOLD = 0.5  # above it the anomalous text is the nearer one


class Thresholds(NamedTuple):
    """Of the picture's score and of its pixels, each in [0, 1], and where the picture's comes from; None, None if there is none."""

    image: float | None
    source: str | None
    pixel: float


def choose_thresholds(
    config: DetectorConfig, calibration: Calibration | None, text_threshold: float | None, labels: Labels | None = None
) -> Thresholds:
    """Those of the settings ("user"), else of labelled pictures ("labels"), else of the references ("references"), else of the words alone
    ("text"). A given picture threshold stands for the pixels too where there is nothing better.

    Args:
        config: the settings.
        calibration: of the references; None without.
        text_threshold: the backbone's, where the settings name none; None if its words cannot tell, and pixels then have
            `TEXT_THRESHOLD`, which says what stands out and not what is wrong.
        labels: labelled pictures; None without.
    """
    image: float | None
    source: str | None
    if calibration is None:
        image = text_threshold if config.text_threshold is None else config.text_threshold
        source, pixel = (None, TEXT_THRESHOLD) if image is None else ("text", image)
    else:
        image = calibration.image_threshold(config.calibration, config.fpr_limit)
        pixel = calibration.pixel_threshold(config.calibration, config.fpr_limit)
        source = "references"
    if labels is not None:
        image, source = labels.threshold, "labels"
        pixel = pixel if labels.pixel is None else labels.pixel
    if config.threshold is not None:
        image, source = config.threshold, "user"
        pixel = config.threshold if calibration is None else pixel
    return Thresholds(image, source, pixel if config.mask_threshold is None else config.mask_threshold)
