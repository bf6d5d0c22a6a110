"""Every setting of a detector, in one frozen table that is written beside the weights as JSON."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypedDict

from vlad.errors import ConfigError
from vlad.scoring import methods

if TYPE_CHECKING:
    from vlad.pictures.roi import Roi

TEXT_MAPS = ("windows", "coarse", "dense")
SPEEDS = {"exact": "windows", "balanced": "coarse", "fast": "dense"}
CALIBRATIONS = ("shrinkage", "student", "quantile", "conformal")  # see references/calibration.py


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Settings of an `AnomalyDetector`; `None` leaves the choice to the backbone or to the data.

    Raises:
        ConfigError: a value is out of range.
    """

    class_name: str | None = None  # noun for the prompts when predict() names none; None says "object"
    scales: tuple[int, ...] | None = None  # window sides in patches; None takes the backbone's, () the picture as a whole only
    text_maps: str = "windows"  # where the words look: all "windows" (WinCLIP), from "coarse" to fine, or "dense", in one pass
    speed: str = "exact"  # of the words of a CLIP: "balanced" takes text_maps "coarse", "fast" takes "dense", where the model has them
    temperature: float | None = None  # softmax temperature of the text score; None takes the backbone's (0.07)
    threshold: float | None = None  # a picture above it is anomalous; None takes the references', else that of words alone
    text_threshold: float | None = None  # that of words alone; None takes the backbone's (CLIP 0.5, as near to either text; lite none)
    mask_threshold: float | None = None  # a pixel above it belongs to the mask; None takes the references', else the picture's
    rarity: float | None = None  # weight of rarity inside the picture beside text; None takes the backbone's (CLIP 0, lite 20)
    tile: int | None = None  # side in pixels of overlapping tiles for larger pictures; 0: never; None: for line scans and the like alone
    tile_overlap: float = 0.25  # share of a tile's side that neighbours share at least
    max_pixels: int = 100_000_000  # larger pictures are refused, from the header, before they are decoded
    white_level: int | str | None = None  # white in values of 16 bits: 255 to 65535, "auto" from the references; None is 65535
    mild_changes: bool = False  # the references are remembered darker, brighter, blurred, compressed and moved as well; six times the time
    adapt: str | None = None  # "exposure" multiplies every picture so that its light is that of the references
    min_area: int | None = None  # a picture is anomalous only if a marked place has so many pixels; None: whatever is marked

    # Where to look, in every picture: boxes and masks, see `vlad.pictures.roi`. What lies outside has no influence at all.
    roi: str | None = None  # inside of it; None is everywhere
    ignore: str | None = None  # outside of it

    # With references. Down to `foreground` they shape what is remembered: to change them, fit again.
    scorer: str | None = (
        None  # a name of `vlad.scoring.methods`; None takes the backbone's (CLIP winclip, lite and patch backbones nearest)
    )
    rotations: int | None = None  # references are remembered at so many angles; None: the method's for up to 16 references, else 1
    random_angles: bool = False  # those angles are drawn at random, once and for all, instead of evenly spread; SubspaceAD takes 30
    coreset: float | None = None  # share of the normal tokens to keep, 0.1 for large banks; None keeps all
    search: str = "clusters"  # of the nearest normal token in a large bank: "clusters" or "exact"; see scoring/nearest.py
    foreground: bool = False  # look at the part alone, where it stands out from its background clearly enough
    text_weight: float | None = None  # of the text score beside the references; None takes the backbone's (CLIP 0.5, lite 0)
    top_share: float = 0.01  # the image score is the mean of this share of the highest patch distances; winclip takes the maximum
    calibration: str = "shrinkage"  # the threshold from references: also "student", "quantile", "conformal", see references/calibration.py
    fpr_limit: float = 0.05  # false-positive rate that this threshold aims at

    def __post_init__(self) -> None:
        if self.class_name is not None and not isinstance(self.class_name, str):
            raise _problem("class_name", "None or a noun", self.class_name)
        if self.scales is not None:
            sides = self.scales if isinstance(self.scales, (tuple, list)) else (None,)
            self._set(
                "scales", tuple(sorted({_whole("scales", "whole numbers >= 1 (window sides in patches)", side, 1) for side in sides}))
            )
        if self.text_maps not in TEXT_MAPS:
            raise _problem("text_maps", f"one of {', '.join(map(repr, TEXT_MAPS))}", self.text_maps)
        if self.speed not in SPEEDS:
            raise _problem("speed", f"one of {', '.join(map(repr, SPEEDS))}", self.speed)
        if self.speed != "exact" and self.text_maps not in ("windows", SPEEDS[self.speed]):
            raise ConfigError(f"speed {self.speed!r} takes text_maps {SPEEDS[self.speed]!r}, got {self.text_maps!r} too; leave one out")
        if self.temperature is not None:
            self._set("temperature", _number("temperature", "a finite number > 0", self.temperature, 1e-6, 1e6))
        for name in ("threshold", "text_threshold", "mask_threshold"):
            if getattr(self, name) is not None:
                self._set(name, _number(name, "a number from 0 to 1", getattr(self, name), 0, 1))
        if self.rarity is not None:
            self._set("rarity", _number("rarity", "None, or a weight from 0 to 1000", self.rarity, 0, 1000))
        if self.tile is not None:
            tile = _whole("tile", "None, or at least 32 pixels", self.tile, 0)
            if 0 < tile < 32:
                raise _problem("tile", "None, or at least 32 pixels", self.tile)
            self._set("tile", tile)
        self._set("tile_overlap", _number("tile_overlap", "a share from 0 to 0.75", self.tile_overlap, 0, 0.75))
        self._set("max_pixels", _whole("max_pixels", "a whole number >= 1", self.max_pixels, 1))
        if self.white_level is not None and self.white_level != "auto":
            wanted = "None, 'auto', or a whole number from 255 to 65535"
            self._set("white_level", _whole("white_level", wanted, self.white_level, 255))
            if int(self.white_level) > 65535:
                raise _problem("white_level", wanted, self.white_level)
        if self.adapt not in (None, "exposure"):
            raise _problem("adapt", "None or 'exposure'", self.adapt)
        if self.min_area is not None:
            self._set("min_area", _whole("min_area", "None, or a whole number of pixels >= 1", self.min_area, 1))
        if self.roi is not None or self.ignore is not None:
            from vlad.pictures.roi import as_text

            for name in ("roi", "ignore"):
                self._set(name, as_text(name, getattr(self, name)))
        self._check_references()

    @property
    def look(self) -> Roi | None:
        """The part of every picture that counts; None is all of it."""
        if self.roi is None and self.ignore is None:
            return None
        from vlad.pictures.roi import Roi

        return Roi(self.roi, self.ignore)

    def _check_references(self) -> None:
        if self.scorer not in (None, *methods.NAMES):
            raise _problem("scorer", f"None, {methods.listed()}", self.scorer)
        if self.calibration not in CALIBRATIONS:
            raise _problem("calibration", f"one of {', '.join(map(repr, CALIBRATIONS))}", self.calibration)
        if self.search not in ("clusters", "exact"):
            raise _problem("search", "'clusters' or 'exact'", self.search)
        for name in ("foreground", "mild_changes", "random_angles"):
            if not isinstance(getattr(self, name), bool):
                raise _problem(name, "True or False", getattr(self, name))
        if self.rotations is not None:
            self._set("rotations", _whole("rotations", "None, or a whole number >= 1", self.rotations, 1))
        if self.coreset is not None:
            self._set("coreset", _number("coreset", "None, or a share from 0.001 to 1", self.coreset, 0.001, 1))
        if self.text_weight is not None:
            self._set("text_weight", _number("text_weight", "None, or a weight from 0 to 1", self.text_weight, 0, 1))
        self._set("top_share", _number("top_share", "a share from 0 to 1", self.top_share, 0, 1))
        self._set("fpr_limit", _number("fpr_limit", "a rate from 0.0001 to 0.5", self.fpr_limit, 0.0001, 0.5))

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


class Settings(TypedDict, total=False):
    """The fields of `DetectorConfig` as keywords, so that an editor shows them wherever they are taken."""

    class_name: str | None
    scales: Sequence[int] | None
    text_maps: str
    speed: str
    temperature: float | None
    threshold: float | None
    text_threshold: float | None
    mask_threshold: float | None
    rarity: float | None
    tile: int | None
    tile_overlap: float
    max_pixels: int
    white_level: int | str | None
    mild_changes: bool
    adapt: str | None
    min_area: int | None
    roi: Any
    ignore: Any
    scorer: str | None
    rotations: int | None
    random_angles: bool
    coreset: float | None
    search: str
    foreground: bool
    text_weight: float | None
    top_share: float
    calibration: str
    fpr_limit: float


def _number(name: str, expected: str, value: Any, least: float, most: float) -> float:
    """A plain float (NumPy's numbers are none to JSON) within the range."""
    try:
        is_within = not isinstance(value, bool) and isinstance(value, numbers.Real) and least <= float(value) <= most
    except OverflowError:  # a whole number of hundreds of digits
        is_within = False
    if not is_within:
        raise _problem(name, expected, value)
    return float(value)


def _whole(name: str, expected: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        raise _problem(name, expected, value)
    return int(value)


def _problem(name: str, expected: str, value: object) -> ConfigError:
    return ConfigError(f"{name} must be {expected}, got {value!r}")
