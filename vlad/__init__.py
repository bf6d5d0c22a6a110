"""vlad: zero-shot and few-shot vision-language detection of visual anomalies.

The public names are loaded when they are first used, so that `import vlad` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from vlad.config import DetectorConfig
    from vlad.detector import AnomalyDetector
    from vlad.errors import VladError
    from vlad.formats.estimator import AnomalyEstimator
    from vlad.pictures.reading import find_images, read_image
    from vlad.prediction import Prediction
    from vlad.prompts import PromptEnsemble
    from vlad.references.unlabelled import MutualSettings
    from vlad.scoring.regions import Region

_HOMES = {
    "AnomalyEstimator": "vlad.formats.estimator",
    "AnomalyDetector": "vlad.detector",
    "DetectorConfig": "vlad.config",
    "MutualSettings": "vlad.references.unlabelled",
    "Prediction": "vlad.prediction",
    "PromptEnsemble": "vlad.prompts",
    "Region": "vlad.scoring.regions",
    "VladError": "vlad.errors",
    "find_images": "vlad.pictures.reading",
    "read_image": "vlad.pictures.reading",
}
__all__ = [
    "AnomalyDetector",
    "AnomalyEstimator",
    "DetectorConfig",
    "MutualSettings",
    "Prediction",
    "PromptEnsemble",
    "Region",
    "VladError",
    "__version__",
    "find_images",
    "read_image",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vlad' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
