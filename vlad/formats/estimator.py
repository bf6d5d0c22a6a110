"""A detector in the manners of scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted

from vlad.errors import ConfigError

if TYPE_CHECKING:
    from vlad.prediction import Prediction

_NORMAL, _ANOMALOUS = 1, -1


def _many(X: Any) -> list[Any]:
    """
    Raises:
        ConfigError: X is one picture.
    """
    from vlad.pictures.batches import is_one_picture

    if is_one_picture(X):
        raise ConfigError("X must be a sequence of pictures, got one; put it into a list")
    return list(X)


class AnomalyEstimator(OutlierMixin, BaseEstimator):
    """Fits a detector to normal pictures and predicts 1 for normal and -1 for anomalous ones.

    ::

        estimator = AnomalyEstimator("lite").fit(["ok_1.png", "ok_2.png", "ok_3.png", "ok_4.png"])
        estimator.predict(["part.png"])  # array([-1])

    `X` is a sequence of pictures (paths, arrays (H, W, 3), whatever `vlad.read_image` takes), not a table of features; of scikit-learn's
    own checks those of its interface apply.

    Args:
        model: as of `AnomalyDetector.from_pretrained`.
        device: likewise.
        settings: further arguments of `AnomalyDetector.from_pretrained` by name, such as {"scorer": "subspace"}; None is none.
        batch_size: pictures that go through the model together.

    Attributes:
        detector_: the fitted `AnomalyDetector`.
        offset_: minus the threshold; `decision_function` is `score_samples` minus it.
        n_references_: so many pictures it was fitted to.
    """

    def __init__(self, model: str = "auto", *, device: str = "auto", settings: dict[str, Any] | None = None, batch_size: int = 8) -> None:
        self.model = model
        self.device = device
        self.settings = settings
        self.batch_size = batch_size

    def fit(self, X: Sequence[Any], y: Sequence[Any] | None = None) -> Self:
        """Fit to the normal pictures.

        Args:
            X: pictures.
            y: 1 or True for the normal ones, -1, 0 or False for others, which are left out; None: all are normal.

        Raises:
            ConfigError: none is normal, or X and y differ in length.
            ImageReadError: a picture cannot be read.
        """
        from vlad.detector import AnomalyDetector

        pictures = _many(X)
        if y is not None:
            labels = np.asarray(y).ravel()
            if not (np.issubdtype(labels.dtype, np.number) or labels.dtype == bool):
                raise ConfigError(f"labels must be 1 for normal pictures and -1 or 0 for others, got {labels[:3].tolist()}")
            if len(labels) != len(pictures):
                raise ConfigError(f"expected a label for each of {len(pictures)} pictures, got {len(labels)}")
            pictures = [picture for picture, label in zip(pictures, labels, strict=True) if label > 0]
        if not pictures:
            raise ConfigError("fit needs at least one normal picture, got none")
        self.detector_ = AnomalyDetector.from_pretrained(self.model, device=self.device, **(self.settings or {})).fit(pictures)
        threshold = next(self.detector_.predict_iter(pictures[:1], maps=self._maps())).threshold
        self.offset_ = -(0.5 if threshold is None else float(threshold))
        self.n_references_ = len(pictures)
        return self

    def score_samples(self, X: Sequence[Any]) -> np.ndarray:
        """float (N,) in [-1, 0]: minus the anomaly score, so that higher is more normal."""
        return np.array([-one.pred_score for one in self._predictions(X)], float)

    def decision_function(self, X: Sequence[Any]) -> np.ndarray:
        """float (N,): below 0 is anomalous, unless `min_area` says otherwise, which it knows nothing of."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Sequence[Any]) -> np.ndarray:
        """int (N,): 1 is normal, -1 anomalous, as the detector's verdict is."""
        found = [one.pred_score > -self.offset_ if one.pred_label is None else one.pred_label for one in self._predictions(X)]
        return np.where(found, _ANOMALOUS, _NORMAL)

    def _predictions(self, X: Sequence[Any]) -> Iterator[Prediction]:
        check_is_fitted(self, "detector_")
        return self.detector_.predict_iter(_many(X), batch_size=self.batch_size, maps=self._maps())

    def _maps(self) -> bool:
        return self.detector_.config.min_area is not None  # else nothing asks where

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True
        return tags
