"""`vlad detect --engine ray`: a folder, list or bucket of pictures through a pool of detectors on a cluster of Ray.

The driver sends paths, never pictures: a worker's own reader reads them. What comes back is rows, which the driver puts in order and writes
in blocks. A worker that dies is replaced, and Ray gives its chunk to another; a row that came twice by that is taken once. A block is there
whole or not at all, so that a run that was killed goes on with the blocks that are not.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from vlad.cluster.parts import Parts
from vlad.cluster.paths import Paths, source_of
from vlad.cluster.worker import Work, Worker
from vlad.errors import ConfigError, ImageReadError, VladError

if TYPE_CHECKING:
    from vlad.detector import AnomalyDetector
    from vlad.references.unlabelled import MutualSettings
    from vlad.together import Adapting

CHUNK = 64  # pictures that a worker gets at a time
_LEAST, _MOST = 64, 4096  # rows of a part
_VERDICTS = {True: "anomalous", False: "normal", None: "undecided"}
SAMPLE = 128  # pictures by which all are judged, or whose scores a threshold follows
_WINDOW = 256  # blocks whose paths are with the cluster at a time
_CPUS = 4  # of a worker without a GPU


@dataclass
class Summary:
    """What came of a run.

    Attributes:
        verdicts: number of "anomalous", "normal", "undecided" and "failed" pictures, those of before included.
        written: pictures of blocks that this run wrote.
        before: pictures of blocks that were there before.
        errors: the first messages of pictures that could not be read.
    """

    verdicts: Counter[str] = field(default_factory=Counter)
    written: int = 0
    before: int = 0
    errors: list[str] = field(default_factory=list)

    def count(self, row: dict[str, Any]) -> None:
        """Count a row."""
        if row.get("pred_score") is None:
            self.verdicts["failed"] += 1
            if len(self.errors) < 100:
                self.errors.append(str(row.get("error")))
            return
        self.verdicts[_VERDICTS[row.get("pred_label")]] += 1


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Who works.

    Attributes:
        workers: so many; None takes one for each GPU, else one for each four cores.
        address: of a running cluster; None takes RAY_ADDRESS, else starts one on this machine.
        device: as of `AnomalyDetector.load`; "auto" gives each worker a GPU where the cluster has some.
        dtype: None is the detector's.
    """

    workers: int | None = None
    address: str | None = None
    device: str = "auto"
    dtype: str | None = None

    @contextmanager
    def started(self) -> Iterator[tuple[int, float, float]]:
        """Inside, Ray runs; gives the number of workers, and the CPUs and GPUs of each.

        Raises:
            ConfigError: Ray is not installed, or there is no such cluster.
        """
        try:
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what it has to say reaches us as errors
            import ray
            import ray.data
        except ImportError as error:
            raise ConfigError("--engine ray needs Ray; pip install 'vlad-anomaly[ray]'") from error
        was_there = ray.is_initialized()
        if not was_there:
            is_own = not (self.address or os.environ.get("RAY_ADDRESS"))
            own: dict[str, Any] = {"include_dashboard": False} if is_own else {}  # settings of a cluster that is there are its own
            try:
                ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR, **own)
            except (ConnectionError, ValueError, RuntimeError) as error:
                where = self.address or os.environ.get("RAY_ADDRESS") or "this machine"
                raise ConfigError(f"no cluster of Ray at {where}: {error}") from error
        try:
            ray.data.DataContext.get_current().enable_progress_bars = False
            logging.getLogger("ray.data").setLevel(logging.ERROR)
            held = ray.cluster_resources()
            cpus, gpus = held.get("CPU", 1.0), 0.0 if self.device == "cpu" else held.get("GPU", 0.0)
            workers = self.workers or max(1, int(gpus) or int(cpus) // _CPUS)
            yield workers, max(1.0, cpus // workers if not gpus else min(_CPUS, cpus // workers)), min(1.0, gpus / workers)
        finally:
            if not was_there:
                ray.shutdown()


def block_of(count: int) -> int:
    """Rows of a part of a run of so many pictures: some sixty parts, of 64 to 4,096 rows, so that an interruption costs little."""
    return min(_MOST, max(_LEAST, count // 64 // CHUNK * CHUNK))


def detect(
    detector: AnomalyDetector,
    paths: Paths,
    parts: Parts,
    cluster: Cluster,
    *,
    mutual: bool,
    settings: MutualSettings | None = None,
    follow: Adapting | None = None,
    block: int | None = None,
    summary: Summary | None = None,
    maps: bool = True,
    batch_size: int = 8,
    tell: Callable[[int], None] = lambda done: None,
) -> Summary:
    """Judge all pictures and write the parts that are not there yet.

    Args:
        detector: judges; it is on this machine, and stays as it is.
        paths: the pictures.
        parts: where the rows go.
        cluster: who works.
        mutual: whether pictures are judged by a sample of them, which is judged here and first.
        settings: of the sample.
        follow: lets a threshold of references follow the scores of a sample, which are computed here and first; None leaves it.
        block: rows of a part; None takes `block_of`.
        summary: is counted in, so that it can be told where the run is interrupted; None makes one.
        maps: whether maps are computed, which give regions and better scores.
        batch_size: see `AnomalyDetector.predict_iter`.
        tell: called with the number of further pictures that are done, also those of before.

    Raises:
        ConfigError: the pictures cannot be judged by a sample, Ray is missing, or the detector cannot be loaded by a worker.
        OutputError: a part could not be written; those before it are kept.
    """
    summary = Summary() if summary is None else summary
    block = block or block_of(paths.count)
    todo = []
    for number, block_paths in paths.blocks(block):
        known = parts.verdicts(number)
        if known is not None and len(known) == len(block_paths) and not any(failed for _, failed in known):
            summary.before += len(block_paths)
            summary.verdicts.update(_VERDICTS[label] for label, _ in known)
            tell(len(block_paths))
        else:  # what could not be read may be readable now
            todo.append(number)
    if not todo:
        return summary
    sample = None
    if mutual:
        sample = detector.look_at_sample(list(_readable(paths.spread(SAMPLE))), settings=settings, batch_size=batch_size)
    elif follow is not None and paths.count >= follow.fewest:
        alone = detector if detector.config.min_area is None else detector.copy(min_area=None)
        for result in alone.predict_iter(_readable(paths.spread(SAMPLE)), maps=False, batch_size=batch_size, on_error="return"):
            follow.see(result)
    else:
        follow = None
    work = Work.of(detector, device=cluster.device, dtype=cluster.dtype, sample=sample, follow=follow, maps=maps, batch_size=batch_size)
    wanted = set(todo)
    blocks = ((number, block_paths) for number, block_paths in paths.blocks(block) if number in wanted)
    with cluster.started() as resources:
        while window := dict(islice(blocks, _WINDOW)):
            for number, rows in _judged(work, window, resources, batch_size, tell):
                parts.write(number, rows)
                summary.written += len(rows)
                for row in rows:
                    summary.count(row)
    return summary


def _readable(paths: list[str]) -> Iterator[Any]:
    """The sources of those that can be read; the others are told of where they are judged."""
    for path in paths:
        try:
            yield source_of(path)
        except ImageReadError:
            continue


def _judged(
    work: Work, window: dict[int, list[str]], resources: tuple[int, float, float], batch_size: int, tell: Callable[[int], None]
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """The rows of each block of a window, as blocks become whole."""
    import ray
    import ray.data

    workers, cpus, gpus = resources
    step = max(1, CHUNK // batch_size) * batch_size  # so that pictures share a batch with the same ones as in one process
    chunks = [
        {"block": number, "first": first, "paths": paths[first : first + step]}
        for number, paths in window.items()
        for first in range(0, len(paths), step)
    ]
    kept = ray.put(work)  # held by this process, so that a worker that is started anew finds it
    pool = ray.data.ActorPoolStrategy(size=min(workers, len(chunks)), max_tasks_in_flight_per_actor=2)
    stream = ray.data.from_items(chunks, override_num_blocks=len(chunks)).map_batches(
        Worker, fn_constructor_args=([kept],), batch_size=1, compute=pool, num_cpus=cpus, num_gpus=gpus
    )
    open_blocks: dict[int, list[dict[str, Any] | None]] = {number: [None] * len(paths) for number, paths in window.items()}
    left = {number: len(paths) for number, paths in window.items()}
    try:
        for found in stream.iter_rows():
            number, first = int(found["block"]), int(found["first"])
            rows = open_blocks.get(number)
            if rows is None or rows[first] is not None:
                continue  # it came twice, because its worker died after it had sent it
            for place, text in enumerate(found["rows"], start=first):
                rows[place] = json.loads(text)
            left[number] -= len(found["rows"])
            tell(len(found["rows"]))
            if not left[number]:
                del open_blocks[number]
                yield number, [row for row in rows if row is not None]
    except ray.exceptions.RayError as error:
        raise own_error(error) from error
    if open_blocks:
        raise VladError(f"the cluster ended with {len(open_blocks)} blocks undone; run the same command again to go on")


def own_error(error: BaseException) -> VladError:
    """The error of ours that a worker raised, or one that tells of Ray's."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, VladError):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    return VladError(f"the cluster gave up: {str(error).strip().splitlines()[-1]}; what was written is kept, and the same command goes on")
