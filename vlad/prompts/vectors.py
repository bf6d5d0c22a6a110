"""Learned prompts: text vectors in the joint space of a model, normal and anomalous, which stand for the sentences of a prompt set.

Object-agnostic prompts that were learned on other anomalies (AnomalyCLIP, arXiv 2310.18961) come down to two such vectors. The file is
safetensors with one tensor "vectors", normal first, and the texts "model" (what they were learned with), "name" and "source" as
metadata; `eval/convert_prompts.py` makes one of a public checkpoint. The tensor is (2, D), or (2, L, D) where they were learned for each of
the model's last L blocks: dense maps then compare each block's embeddings with its own two and are averaged; all else takes the last two.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from vlad.errors import ConfigError, PromptError
from vlad.untrusted.values import Values

MOST_NUMBERS = 8192  # of one vector
MOST_LAYERS = 64


@dataclass(frozen=True)
class PromptVectors:
    """Two vectors, or two for each of some blocks, and where they belong.

    Attributes:
        model: what they were learned with, in the words of whoever made the file.
        normal, anomalous: numbers (L * D,), block by block; no vector is all 0.
        name: of the set, small letters, digits, - and _.
        source: where they come from.
        layers: L, the number of the model's last blocks that they are for.
    """

    model: str
    normal: tuple[float, ...]
    anomalous: tuple[float, ...]
    name: str = "vectors"
    source: str = "given by the caller"
    layers: int = 1

    def __post_init__(self) -> None:
        both = (self.normal, self.anomalous)
        is_alike = len(self.normal) == len(self.anomalous) == self.layers * self.width and 1 <= self.width <= MOST_NUMBERS
        is_sound = is_alike and all(math.isfinite(value) for side in both for value in side)
        if not is_sound or not all(any(self.of_layer(layer)[side]) for layer in range(self.layers) for side in (0, 1)):
            raise PromptError(
                f"vectors: expected two of one width from 1 to {MOST_NUMBERS} for each layer, of finite numbers that are not all 0, got "
                f"{len(self.normal)} and {len(self.anomalous)} numbers for {self.layers}"
            )

    @property
    def width(self) -> int:
        """Numbers D of one vector."""
        return len(self.normal) // self.layers

    def of_layer(self, layer: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The normal and the anomalous vector of a layer, negative from the end."""
        start = range(self.layers)[layer] * self.width
        return self.normal[start : start + self.width], self.anomalous[start : start + self.width]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives an equal object back."""
        plain = asdict(self) | {"normal": list(self.normal), "anomalous": list(self.anomalous)}
        return {key: value for key, value in plain.items() if key != "layers" or value != 1}  # as folders of before know it

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The inverse of `to_dict`.

        Raises:
            PromptError: something is missing, or has another type or range.
        """
        try:
            found = Values(values, "vectors")
            numbers = {side: found.numbers(side) for side in ("normal", "anomalous")}
            layers = found.whole("layers", 1, MOST_LAYERS) if "layers" in values else 1
            return cls(model=found.text("model"), name=found.text("name"), source=found.text("source"), layers=layers, **numbers)
        except ConfigError as error:
            raise PromptError(str(error)) from error


def read_vectors(path: Path) -> PromptVectors:
    """Vectors of a file.

    Raises:
        PromptError: it is not there, is damaged, or holds something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about: Mapping[str, str] = file.metadata() or {}
            names = list(file.keys())
            both = file.get_tensor("vectors") if names == ["vectors"] else None
    except FileNotFoundError as error:
        raise PromptError(f"{path}: there is no such file; check the path") from error
    except (SafetensorError, OSError, TypeError) as error:
        raise PromptError(f"{path}: no safetensors file that could be read ({error}); make it again") from error
    if both is None or both.ndim not in (2, 3) or both.shape[0] != 2 or not both[0].size > 0 or "model" not in about:
        got = f"{names[:4]}{'' if both is None else f' {both.shape}'}, metadata {sorted(about)}"
        raise PromptError(
            f"{path}: expected one tensor 'vectors' (2, D) or (2, L, D) and the metadata 'model', got {got}; see eval/convert_prompts.py"
        )
    name = re.sub(r"[^a-z0-9_-]+", "-", about.get("name", path.stem).lower()).strip("-_")[:64] or "vectors"
    layers = both.shape[1] if both.ndim == 3 else 1
    if layers > MOST_LAYERS:
        raise PromptError(f"{path}: expected vectors for at most {MOST_LAYERS} layers, got {layers}; see eval/convert_prompts.py")
    normal, anomalous = (tuple(map(float, side.ravel())) for side in both)
    return PromptVectors(about["model"], normal, anomalous, name=name, source=about.get("source") or path.name, layers=layers)


def write_vectors(path: Path, vectors: Sequence[Sequence[Any]], *, model: str, name: str, source: str) -> None:
    """Write a file that `read_vectors` reads.

    Args:
        vectors: (2, D) or (2, L, D), normal first.
        model, name, source: see `PromptVectors`.
    """
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"vectors": np.ascontiguousarray(vectors, np.float32)}, path, metadata={"model": model, "name": name, "source": source})
