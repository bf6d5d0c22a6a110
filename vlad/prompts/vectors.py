"""Learned prompts: two text vectors in the joint space of a model, which stand for the sentences of a prompt set.

Object-agnostic prompts that were learned on other anomalies (AnomalyCLIP, arXiv 2310.18961) come down to two such vectors. The file is
safetensors with one tensor "vectors" (2, D), normal first, and the texts "model" (what they were learned with), "name" and "source" as
metadata; `eval/convert_prompts.py` makes one of a public checkpoint.
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


@dataclass(frozen=True)
class PromptVectors:
    """Two vectors and where they belong.

    Attributes:
        model: what they were learned with, in the words of whoever made the file.
        normal, anomalous: numbers (D,), of any length but 0.
        name: of the set, small letters, digits, - and _.
        source: where they come from.
    """

    model: str
    normal: tuple[float, ...]
    anomalous: tuple[float, ...]
    name: str = "vectors"
    source: str = "given by the caller"

    def __post_init__(self) -> None:
        both = (self.normal, self.anomalous)
        is_alike = len(self.normal) == len(self.anomalous) and 1 <= len(self.normal) <= MOST_NUMBERS
        if not is_alike or not all(math.isfinite(value) for side in both for value in side) or not all(map(any, both)):
            raise PromptError(
                f"vectors: expected two of one width from 1 to {MOST_NUMBERS}, of finite numbers that are not all 0, got "
                f"{len(self.normal)} and {len(self.anomalous)} numbers"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives an equal object back."""
        return asdict(self) | {"normal": list(self.normal), "anomalous": list(self.anomalous)}

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The inverse of `to_dict`.

        Raises:
            PromptError: something is missing, or has another type or range.
        """
        try:
            found = Values(values, "vectors")
            numbers = {side: found.numbers(side) for side in ("normal", "anomalous")}
            return cls(model=found.text("model"), name=found.text("name"), source=found.text("source"), **numbers)
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
    if both is None or both.ndim != 2 or both.shape[0] != 2 or "model" not in about:
        got = f"{names[:4]}{'' if both is None else f' {both.shape}'}, metadata {sorted(about)}"
        raise PromptError(f"{path}: expected one tensor 'vectors' (2, D) and the metadata 'model', got {got}; see eval/convert_prompts.py")
    name = re.sub(r"[^a-z0-9_-]+", "-", about.get("name", path.stem).lower()).strip("-_")[:64] or "vectors"
    normal, anomalous = (tuple(map(float, side)) for side in both)
    return PromptVectors(about["model"], normal, anomalous, name=name, source=about.get("source") or path.name)


def write_vectors(path: Path, vectors: Sequence[Sequence[float]], *, model: str, name: str, source: str) -> None:
    """Write a file that `read_vectors` reads.

    Args:
        vectors: (2, D), normal first.
        model, name, source: see `PromptVectors`.
    """
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"vectors": np.asarray(vectors, np.float32)}, path, metadata={"model": model, "name": name, "source": source})
