"""Published numbers to put beside measured ones, from `eval/anchors.yaml`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from vlad.errors import ConfigError
from vlad.evaluation.shipped import read_yaml, shipped


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """One published row, numbers in percent, mean over all categories of the dataset.

    Attributes:
        auxiliary_training: trained on another dataset with defects, "auxiliary training data" in the report.
        whole_test_set: needs all test pictures at once.
        second_hand: from a paper that compares with the method, not from its own.
    """

    method: str
    dataset: str
    k_shot: int
    source: str
    image_auroc: float | None = None
    pixel_auroc: float | None = None
    aupro: float | None = None
    auxiliary_training: bool = False
    whole_test_set: bool = False
    second_hand: bool = False

    @property
    def remarks(self) -> str:
        told = {
            "auxiliary training data": self.auxiliary_training,
            "needs the whole test set": self.whole_test_set,
            "second-hand": self.second_hand,
        }
        return ", ".join(text for text, applies in told.items() if applies)


def load_anchors(path: Path | None = None) -> list[Anchor]:
    """All anchors of a file, by default the shipped one.

    Raises:
        ConfigError: the file is no list of anchors; the message names the entry.
    """
    path = path or shipped("anchors.yaml")
    data = read_yaml(path)
    if not isinstance(data, dict) or data.get("schema_version") != 1 or not isinstance(data.get("anchors"), list):
        raise ConfigError(f"{path}: expected schema_version 1 and a list of anchors; correct it")
    known = {field.name for field in fields(Anchor)}
    found = []
    for number, entry in enumerate(data["anchors"], start=1):
        if not isinstance(entry, dict) or set(entry) - known or not {"method", "dataset", "k_shot", "source"} <= set(entry):
            raise ConfigError(f"{path}: anchor {number} must have method, dataset, k_shot, source and only {', '.join(sorted(known))}")
        found.append(Anchor(**entry))
    return found
