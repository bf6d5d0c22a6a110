"""Every setting of a detector, in one frozen table that is written beside the weights as JSON."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any

from vlad.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Settings of an `AnomalyDetector`; `None` leaves the choice to the backbone or to the data.

    Raises:
        ConfigError: a value is out of range.
    """

    class_name: str | None = None  # noun for the prompts when predict() names none; None says "object"
    scales: tuple[int, ...] | None = None  # window sides in patches; None takes the backbone's, () the picture as a whole only
    temperature: float | None = None  # softmax temperature of the text score; None takes the backbone's (0.07)
    threshold: float | None = None  # a picture above it is anomalous; None takes 0.5, where the anomalous text is as near as the normal
    mask_threshold: float | None = None  # a pixel above it belongs to the mask; None takes the picture's threshold
    tile: int | None = None  # side in pixels of overlapping tiles for pictures larger than that; None or 0: as a whole
    tile_overlap: float = 0.25  # share of a tile's side that neighbours share at least
    max_pixels: int = 100_000_000  # larger pictures are refused, from the header, before they are decoded

    def __post_init__(self) -> None:
        if self.class_name is not None and not isinstance(self.class_name, str):
            raise _problem("class_name", "None or a noun", self.class_name)
        if self.scales is not None:
            sides = self.scales if isinstance(self.scales, (tuple, list)) else (None,)
            self._set(
                "scales", tuple(sorted({_whole("scales", "whole numbers >= 1 (window sides in patches)", side, 1) for side in sides}))
            )
        if self.temperature is not None:
            self._set("temperature", _number("temperature", "a finite number > 0", self.temperature, 1e-6, 1e6))
        for name in ("threshold", "mask_threshold"):
            if getattr(self, name) is not None:
                self._set(name, _number(name, "a number from 0 to 1", getattr(self, name), 0, 1))
        if self.tile is not None:
            tile = _whole("tile", "None, or at least 32 pixels", self.tile, 0)
            if 0 < tile < 32:
                raise _problem("tile", "None, or at least 32 pixels", self.tile)
            self._set("tile", tile or None)
        self._set("tile_overlap", _number("tile_overlap", "a share from 0 to 0.75", self.tile_overlap, 0, 0.75))
        self._set("max_pixels", _whole("max_pixels", "a whole number >= 1", self.max_pixels, 1))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives an equal object back."""
        values = asdict(self)
        values["scales"] = None if self.scales is None else list(self.scales)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DetectorConfig:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: a key is unknown or a value is out of range.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                hint = get_close_matches(key, known, n=1)
                raise ConfigError(f"unknown setting {key!r}{f', did you mean {hint[0]!r}?' if hint else ''}; known are {', '.join(known)}")
        return cls(**values)


def _number(name: str, expected: str, value: Any, least: float, most: float) -> float:
    """A plain float (NumPy's numbers are none to JSON) within the range."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not least <= float(value) <= most:
        raise _problem(name, expected, value)
    return float(value)


def _whole(name: str, expected: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        raise _problem(name, expected, value)
    return int(value)


def _problem(name: str, expected: str, value: object) -> ConfigError:
    return ConfigError(f"{name} must be {expected}, got {value!r}")
