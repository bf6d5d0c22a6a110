"""The detector: glue between pictures, a backbone, prompts and scorers."""

from __future__ import annotations

import time
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np

from vlad.config import DetectorConfig
from vlad.errors import ConfigError, ImageReadError, VladWarning
from vlad.images import ImageSource, preprocess, read_image
from vlad.prediction import Prediction
from vlad.prompts import PromptEnsemble
from vlad.tiling import TileGrid

if TYPE_CHECKING:
    from torch import Tensor

    from vlad.backbones.base import Backbone

_TEXT_THRESHOLD = 0.5  # above it the anomalous text is the nearer one
_BATCH_PIXELS = 50_000_000  # a batch of large pictures is full at 150 MB
_TEXT_CACHE = 64  # text vectors of so many (prompt set, class name) pairs are kept; each is two vectors


class AnomalyDetector:
    """Finds visual anomalies with words alone (zero-shot, WinCLIP, arXiv 2303.14814).

    ```python
    detector = AnomalyDetector.from_pretrained("auto")
    result = detector.predict("part.png", class_name="metal nut")
    ```

    Args:
        backbone: joint encoder of pictures and text, e.g. `ClipBackbone(model, tokenizer)`; `from_pretrained` makes one by name.
        prompts: what normal and anomalous mean in words: a shipped set's name, a YAML file, or a `PromptEnsemble`.
        **settings: fields of `DetectorConfig`, e.g. `scales=(2, 3)`, `temperature=0.07`, `class_name="metal nut"`, `threshold=0.4`.

    Raises:
        ConfigError: a setting is unknown or out of range, or a scale does not fit on the backbone's grid.
        PromptError: the prompt set is missing or malformed.
    """

    def __init__(self, backbone: Backbone, *, prompts: PromptEnsemble | str | Path = "winclip", **settings: Any) -> None:
        if not hasattr(backbone, "encode_image") or not hasattr(backbone, "grid"):
            raise ConfigError(
                f"backbone must be a backbone, got {type(backbone).__name__}; AnomalyDetector.from_pretrained(NAME) makes one by name, "
                "ClipBackbone(model, tokenizer) from an open_clip model"
            )
        self.backbone = backbone
        self.prompts = prompts if isinstance(prompts, PromptEnsemble) else PromptEnsemble.load(prompts)
        self.config = DetectorConfig.from_dict(settings)
        self.scales = backbone.scales if self.config.scales is None else self.config.scales
        if self.scales and max(self.scales) > min(backbone.grid):
            raise ConfigError(
                f"scales {self.scales} do not fit on {backbone.name}, whose grid has {backbone.grid[0]} x {backbone.grid[1]} patches"
            )
        self.temperature = self.config.temperature or backbone.temperature
        self._text_cache: OrderedDict[tuple[str, str], Tensor] = OrderedDict()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "auto",
        *,
        pretrained: str | Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
        cache_dir: str | Path | None = None,
        prompts: PromptEnsemble | str | Path | None = None,
        **settings: Any,
    ) -> AnomalyDetector:
        """A detector on a named model, or one that `save` wrote.

        Args:
            name: "auto" (winclip if its weights are cached or can be fetched, else the embedded model lite, with a warning), a preset,
                "ARCHITECTURE:TAG" or "ARCHITECTURE:FILE" of open_clip, a hub id, a model folder, or a folder written by `save`.
            pretrained: tag or checkpoint file, if `name` is an architecture alone.
            device: "auto" (cuda, else mps, else cpu) or a torch device.
            dtype: "auto" (bfloat16 where the hardware has it, else float32), "float32", "bfloat16" or "float16".
            cache_dir: folder of the hub cache; None takes the hub client's.
            prompts: see the class; None takes the saved ones, else "winclip".
            **settings: fields of `DetectorConfig`; they override saved ones.

        Raises:
            WeightsNotFoundError: the weights are not at hand and cannot be fetched; the message gives the command that does.
            BackboneError: the name is unknown, or the model does not fit.
            ConfigError: a setting is unknown or out of range.
        """
        from vlad.backbones import load_backbone
        from vlad.persistence import is_saved_detector

        if not isinstance(name, (str, Path)) or not str(name).strip():
            raise ConfigError(f"name must be the name or the folder of a model, got {name!r}")
        options: dict[str, Any] = {"device": device, "dtype": dtype, "cache_dir": cache_dir}
        if is_saved_detector(name):
            if pretrained is not None:
                raise ConfigError(f"{str(name)!r} is a saved detector and names its own model; leave pretrained out")
            return cls.load(name, prompts=prompts, **options, **settings)
        config = DetectorConfig.from_dict(settings)  # a typo should not cost the time of loading a model
        prompts = "winclip" if prompts is None else prompts
        ensemble = prompts if isinstance(prompts, PromptEnsemble) else PromptEnsemble.load(prompts)
        ensemble.noun(config.class_name)
        return cls(load_backbone(str(name), pretrained=pretrained, **options), prompts=ensemble, **settings)

    def save(self, folder: str | Path) -> Path:
        """Write config.json and text_vectors.safetensors into `folder` (made if missing) and return it. The model's weights are not
        copied: the folder names the model and holds the hash of its weights, which `load` checks where the precision is the same."""
        from vlad.persistence import save_detector

        return save_detector(self, Path(folder))

    @classmethod
    def load(
        cls, folder: str | Path, *, backbone: Backbone | None = None, prompts: PromptEnsemble | str | Path | None = None, **options: Any
    ) -> AnomalyDetector:
        """A detector from a folder that `save` wrote.

        Args:
            folder: the folder.
            backbone: needed if the detector was made from a model object instead of a name.
            prompts: other prompts than the saved ones.
            **options: `device`, `dtype`, `cache_dir` of the model, and fields of `DetectorConfig` that override the saved ones.

        Raises:
            ConfigError: the folder holds no detector, one of a newer version, or one of other weights than those found.
            WeightsNotFoundError: the weights of its model are not at hand.
        """
        from vlad.persistence import load_detector

        return load_detector(cls, Path(folder), backbone=backbone, prompts=prompts, **options)

    def text_vectors(self, class_name: str | None = None) -> Tensor:
        """Unit vectors (2, D) of the normal and the anomalous sentences for a class name, float32; cached.

        Raises:
            PromptError: the class name cannot be put into a sentence.
        """
        from vlad.scoring.text import text_vectors

        class_name = class_name or self.config.class_name
        key = (self.prompts.fingerprint, self.prompts.noun(class_name))
        if key in self._text_cache:
            self._text_cache.move_to_end(key)
            return self._text_cache[key]
        normal, anomalous = self.prompts.sentences(class_name)
        embeddings = self.backbone.encode_text([*normal, *anomalous])
        vectors = text_vectors(embeddings[: len(normal)], embeddings[len(normal) :])
        self._text_cache[key] = vectors
        if len(self._text_cache) > _TEXT_CACHE:
            self._text_cache.popitem(last=False)
        return vectors

    @overload
    def predict(self, images: ImageSource, *, on_error: Literal["raise"] = ..., **options: Any) -> Prediction: ...
    @overload
    def predict(self, images: Sequence[ImageSource], *, on_error: Literal["raise"] = ..., **options: Any) -> list[Prediction]: ...
    @overload
    def predict(self, images: Any, *, on_error: Literal["raise", "return"] = ..., **options: Any) -> Any: ...
    def predict(self, images: Any, *, on_error: Literal["raise", "return"] = "raise", **options: Any) -> Any:
        """Is something wrong with a picture, and where. Changes nothing in the detector.

        Args:
            images: one picture (a path, bytes, PIL image, array or tensor; see `read_image`), or a list of them.
            on_error: what to do with an unreadable picture of a list: "raise" the ImageReadError, or "return" it in the picture's place,
                so that nothing already done is lost.
            **options: `class_name`, `batch_size`, `maps`, `threshold`, `mask_threshold` and `tile`; see `predict_iter`.

        Returns:
            One `Prediction`, or for a list a list of them in the same order.

        Raises:
            ImageReadError: a picture cannot be read; the message names it.
            PromptError: the class name cannot be put into a sentence.
            ConfigError: an option is out of range.
        """
        if _is_one_picture(images):
            return next(self.predict_iter([images], **options))
        return list(self.predict_iter(images, on_error=on_error, **options))

    def predict_iter(
        self,
        images: Iterable[ImageSource],
        *,
        class_name: str | None = None,
        batch_size: int = 8,
        maps: bool = True,
        threshold: float | None = None,
        mask_threshold: float | None = None,
        tile: int | None = None,
        on_error: Literal["raise", "return"] = "raise",
    ) -> Iterator[Any]:
        """`predict` for any number of pictures: reads them as they are needed and yields results as they come, in order.

        Args:
            images: pictures, see `read_image`.
            class_name: noun for the prompts, e.g. "metal nut"; None takes the detector's, else "object".
            batch_size: pictures (or tiles) that go through the model together; large pictures fill a batch sooner, at 50 megapixels.
            maps: False gives the image score alone, many times faster: no window is computed.
            threshold: overrides the detector's; `threshold_source` becomes "user".
            mask_threshold: overrides the detector's.
            tile: overrides the detector's `tile`, 0 switches it off; a tiled picture's score is the highest of its tiles and of the whole.
            on_error: see `predict`.
        """
        overrides: dict[str, Any] = {"threshold": threshold, "mask_threshold": mask_threshold, "tile": tile}
        given = {key: value for key, value in overrides.items() if value is not None}
        config = DetectorConfig.from_dict(self.config.to_dict() | given)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(f"batch_size must be a whole number >= 1, got {batch_size!r}")
        if on_error not in ("raise", "return"):
            raise ConfigError(f"on_error must be 'raise' or 'return', got {on_error!r}")
        if _is_one_picture(images):
            raise ConfigError("predict_iter takes many pictures, got one; put it into a list, or call predict")
        if config.tile is not None and config.tile < self.backbone.preprocessing.size:
            warnings.warn(
                f"tiles of {config.tile} pixels are enlarged to the {self.backbone.preprocessing.size} of {self.backbone.name}, "
                "which costs time and shows nothing more; use larger tiles",
                VladWarning,
                stacklevel=3,
            )
        scales = self.scales if maps else ()
        noun = self.prompts.noun(class_name or self.config.class_name)
        vectors = self.text_vectors(class_name)
        start = time.perf_counter()
        for batch in self._batches(images, batch_size, on_error):
            readable = [picture for _, picture in batch if isinstance(picture, np.ndarray)]
            scored = iter(self._score_all(readable, vectors, scales, config, batch_size))
            seconds = (time.perf_counter() - start) / len(batch)
            for source, picture in batch:
                if isinstance(picture, ImageReadError):
                    yield picture
                else:
                    yield self._prediction(source, picture, next(scored), config, noun, seconds)
            start = time.perf_counter()

    def _batches(
        self, images: Iterable[ImageSource], batch_size: int, on_error: str
    ) -> Iterator[list[tuple[ImageSource, np.ndarray | ImageReadError]]]:
        """Read pictures into batches, each picture (or why it could not be read) beside its source."""
        batch: list[tuple[ImageSource, np.ndarray | ImageReadError]] = []
        pixels = 0
        for source in images:
            picture = self._read(source, on_error)
            batch.append((source, picture))
            pixels += picture.size // 3 if isinstance(picture, np.ndarray) else 0
            if len(batch) == batch_size or pixels >= _BATCH_PIXELS:
                yield batch
                batch, pixels = [], 0
        if batch:
            yield batch

    def _read(self, source: ImageSource, on_error: str) -> np.ndarray | ImageReadError:
        try:
            picture = read_image(source, max_pixels=self.config.max_pixels)
        except ImageReadError as error:
            if on_error == "raise":
                raise
            return error
        if (picture[::16, ::16] == picture[0, 0]).all() and (picture == picture[0, 0]).all():
            shown = source if isinstance(source, (str, Path)) else "a picture"
            warnings.warn(
                f"{shown}: every pixel has the same value, so there is nothing to see; check the camera", VladWarning, stacklevel=4
            )
        return picture

    def _prediction(
        self, source: ImageSource, picture: np.ndarray, scored: _Scored, config: DetectorConfig, noun: str, seconds: float
    ) -> Prediction:
        threshold = _TEXT_THRESHOLD if config.threshold is None else config.threshold
        return Prediction(
            image_path=str(source) if isinstance(source, (str, Path)) else None,
            image_size=cast(tuple[int, int], picture.shape[:2]),
            class_name=noun,
            pred_score=scored.score,
            threshold=threshold,
            threshold_source="text" if config.threshold is None else "user",
            mask_threshold=threshold if config.mask_threshold is None else config.mask_threshold,
            anomaly_map=scored.map,
            scores=scored.parts,
            model=self.backbone.name,
            prompts=self.prompts.name,
            seconds=seconds,
            _read=partial(read_image, source, max_pixels=config.max_pixels),
        )

    def _score_all(
        self, pictures: list[np.ndarray], vectors: Tensor, scales: tuple[int, ...], config: DetectorConfig, batch_size: int
    ) -> list[_Scored]:
        """Score pictures of any size: those that fit in a tile in one batch, each larger one by its tiles."""
        is_large = [config.tile is not None and max(picture.shape[:2]) > config.tile for picture in pictures]
        small = iter(self._score([p for p, large in zip(pictures, is_large, strict=True) if not large], vectors, scales))
        whole = iter(self._score([p for p, large in zip(pictures, is_large, strict=True) if large], vectors, ()))
        return [
            self._score_tiles(picture, next(whole), vectors, scales, config, batch_size) if large else next(small)
            for picture, large in zip(pictures, is_large, strict=True)
        ]

    def _score(self, pictures: list[np.ndarray], vectors: Tensor, scales: tuple[int, ...]) -> list[_Scored]:
        """Score each picture as a whole, in one batch."""
        from vlad.scoring.text import score_text
        from vlad.scoring.windows import upsample

        if not pictures:
            return []
        grid = self.backbone.grid
        embeddings = self.backbone.encode_image(preprocess(pictures, self.backbone.preprocessing), scales=scales)
        scored = []
        for index, picture in enumerate(pictures):  # one by one, so that a picture's score is bit for bit the same in every batch
            one = slice(index, index + 1)
            windows = {scale: values[one] for scale, values in embeddings.windows.items()}
            text = score_text(embeddings.image[one], windows, vectors, grid=grid, temperature=self.temperature)
            score = float(text.image)
            parts = {"text_image": score} | {f"text_scale_{scale}_max": float(values.max()) for scale, values in text.scales.items()}
            anomaly_map = None
            if text.multi_scale is not None:
                anomaly_map = upsample(text.multi_scale, grid, (picture.shape[0], picture.shape[1]))[0].cpu().numpy()
                parts["map_max"] = float(text.multi_scale.max())
            scored.append(_Scored(score, anomaly_map, parts))
        return scored

    def _score_tiles(
        self, picture: np.ndarray, whole: _Scored, vectors: Tensor, scales: tuple[int, ...], config: DetectorConfig, batch_size: int
    ) -> _Scored:
        """The blended map of a picture's tiles; its score is the highest of the tiles and of the whole, so that a small defect counts."""
        height, width = picture.shape[:2]
        grid = TileGrid.over(height, width, cast(int, config.tile), overlap=config.tile_overlap, least=self.backbone.preprocessing.size)
        best: list[float] = []

        def tile_maps() -> Iterator[np.ndarray]:
            boxes = grid.boxes()
            while some := list(islice(boxes, batch_size)):
                crops = [picture[top:bottom, left:right] for left, top, right, bottom in some]
                for scored in self._score(crops, vectors, scales):
                    best.append(scored.score)
                    if scored.map is not None:
                        yield scored.map

        blended = grid.blend(tile_maps())
        parts = {
            "text_image": whole.score,
            "text_tile_max": max(best),
            "tiles": float(len(best)),
        }
        if not scales:
            return _Scored(max(whole.score, *best), None, parts)
        return _Scored(max(whole.score, *best), blended, parts | {"map_max": float(blended.max())})


@dataclass(frozen=True)
class _Scored:
    """Image score, float32 map (H, W) or None, and the partial scores of one picture."""

    score: float
    map: np.ndarray | None
    parts: dict[str, float]


def _is_one_picture(images: Any) -> bool:
    """A list, tuple, iterator, or an array or tensor with a batch axis is many pictures; everything else is one."""
    if hasattr(images, "shape"):
        return len(images.shape) != 4
    if isinstance(images, (str, bytes, bytearray, memoryview, Path)) or hasattr(images, "read"):
        return True
    return not isinstance(images, Iterable)
