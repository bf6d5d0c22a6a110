"""The detector: glue between pictures, backbones, prompts, scoring methods and references. Nothing that it calls imports it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from vlad.config import DetectorConfig
from vlad.core.fitting import Fitting
from vlad.errors import ConfigError, ImageReadError, noting, warn
from vlad.pictures.batches import check_reading, is_one_picture, one_ahead, read_batches
from vlad.pictures.reading import ImageSource
from vlad.prediction import Prediction

if TYPE_CHECKING:
    from vlad.monitor import DriftMonitor
    from vlad.references.calibration import Calibration
    from vlad.references.sample import MutualSample
    from vlad.references.thresholds import Thresholds
    from vlad.references.unlabelled import MutualSettings
    from vlad.scoring.pictures import PictureScorer
    from vlad.streams.outliers import OutlierFlag
    from vlad.vlm.answer import Answer
    from vlad.vlm.backends.base import Limits, VlmBackend


_NO_PLACES = "min_area asks how large a marked place is, and without maps there is none; leave min_area out, or ask for maps"
_OF_REFERENCES = ("scorer", "coreset", "foreground", "adapt", "mild_changes", "random_angles", "tile")


class AnomalyDetector(Fitting):
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

    def monitor(self, *, warm_up: int = 20, window: int = 20, limit: float = 3.0, outliers: OutlierFlag | None = None) -> DriftMonitor:
        """Watches a stream of pictures and says when it has moved away from the references or from its own beginning, and which pictures
        are unlike the others; see `DriftMonitor`."""
        from vlad.monitor import DriftMonitor

        return DriftMonitor(self, warm_up=warm_up, window=window, limit=limit, outliers=outliers)

    @overload  # a text is a sequence of texts, but one picture
    def predict(  # type: ignore[overload-overlap]
        self,
        images: ImageSource,
        *,
        class_name: str | None = ...,
        batch_size: int = ...,
        maps: bool = ...,
        threshold: float | None = ...,
        mask_threshold: float | None = ...,
        tile: int | None = ...,
        on_error: Literal["raise"] = ...,
    ) -> Prediction: ...
    @overload
    def predict(
        self,
        images: Sequence[ImageSource],
        *,
        class_name: str | None = ...,
        batch_size: int = ...,
        maps: bool = ...,
        threshold: float | None = ...,
        mask_threshold: float | None = ...,
        tile: int | None = ...,
        on_error: Literal["raise"] = ...,
    ) -> list[Prediction]: ...
    @overload
    def predict(
        self,
        images: Any,
        *,
        class_name: str | None = ...,
        batch_size: int = ...,
        maps: bool = ...,
        threshold: float | None = ...,
        mask_threshold: float | None = ...,
        tile: int | None = ...,
        on_error: Literal["raise", "return"] = ...,
    ) -> Any: ...
    def predict(
        self,
        images: Any,
        *,
        class_name: str | None = None,
        batch_size: int = 8,
        maps: bool = True,
        threshold: float | None = None,
        mask_threshold: float | None = None,
        tile: int | None = None,
        on_error: Literal["raise", "return"] = "raise",
    ) -> Any:
        """Is something wrong with a picture, and where. Changes nothing in the detector.

        Args:
            images: one picture (a path, bytes, PIL image, array or tensor; see `read_image`), or a list of them.
            class_name: noun for the prompts, e.g. "metal nut"; None takes the detector's, else "object".
            batch_size: pictures (or tiles) that go through the model together; large pictures fill a batch sooner, at 50 megapixels.
            maps: False gives the image score alone, many times faster: no window is computed.
            threshold: overrides the detector's; `threshold_source` becomes "user".
            mask_threshold: overrides the detector's.
            tile: overrides the detector's `tile`, 0 switches it off; a tiled picture's score is the highest of its tiles and of the whole.
            on_error: what to do with an unreadable picture of a list: "raise" the ImageReadError, or "return" it in the picture's place,
                so that nothing already done is lost.

        Returns:
            One `Prediction`, or for a list a list of them in the same order.

        Raises:
            ImageReadError: a picture cannot be read; the message names it.
            PromptError: the class name cannot be put into a sentence.
            ConfigError: an option is out of range, or would need references to be seen again that cannot be.
        """
        is_one = is_one_picture(images)
        results = self.predict_iter(
            [images] if is_one else images,
            class_name=class_name,
            batch_size=batch_size,
            maps=maps,
            threshold=threshold,
            mask_threshold=mask_threshold,
            tile=tile,
            on_error="raise" if is_one else on_error,
        )
        return next(results) if is_one else list(results)

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
        keep_images: bool = False,
    ) -> Iterator[Any]:
        """`predict` for any number of pictures: reads them as they are needed and yields results as they come, in order.

        Args:
            images: pictures, see `read_image`.
            class_name, batch_size, maps, threshold, mask_threshold, tile, on_error: see `predict`.
            keep_images: whether a result holds its picture, so that `image`, `overlay` and `save` need not read it again.
        """
        overrides: dict[str, Any] = {"threshold": threshold, "mask_threshold": mask_threshold, "tile": tile}
        given = {key: value for key, value in overrides.items() if value is not None}
        config = DetectorConfig.from_dict(self.config.to_dict() | given)
        check_reading(batch_size, on_error)
        if is_one_picture(images):
            raise ConfigError("predict_iter takes many pictures, got one; put it into a list, or call predict")
        self._check_framing(config)
        if config.min_area is not None and not maps:
            raise ConfigError(_NO_PLACES)
        with noting() as common:
            scorer, bounds = self._prepared(config, class_name, maps, batch_size)
        noun = self.prompts.noun(class_name or self.config.class_name)
        start = time.perf_counter()
        batches = read_batches(images, batch_size, on_error=on_error, read=self.reader, roi=config.look)
        # What comes from elsewhere one by one, as from a camera, is taken when it is needed.
        for batch in one_ahead(batches) if isinstance(images, Sequence) and len(images) > batch_size else batches:
            found = iter(scorer.score([picture for _, picture, _ in batch if isinstance(picture, np.ndarray)]))
            seconds = (time.perf_counter() - start) / len(batch)
            for source, picture, own in batch:
                if isinstance(picture, ImageReadError):
                    yield picture
                else:
                    scored = next(found)
                    notes = tuple(dict.fromkeys((*common, *own, *scored.notes)))
                    result = self._prediction(source, picture, scored, config, bounds, noun, seconds, notes)
                    yield replace(result, _read=partial(np.copy, picture)) if keep_images else result
            start = time.perf_counter()

    def _prepared(
        self, config: DetectorConfig, class_name: str | None, maps: bool, batch_size: int
    ) -> tuple[PictureScorer, tuple[Thresholds, Calibration | None]]:
        """What scores, and the thresholds of its scores."""
        if config.tile and config.tile < self.encoder.size:
            warn(
                f"tiles of {config.tile} pixels are enlarged to the {self.encoder.size} of {self.model_name}, "
                "which costs time and shows nothing more; use larger tiles"
            )
        if self.memory is not None and config.tile and config.tile != self.memory.settings.tile:
            warn(
                f"tiles of {config.tile} pixels are compared with references that were seen with tile={self.memory.settings.tile}, at "
                f"another scale; fit with tile={config.tile}"
            )
        scorer = self._scorer(class_name=class_name, config=config, maps=maps, batch_size=batch_size, memory=self.memory)
        scorer = replace(scorer, reports_text=scorer.text is not None)
        return scorer, self._bounds(replace(scorer, maps=True), config)

    def predict_mutual(
        self,
        images: Sequence[ImageSource],
        *,
        class_name: str | None = None,
        settings: MutualSettings | None = None,
        batch_size: int = 8,
        maps: bool = True,
        threshold: float | None = None,
        mask_threshold: float | None = None,
        on_error: Literal["raise", "return"] = "raise",
    ) -> list[Any]:
        """Judge unlabelled pictures of one product by each other, beside references if there are some. See `predict_mutual_iter`.

        Returns:
            One `Prediction` for each picture in the same order, with `threshold_source` "mutual".
        """
        if is_one_picture(images):
            raise ConfigError("predict_mutual judges many pictures by each other, got one; call predict, or give a list")
        options: dict[str, Any] = {"threshold": threshold, "mask_threshold": mask_threshold, "on_error": on_error}
        return list(self.predict_mutual_iter(images, class_name=class_name, settings=settings, batch_size=batch_size, maps=maps, **options))

    def predict_mutual_iter(
        self,
        images: Iterable[ImageSource],
        *,
        class_name: str | None = None,
        settings: MutualSettings | None = None,
        batch_size: int = 8,
        maps: bool = True,
        threshold: float | None = None,
        mask_threshold: float | None = None,
        on_error: Literal["raise", "return"] = "raise",
        on_progress: Callable[[str, int, int], None] | None = None,
    ) -> Iterator[Any]:
        """`predict_mutual` for any number of pictures: all are looked at and compared first, then the results come one by one, in order, so
        that no more than one map is held.

        Pictures of several kinds of product are told apart and each kind is judged for itself, with a warning. Below eight pictures of a
        kind, and for a collection of kinds, there is a score and a map, and no verdict. What references say, or the words where
        `text_weight` is set, is joined with what the other pictures say, as standardised scores (`MutualSettings.beside`).

        Args:
            images: pictures, see `read_image`; read again where parts lie at any angle.
            class_name: noun that results carry; it changes no score.
            settings: share of the others, how many, turned or not, expected share of anomalous pictures; see `MutualSettings`. where
                that is open, nothing is turned if the detector's `rotations` is 1.
            batch_size, maps, threshold, mask_threshold, on_error: see `predict`.
            on_progress: called with the phase ("look", "turn", "compare"), and how many of how many pictures are done.

        Raises:
            ImageReadError: a picture cannot be read.
            ConfigError: a setting is out of range.
        """
        from vlad.references.unlabelled import MutualSettings, judge, kinds_of

        config = DetectorConfig.from_dict(
            self.config.to_dict()
            | {key: value for key, value in {"threshold": threshold, "mask_threshold": mask_threshold}.items() if value is not None}
        )
        check_reading(batch_size, on_error)
        if config.min_area is not None and not maps:
            raise ConfigError(_NO_PLACES)
        unused = [name for name in _OF_REFERENCES if getattr(config, name) != getattr(DetectorConfig(), name)]
        if self.memory is None and unused:
            warn(f"without references {', '.join(unused)} change nothing where pictures are judged by each other")
        noun = self.prompts.noun(class_name or config.class_name)
        settings = (settings or MutualSettings()).where(rotations=config.rotations)
        weight = self._weight_beside(settings)
        beside = self._scorer(class_name=class_name, config=config, batch_size=batch_size, memory=self.memory).score if weight else None
        start = time.perf_counter()
        judged = judge(
            images,
            self.encoder,
            settings,
            batch_size=batch_size,
            read=self.reader,
            top_share=config.top_share,
            on_error=on_error,
            on_progress=on_progress,
            beside=beside,
            beside_weight=weight,
            roi=config.look,
        )
        seconds = (time.perf_counter() - start) / max(1, len(judged))
        if kinds := kinds_of(judged):
            warn(f"the pictures show {kinds}; each kind is judged for itself, and scores tell which (mutual_group)")
        for one in judged:
            yield one if isinstance(one, ImageReadError) else self._mutual_prediction(one, config, maps, noun, seconds)

    def look_at_sample(self, images: Sequence[ImageSource], *, settings: MutualSettings | None = None, batch_size: int = 8) -> MutualSample:
        """Judge a sample of unlabelled pictures of one product by itself, to judge any number of others by it with `predict_by_sample`, in
        as many processes as there are; see `vlad.references.sample`.

        Args:
            images: at least eight pictures; unreadable ones are left out.
            settings: as of `predict_mutual_iter`.
            batch_size: see `predict`.

        Raises:
            ConfigError: too few pictures, or several kinds of product.
        """
        from vlad.references.sample import MutualSample
        from vlad.references.unlabelled import MutualSettings

        settings = (settings or MutualSettings()).where(rotations=self.config.rotations)
        how: dict[str, Any] = {"batch_size": batch_size, "read": self.reader, "top_share": self.config.top_share, "roi": self.config.look}
        return MutualSample.look(images, self.encoder, settings, **how)

    def predict_by_sample(
        self,
        images: Iterable[ImageSource],
        sample: MutualSample,
        *,
        batch_size: int = 8,
        maps: bool = True,
        on_error: Literal["raise", "return"] = "raise",
    ) -> Iterator[Any]:
        """Judge pictures by a sample of them; results come in order, with `threshold_source` "mutual". References and words say nothing.

        Args:
            images: pictures, see `read_image`.
            sample: of `look_at_sample`, by a detector with the same model and settings.
            batch_size, maps, on_error: see `predict`.
        """
        check_reading(batch_size, on_error)
        start = time.perf_counter()
        how: dict[str, Any] = {"batch_size": batch_size, "read": self.reader, "top_share": self.config.top_share, "roi": self.config.look}
        for one in sample.judge(images, self.encoder, on_error=on_error, **how):
            now = time.perf_counter()
            seconds, start = now - start, now
            if isinstance(one, ImageReadError):
                yield one
            else:
                yield self._mutual_prediction(one, self.config, maps, self.prompts.noun(self.config.class_name), seconds)

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
        refute: bool = False,
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
            refute: a VLM is shown each marked place beside the same place of the nearest reference, and the answer says where it sees no
                difference; the verdict stays the detector's.
            on_text: called with each piece of a VLM's reply as it comes.

        Raises:
            ImageReadError: the picture cannot be read.
            ConfigError: the question is empty, or an option is out of range.
            PromptError: the class name or the vocabulary is malformed.
            VlmError: there is no such VLM. One that fails to answer does not raise: the describer's answer stands in, and
                `Answer.problems` says why.
        """
        from vlad.vlm import inspector_for

        inspector = inspector_for(self, vlm=vlm, knowledge=knowledge, vocabulary=vocabulary, limits=limits, refute=refute)
        return inspector.ask(image, question, class_name=class_name, threshold=threshold, on_text=on_text)
