"""Values from a file that others may have written: each is taken out by its name with its type and range, or an error names it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlad.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_MISSING: Any = object()
_LARGEST = 2**53  # of whole numbers that every reader of JSON gives back


def parse_json(text: str | bytes) -> Any:
    """A JSON text with finite numbers, of at most some hundred levels.

    Raises:
        ValueError: it is none; also where Python's reader would take `NaN`, `Infinity` and `1e999`, or end in a RecursionError.
    """
    try:
        return json.loads(text, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it holds the number {text}, which is not finite")
    return value


class Values:
    """A JSON object.

    Args:
        values: what should be one.
        name: of it, for messages, e.g. `memory.calibration`.

    Raises:
        ConfigError: from every method, if the entry is missing (and has no default) or has another type or range.
    """

    def __init__(self, values: Any, name: str) -> None:
        self.name = name
        if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
            raise ConfigError(f"{name} must be an object, got {values!r:.80}")
        self._values: Mapping[str, Any] = values

    def get(self, key: str, default: Any = _MISSING) -> Any:
        """Whatever is there."""
        if key not in self._values and default is _MISSING:
            raise ConfigError(f"{self.name}.{key} is missing")
        return self._values.get(key, default)

    def items(self) -> list[tuple[str, Any]]:
        """All entries."""
        return list(self._values.items())

    def object(self, key: str) -> Values:
        """A JSON object."""
        return Values(self.get(key), f"{self.name}.{key}")

    def objects(self, key: str) -> list[Values]:
        """A list of JSON objects."""
        found = self.get(key)
        if not isinstance(found, list):
            raise self._wrong(key, "a list of objects", found)
        return [Values(one, f"{self.name}.{key}[{number}]") for number, one in enumerate(found)]

    def by_number(self, key: str) -> dict[int, Any]:
        """An object whose keys are whole numbers."""
        found = self.object(key)._values
        if not all(name.isascii() and name.isdecimal() and len(name) < 16 for name in found):
            raise self._wrong(key, "an object whose keys are whole numbers", list(found))
        return {int(name): value for name, value in found.items()}

    def text(self, key: str, *, default: Any = _MISSING, optional: bool = False) -> Any:
        """A text; with `optional` also null."""
        found = self.get(key, default)
        if not isinstance(found, str) and not (optional and found is None) and found is not default:
            raise self._wrong(key, "a text or null" if optional else "a text", found)
        return found

    def flag(self, key: str, *, default: Any = _MISSING) -> bool:
        """True or false."""
        found = self.get(key, default)
        if not isinstance(found, bool):
            raise self._wrong(key, "true or false", found)
        return found

    def whole(self, key: str, low: int = 0, high: int = _LARGEST) -> int:
        """A whole number in [low, high]."""
        return whole(self.get(key), f"{self.name}.{key}", low, high)

    def number(self, key: str, low: float = -math.inf, high: float = math.inf, *, default: Any = _MISSING, optional: bool = False) -> Any:
        """A finite number in [low, high]; with `optional` also null."""
        found = self.get(key, default)
        return found if (optional and found is None) or found is default else number(found, f"{self.name}.{key}", low, high)

    def numbers(self, key: str, low: float = -math.inf, high: float = math.inf, *, default: Any = _MISSING) -> tuple[float, ...]:
        """A list of finite numbers in [low, high]."""
        return numbers(self.get(key, default), f"{self.name}.{key}", low, high)

    def wholes(self, key: str, low: int, count: int | None = None) -> tuple[int, ...]:
        """A list of whole numbers from `low` on."""
        found = self.get(key)
        if not isinstance(found, list) or (count is not None and len(found) != count):
            raise self._wrong(key, f"a list of {count or 'whole'} {'whole ' if count else ''}numbers", found)
        return tuple(whole(one, f"{self.name}.{key}", low) for one in found)

    def _wrong(self, key: str, wanted: str, found: Any) -> ConfigError:
        return ConfigError(f"{self.name}.{key} must be {wanted}, got {found!r:.80}")


def whole(value: Any, name: str, low: int, high: int = _LARGEST) -> int:
    """`value`, if it is a whole number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} must be a whole number from {low} to {high}, got {value!r:.80}")
    return value


def number(value: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """`value` as a float, if it is a finite number in [low, high]."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e300
    if not is_number or not low <= value <= high:
        limits = f"a number from {low:g} to {high:g}"
        if math.isinf(high):
            limits = "a finite number" if math.isinf(low) else f"a number of at least {low:g}"
        raise ConfigError(f"{name} must be {limits}, got {value!r:.80}")
    return float(value)


def numbers(values: Any, name: str, low: float = -math.inf, high: float = math.inf) -> tuple[float, ...]:
    """`values` as floats, if they are a list of finite numbers in [low, high]."""
    if not isinstance(values, (list, tuple)):
        raise ConfigError(f"{name} must be a list of numbers, got {values!r:.80}")
    return tuple(number(one, f"{name}[{place}]", low, high) for place, one in enumerate(values))


def tensor(
    state: Mapping[str, Tensor],
    name: str,
    *shape: int | None,
    dtype: torch.dtype | None = None,
    low: float = -math.inf,
    high: float = math.inf,
) -> Tensor:
    """The tensor of a name, if its values are finite and within [low, high].

    Args:
        state: tensors by name.
        name: of the one.
        shape: the size of each axis, None where any will do.
        dtype: float32 if None.

    Raises:
        ConfigError: it is missing, or another.
    """
    import torch

    found, dtype = state.get(name), dtype or torch.float32
    if found is None:
        raise ConfigError(f"the tensor {name!r} is missing")
    fits = found.dim() == len(shape) and all(want is None or want == have for want, have in zip(shape, found.shape, strict=True))
    if found.dtype != dtype or not fits:
        wanted = " x ".join("any" if side is None else str(side) for side in shape)
        have = " x ".join(map(str, found.shape)) or "one value"
        raise ConfigError(f"the tensor {name!r} must be {wanted} of {dtype}, got {have} of {found.dtype}")
    if found.numel() and not (bool(torch.isfinite(found).all()) and low <= float(found.min()) and float(found.max()) <= high):
        limits = "finite" if math.isinf(high) else f"finite and from {low:g} to {high:g}"
        raise ConfigError(f"the tensor {name!r} must be {limits}")
    return found
