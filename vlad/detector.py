"""The detector: glue between pictures, a backbone, prompts and scorers."""

from __future__ import annotations

import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np

from vlad.backbones.encoder import Encoder
from vlad.config import DetectorConfig
from vlad.errors import ConfigError, ImageReadError, VladWarning
from vlad.pictures.reading import ImageSource, read_image
from vlad.prediction import Prediction
from vlad.prompts import PromptEnsemble
from vlad.references import MemorySettings, Reference, ReferenceMemory
from vlad.scoring.pictures import PictureScorer, Scored, TextSide

if TYPE_CHECKING:
    from torch import Tensor

    from vlad.backbones.base import Backbone, PatchBackbone
    from vlad.monitor import DriftMonitor
    from vlad.vlm.answer import Answer
    from vlad.vlm.backends.base import Limits, VlmBackend
    from vlad.vlm.inspector import Inspector

_TEXT_THRESHOLD = 0.5  # above it the anomalous text is the nearer one
_BATCH_PIXELS = 50_000_000  # a batch of large pictures is full at 150 MB
_TEXT_CACHE = 64  # text vectors of so many (prompt set, class name) pairs are kept; each is two vectors


class AnomalyDetector:
    """Finds visual anomalies with words alone (zero-shot, WinCLIP, arXiv 2303.14814), or with words and a few normal pictures (few-shot).

    ```python
    detector = AnomalyDetector.from_pretrained("auto")
    result = detector.predict("part.png", class_name="metal nut")
    detector.fit(["ok_1.png", "ok_2.png"])  # from here on pictures are compared with these as well
    ```

    Args:
        backbone: joint encoder of pictures and text, e.g. `ClipBackbone(model, tokenizer)`; `from_pretrained` makes one by name. Or a
            patch backbone, e.g. `TimmBackbone(model)`, which knows no words and needs `fit`.
        patch_backbone: gives the patch tokens for the comparison with references, where `backbone` is a joint encoder.
        prompts: what normal and anomalous mean in words: a shipped set's name, a YAML file, or a `PromptEnsemble`.
        **settings: fields of `DetectorConfig`, e.g. `scales=(2, 3)`, `temperature=0.07`, `class_name="metal nut"`, `threshold=0.4`.

    Raises:
        ConfigError: a setting is unknown or out of range, a scale does not fit on the backbone's grid, or a scorer the backbone.
        PromptError: the prompt set is missing or malformed.
    """

    def __init__(
        self,
        backbone: Backbone | PatchBackbone,
        *,
        patch_backbone: PatchBackbone | None = None,
        prompts: PromptEnsemble | str | Path = "winclip",
        **settings: Any,
    ) -> None:
        self.encoder = Encoder(backbone, patch_backbone)
        self.backbone = backbone
        self.patch_backbone = patch_backbone
        self.prompts = prompts if isinstance(prompts, PromptEnsemble) else PromptEnsemble.load(prompts)
        self.config = DetectorConfig.from_dict(settings)
        joint = self.encoder.joint
        self.scales: tuple[int, ...] = ()
        self.temperature = 0.0
        if joint is not None:
            self.scales = joint.scales if self.config.scales is None else self.config.scales
            self.temperature = self.config.temperature or joint.temperature
            if self.scales and max(self.scales) > min(joint.grid):
                raise ConfigError(
                    f"scales {self.scales} do not fit on {joint.name}, whose grid has {joint.grid[0]} x {joint.grid[1]} patches"
                )
        has_patch_backbone = self.encoder.patch_backbone is not None
        of_backbone: str = "nearest" if has_patch_backbone else getattr(joint, "scorer", "winclip")
        self.scorer = self.config.scorer or of_backbone
        if self.scorer == "winclip" and has_patch_backbone:
            raise ConfigError("scorer 'winclip' compares windows of a CLIP, a patch backbone has none; use 'nearest' or 'subspace'")
        self.memory: ReferenceMemory | None = None
        self._text_cache: OrderedDict[tuple[str, str], Tensor] = OrderedDict()
        self._inspector: tuple[object, Inspector] | None = None  # the last one, with the VLM it was asked for

    @property
    def model_name(self) -> str:
        """Names the models and their weights; every result carries it."""
        return self.backbone.name if self.patch_backbone is None else f"{self.backbone.name} + {self.patch_backbone.name}"

    @property
    def references(self) -> tuple[Reference, ...]:
        """The normal pictures that `fit` remembered, without duplicates; empty before."""
        return () if self.memory is None else tuple(self.memory.references.values())

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
        patch_backbone: str | Path | PatchBackbone | None = None,
        resolution: int | None = None,
        square: bool | None = None,
        layers: Sequence[int] | None = None,
        merge: str | None = None,
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
            patch_backbone: name of a patch backbone beside the model, e.g. "dinov2-small"; or the object.
            resolution, square, layers, merge: of the patch backbone, be it the model or beside it; see `TimmBackbone`.
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
        given = {"resolution": resolution, "square": square, "layers": layers, "merge": merge}
        of_patches: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if is_saved_detector(name):
            for key in [*(["pretrained"] if pretrained else []), *(["patch_backbone"] if patch_backbone else []), *of_patches]:
                raise ConfigError(f"{str(name)!r} is a saved detector and names its own model; leave {key} out")
            return cls.load(name, prompts=prompts, **options, **settings)
        config = DetectorConfig.from_dict(settings)  # a typo should not cost the time of loading a model
        prompts = "winclip" if prompts is None else prompts
        ensemble = prompts if isinstance(prompts, PromptEnsemble) else PromptEnsemble.load(prompts)
        ensemble.noun(config.class_name)
        if patch_backbone is None:
            return cls(load_backbone(str(name), pretrained=pretrained, **options, **of_patches), prompts=ensemble, **settings)
        if isinstance(patch_backbone, (str, Path)):
            patch_backbone = cast("PatchBackbone", load_backbone(str(patch_backbone), **options, **of_patches))
        elif of_patches:
            raise ConfigError(f"{', '.join(of_patches)} belong to a patch backbone given by name; make the object with them instead")
        return cls(load_backbone(str(name), pretrained=pretrained, **options), patch_backbone=patch_backbone, prompts=ensemble, **settings)

    def save(self, folder: str | Path) -> Path:
        """Write config.json, text_vectors.safetensors and, with references, memory.safetensors into `folder` (made if missing) and return
        it. The model's weights are not copied: the folder names the model and holds the hash of its weights, which `load` checks where
        the precision is the same. The reference pictures are not copied either, only what the model saw in them."""
        from vlad.persistence import save_detector

        return save_detector(self, Path(folder))

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        backbone: Backbone | PatchBackbone | None = None,
        patch_backbone: PatchBackbone | None = None,
        prompts: PromptEnsemble | str | Path | None = None,
        **options: Any,
    ) -> AnomalyDetector:
        """A detector from a folder that `save` wrote. With it come the references: the folder alone gives the same scores, bit for bit on
        the same machine.

        Args:
            folder: the folder.
            backbone, patch_backbone: needed if the detector was made from model objects instead of names.
            prompts: other prompts than the saved ones.
            **options: `device`, `dtype`, `cache_dir` of the model, and fields of `DetectorConfig` that override the saved ones.

        Raises:
            ConfigError: the folder holds no detector, a damaged one, one of a newer version, or one of other weights than those found; or a
                setting would need the references to be seen again.
            WeightsNotFoundError: the weights of its model are not at hand.
        """
        from vlad.persistence import load_detector

        return load_detector(cls, Path(folder), backbone=backbone, patch_backbone=patch_backbone, prompts=prompts, **options)

    def copy(self, *, prompts: PromptEnsemble | str | Path | None = None, **settings: Any) -> AnomalyDetector:
        """Another detector on the same model: the weights are shared and only ever read, while references, prompts and settings belong to
        the copy. It takes no time and no memory, so every visitor of a server can have one. It starts with this one's references.

        Args:
            prompts: other prompts than this one's.
            **settings: fields of `DetectorConfig` that override this one's.

        Raises:
            ConfigError: a setting is unknown or out of range, or would need the references to be seen again.
            PromptError: the prompt set is missing or malformed.
        """
        other = AnomalyDetector(
            self.backbone,
            patch_backbone=self.patch_backbone,
            prompts=self.prompts if prompts is None else prompts,
            **(self.config.to_dict() | settings),
        )
        if self.memory is not None:
            wanted, had = other._memory_settings(), self._memory_settings()
            if wanted != had:
                raise ConfigError(f"{', '.join(settings)} would need the references to be seen again; copy before fit()")
            other.memory = self.memory  # never changed in place: fit, add_references and remove_references put another in its place
        other._text_cache = OrderedDict(self._text_cache)  # its keys hold the prompts' fingerprint
        return other

    def text_vectors(self, class_name: str | None = None) -> Tensor:
        """Unit vectors (2, D) of the normal and the anomalous sentences for a class name, float32; cached.

        Raises:
            PromptError: the class name cannot be put into a sentence.
            ConfigError: the backbone knows no words.
        """
        from vlad.scoring.text import text_vectors

        if self.encoder.joint is None:
            raise ConfigError(f"{self.backbone.name} knows no words; name a CLIP or lite as the model and this one as patch_backbone")
        class_name = class_name or self.config.class_name
        key = (self.prompts.fingerprint, self.prompts.noun(class_name))
        if key in self._text_cache:
            self._text_cache.move_to_end(key)
            return self._text_cache[key]
        normal, anomalous = self.prompts.sentences(class_name)
        embeddings = self.encoder.joint.encode_text([*normal, *anomalous])
        vectors = text_vectors(embeddings[: len(normal)], embeddings[len(normal) :])
        self._text_cache[key] = vectors
        if len(self._text_cache) > _TEXT_CACHE:
            self._text_cache.popitem(last=False)
        return vectors

    def fit(
        self,
        references: ImageSource | Iterable[ImageSource],
        *,
        class_name: str | None = None,
        on_error: Literal["warn", "raise"] = "warn",
    ) -> AnomalyDetector:
        """Remember normal pictures; from here on pictures are compared with them, and the threshold comes from them.

        Replaces what was remembered before; if it fails, that stays. The order of the references never matters. A duplicate is left
        out, because it would make the leave-one-out threshold too strict.

        Args:
            references: good pictures of the same kind of part, 1 to some 1,000; paths, folders, or whatever `read_image` takes.
            class_name: noun for the prompts from now on; None keeps the detector's.
            on_error: an unreadable reference is named in a warning and left out ("warn"), or raises its ImageReadError ("raise").

        Returns:
            The detector itself.

        Raises:
            ImageReadError: no reference could be read, or one could not and `on_error` is "raise".
            ConfigError: no references.
        """
        from vlad.references.fitting import fit_memory

        config = self.config if class_name is None else replace(self.config, class_name=class_name)
        before, self.config = self.config, config
        try:
            self.memory = fit_memory(self, ReferenceMemory(self._memory_settings()), references, on_error)
        except BaseException:
            self.config = before
            raise
        return self

    def add_references(
        self, references: ImageSource | Iterable[ImageSource], *, on_error: Literal["warn", "raise"] = "warn"
    ) -> AnomalyDetector:
        """Remember more normal pictures beside those of `fit`, and calibrate anew; see there.

        References that cannot be read again (they came as data and the detector was loaded from a folder, or their file has changed)
        keep their old scores in the calibration, and a warning says so.
        """
        from vlad.references.fitting import fit_memory

        memory = ReferenceMemory(self._memory_settings()) if self.memory is None else self.memory.copy()
        self.memory = fit_memory(self, memory, references, on_error)
        return self

    def remove_references(self, references: ImageSource | Iterable[ImageSource | Reference]) -> AnomalyDetector:
        """Forget references, given as pictures or as items of `references`, and calibrate anew, as `add_references` does.

        Raises:
            ConfigError: one of them is not remembered, or none would be left; nothing is forgotten then.
        """
        from vlad.references.fitting import forget

        self.memory = forget(self, references)
        return self

    def monitor(self, *, warm_up: int = 20, window: int = 20, limit: float = 3.0) -> DriftMonitor:
        """Watches a stream of pictures and says when it has moved away from the references or from its own beginning; see
        `DriftMonitor`."""
        from vlad.monitor import DriftMonitor

        return DriftMonitor(self, warm_up=warm_up, window=window, limit=limit)

    def _memory_settings(self) -> MemorySettings:
        scales = self.scales if self.scorer == "winclip" else ()
        config = self.config
        return MemorySettings(
            scorer=self.scorer,
            scales=scales,
            rotations=config.rotations,
            coreset=config.coreset,
            foreground=config.foreground,
            tile=config.tile,
        )

    @property
    def text_weight(self) -> float:
        """Weight in [0, 1] of the text score beside references."""
        if self.encoder.joint is None:
            return 0.0
        of_backbone: float = getattr(self.encoder.joint, "text_weight", 0.5)
        return of_backbone if self.config.text_weight is None else self.config.text_weight

    def picture_scorer(
        self, *, class_name: str | None, config: DetectorConfig, maps: bool, batch_size: int, memory: ReferenceMemory | None
    ) -> PictureScorer:
        """What scores pictures with these settings and this memory.

        Raises:
            PromptError: the class name cannot be put into a sentence.
            ConfigError: the backbone knows no words and there are no references.
        """
        if memory is None and self.encoder.joint is None:
            raise ConfigError(
                f"{self.backbone.name} knows no words and has no references; fit() normal pictures first (--references DIR), or name a CLIP"
            )
        text = None
        if self.encoder.joint is not None and (memory is None or self.text_weight > 0 or self.encoder.patch_backbone is None):
            joint = self.encoder.joint
            text = TextSide(
                self.text_vectors(class_name),
                joint.grid,
                self.scales,
                self.temperature,
                rarity=getattr(joint, "rarity", 0.0) if config.rarity is None else config.rarity,
                rarity_centre=getattr(joint, "rarity_centre", 0.25),
            )
        return PictureScorer(
            encoder=self.encoder, text=text, memory=memory, text_weight=self.text_weight, config=config, maps=maps, batch_size=batch_size
        )

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
        if config.tile is not None and config.tile < self.encoder.size:
            warnings.warn(
                f"tiles of {config.tile} pixels are enlarged to the {self.encoder.size} of {self.model_name}, "
                "which costs time and shows nothing more; use larger tiles",
                VladWarning,
                stacklevel=3,
            )
        noun = self.prompts.noun(class_name or self.config.class_name)
        self._note_other_conditions(config, noun)
        scorer = self.picture_scorer(class_name=class_name, config=config, maps=maps, batch_size=batch_size, memory=self.memory)
        start = time.perf_counter()
        for batch in self._batches(images, batch_size, on_error):
            readable = [picture for _, picture in batch if isinstance(picture, np.ndarray)]
            scored = iter(scorer.score(readable))
            seconds = (time.perf_counter() - start) / len(batch)
            for source, picture in batch:
                if isinstance(picture, ImageReadError):
                    yield picture
                else:
                    yield self._prediction(source, picture, next(scored), config, noun, seconds)
            start = time.perf_counter()

    def ask(
        self,
        image: ImageSource,
        question: str = "What is wrong?",
        *,
        vlm: str | VlmBackend | None = None,
        class_name: str | None = None,
        threshold: float | None = None,
        knowledge: str | Path = "",
        vocabulary: str | Path = "generic",
        limits: Limits | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """What is wrong with a picture, in words. The verdict is the detector's; a VLM explains, and where it disagrees the answer says so.

        Args:
            image: one picture; see `read_image`.
            question: in words.
            vlm: who explains. None or "none": the describer, which needs nothing beside this detector. A name or folder of a model for
                transformers, the URL of an OpenAI-compatible server ("http://localhost:8000/v1", with "#MODEL" where it serves several),
                or a backend object.
            class_name: noun, e.g. "metal nut"; None takes the detector's.
            threshold: overrides the detector's.
            knowledge: text on what is normal and what is not, or the path of a text file with it; for a VLM.
            vocabulary: defect types of the describer: a shipped name or a YAML file.
            limits: tokens and seconds of a VLM's reply; None is 512 tokens and 120 s.
            on_text: called with each piece of a VLM's reply as it comes.

        Raises:
            ImageReadError: the picture cannot be read.
            ConfigError: the question is empty, or an option is out of range.
            PromptError: the class name or the vocabulary is malformed.
            VlmError: there is no such VLM. One that fails to answer does not raise: the describer's answer stands in, and
                `Answer.problems` says why.
        """
        from vlad.vlm import inspector_for

        inspector = inspector_for(self, vlm=vlm, knowledge=knowledge, vocabulary=vocabulary, limits=limits)
        return inspector.ask(image, question, class_name=class_name, threshold=threshold, on_text=on_text)

    def _note_other_conditions(self, config: DetectorConfig, noun: str) -> None:
        """Warn where pictures are looked at in another way than the references were."""
        memory = self.memory
        if memory is None:
            return
        if config.tile is not None and config.tile != memory.settings.tile:
            warnings.warn(
                f"tiles of {config.tile} pixels are compared with references that were seen with tile={memory.settings.tile}, at another "
                f"scale; fit with tile={config.tile}",
                VladWarning,
                stacklevel=4,
            )
        if noun != memory.noun and self.text_weight > 0 and config.threshold is None:
            warnings.warn(
                f"the threshold was calibrated for the class name {memory.noun!r}, the text now says {noun!r}; fit with that class name",
                VladWarning,
                stacklevel=4,
            )

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
        self, source: ImageSource, picture: np.ndarray, scored: Scored, config: DetectorConfig, noun: str, seconds: float
    ) -> Prediction:
        threshold, threshold_source, mask_threshold = self._thresholds(config)
        calibration = None if self.memory is None else self.memory.calibration
        p_value = {} if calibration is None else {"p_value": calibration.p_value(scored.score)}
        return Prediction(
            image_path=str(source) if isinstance(source, (str, Path)) else None,
            image_size=cast(tuple[int, int], picture.shape[:2]),
            class_name=noun,
            pred_score=scored.score,
            threshold=threshold,
            threshold_source=threshold_source,
            mask_threshold=mask_threshold,
            anomaly_map=scored.map,
            scores=scored.parts | p_value,
            model=self.model_name,
            prompts=self.prompts.name,
            seconds=seconds,
            embedding=scored.embedding,
            _read=partial(read_image, source, max_pixels=config.max_pixels),
        )

    def _thresholds(self, config: DetectorConfig) -> tuple[float, str, float]:
        """The picture's threshold, where it comes from ("user", "references" or "text"), and the pixels'."""
        calibration = None if self.memory is None else self.memory.calibration
        if calibration is None:
            image = pixel = _TEXT_THRESHOLD
            source = "text"
        else:
            image = calibration.image_threshold(config.calibration, config.fpr_limit)
            pixel = calibration.pixel_threshold(config.calibration, config.fpr_limit)
            source = "references"
        if config.threshold is not None:
            image, source = config.threshold, "user"
            pixel = config.threshold if calibration is None else pixel
        return image, source, pixel if config.mask_threshold is None else config.mask_threshold


def _is_one_picture(images: Any) -> bool:
    """A list, tuple, iterator, or an array or tensor with a batch axis is many pictures; everything else is one."""
    if hasattr(images, "shape"):
        return len(images.shape) != 4
    if isinstance(images, (str, bytes, bytearray, memoryview, Path)) or hasattr(images, "read"):
        return True
    return not isinstance(images, Iterable)
