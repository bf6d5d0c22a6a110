"""Is a dataset what it should be: every picture and mask is opened, counts are compared with the published ones."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vlad.errors import DatasetError, ImageReadError
from vlad.evaluation.datasets import Category, Dataset, Picture, read_truth
from vlad.pictures.reading import read_image

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        level: "error" makes numbers wrong or impossible, "warning" makes them differ from published ones, "note" is good to know.
        kind: "no-good-pictures", "no-anomalous-pictures", "no-references", "unreadable-picture", "missing-mask", "bad-mask", "empty-mask",
            "no-masks", "duplicate", "count", "missing-category", "sizes".
        category: its name, "" for the dataset.
        message: what was expected, what came, what to do.
    """

    level: Level
    kind: str
    category: str
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.kind}: {f'{self.category}: ' if self.category else ''}{self.message}"


def check_dataset(dataset: Dataset, *, progress: Callable[[], object] = lambda: None) -> list[Finding]:
    """All findings, category by category. `progress` is called after each picture; `dataset_size` says how many there are."""
    findings = []
    for category in dataset.categories:
        findings += [*check_lists(dataset, category), *_check_files(category, progress)]
    known, here = dataset.layout.counts, {category.name for category in dataset.categories}
    if here & known.keys() and (missing := [name for name in known if name not in here]):
        findings.append(Finding("note", "missing-category", "", f"{len(missing)} of {len(known)} are not here: {', '.join(missing)}"))
    return findings


def dataset_size(dataset: Dataset) -> int:
    """Pictures that `check_dataset` opens."""
    return sum(len(_pictures(category)) for category in dataset.categories)


def check_lists(dataset: Dataset, category: Category) -> Iterator[Finding]:
    """What the file lists alone tell; quick."""
    good = sum(not picture.is_anomalous for picture in category.test)
    anomalous = len(category.test) - good
    expects = f"expected\n{dataset.layout.expects}"
    if not good:
        yield Finding("error", "no-good-pictures", category.name, f"no normal test picture, AUROC is undefined without; {expects}")
    if not anomalous:
        yield Finding("error", "no-anomalous-pictures", category.name, f"no anomalous test picture, AUROC is undefined without; {expects}")
    if not category.references:
        yield Finding("warning", "no-references", category.name, f"no normal training picture, few-shot runs are impossible; {expects}")
    for picture in category.test:
        if picture.expected_mask is not None:
            yield Finding("error", "missing-mask", category.name, f"{picture.path} has no mask, expected {picture.expected_mask}")
    if anomalous and not any(picture.is_marked or picture.expected_mask for picture in category.test):
        yield Finding("note", "no-masks", category.name, "no masks, so there will be no pixel metrics")
    published = dataset.layout.counts.get(category.name)
    if published is not None:
        pairs = (("references", len(category.references)), ("good", good), ("anomalous", anomalous))
        for name, count in pairs:
            expected = getattr(published, name)
            if expected is not None and expected != count:
                message = f"{count} {name} pictures, published are {expected}; numbers will not compare with published ones"
                yield Finding("warning", "count", category.name, message)


def _check_files(category: Category, progress: Callable[[], object]) -> Iterator[Finding]:
    """Open every picture and mask."""
    seen: dict[bytes, Path] = {}
    sizes: Counter[tuple[int, int]] = Counter()
    trained = {picture.path for picture in category.references}
    for picture in _pictures(category):
        progress()
        try:
            pixels = read_image(picture.path)
        except ImageReadError as error:
            yield Finding("error", "unreadable-picture", category.name, str(error))
            continue
        size = (pixels.shape[0], pixels.shape[1])
        sizes[size] += 1
        yield from _check_mask(picture, category, size)
        key = hashlib.blake2b(pixels.tobytes() + np.array(size).tobytes(), digest_size=16).digest()
        if (twin := seen.setdefault(key, picture.path)) != picture.path:
            crosses = not category.shared and (twin in trained) != (picture.path in trained)
            what = "the same pixels are in training and test, which flatters few-shot numbers" if crosses else "the same pixels twice"
            yield Finding("error" if crosses else "warning", "duplicate", category.name, f"{twin} and {picture.path}: {what}")
    if len(sizes) > 1:
        shown = ", ".join(f"{width} x {height} ({count})" for (height, width), count in sizes.most_common(4))
        yield Finding("note", "sizes", category.name, f"{len(sizes)} sizes of pictures: {shown}{', ...' if len(sizes) > 4 else ''}")


def _check_mask(picture: Picture, category: Category, size: tuple[int, int]) -> Iterator[Finding]:
    if not picture.is_marked:
        return
    try:
        truth = read_truth(picture, category, size)
    except DatasetError as error:
        yield Finding("error", "bad-mask", category.name, str(error))
        return
    if truth is not None and not truth.area.any():
        what = picture.masks[0] if picture.masks else "the polygon listed for it"
        yield Finding("warning", "empty-mask", category.name, f"{picture.path} is anomalous, but {what} marks nothing")


def _pictures(category: Category) -> list[Picture]:
    return list({picture.path: picture for picture in (*category.references, *category.test)}.values())
