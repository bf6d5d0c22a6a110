"""What a detector is made of: backbones, prompts, settings and references that belong together. How it is made, copied, saved and loaded,
and what scores pictures with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from vlad.backbones.encoder import Encoder
from vlad.config import DetectorConfig, Settings
from vlad.errors import ConfigError, warn
from vlad.pictures.reading import ImageSource, read_image
from vlad.prediction import Prediction
from vlad.prompts.ensemble import PromptEnsemble
from vlad.references.calibration import Calibration, guess_note
from vlad.references.fitting import fit_memory, recalibrated
from vlad.references.memory import MemorySettings, Reference, ReferenceMemory
from vlad.references.report import FitReport
from vlad.references.thresholds import choose_thresholds
from vlad.references.unlabelled import Judged, MutualSettings, why_undecided
from vlad.scoring.methods import find_method, listed
from vlad.scoring.pictures import PictureScorer, Scored, TextSide

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from vlad.backbones.base import Backbone, PatchBackbone
    from vlad.references.unlabelled_fit import Sorted
    from vlad.scoring.pictures import Conditions

_CALIBRATIONS = 16  # thresholds under so many further conditions (another class name, another tile) are kept


class DetectorCore:
    """The parts of an `AnomalyDetector`, which adds what it does; see there for the arguments."""

    def __init__(
        self,
        backbone: Backbone | PatchBackbone,
        *,
        patch_backbone: PatchBackbone | None = None,
        prompts: PromptEnsemble | str | Path = "winclip",
        **settings: Unpack[Settings],
    ) -> None:
        from vlad.scoring.text import TextVectors

        self.encoder = Encoder(backbone, patch_backbone)
        self.backbone = backbone
        self.patch_backbone = patch_backbone
        self.prompts = prompts if isinstance(prompts, PromptEnsemble) else PromptEnsemble.load(prompts)
        self.config = DetectorConfig.from_dict(settings)
        joint, config = self.encoder.joint, self.config
        self.scales: tuple[int, ...] = ()
        self.temperature = 0.0
        if joint is not None:
            self.scales = joint.scales if config.scales is None else config.scales
            self.temperature = config.temperature or joint.temperature
            if self.scales and max(self.scales) > min(joint.grid):
                raise ConfigError(
                    f"scales {self.scales} do not fit on {joint.name}, whose grid has {joint.grid[0]} x {joint.grid[1]} patches"
                )
        self.scorer = config.scorer or self.encoder.advice.scorer
        method = find_method(self.scorer)
        if method.needs_windows and self.encoder.patch_backbone is not None:
            raise ConfigError(
                f"scorer {self.scorer!r} compares windows of a CLIP, a patch backbone has none; use {listed(without_windows=True)}"
            )
        self._check_framing(config)
        self.fit_report = FitReport()
        self._text = None if joint is None else TextVectors(joint)
        self._memory: ReferenceMemory | None = None
        self._calibrations: dict[Conditions, Calibration | None] = {}

    def _check_framing(self, config: DetectorConfig) -> None:
        if find_method(self.scorer).same_framing and (config.tile is not None or (config.rotations or 1) > 1):
            raise ConfigError(
                f"scorer {self.scorer!r} compares place with place, so it takes neither tiles nor turned copies; leave tile and rotations "
                "out, or use scorer 'nearest'"
            )

    @property
    def model_name(self) -> str:
        """Names the models and their weights; every result carries it."""
        return self.backbone.name if self.patch_backbone is None else f"{self.backbone.name} + {self.patch_backbone.name}"

    @property
    def references(self) -> tuple[Reference, ...]:
        """The normal pictures that `fit` remembered, without duplicates; empty before."""
        return () if self.memory is None else tuple(self.memory.references.values())

    @property
    def memory(self) -> ReferenceMemory | None:
        """What is remembered of the references. Never changed in place, so that several detectors may hold the same."""
        return self._memory

    @memory.setter
    def memory(self, memory: ReferenceMemory | None) -> None:
        self._memory = memory
        self._calibrations = {}

    @property
    def decides_alone(self) -> bool:
        """Whether one picture by itself gets a verdict: from references, from a given threshold, or from words that can tell."""
        return self.memory is not None or choose_thresholds(self.config, None, self.encoder.text_advice.text_threshold).image is not None

    @property
    def text_weight(self) -> float:
        """Weight in [0, 1] of the text score beside references."""
        if self.encoder.joint is None:
            return 0.0
        return self.encoder.text_advice.text_weight if self.config.text_weight is None else self.config.text_weight

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
        **settings: Unpack[Settings],
    ) -> Self:
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
        from vlad.backbones.registry import load_backbones
        from vlad.persistence import is_saved_detector

        if not isinstance(name, (str, Path)) or not str(name).strip():
            raise ConfigError(f"name must be the name or the folder of a model, got {name!r}")
        given = {"resolution": resolution, "square": square, "layers": layers, "merge": merge}
        of_patches: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if is_saved_detector(name):
            for key in [*(["pretrained"] if pretrained else []), *(["patch_backbone"] if patch_backbone else []), *of_patches]:
                raise ConfigError(f"{str(name)!r} is a saved detector and names its own model; leave {key} out")
            return cls.load(name, prompts=prompts, device=device, dtype=dtype, cache_dir=cache_dir, **settings)
        config = DetectorConfig.from_dict(settings)  # a typo should not cost the time of loading a model
        prompts = "winclip" if prompts is None else prompts
        ensemble = prompts if isinstance(prompts, PromptEnsemble) else PromptEnsemble.load(prompts)
        ensemble.noun(config.class_name)
        backbone, beside = load_backbones(
            str(name), patch_backbone, pretrained=pretrained, device=device, dtype=dtype, cache_dir=cache_dir, **of_patches
        )
        return cls(backbone, patch_backbone=beside, prompts=ensemble, **settings)

    def save(self, folder: str | Path, *, page: str | None = None) -> Path:
        """Write config.json, text_vectors.safetensors and, with references, memory.safetensors into `folder` (made if missing) and return
        it. The model's weights are not copied: the folder names the model and holds the hash of its weights, which `load` checks where
        the precision is the same. The reference pictures are not copied either, only what the model saw in them.

        Args:
            folder: a detector that is there already is replaced.
            page: HTML that goes with the references as left_out.html, for people (`vlad.output.left_out.left_out_page`). None keeps one
                that lies there if the references are the same, and removes it if they are others.
        """
        from vlad.persistence import SavedState, describe_backbone, write_state

        text = {}
        if self._text is not None:
            self.text_vectors()
            text = {noun: value.cpu() for (prompts, noun), value in self._text.known.items() if prompts == self.prompts.fingerprint}
        state = SavedState(
            model=describe_backbone(self.backbone),
            patch_model=None if self.patch_backbone is None else describe_backbone(self.patch_backbone),
            prompts=self.prompts.to_dict(),
            settings=self.config.to_dict(),
            text=text,
            memory=None if self.memory is None else self.memory.state(),
            page=page,
        )
        return write_state(Path(folder), state)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        backbone: Backbone | PatchBackbone | None = None,
        patch_backbone: PatchBackbone | None = None,
        prompts: PromptEnsemble | str | Path | None = None,
        device: str = "auto",
        dtype: str | None = None,
        cache_dir: str | Path | None = None,
        **settings: Unpack[Settings],
    ) -> Self:
        """A detector from a folder that `save` wrote. With it come the references: the folder alone gives the same scores, bit for bit on
        the same machine.

        Args:
            folder: the folder.
            backbone, patch_backbone: needed if the detector was made from model objects instead of names.
            prompts: other prompts than the saved ones.
            device, dtype, cache_dir: of the model; see `from_pretrained`. None as dtype takes the saved one.
            **settings: fields of `DetectorConfig` that override the saved ones. Where the threshold hangs on one, it is calibrated anew on
                the references' files.

        Raises:
            ConfigError: the folder holds no detector, a damaged one, one of a newer version, or one of other weights than those found; or a
                setting would need the references to be seen again and they cannot be.
            WeightsNotFoundError: the weights of its model are not at hand.
        """
        from vlad.persistence import read_state, restore_backbone, restore_memory

        folder = Path(folder)
        state = read_state(folder)
        options: dict[str, Any] = {"device": device, "dtype": dtype, "cache_dir": cache_dir}
        backbone, is_same = restore_backbone(folder, state.model, backbone, "backbone", **options)
        is_same_beside = True
        if state.patch_model:
            beside, is_same_beside = restore_backbone(folder, state.patch_model, patch_backbone, "patch_backbone", **options)
            patch_backbone = cast("PatchBackbone", beside)
        saved = PromptEnsemble.from_dict(state.prompts)
        detector = cls(
            backbone,
            patch_backbone=patch_backbone,
            prompts=saved if prompts is None else prompts,
            **cast(Settings, state.settings | cast(dict[str, Any], settings)),
        )
        if is_same and detector._text is not None:  # in another precision the text is embedded anew
            for noun, vectors in state.text.items():
                detector._text.known[saved.fingerprint, noun] = vectors.to(backbone.device)
        memory = restore_memory(folder, state, detector.encoder.device, detector._memory_settings())
        if memory is None:
            return detector
        if not (is_same and is_same_beside):
            warn(f"{folder} was fitted in another precision; distances and thresholds fit this one less well")
        if memory.calibration is not None and memory.calibration.conditions is None:  # a folder of an earlier version
            before = cls(backbone, patch_backbone=patch_backbone, prompts=saved, **cast(Settings, state.settings))
            before._text = detector._text
            scorer = before._scorer(class_name=state.memory[0]["noun"] if state.memory else None, memory=memory)
            memory.calibration = replace(memory.calibration, conditions=scorer.conditions)
        detector._take(memory)
        return detector

    def copy(self, *, prompts: PromptEnsemble | str | Path | None = None, **settings: Unpack[Settings]) -> Self:
        """Another detector on the same model: the weights are shared and only ever read, while references, prompts and settings belong to
        the copy. It takes no memory, so every visitor of a server can have one. It starts with this one's references; where a setting
        changes their scores, the threshold is calibrated anew on them.

        Args:
            prompts: other prompts than this one's.
            **settings: fields of `DetectorConfig` that override this one's.

        Raises:
            ConfigError: a setting is unknown or out of range, or would need the references to be seen again and they cannot be.
            PromptError: the prompt set is missing or malformed.
        """
        other = type(self)(
            self.backbone,
            patch_backbone=self.patch_backbone,
            prompts=self.prompts if prompts is None else prompts,
            **cast(Settings, self.config.to_dict() | cast(dict[str, Any], settings)),
        )
        other._text = None if self._text is None else self._text.copy()
        if self.memory is not None:
            wanted, had = other._memory_settings(), self._memory_settings()
            if wanted != had and replace(wanted, tile=had.tile) != had:
                raise ConfigError(f"{', '.join(settings)} would need the references to be seen again; copy before fit()")
            other._take(self.memory)
        return other

    def text_vectors(self, class_name: str | None = None) -> Tensor:
        """Unit vectors (2, D) of the normal and the anomalous sentences for a class name, float32; cached.

        Raises:
            PromptError: the class name cannot be put into a sentence.
            ConfigError: the backbone knows no words.
        """
        if self._text is None:
            raise ConfigError(f"{self.backbone.name} knows no words; name a CLIP or lite as the model and this one as patch_backbone")
        return self._text.of(self.prompts, class_name or self.config.class_name)

    def _remember(
        self, memory: ReferenceMemory, references: Any, on_error: str, config: DetectorConfig, sorted_out: Sorted | None = None
    ) -> None:
        """Add references to a memory, calibrate it under `config` and take both. What was sorted out before goes into the report."""
        scorer = self._scorer(memory=memory, class_name=config.class_name)
        report = fit_memory(memory, self.encoder, scorer, references, on_error=on_error, max_pixels=config.max_pixels)
        if sorted_out is not None:
            report = replace(report, left_out=(*sorted_out.failed, *report.left_out), stood_out=sorted_out.stood_out)
        self._adopt(memory, report, config)

    def _remember_unlabelled(
        self,
        images: Any,
        settings: MutualSettings | None,
        on_error: str,
        config: DetectorConfig,
        on_progress: Callable[[str, int, int], None] | None,
    ) -> None:
        """Remember what does not stand out among unlabelled pictures; many are thinned out."""
        from vlad.references.unlabelled import MutualSettings
        from vlad.references.unlabelled_fit import CORESET, MANY, sort_out

        found = sort_out(
            images,
            self.encoder,
            (settings or MutualSettings()).where(rotations=config.rotations),
            roi=config.look,
            max_pixels=config.max_pixels,
            top_share=config.top_share,
            on_error=on_error,
            on_progress=on_progress,
        )
        memory = ReferenceMemory(self._memory_settings())
        if len(found.kept) > MANY and config.coreset is None and memory.takes_coreset:
            config = replace(config, coreset=CORESET)
            memory = ReferenceMemory(replace(memory.settings, coreset=CORESET))
        self._remember(memory, found.kept, on_error, config, found)

    def _adopt(self, memory: ReferenceMemory, report: FitReport, config: DetectorConfig) -> None:
        """Take a memory that was calibrated under `config`, and say what there is to say."""
        note = guess_note(len(memory.references), config.fpr_limit) if config.threshold is None else None
        self.fit_report = report if note is None else replace(report, notes=(*report.notes, note))
        self.config, self.memory = config, memory
        for message in self.fit_report.messages():
            warn(message)

    def _take(self, memory: ReferenceMemory) -> None:
        """Take a memory that was calibrated elsewhere; under other conditions than this detector's it is calibrated anew.

        Raises:
            ConfigError: that needs references that cannot be seen again.
        """
        scorer = self._scorer(memory=memory)
        stale = memory.calibration is not None and memory.calibration.conditions != scorer.conditions
        self.memory = recalibrated(memory, scorer) if stale and self.config.threshold is None else memory

    def _calibration(self, scorer: PictureScorer, config: DetectorConfig) -> Calibration | None:
        """The calibration of the references under the scorer's conditions: the memory's own, or one that is made now and kept.

        Raises:
            ConfigError: it has to be made and a reference cannot be seen again. With a threshold of the user's none is needed, and None
                is returned.
        """
        if self.memory is None or self.memory.calibration is None:
            return None
        conditions = scorer.conditions
        if self.memory.calibration.conditions == conditions:
            return self.memory.calibration
        if self._calibrations.get(conditions) is None and (conditions not in self._calibrations or config.threshold is None):
            try:
                self._calibrations[conditions] = recalibrated(self.memory, scorer).calibration
            except ConfigError:
                if config.threshold is None:
                    raise
                self._calibrations[conditions] = None  # known to be out of reach; not tried at every picture
            if len(self._calibrations) > _CALIBRATIONS:
                del self._calibrations[next(iter(self._calibrations))]
        return self._calibrations[conditions]

    def _memory_settings(self) -> MemorySettings:
        config = self.config
        return MemorySettings(
            scorer=self.scorer,
            scales=self.scales if find_method(self.scorer).needs_windows else (),
            rotations=config.rotations,
            coreset=config.coreset,
            foreground=config.foreground,
            tile=config.tile,
            roi=config.roi,
            ignore=config.ignore,
        )

    def _scorer(
        self,
        *,
        memory: ReferenceMemory | None,
        class_name: str | None = None,
        config: DetectorConfig | None = None,
        maps: bool = True,
        batch_size: int = 8,
    ) -> PictureScorer:
        """What scores pictures with these settings and this memory.

        Raises:
            PromptError: the class name cannot be put into a sentence.
            ConfigError: the backbone knows no words and there are no references.
        """
        config = config or self.config
        joint, text = self.encoder.joint, None
        if memory is None and joint is None:
            raise ConfigError(
                f"{self.backbone.name} knows no words and has no references; fit() normal pictures first (--references DIR), judge a "
                "folder by itself (predict_mutual, --mutual), or name a CLIP"
            )
        if joint is not None and (memory is None or self.text_weight > 0 or self.encoder.patch_backbone is None):
            advice = self.encoder.text_advice
            text = TextSide(
                self.text_vectors(class_name),
                joint.grid,
                self.scales,
                self.temperature,
                noun=self.prompts.noun(class_name or self.config.class_name),
                prompts=self.prompts.fingerprint,
                rarity=advice.rarity if config.rarity is None else config.rarity,
                rarity_centre=advice.rarity_centre,
            )
        return PictureScorer(
            encoder=self.encoder,
            text=text,
            memory=memory,
            text_weight=self.text_weight,
            top_share=config.top_share,
            tile=config.tile,
            tile_overlap=config.tile_overlap,
            maps=maps,
            batch_size=batch_size,
            roi=config.look,
        )

    def _prediction(
        self,
        source: ImageSource,
        picture: np.ndarray,
        scored: Scored,
        config: DetectorConfig,
        calibration: Calibration | None,
        noun: str,
        seconds: float,
    ) -> Prediction:
        thresholds = choose_thresholds(config, calibration, self.encoder.text_advice.text_threshold)
        p_value = {} if calibration is None else {"p_value": calibration.p_value(scored.score)}
        return Prediction(
            image_path=str(source) if isinstance(source, (str, Path)) else None,
            image_size=cast(tuple[int, int], picture.shape[:2]),
            class_name=noun,
            pred_score=scored.score,
            threshold=thresholds.image,
            threshold_source=thresholds.source,
            mask_threshold=thresholds.pixel,
            anomaly_map=scored.map,
            scores=scored.parts | p_value,
            model=self.model_name,
            prompts=self.prompts.name,
            seconds=seconds,
            embedding=scored.embedding,
            undecided=why_undecided(1) if thresholds.image is None else "",
            min_area=config.min_area,
            roi=config.look,
            _read=partial(read_image, source, max_pixels=config.max_pixels),
        )

    def _weight_beside(self, settings: MutualSettings) -> float:
        """Of references or words, where pictures are judged by each other."""
        if self.memory is None and self.encoder.joint is None:
            return 0.0
        if settings.beside is not None:
            return settings.beside
        return 0.5 if self.memory is not None else self.config.text_weight or 0.0

    def _mutual_prediction(self, judged: Judged, config: DetectorConfig, maps: bool, noun: str, seconds: float) -> Prediction:
        found, threshold, pixel = judged.comparison, judged.threshold, judged.mask_threshold
        source = None if threshold is None else "mutual"
        if config.threshold is not None and found is not None:
            threshold, source = config.threshold, "user"
        return Prediction(
            image_path=str(judged.source) if isinstance(judged.source, (str, Path)) else None,
            image_size=judged.size,
            class_name=noun,
            pred_score=0.0 if found is None else found.score,
            threshold=threshold,
            threshold_source=source,
            mask_threshold=pixel if config.mask_threshold is None else config.mask_threshold,
            anomaly_map=judged.heat() if maps else None,
            scores=judged.scores,
            model=self.model_name,
            prompts=self.prompts.name,
            seconds=seconds,
            embedding=judged.embedding,
            undecided=judged.undecided if threshold is None else "",
            min_area=config.min_area,
            roi=judged.roi,
            _read=partial(read_image, judged.source, max_pixels=config.max_pixels),
        )
