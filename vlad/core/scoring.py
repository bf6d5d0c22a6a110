"""What scores pictures: backbones, prompts, settings and references that belong together, and predictions made of scores."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from vlad.backbones.base import DENSE
from vlad.backbones.encoder import Encoder
from vlad.config import SPEEDS, DetectorConfig, Settings
from vlad.errors import ConfigError, warn
from vlad.pictures.reading import ImageSource, Reader
from vlad.prediction import Prediction
from vlad.prompts.ensemble import PromptEnsemble
from vlad.references.calibration import Calibration
from vlad.references.fitting import recalibrated
from vlad.references.memory import MemorySettings, Reference, ReferenceMemory
from vlad.references.report import FitReport
from vlad.references.thresholds import Thresholds, choose_thresholds
from vlad.references.unlabelled import Judged, MutualSettings, why_undecided
from vlad.scoring.methods import find_method, listed
from vlad.scoring.pictures import PictureScorer, Scored, TextSide

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from vlad.backbones.base import Backbone, PatchBackbone
    from vlad.backbones.registry import LaterPatches
    from vlad.references.labels import Labels
    from vlad.scoring.pictures import Conditions

_CALIBRATIONS = 16  # thresholds under so many further conditions (another class name, another tile) are kept


class Scoring:
    """The parts of an `AnomalyDetector` and how pictures are scored with them; see there for the arguments."""

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
        self.text_maps = self._choose_text_maps(joint)
        self.later: LaterPatches | None = None
        self.scorer = self._choose_scorer(self.encoder)
        self.fit_report = FitReport()
        self.history: tuple[dict[str, Any], ...] = ()  # what was done to it; see `vlad.history`
        self._text = None if joint is None else TextVectors(joint)
        self._memory: ReferenceMemory | None = None
        self._calibrations: dict[Conditions, Calibration | None] = {}
        self._labels: Labels | None = None
        self._labels_under: dict[Conditions, Labels] = {}

    def _choose_text_maps(self, joint: Backbone | None) -> str:
        config = self.config
        wanted = config.text_maps if config.speed == "exact" else SPEEDS[config.speed]
        is_there = {"windows": True, "coarse": hasattr(joint, "some_windows"), "dense": getattr(joint, "is_dense", False)}[wanted]
        if wanted == "coarse" and len(self.scales) < 2:
            is_there = False
        if is_there or (config.speed != "exact" and joint is None):
            return wanted if is_there else "windows"
        if config.speed != "exact":
            warn(f"speed={config.speed!r} changes nothing: {self.backbone.name} has no {wanted} maps; its maps take all windows")
            return "windows"
        if wanted == "coarse":
            raise ConfigError(f"text_maps 'coarse' needs a CLIP and windows of two scales, got {self.backbone.name}, scales {self.scales}")
        raise ConfigError(f"text_maps 'dense' needs a CLIP whose image tower is open_clip's own ViT, {self.backbone.name} has none")

    def _choose_scorer(self, encoder: Encoder) -> str:
        scorer = self.config.scorer or encoder.advice.scorer
        if find_method(scorer).needs_windows and encoder.patch_backbone is not None:
            raise ConfigError(
                f"scorer {scorer!r} compares windows of a CLIP, a patch backbone has none; use {listed(without_windows=True)}"
            )
        self._check_framing(self.config, scorer)
        return scorer

    def ready_for_references(self) -> None:
        """Of `auto`: take the patch backbone that is to see references, if its weights are at hand. Done by `fit` and its like at the
        first references; call it where loading it then would come at a bad time."""
        is_fixed = self.patch_backbone is not None or self.encoder.joint is None or self.memory is not None
        if self.later is None or is_fixed or (self.config.scorer is not None and find_method(self.config.scorer).needs_windows):
            return
        patches = self.later.get()
        if patches is not None:
            encoder = Encoder(self.backbone, patches)
            scorer = self._choose_scorer(encoder)
            self.patch_backbone, self.encoder, self.scorer = patches, encoder, scorer

    def _check_framing(self, config: DetectorConfig, scorer: str | None = None) -> None:
        scorer = scorer or self.scorer
        if config.tile and not find_method(scorer).takes_tiles and not find_method(scorer).same_framing:
            raise ConfigError(f"scorer {scorer!r} counts over the whole picture, so it takes no tiles; leave tile out, or use 'nearest'")
        if find_method(scorer).same_framing and (config.tile or (config.rotations or 1) > 1):
            raise ConfigError(
                f"scorer {scorer!r} compares place with place, so it takes neither tiles nor turned copies; leave tile and rotations "
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
        self._labels_under = {}

    @property
    def labels(self) -> Labels | None:
        """Labelled pictures, from which `calibrate` made the threshold; None before. Never changed in place."""
        return self._labels

    @labels.setter
    def labels(self, labels: Labels | None) -> None:
        self._labels = labels
        self._labels_under = {}

    @property
    def decides_alone(self) -> bool:
        """Whether one picture by itself gets a verdict: from references or labels, a given threshold, or words that can tell."""
        if self.memory is not None or self.labels is not None:
            return True
        if self.encoder.joint is None:  # it knows no words, whatever threshold is given
            return False
        return choose_thresholds(self.config, None, self.encoder.text_advice.text_threshold).image is not None

    @property
    def text_weight(self) -> float:
        """Weight in [0, 1] of the text score beside references. Beside a patch backbone it is 0 unless set: text scores at a temperature
        of 0.07 lie far above the distances of its patches, so that the weaker of the two would rule."""
        if self.encoder.joint is None:
            return 0.0
        if self.config.text_weight is not None:
            return self.config.text_weight
        return 0.0 if self.patch_backbone is not None else self.encoder.text_advice.text_weight

    def text_vectors(self, class_name: str | None = None) -> Tensor:
        """Unit vectors (2, D) of the normal and the anomalous sentences for a class name, float32; cached.

        Raises:
            PromptError: the class name cannot be put into a sentence.
            ConfigError: the backbone knows no words.
        """
        if self._text is None:
            raise ConfigError(f"{self.backbone.name} knows no words; name a CLIP or lite as the model and this one as patch_backbone")
        return self._text.of(self.prompts, class_name or self.config.class_name)

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

    def _bounds(self, scorer: PictureScorer, config: DetectorConfig) -> tuple[Thresholds, Calibration | None]:
        """Thresholds of scores under the scorer's conditions, and the calibration of the references.

        Raises:
            ConfigError: one has to be made anew, and a picture cannot be seen again.
        """
        labels = self._labels_of(scorer, config) if config.threshold is None else None
        # With labels the references' own threshold is of no use, so that only a p-value would hang on it.
        calibration = self._calibration(scorer, config if labels is None else replace(config, threshold=labels.threshold))
        return choose_thresholds(config, calibration, self.encoder.text_advice.text_threshold, labels), calibration

    def _labels_of(self, scorer: PictureScorer, config: DetectorConfig) -> Labels | None:
        """The labels with scores under the scorer's conditions: those at hand, or some that are made now and kept."""
        conditions = scorer.conditions
        if self.labels is None or self.labels.conditions == conditions:
            return self.labels
        if conditions not in self._labels_under:
            from vlad.references.labelling import relabelled

            calibration = self._calibration(scorer, config)
            start = None if calibration is None else calibration.image_threshold(config.calibration, config.fpr_limit)
            self._labels_under[conditions], _ = relabelled(
                self.labels, scorer, self.memory, calibration=calibration, start=start, strict=True
            )
            if len(self._labels_under) > _CALIBRATIONS:
                del self._labels_under[next(iter(self._labels_under))]
        return self._labels_under[conditions]

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
            white_level=config.white_level,
            adapt=config.adapt,
            mild_changes=config.mild_changes,
            random_angles=config.random_angles,
            search=config.search,
        )

    @property
    def reader(self) -> Reader:
        """How pictures are read. A white level that is found from the references is 65535 as long as there are none."""
        return self._reader_for(self.memory)

    def _reader_for(self, memory: ReferenceMemory | None) -> Reader:
        white = self.config.white_level
        if isinstance(white, str):
            found = None if memory is None else memory.settings.white_level
            white = None if isinstance(found, str) else found
        return Reader(self.config.max_pixels, white)

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
        reports_text = self.encoder.patch_backbone is not None and self.config.text_weight is None
        if joint is not None and (memory is None or self.text_weight > 0 or reports_text or self.encoder.patch_backbone is None):
            advice = self.encoder.text_advice
            by_layer = None
            if self.text_maps == "dense" and self.prompts.vectors is not None and self._text is not None:
                by_layer = self._text.by_layer(self.prompts.vectors)
            text = TextSide(
                self.text_vectors(class_name),
                joint.grid,
                self.scales if self.text_maps != "dense" else (DENSE,) if by_layer is None else (-len(by_layer),),
                self.temperature,
                noun=self.prompts.noun(class_name or self.config.class_name),
                prompts=self.prompts.fingerprint,
                by_layer=by_layer,
                is_coarse=self.text_maps == "coarse",
                rarity=advice.rarity if config.rarity is None else config.rarity,
                rarity_centre=advice.rarity_centre,
            )
        # Without references a patch backbone has nothing to say; rarity is one of the joint model's own tokens.
        return PictureScorer(
            encoder=self.encoder if memory is not None or joint is None else Encoder(joint),
            text=text,
            memory=memory,
            text_weight=self.text_weight,
            top_share=config.top_share,
            tile=config.tile or None,
            tile_overlap=config.tile_overlap,
            light=None if memory is None else memory.light,
            tile_long=config.tile is None and find_method(self.scorer).takes_tiles,
            maps=maps,
            batch_size=batch_size,
            roi=config.look,
            white_level=self._reader_for(memory).white_level,
        )

    def _prediction(
        self,
        source: ImageSource,
        picture: np.ndarray,
        scored: Scored,
        config: DetectorConfig,
        bounds: tuple[Thresholds, Calibration | None],
        noun: str,
        seconds: float,
        notes: tuple[str, ...] = (),
    ) -> Prediction:
        thresholds, calibration = bounds
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
            differs=() if self.memory is None else self.memory.differs(picture if config.look is None else config.look.cut(picture)[0]),
            warnings=notes,
            _read=partial(self.reader, source),
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
            warnings=judged.notes,
            _read=partial(self.reader, judged.source),
        )
