"""Running a detector over a dataset: categories x k_shot x seeds, resumable, alone or in several processes."""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vlad.disk import held, replace_text
from vlad.errors import ConfigError, DatasetError, ImageReadError, OutputError, VladError
from vlad.evaluation.datasets import Category, Dataset, Picture, read_truth
from vlad.evaluation.samples import SCHEMA_VERSION, Sample, SampleWriter, file_name, read_samples, write_merged
from vlad.metrics import count_pixels
from vlad.references.unlabelled import MutualSettings

if TYPE_CHECKING:
    from vlad.detector import AnomalyDetector
    from vlad.prediction import Prediction

_BEHIND = 4  # samples that may be in the making


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """What is measured.

    Attributes:
        k_shots: numbers of reference pictures; 0 takes the detector as it is.
        seeds: for each k > 0 and seed the references are `sorted(files)[seed * k : (seed + 1) * k]`.
        maps: False measures picture scores alone, many times faster.
        fpr_limit: of AUPRO and sPRO; None takes the dataset's (0.3, or 0.05 for MVTec LOCO and AD 2).
        bootstrap: resamples for the confidence intervals.
        mutual: judge the test pictures of a category by each other instead of one by one (transductive), beside the references if k > 0.
        how_mutual: how that is done.

    Raises:
        ConfigError: a value is out of range.
    """

    k_shots: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = (0,)
    maps: bool = True
    fpr_limit: float | None = None
    bootstrap: int = 500
    mutual: bool = False
    how_mutual: MutualSettings = field(default_factory=MutualSettings)

    def __post_init__(self) -> None:
        for name in ("k_shots", "seeds"):
            values = getattr(self, name)
            if not values or any(not isinstance(value, int) or value < 0 for value in values) or len(set(values)) != len(values):
                raise ConfigError(f"{name} must be different whole numbers >= 0, got {list(values)}")
        if self.fpr_limit is not None and not 0 < self.fpr_limit <= 1:
            raise ConfigError(f"fpr_limit must be in (0, 1], got {self.fpr_limit}")
        if self.bootstrap < 0:
            raise ConfigError(f"bootstrap must be >= 0, got {self.bootstrap}")


@dataclass(frozen=True)
class Unit:
    """One category with one set of references: `references` and `test` are what is used, `skipped` says why it cannot be run."""

    category: Category
    k_shot: int
    seed: int
    references: tuple[Picture, ...]
    test: tuple[Picture, ...]
    skipped: str | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        return self.category.name, self.k_shot, self.seed


def plan_units(dataset: Dataset, settings: EvalSettings) -> list[Unit]:
    """All units of a run, zero-shot first, then by k, seed and category. Without references one seed is enough."""
    units = []
    for k_shot in sorted(settings.k_shots):
        for seed in settings.seeds if k_shot else settings.seeds[:1]:
            units += [_unit(category, k_shot, seed) for category in dataset.categories]
    return units


def check_units(units: list[Unit]) -> None:
    """See before a model is loaded that something can be measured.

    Raises:
        ConfigError: no unit can be run; the message gives the reason of the first.
    """
    if units and all(unit.skipped for unit in units):
        more = f" (and {len(units) - 1} more like it)" if len(units) > 1 else ""
        raise ConfigError(f"nothing can be measured: {units[0].skipped}{more}; choose a smaller --k-shot or --seeds, or add pictures")


def _unit(category: Category, k_shot: int, seed: int) -> Unit:
    references = category.references[seed * k_shot : (seed + 1) * k_shot]
    used = {picture.path for picture in references} if category.shared else set()
    test = tuple(picture for picture in category.test if picture.path not in used)
    skipped = None
    if len(references) < k_shot:
        count = len(category.references)
        has = "1 reference" if count == 1 else f"{count} references"
        skipped = f"{category.name} has {has}, k={k_shot} with seed {seed} needs {(seed + 1) * k_shot}"
    elif not test:
        skipped = f"{category.name}, k={k_shot}, seed {seed}: there is no test picture"
    return Unit(category, k_shot, seed, references, test, skipped)


class Pool(Protocol):
    """Runs units elsewhere."""

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
        """Predict the pictures of each unit, whose samples then lie in `out`; one line for each unit that could not be run."""
        ...


@dataclass(frozen=True)
class Processes:
    """This process among those that `accelerate launch` (or torchrun) started; alone without one."""

    index: int = 0
    count: int = 1
    local_index: int = 0

    @classmethod
    def find(cls, device: str = "auto") -> Processes:
        """Join the others if there are any.

        Raises:
            ConfigError: there are others and accelerate is not installed.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        try:
            from accelerate import PartialState
        except ImportError as error:
            raise ConfigError("several processes need accelerate; pip install 'vlad-anomaly[vlm]'") from error
        state = PartialState(cpu=device == "cpu")
        return cls(state.process_index, state.num_processes, state.local_process_index)

    @property
    def is_first(self) -> bool:
        return self.index == 0

    def device(self, wanted: str) -> str:
        """ "auto" or "cuda" becomes this process's own GPU, if there is one."""
        import torch

        if self.count > 1 and wanted in ("auto", "cuda") and torch.cuda.is_available():
            return f"cuda:{self.local_index}"
        return wanted

    def wait(self) -> None:
        """Until all others have come as far."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def run(
    detector: AnomalyDetector,
    dataset: Dataset,
    out: Path,
    settings: EvalSettings | None = None,
    *,
    resume: bool = False,
    batch_size: int = 8,
    class_name: str | None = None,
    processes: Processes | None = None,
    pool: Pool | None = None,
    quiet: bool = True,
) -> list[str]:
    """Predict every test picture of every unit that `out` does not hold yet, and write samples as they come.

    Args:
        detector: used as it is for k = 0; for k > 0 a copy is fitted.
        dataset: see `load_dataset`.
        out: folder of the run, made if missing.
        settings: what is measured.
        resume: go on with the run that `out` holds, if it holds one.
        batch_size: see `AnomalyDetector.predict_iter`; it does not change what is measured.
        class_name: noun for the prompts of all categories; None takes each category's own.
        processes: see `Processes.find`; None is alone.
        pool: runs the units elsewhere, such as `vlad.cluster.measure.RayPool`; None runs them here.
        quiet: no progress bar.

    Returns:
        One line for each unit that could not be run; pictures that could not be read are in the samples.

    Raises:
        ConfigError: `out` holds another run (or one, without `resume`), or another process writes there.
        OutputError: something could not be written; what was done is kept, and `resume` goes on.
    """
    settings, processes = settings or EvalSettings(), processes or Processes()
    if settings.mutual and processes.count > 1:
        raise ConfigError(f"pictures are judged by each other in one process, got {processes.count}; run without accelerate launch")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out must be a folder, {out} is a file; choose another name")
    with held(out) if processes.is_first else contextlib.nullcontext():
        return _run(detector, dataset, out, settings, processes, resume, batch_size, class_name, pool, quiet)


def _run(
    detector: AnomalyDetector,
    dataset: Dataset,
    out: Path,
    settings: EvalSettings,
    processes: Processes,
    resume: bool,
    batch_size: int,
    class_name: str | None,
    pool: Pool | None,
    quiet: bool,
) -> list[str]:
    if max(settings.k_shots, default=0) > 0:
        detector.ready_for_references()
    identity = describe(detector, dataset, settings, class_name)
    if processes.is_first:
        _claim(out, identity, resume)
    processes.wait()
    done = {sample.key for sample in read_samples(out)}
    units = plan_units(dataset, settings)
    todo = {unit.key: _mine(unit, dataset, done, processes) for unit in units}
    problems = [unit.skipped for unit in units if unit.skipped]
    processes.wait()  # nobody writes before everybody has read
    with _progress(sum(map(len, todo.values())), quiet, processes) as progress:
        work = [(unit, todo[unit.key]) for unit in units if todo[unit.key]]
        if pool is not None:
            problems += pool(detector, work, dataset, out, settings, batch_size, class_name, progress.update)
        else:
            with SampleWriter(out, processes.index) as writer:
                for unit, pictures in work:
                    progress.set_postfix_str(f"{unit.category.name} k={unit.k_shot}")
                    how: dict[str, Any] = {"batch_size": batch_size, "class_name": class_name, "tell": progress.update}
                    problems += measure_unit(detector, unit, pictures, dataset, writer, settings, **how)
    processes.wait()
    if processes.is_first:
        by_key = {sample.key: sample for sample in read_samples(out)}
        keys = [(*unit.key, dataset.relative(picture.path)) for unit in units for picture in unit.test]
        write_merged(out, [by_key[key] for key in keys if key in by_key])
    return problems


def measure_unit(
    detector: AnomalyDetector,
    unit: Unit,
    pictures: Sequence[Picture],
    dataset: Dataset,
    writer: SampleWriter,
    settings: EvalSettings,
    *,
    batch_size: int,
    class_name: str | None,
    tell: Callable[[int], object] = lambda done: None,
) -> list[str]:
    """Predict pictures of a unit and write their samples.

    Returns:
        What went wrong, in one line, or nothing: one category must not end the run for the others.

    Raises:
        OutputError: something could not be written.
    """
    try:
        for sample in _run_unit(detector, unit, pictures, dataset, writer, settings, batch_size, class_name):
            writer.add(sample)
            tell(1)
    except OutputError:
        raise
    except VladError as error:
        return [f"{unit.category.name}, k={unit.k_shot}, seed {unit.seed}: {error}"]
    return []


def describe(detector: AnomalyDetector, dataset: Dataset, settings: EvalSettings, class_name: str | None = None) -> dict[str, Any]:
    """What decides the numbers of a run: dataset, model, prompts, detector, settings; plain JSON values. Equal for a run and its
    continuation."""
    backbone = detector.backbone
    second: Any = getattr(detector, "patch_backbone", None)
    return {
        "schema_version": SCHEMA_VERSION,
        "dataset": {
            "name": dataset.layout.name,
            "title": dataset.title,
            "is_published": dataset.is_published,
            "categories": [category.name for category in dataset.categories],
            "fingerprint": dataset.fingerprint,
        },
        "model": {
            "name": backbone.name if second is None else f"{backbone.name} + {second.name}",
            "source": backbone.source,
            "fingerprint": backbone.fingerprint if second is None else f"{backbone.fingerprint} {second.fingerprint}",
            "dtype": str(backbone.dtype).removeprefix("torch."),
            "device": backbone.device.type,
        },
        "prompts": {"name": detector.prompts.name, "fingerprint": detector.prompts.fingerprint, "class_name": class_name},
        "detector": {**detector.config.to_dict(), "scales": list(detector.scales), "temperature": detector.temperature},
        "settings": {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(settings).items()
            if key not in ("mutual", "how_mutual") or (settings.mutual and value != asdict(MutualSettings()))  # earlier runs go on
        }
        | {"fpr_limit": dataset.layout.fpr_limit if settings.fpr_limit is None else settings.fpr_limit},
    }


def _claim(out: Path, identity: dict[str, Any], resume: bool) -> None:
    """Write run.json, or see that the one there says the same."""
    path = out / "run.json"
    if path.exists():
        if not resume:
            raise ConfigError(f"{out} holds a run already; add --resume to go on with it, or choose another folder")
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path}: damaged ({error}); choose another folder") from error
        for key, value in identity.items():
            # How a dataset is called may change, what it holds may not.
            known = {"name", "categories", "fingerprint"} if key == "dataset" else None
            if _only(before.get(key), known) != _only(value, known):
                raise ConfigError(f"{out} holds a run with another {key}: {before.get(key)}, now {value}; choose another folder")
        return
    if (out / "samples.jsonl").exists():
        raise ConfigError(f"{out} holds samples, but no run.json that says of what; choose another folder")
    replace_text(path, json.dumps(identity, indent=2, ensure_ascii=False) + "\n")


def _only(value: Any, keys: set[str] | None) -> Any:
    return {key: one for key, one in value.items() if key in keys} if keys is not None and isinstance(value, dict) else value


def _mine(unit: Unit, dataset: Dataset, done: set[tuple[str, int, int, str]], processes: Processes) -> list[Picture]:
    """The pictures of a unit that this process still has to look at."""
    if unit.skipped:
        return []
    left = [picture for picture in unit.test if (*unit.key, dataset.relative(picture.path)) not in done]
    return left[processes.index :: processes.count]


def _run_unit(
    detector: AnomalyDetector,
    unit: Unit,
    pictures: Sequence[Picture],
    dataset: Dataset,
    writer: SampleWriter,
    settings: EvalSettings,
    batch_size: int,
    class_name: str | None,
) -> Iterator[Sample]:
    noun = class_name or unit.category.class_name
    if unit.k_shot:  # a reference left out would make it another k; the caller's detector keeps its own
        references = [picture.path for picture in unit.references]
        detector = detector.copy().fit(references, class_name=noun, on_error="raise")
    if settings.mutual:  # by all of them, those included that an earlier run has written
        wanted = {picture.path for picture in pictures}
        every = detector.predict_mutual_iter(
            [picture.path for picture in unit.test],
            class_name=noun,
            settings=settings.how_mutual,
            batch_size=batch_size,
            maps=settings.maps,
            on_error="return",
        )
        for picture, result in zip(unit.test, every, strict=True):
            if picture.path in wanted:
                yield _sample(unit, picture, result, dataset, writer)
        return
    results = detector.predict_iter(
        [picture.path for picture in pictures],
        class_name=noun,
        batch_size=batch_size,
        maps=settings.maps,
        on_error="return",
    )
    coming: deque[Future[Sample]] = deque()
    failed: BaseException | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="vlad-samples") as pool:  # pixels are counted while the next picture is looked at
        try:
            for picture, result in zip(pictures, results, strict=True):
                coming.append(pool.submit(_sample, unit, picture, result, dataset, writer))
                if len(coming) > _BEHIND:
                    yield coming.popleft().result()
        except GeneratorExit:
            raise
        except BaseException as error:  # those before it are not lost, to an interruption neither
            failed = error
        for one in coming:
            yield one.result()
    if failed is not None:
        raise failed


def _sample(unit: Unit, picture: Picture, result: Prediction | ImageReadError, dataset: Dataset, writer: SampleWriter) -> Sample:
    image_path = dataset.relative(picture.path)
    common: dict[str, Any] = {
        "category": unit.category.name,
        "k_shot": unit.k_shot,
        "seed": unit.seed,
        "image_path": image_path,
        "defect": picture.defect,
        "gt_label": picture.is_anomalous,
    }
    if isinstance(result, ImageReadError):
        return Sample(**common, error=str(result))
    pixels = mask_error = None
    if result.anomaly_map is not None:
        try:
            truth = read_truth(picture, unit.category, result.image_size)
        except DatasetError as error:
            mask_error = str(error)
        else:
            if truth is not None:
                arguments = (truth.mask, None) if truth.mask is not None else (truth.regions, truth.saturations)
                name = f"{file_name(unit.category.name)}/k{unit.k_shot}_s{unit.seed}/{file_name(image_path)}"
                pixels = writer.save_pixels(name, count_pixels(result.anomaly_map, *arguments), result.anomaly_map)
    return Sample(
        **common,
        pred_score=float(result.pred_score),
        threshold=None if result.threshold is None else float(result.threshold),
        threshold_source=result.threshold_source,
        pred_label=None if result.pred_label is None else bool(result.pred_label),
        scores={name: float(value) for name, value in result.scores.items()},
        image_size=result.image_size,
        seconds=round(result.seconds, 6),
        pixels=pixels,
        mask_error=mask_error,
    )


@contextlib.contextmanager
def _progress(total: int, quiet: bool, processes: Processes) -> Iterator[Any]:
    """A bar with the time left."""
    from tqdm import tqdm

    with tqdm(total=total, unit="picture", disable=quiet or not processes.is_first, leave=False) as bar:
        yield bar
