"""`vlad eval --engine ray`: each unit (a category with a set of references) goes to one of a pool of detectors.

A worker appends to a file of its unit's own, so that one that is started anew in the place of a dead one goes on behind its last sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vlad.cluster.run import Cluster, own_error
from vlad.cluster.worker import Work
from vlad.evaluation.runner import EvalSettings, Unit, measure_unit
from vlad.evaluation.samples import SampleWriter, read_file

if TYPE_CHECKING:
    from vlad.detector import AnomalyDetector
    from vlad.evaluation.datasets import Dataset, Picture


@dataclass(frozen=True)
class _Job:
    """A unit, the pictures of it that are left, and the number of its file."""

    number: int
    unit: Unit
    pictures: list[Picture]


class _Measurer:
    """Loads the detector once, then measures unit after unit."""

    def __init__(self, kept: list[Any]) -> None:
        import ray

        work, self._dataset, self._out, self._settings, self._how = cast(tuple[Any, ...], ray.get(kept[0]))
        self._detector = work.load()

    def measure(self, job: _Job) -> tuple[int, list[str]]:
        """Number of samples that are there at the end, and what went wrong."""
        done = {sample.key for sample in read_file(self._out, job.number)}
        left = [one for one in job.pictures if (*job.unit.key, self._dataset.relative(one.path)) not in done]
        with SampleWriter(self._out, job.number) as writer:
            problems = measure_unit(self._detector, job.unit, left, self._dataset, writer, self._settings, **self._how)
        return len(job.pictures), problems


class RayPool:
    """Runs units on a cluster; see `vlad.evaluation.runner.Pool`. Every machine of it must see the dataset and the folder of the run
    under the same path.

    Args:
        cluster: who works.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def __call__(
        self,
        detector: AnomalyDetector,
        work: list[tuple[Unit, list[Picture]]],
        dataset: Dataset,
        out: Path,
        settings: EvalSettings,
        batch_size: int,
        class_name: str | None,
        tell: Callable[[int], object],
    ) -> list[str]:
        """See `Pool`.

        Raises:
            ConfigError: Ray is missing, or a worker cannot load the detector.
            OutputError: a worker could not write.
        """
        problems: list[str] = []
        # A file's number is its unit's place and a run's own, behind those of runs before that a kill left unmerged.
        first = 1 + max((int(path.suffixes[-2][1:]) for path in out.glob("samples.*.jsonl")), default=0)
        jobs = [_Job(first + place, unit, pictures) for place, (unit, pictures) in enumerate(work)]
        if not jobs:
            return problems
        with self._cluster.started() as (workers, cpus, gpus):
            import ray
            from ray.util import ActorPool

            how = {"batch_size": batch_size, "class_name": class_name}
            sent = Work.of(detector, device=self._cluster.device, dtype=self._cluster.dtype)
            kept = ray.put((sent, dataset, out.resolve(), settings, how))
            actor = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=-1, max_task_retries=-1)(_Measurer)
            pool = ActorPool([actor.remote([kept]) for _ in range(min(workers, len(jobs)))])
            try:
                for done, problem in pool.map_unordered(lambda worker, job: worker.measure.remote(job), jobs):
                    tell(done)
                    problems += problem
            except ray.exceptions.RayError as error:
                raise own_error(error) from error
        return problems
