"""Every setting of a detector, in one frozen table that is written beside the weights as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any

from vlad.errors import ConfigError

MAX_PIXELS = 100_000_000


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
    tile: int | None = None  # side in pixels of overlapping tiles for pictures larger than that; None looks at the picture as a whole
    tile_overlap: float = 0.25  # share of a tile's side that neighbours share at least
    max_pixels: int = MAX_PIXELS  # larger pictures are refused, from the header, before they are decoded

    def __post_init__(self) -> None:
        if self.scales is not None:
            object.__setattr__(self, "scales", tuple(sorted({*self.scales})))
            _check(
                all(isinstance(s, int) and s >= 1 for s in self.scales),
                "scales",
                "whole numbers >= 1 (window sides in patches)",
                self.scales,
            )
        _check(self.temperature is None or self.temperature > 0, "temperature", "a number > 0", self.temperature)
        for name in ("threshold", "mask_threshold"):
            value = getattr(self, name)
            _check(value is None or 0 <= value <= 1, name, "a number from 0 to 1", value)
        _check(self.tile is None or self.tile >= 32, "tile", "None or at least 32 pixels", self.tile)
        _check(0 <= self.tile_overlap <= 0.75, "tile_overlap", "a share from 0 to 0.75", self.tile_overlap)
        _check(self.max_pixels >= 1, "max_pixels", "a whole number >= 1", self.max_pixels)

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
        values = dict(values)
        try:
            if values.get("scales") is not None:
                values["scales"] = tuple(values["scales"])
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"a setting has the wrong type: {error}") from error


def _check(is_valid: bool, name: str, expected: str, value: object) -> None:
    if not is_valid:
        raise ConfigError(f"{name} must be {expected}, got {value!r}")
