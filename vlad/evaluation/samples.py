"""What a run leaves for each picture, written as it comes: samples.jsonl, one line a picture, and its pixels counted by bin.

OUT/run.json               what is run; `--resume` refuses to go on with anything else
OUT/samples.jsonl          one `Sample` a line (further processes write samples.1.jsonl ... until the run ends)
OUT/pixels/CATEGORY/...    one .npz a picture and run: `PictureCounts`, and a small map for the report
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import numpy as np

from vlad.disk import LineFile, make_folder, replace_text, writing
from vlad.errors import ConfigError
from vlad.metrics import PictureCounts
from vlad.output.names import short_name

SCHEMA_VERSION = 1
_MAP_SIDE = 96


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One test picture in one unit (category, k_shot, seed).

    Attributes:
        image_path: below the dataset's root.
        gt_label: whether it is anomalous.
        pred_score, threshold, threshold_source, pred_label, scores, seconds: of the prediction; None if there is none.
        image_size: (H, W).
        pixels: file of its counted pixels below the run's folder, None without a map or without ground truth.
        error: why there is no prediction.
        mask_error: why there is no ground truth of its pixels, if there should be one.
    """

    category: str
    k_shot: int
    seed: int
    image_path: str
    defect: str
    gt_label: bool
    pred_score: float | None = None
    threshold: float | None = None
    threshold_source: str | None = None
    pred_label: bool | None = None
    scores: dict[str, float] = field(default_factory=dict)
    image_size: tuple[int, int] | None = None
    seconds: float | None = None
    pixels: str | None = None
    error: str | None = None
    mask_error: str | None = None

    @property
    def key(self) -> tuple[str, int, int, str]:
        return self.category, self.k_shot, self.seed, self.image_path

    def to_json(self) -> str:
        return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`; fields of a later minor version are left out.

        Raises:
            ConfigError: the line is of a newer schema, or lacks a field.
        """
        version = values.get("schema_version")
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise ConfigError(f"expected samples of schema {SCHEMA_VERSION} or older, got {version!r}; use a newer vlad")
        known = {item.name for item in fields(cls)}
        given = {key: value for key, value in values.items() if key in known}
        if given.get("image_size") is not None:
            given["image_size"] = tuple(given["image_size"])
        try:
            return cls(**given)
        except TypeError as error:
            raise ConfigError(f"a line of samples.jsonl is incomplete: {error}; evaluate again") from error


class SampleWriter:
    """Appends samples to a run's folder; each is on disk when `add` returns.

    Args:
        folder: of the run, made if missing.
        process: number of this process; the first writes samples.jsonl itself.
    """

    def __init__(self, folder: Path, process: int = 0) -> None:
        make_folder(folder)
        self._folder = folder
        self._file = LineFile(_sample_file(folder, process), append=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, sample: Sample) -> None:
        self._file.write(f"{sample.to_json()}\n".encode(errors="surrogateescape"))

    def save_pixels(self, name: str, counts: PictureCounts, anomaly_map: np.ndarray) -> str:
        """Write a picture's counts and its map made small; returns the file's place below the run's folder."""
        place = Path("pixels") / f"{name}.npz"
        path = self._folder / place
        partial = path.with_suffix(f".{os.getpid()}.partial")
        self._file.check()  # else a folder that was removed would be made anew
        make_folder(path.parent)
        try:
            with writing(path), partial.open("wb") as file:
                np.savez_compressed(file, **counts.arrays(), map=_small(anomaly_map))  # type: ignore[arg-type]  # arrays, none named allow_pickle
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return place.as_posix()


def read_samples(folder: Path) -> list[Sample]:
    """All complete samples of a run, each once, in the order of writing; a line that a kill cut off is left out.

    Raises:
        ConfigError: a line in the middle is damaged, or of a newer schema.
    """
    found: dict[tuple[str, int, int, str], Sample] = {}
    for path in _sample_files(folder):
        for sample in _read_file(path):
            found.setdefault(sample.key, sample)
    return list(found.values())


def read_file(folder: Path, process: int) -> list[Sample]:
    """The complete samples that one process has written; none if it has written nothing.

    Raises:
        ConfigError: as of `read_samples`.
    """
    path = _sample_file(folder, process)
    return list(_read_file(path)) if path.exists() else []


def _read_file(path: Path) -> Iterator[Sample]:
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last line break was cut off
        try:
            yield Sample.from_dict(json.loads(line))
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path}, line {number}: damaged ({error}); delete the line and run again with --resume") from error


def write_merged(folder: Path, samples: list[Sample]) -> None:
    """Replace all sample files by one with these samples."""
    merged = folder / "samples.jsonl"
    replace_text(merged, "".join(f"{sample.to_json()}\n" for sample in samples))
    for path in _sample_files(folder):
        if path != merged:
            path.unlink()


def read_counts(folder: Path, sample: Sample) -> PictureCounts | None:
    """The counted pixels of a sample, None if it has none.

    Raises:
        ConfigError: the file is gone or damaged.
    """
    arrays = _read_arrays(folder, sample)
    return None if arrays is None else PictureCounts(**{name: arrays[name] for name in ("bins", "counts", "regions", "saturations")})


def read_map(folder: Path, sample: Sample) -> np.ndarray | None:
    """The small map of a sample, float32 (h, w), None if it has none."""
    arrays = _read_arrays(folder, sample)
    return None if arrays is None else arrays["map"].astype(np.float32)


def file_name(text: str) -> str:
    """A path below the dataset's root as one file name without clashes."""
    return short_name(_escaped(text))


def _escaped(text: str) -> str:
    return re.sub(r"[^\w.-]", lambda mark: f"%{ord(mark.group()):x}", text.replace("%", "%25"))


def _read_arrays(folder: Path, sample: Sample) -> dict[str, np.ndarray] | None:
    if sample.pixels is None:
        return None
    try:
        with np.load(folder / sample.pixels) as arrays:
            return dict(arrays)
    except Exception as error:  # a damaged archive makes the reader throw exceptions of several kinds
        raise ConfigError(f"{folder / sample.pixels}: cannot be read ({error}); evaluate again") from error


def _small(anomaly_map: np.ndarray) -> np.ndarray:
    import cv2

    height, width = anomaly_map.shape
    scale = min(1.0, _MAP_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(anomaly_map.astype(np.float32), size, interpolation=cv2.INTER_AREA).astype(np.float16)


def _sample_file(folder: Path, process: int) -> Path:
    return folder / ("samples.jsonl" if process == 0 else f"samples.{process}.jsonl")


def _sample_files(folder: Path) -> Iterator[Path]:
    return iter(sorted(path for path in folder.glob("samples*.jsonl") if re.fullmatch(r"samples(\.\d+)?\.jsonl", path.name)))
