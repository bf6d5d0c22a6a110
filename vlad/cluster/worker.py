"""One worker of a cluster: a detector that judges the pictures of which it gets the paths."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from vlad.cluster.paths import source_of
from vlad.errors import ImageReadError
from vlad.output.rows import details_of, details_of_error
from vlad.output.tables import json_line
from vlad.prediction import Prediction

if TYPE_CHECKING:
    from vlad.detector import AnomalyDetector
    from vlad.references.sample import MutualSample
    from vlad.together import Adapting


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a worker needs, wherever it is.

    Attributes:
        files: of the detector's folder, by name. Weights of a model are not in there: each machine has them in its cache, or fetches them.
        device, dtype: as of `AnomalyDetector.load`.
        sample: what the pictures are judged by; None: references or words.
        follow: what gives a threshold of references its place; None leaves it.
        maps, batch_size: as of `AnomalyDetector.predict_iter`.
    """

    files: Mapping[str, bytes]
    device: str
    dtype: str | None = None
    sample: MutualSample | None = None
    follow: Adapting | None = None
    maps: bool = True
    batch_size: int = 8

    @classmethod
    def of(cls, detector: AnomalyDetector, **settings: Any) -> Work:
        """That of a detector."""
        with tempfile.TemporaryDirectory(prefix="vlad-work-") as folder:
            detector.save(folder)
            files = {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}
        return cls(files=files, **settings)

    def load(self) -> AnomalyDetector:
        """The detector, on the device and with the threads that the cluster gives a worker."""
        import torch

        from vlad.detector import AnomalyDetector

        if threads := os.environ.get("OMP_NUM_THREADS", ""):
            torch.set_num_threads(max(1, int(threads)))
        with tempfile.TemporaryDirectory(prefix="vlad-work-") as folder:
            for name, content in self.files.items():
                (Path(folder) / name).write_bytes(content)
            return AnomalyDetector.load(folder, device=self.device, dtype=self.dtype)


class Worker:
    """Loads the detector once, then judges chunk after chunk.

    Args:
        work: see there; or a list with Ray's reference to it.
    """

    def __init__(self, work: Work | list[Any]) -> None:
        if isinstance(work, list):
            import ray

            work = cast(Work, ray.get(work[0]))
        self._work, self._detector = work, work.load()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Rows of one chunk, as JSON texts: {"block": (1,), "first": (1,), "paths": (1,)} to the same block and place with "rows"."""
        (paths,) = batch["paths"]
        rows = [json_line(row).rstrip("\n") for row in self.judge([str(path) for path in paths])]
        return {"block": batch["block"], "first": batch["first"], "rows": [rows]}

    def judge(self, paths: list[str]) -> Iterator[dict[str, Any]]:
        """A row for each picture, in order."""
        for path, result in zip(paths, self._results(paths), strict=True):
            if isinstance(result, ImageReadError):
                problem = str(result).removeprefix("bytes: ")
                told = result if path in problem else ImageReadError(f"{path}: {problem}")
                yield details_of_error(path, self._detector.model_name, told)
            else:
                yield details_of(result, path)

    def _results(self, paths: list[str]) -> Iterator[Prediction | ImageReadError]:
        work, lost = self._work, {}

        def sources() -> Iterator[Any]:
            for number, path in enumerate(paths):
                try:
                    yield source_of(path)
                except ImageReadError as error:
                    lost[number] = error

        options: dict[str, Any] = {"batch_size": work.batch_size, "maps": work.maps, "on_error": "return"}
        if work.sample is not None:
            found = self._detector.predict_by_sample(sources(), work.sample, **options)
        else:
            found = self._detector.predict_iter(sources(), **options)
        number = 0
        for result in found:
            while number in lost:
                yield lost.pop(number)
                number += 1
            yield result if work.follow is None or isinstance(result, ImageReadError) else work.follow.moved(result)
            number += 1
        yield from (lost[place] for place in sorted(lost))
