"""An exported detector, run by onnxruntime or OpenVINO; needs no torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image

from vlad.config import DetectorConfig
from vlad.deploy.spec import FILE, MODEL_FILES, Spec
from vlad.disk import sha256_of
from vlad.errors import ConfigError, ImageReadError, VladError, noting, warn
from vlad.pictures.batches import check_reading, is_one_picture, one_ahead, read_batches
from vlad.pictures.reading import ImageSource, Reader
from vlad.pictures.roi import Roi
from vlad.prediction import Prediction

Run = Callable[[np.ndarray], dict[str, np.ndarray]]
_MAX_PIXELS = 100_000_000
_ASPECT = 1.02  # pictures of another shape than this would be squeezed
_LONG = 2  # beyond this ratio of sides a detector in torch looks in tiles


class ExportedDetector:
    """What `vlad export` wrote, with the same results as the detector that it was made of to within rounding.

    Args:
        folder: with detector.json and the model.
        threads: of the runtime; None leaves it to it.
        max_pixels: larger pictures are refused.

    Raises:
        ConfigError: there is none in the folder, or it is damaged.
        VladError: the runtime is not installed.
    """

    def __init__(self, folder: str | Path, *, threads: int | None = None, max_pixels: int = _MAX_PIXELS) -> None:
        self.folder = Path(folder)
        self.spec = Spec.read(self.folder)
        for name, sha256 in self.spec.sha256.items():
            path = self.folder / name
            if Path(name).name != name or not path.is_file() or sha256_of(path) != sha256:
                raise ConfigError(f"{path} is missing or is not the one that {FILE} states; copy the whole folder, or export again")
        if MODEL_FILES[self.spec.kind] not in self.spec.sha256:
            raise ConfigError(f"{self.folder / FILE} names no {MODEL_FILES[self.spec.kind]}; export again")
        self._run: Run = {"onnx": _onnx, "openvino": _openvino}[self.spec.kind](self.folder / MODEL_FILES[self.spec.kind], threads)
        self.reader = Reader(max_pixels, self.spec.white_level)
        self.roi = None if self.spec.roi is None and self.spec.ignore is None else Roi(self.spec.roi, self.spec.ignore)

    @property
    def model_name(self) -> str:
        """Names the model and its runtime; every result carries it."""
        return f"{self.spec.model}, {self.spec.kind} {self.spec.precision}"

    @property
    def memory(self) -> None:
        """None: the references are inside the graph, and not at hand."""
        return None

    def predict(
        self,
        images: Any,
        *,
        class_name: str | None = None,
        tile: int | None = None,
        batch_size: int = 8,
        maps: bool = True,
        threshold: float | None = None,
        mask_threshold: float | None = None,
        on_error: Literal["raise", "return"] = "raise",
    ) -> Any:
        """See `AnomalyDetector.predict`; a class name and tiles cannot be chosen any more.

        Raises:
            ConfigError: one was given.
        """
        if class_name is not None or tile is not None:
            raise ConfigError("an exported detector has its class name and no tiles; leave class_name and tile out")
        is_one = is_one_picture(images)
        results = self.predict_iter(
            [images] if is_one else images,
            batch_size=batch_size,
            maps=maps,
            threshold=threshold,
            mask_threshold=mask_threshold,
            on_error="raise" if is_one else on_error,
        )
        return next(results) if is_one else list(results)

    def predict_iter(
        self,
        images: Iterable[ImageSource],
        *,
        batch_size: int = 8,
        maps: bool = True,
        threshold: float | None = None,
        mask_threshold: float | None = None,
        on_error: Literal["raise", "return"] = "raise",
        keep_images: bool = False,
    ) -> Iterator[Any]:
        """See `AnomalyDetector.predict_iter`; pictures are scored one by one, `batch_size` of them are read together."""
        check_reading(batch_size, on_error)
        DetectorConfig(threshold=threshold, mask_threshold=mask_threshold)  # their ranges
        if is_one_picture(images):
            raise ConfigError("predict_iter takes many pictures, got one; put it into a list, or call predict")
        batches = read_batches(images, batch_size, on_error=on_error, read=self.reader, roi=self.roi)
        for batch in one_ahead(batches) if isinstance(images, Sequence) and len(images) > batch_size else batches:
            for source, picture, own in batch:
                if isinstance(picture, ImageReadError):
                    yield picture
                    continue
                start = time.perf_counter()
                try:
                    with noting() as notes:
                        scored = self._score(picture, maps)
                except ImageReadError as error:
                    if on_error == "raise":
                        raise
                    yield error
                    continue
                result = self._prediction(source, picture, scored, time.perf_counter() - start, (*own, *notes), threshold, mask_threshold)
                yield replace(result, _read=partial(np.copy, picture)) if keep_images else result

    def raw(self, picture: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs of the graph for a picture uint8 (H, W, 3), by name, without the axis of the batch."""
        return {name: values[0] for name, values in self._run(self._pixels(picture)).items()}

    def _pixels(self, picture: np.ndarray) -> np.ndarray:
        """float32 (1, 3, h, w)."""
        spec = self.spec
        (height, width), (bottom, right) = spec.resize, spec.input
        resized = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
        pixels = resized.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (spec.mean, spec.std))
        pixels = (pixels - mean) / std
        return np.pad(pixels, ((0, 0), (0, bottom - height), (0, right - width)), mode="edge")[None]

    def _score(self, picture: np.ndarray, maps: bool) -> tuple[float, np.ndarray | None, dict[str, float], np.ndarray]:
        """Score, map, partial scores and embedding."""
        part = picture if self.roi is None else self.roi.cut(picture)[0]
        if self.spec.light is not None:
            from vlad.pictures.appearance import with_light

            part = with_light(part, self.spec.light)
        self._check_shape(part)
        found = self.raw(part)
        parts: dict[str, float] = {name: float(found[name]) for name in ("text_image", "rarity", "reference") if name in found}
        if "reference_map" in found or "reference" in found:
            parts["reference_map_max"] = float(found.get("reference_map", found["map"]).max())
        heat = self._map(found, (part.shape[0], part.shape[1])) if maps else None
        if heat is not None:
            heat = np.clip(heat, 0, 1, dtype=np.float32)
            parts["map_max"] = float(heat.max())
            if self.roi is not None:
                heat = self.roi.whole(heat, (picture.shape[0], picture.shape[1]))
        return min(1.0, max(0.0, float(found["score"]))), heat, parts, found["embedding"]

    def _map(self, found: dict[str, np.ndarray], size: tuple[int, int]) -> np.ndarray:
        """float32 (H, W): each map upsampled, then joined as the detector joins them."""
        weight = self.spec.text_weight
        text, reference = found.get("text_map"), found.get("reference_map")
        if "rarity_map" in found and text is not None:
            odds = _logit(self._upsampled(text, size)) + self.spec.rarity * (
                self._upsampled(found["rarity_map"], size) - self.spec.rarity_centre
            )
            return (1 / (1 + np.exp(-odds))).astype(np.float32)
        if text is None or reference is None:
            return self._upsampled(found["map"], size)
        return np.float32(weight) * self._upsampled(text, size) + np.float32(1 - weight) * self._upsampled(reference, size)

    def _upsampled(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        height, width = (
            round(side / (resized / padded)) for side, resized, padded in zip(size, self.spec.resize, self.spec.input, strict=True)
        )
        whole = cv2.resize(np.ascontiguousarray(values, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        return whole[: size[0], : size[1]]

    def _check_shape(self, picture: np.ndarray) -> None:
        height, width = picture.shape[:2]
        if self.spec.made_for is not None:
            ratio = (height / width) / (self.spec.made_for[0] / self.spec.made_for[1])
            if not 1 / _ASPECT <= ratio <= _ASPECT:
                made = f"{self.spec.made_for[1]} x {self.spec.made_for[0]}"
                raise ImageReadError(f"a picture of {width} x {height}: the export is for the shape of {made}; export for this one")
        elif max(height, width) > _LONG * min(height, width):
            warn(f"pictures of {width} x {height} are looked at as a whole: an exported detector has no tiles")

    def _prediction(
        self,
        source: ImageSource,
        picture: np.ndarray,
        scored: tuple[float, np.ndarray | None, dict[str, float], np.ndarray],
        seconds: float,
        notes: tuple[str, ...],
        threshold: float | None,
        mask_threshold: float | None,
    ) -> Prediction:
        spec, (score, heat, parts, embedding) = self.spec, scored
        if spec.scores:
            parts["p_value"] = (1 + sum(other >= score for other in spec.scores)) / (1 + len(spec.scores))
        bound = spec.threshold if threshold is None else threshold
        return Prediction(
            image_path=str(source) if isinstance(source, (str, Path)) else None,
            image_size=(picture.shape[0], picture.shape[1]),
            class_name=spec.class_name,
            pred_score=score,
            threshold=bound,
            threshold_source=("user" if threshold is not None else spec.threshold_source) if bound is not None else None,
            mask_threshold=spec.mask_threshold if mask_threshold is None else mask_threshold,
            anomaly_map=heat,
            scores=parts,
            model=self.model_name,
            prompts=spec.prompts,
            seconds=seconds,
            embedding=embedding,
            undecided=spec.undecided if bound is None else "",
            min_area=spec.min_area if heat is not None else None,
            roi=self.roi,
            warnings=notes,
            _read=partial(self.reader, source),
        )


def _logit(values: np.ndarray) -> np.ndarray:
    clipped = np.clip(values.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _onnx(path: Path, threads: int | None) -> Run:
    try:
        import onnxruntime
    except ImportError as error:
        raise VladError("an exported ONNX model needs onnxruntime; pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=onnxruntime.get_available_providers())
    except Exception as error:  # the runtime's own kinds, of which there are many
        raise ConfigError(f"{path} cannot be loaded by onnxruntime {onnxruntime.__version__}: {str(error)[:300]}; export again") from error
    names = [output.name for output in session.get_outputs()]
    return lambda pixels: dict(zip(names, session.run(names, {"pixels": pixels}), strict=True))


def _openvino(path: Path, threads: int | None) -> Run:
    try:
        import openvino
    except ImportError as error:
        raise VladError("an exported OpenVINO model needs openvino; pip install openvino") from error
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"} | ({} if threads is None else {"INFERENCE_NUM_THREADS": threads})
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    except RuntimeError as error:
        raise ConfigError(f"{path} cannot be loaded by openvino {openvino.__version__}: {str(error)[:300]}; export again") from error
    names = [output.get_any_name() for output in compiled.outputs]

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        found = compiled({"pixels": pixels})
        return {name: np.array(found[name]) for name in names}

    return run
