"""What a detector remembers: good pictures, sorted or not, and thresholds that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

from vlad.config import DetectorConfig
from vlad.core.stored import Stored
from vlad.errors import ConfigError, warn
from vlad.pictures.batches import is_one_picture
from vlad.pictures.reading import ImageSource, find_white_level
from vlad.references.calibration import guess_note
from vlad.references.fitting import each_picture, fit_memory, forget
from vlad.references.memory import Reference, ReferenceMemory
from vlad.references.report import FitReport
from vlad.scoring.methods import find_method

if TYPE_CHECKING:
    from vlad.references.labels import Labelled, Labels
    from vlad.references.unlabelled import MutualSettings
    from vlad.references.unlabelled_fit import Sorted


class Fitting(Stored):
    """Adds `fit` and its like."""

    def fit(
        self,
        references: ImageSource | Iterable[ImageSource],
        *,
        class_name: str | None = None,
        on_error: Literal["warn", "raise"] = "warn",
        on_progress: Callable[[str, int, int], None] | None = None,
    ) -> Self:
        """Remember normal pictures; from here on pictures are compared with them, and the threshold comes from them.

        Replaces what was remembered before; if it fails, that stays. The order of the references never matters. A duplicate is left
        out, because it would make the leave-one-out threshold too strict.

        Args:
            references: good pictures of the same kind of part, 1 to some 1,000; paths, folders, or whatever `read_image` takes.
            class_name: noun for the prompts from now on; None keeps the detector's.
            on_error: an unreadable reference is named in a warning and left out ("warn"), or raises its ImageReadError ("raise").
            on_progress: called with the phase ("read", "look", "compare"), and how many of how many pictures are done; the latter is 0
                where nobody knows.

        Returns:
            The detector itself. `fit_report` then says what was left out and what is odd; so do warnings.

        Raises:
            ImageReadError: no reference could be read, or one could not and `on_error` is "raise".
            ConfigError: no references.
        """
        config = self.config if class_name is None else replace(self.config, class_name=class_name)
        with self._as_before_if_it_fails():
            memory, references = self._new_memory(references)
            self._remember(memory, references, on_error, config, on_progress=on_progress)
        return self

    def fit_unlabelled(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        class_name: str | None = None,
        settings: MutualSettings | None = None,
        on_error: Literal["warn", "raise"] = "warn",
        on_progress: Callable[[str, int, int], None] | None = None,
    ) -> Self:
        """`fit` for pictures of one product that nobody has sorted: they are judged by each other, as in `predict_mutual`, and those that
        stand out are left out. It cannot know whether that is a defect, so look at them: `fit_report.stood_out`, highest score first. More
        than 32 others are thinned out to a tenth of their tokens unless `coreset` is set (MuSc, arXiv 2401.16753; PatchCore, 2106.08265).

        Args:
            images: at least eight, most of them good; paths, folders, or whatever `read_image` takes; each is read twice or more.
            class_name, on_error: see `fit`.
            settings, on_progress: see `predict_mutual_iter`.

        Raises:
            ImageReadError: a picture cannot be read and `on_error` is "raise".
            ConfigError: fewer than eight can be read, or they show several kinds of product.
        """
        config = self.config if class_name is None else replace(self.config, class_name=class_name)
        with self._as_before_if_it_fails():
            self._remember_unlabelled(images, settings, on_error, config, on_progress)
        return self

    def add_references(self, references: ImageSource | Iterable[ImageSource], *, on_error: Literal["warn", "raise"] = "warn") -> Self:
        """Remember more normal pictures beside those of `fit`, and calibrate anew; see there.

        Pictures that cannot be seen again, such as those of a loaded detector whose files have moved, keep the scores of earlier times in
        the calibration, and a warning says so; under other settings than at those times that is a ConfigError.
        """
        with self._as_before_if_it_fails():
            memory, references = self._new_memory(references) if self.memory is None else (self.memory.copy(), references)
            self._remember(memory, references, on_error, self.config, keep_labels=True)
        return self

    def remove_references(self, references: ImageSource | Iterable[ImageSource | Reference]) -> Self:
        """Forget references, given as pictures or as items of `references`, and calibrate anew, as `add_references` does.

        Raises:
            ConfigError: one of them is not remembered, or none would be left; nothing is forgotten then.
        """
        if self.memory is None:
            raise ConfigError("there are no references to remove; fit() some first")
        memory = self.memory.copy()
        report = forget(memory, self._scorer(memory=memory), references, read=self.reader)
        self._adopt(memory, report, self.config, keep_labels=True)
        return self

    def calibrate(
        self,
        good: ImageSource | Iterable[ImageSource] = (),
        bad: ImageSource | Iterable[ImageSource] = (),
        *,
        masks: Any = None,
        max_false_alarms: float | None = None,
        max_misses: float | None = None,
        cost_ratio: float | None = None,
        bad_share: float = 0.5,
        add: bool = False,
        on_error: Literal["warn", "raise"] = "warn",
    ) -> Self:
        """Take the threshold from pictures of which you know what they are; `threshold_source` becomes "labels". Works beside references
        and for words alone. `labels` then tells both rates of error with their exact intervals, and `labels.report()` in words.

        Where fewer than eight good pictures are labelled, the references stand among them, each scored against the others. Without any of
        the limits both rates weigh alike, from ten bad pictures on. With fewer the threshold of the references is lowered to find them, as
        far as the good ones allow at `fpr_limit`; it is never raised by them.

        Args:
            good, bad: pictures, folders, or a mixture; see `read_image`. References may be among the good ones.
            masks: where the bad ones are defective, for the threshold of the map: that with the highest F1 of pixels. A folder with
                `STEM_mask.*` or `STEM.*` (also in a subfolder of the name of the picture's own folder), or one file or array, or None,
                for each of a list `bad`.
            max_false_alarms, max_misses, cost_ratio, bad_share: what the threshold is to do; see `vlad.references.rates.Rule`.
            add: keep the pictures that were labelled before, and their rule unless another is given.
            on_error: an unreadable picture is named in a warning and left out ("warn"), or raises its ImageReadError ("raise").

        Raises:
            ImageReadError: no picture could be read, or one could not and `on_error` is "raise".
            ConfigError: no pictures, or none of a group that the rule needs; a limit is out of range; a mask does not fit its picture.
        """
        from vlad.references.labelling import label
        from vlad.references.rates import Rule

        asked = Rule(max_false_alarms, max_misses, cost_ratio, bad_share)
        scorer = self._scorer(memory=self.memory)
        calibration = self._calibration(scorer, self.config)
        found, failed = label(
            scorer,
            self.memory,
            good,
            bad,
            masks=masks,
            asked=None if asked.is_open and add else asked,
            fpr_limit=self.config.fpr_limit,
            calibration=calibration,
            start=None if calibration is None else calibration.image_threshold(self.config.calibration, self.config.fpr_limit),
            before=self.labels if add else None,
            read=self.reader,
            on_error=on_error,
        )
        before = {} if not add or self.labels is None else {one.picture.sha256: one.is_anomalous for one in self.labels.pictures}
        fresh = [one for one in found.pictures if before.get(one.picture.sha256) != one.is_anomalous]
        self.labels = found
        bad_ones = [one.picture for one in fresh if one.is_anomalous]
        self._log("label", good=[one.picture for one in fresh if not one.is_anomalous], bad=bad_ones)
        for error in failed:
            warn(f"left out of the labels: {error}")
        if self.config.threshold is not None:
            warn(f"the threshold {self.config.threshold} of the settings goes before the labels'; copy(threshold=None) lets go of it")
        if self.config.min_area is not None:
            warn(f"min_area={self.config.min_area} leaves pictures with smaller places out, so that more may be missed than the labels say")
        return self

    def remove_labels(self, pictures: Iterable[Labelled]) -> Self:
        """Forget labelled pictures, items of `labels.pictures`; with the last one the threshold from labels goes too.

        Raises:
            ConfigError: one of them is not labelled, or what is left does not suffice for the rule; nothing is forgotten then.
        """
        gone = list(pictures)
        if self.labels is None or any(one not in self.labels.pictures for one in gone):
            raise ConfigError("expected items of detector.labels.pictures, got something else; see there")
        left = tuple(one for one in self.labels.pictures if one not in gone)
        labels = replace(self.labels, pictures=left) if left else None
        if labels is not None:
            _ = labels.threshold  # refused here if the rule lacks a group
        self.labels = labels
        bad = [one.picture for one in gone if one.is_anomalous]
        self._log("unlabel", good=[one.picture for one in gone if not one.is_anomalous], bad=bad)
        return self

    def _log(self, act: str, *, good: Sequence[Reference] = (), bad: Sequence[Reference] = ()) -> None:
        from vlad.history import entry

        threshold, config = self.config.threshold, self.config
        if threshold is None and self.labels is not None:
            threshold = self.labels.threshold
        elif threshold is None and self.memory is not None and self.memory.calibration is not None:
            threshold = self.memory.calibration.image_threshold(config.calibration, config.fpr_limit)
        names = [[one.place for one in some] for some in (good, bad)]
        done = entry(act, good=names[0], bad=names[1], references=len(self.references), threshold=threshold)
        self.history = (*(() if act == "fit" else self.history), done)

    @contextmanager
    def _as_before_if_it_fails(self) -> Iterator[None]:
        """Give up the patch backbone that was taken for references which then could not be remembered."""
        before = self.patch_backbone, self.encoder, self.scorer
        try:
            yield
        except BaseException:
            self.patch_backbone, self.encoder, self.scorer = before
            raise

    def _new_memory(self, pictures: Any, *, is_sorted: bool = True) -> tuple[ReferenceMemory, Any]:
        """An empty memory, and the pictures that it is for; where their white level is to be found, they are looked at for that."""
        if self.memory is None:
            self.ready_for_references()
        settings = self._memory_settings()
        if settings.coreset is not None and not find_method(self.scorer).takes_coreset:
            warn(f"coreset={settings.coreset} has no effect with scorer {self.scorer!r}, which keeps no tokens that could be left out")
        if settings.white_level != "auto":
            return ReferenceMemory(settings), pictures
        pictures = [pictures] if is_one_picture(pictures) else list(pictures)
        looked_at = each_picture(pictures, [], "warn", normal=is_sorted, tell=False)  # it is told when they are read
        white = find_white_level(looked_at, max_pixels=self.config.max_pixels)
        return ReferenceMemory(replace(settings, white_level=white)), pictures

    def _remember(
        self,
        memory: ReferenceMemory,
        references: Any,
        on_error: str,
        config: DetectorConfig,
        sorted_out: Sorted | None = None,
        *,
        keep_labels: bool = False,
        on_progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        """Add references to a memory, calibrate it under `config` and take both. What was sorted out before goes into the report."""
        scorer = self._scorer(memory=memory, class_name=config.class_name)
        how: dict[str, Any] = {"on_error": on_error, "read": self._reader_for(memory), "on_progress": on_progress}
        report = fit_memory(memory, self.encoder, scorer, references, **how)
        if sorted_out is not None:
            report = replace(report, left_out=(*sorted_out.failed, *report.left_out), stood_out=sorted_out.stood_out)
        self._adopt(memory, report, config, keep_labels=keep_labels)

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

        memory, images = self._new_memory(images, is_sorted=False)
        found = sort_out(
            images,
            self.encoder,
            (settings or MutualSettings()).where(rotations=config.rotations),
            roi=config.look,
            read=self._reader_for(memory),
            top_share=config.top_share,
            on_error=on_error,
            on_progress=on_progress,
        )
        if len(found.kept) > MANY and config.coreset is None and memory.takes_coreset:
            config = replace(config, coreset=CORESET)
            memory = ReferenceMemory(replace(memory.settings, coreset=CORESET))
        self._remember(memory, found.kept, on_error, config, found, on_progress=on_progress)

    def _adopt(self, memory: ReferenceMemory, report: FitReport, config: DetectorConfig, *, keep_labels: bool) -> None:
        """Take a memory that was calibrated under `config`, and say what there is to say. Labels are kept where references were added or
        removed; for references of something else they are forgotten."""
        labels, notes = self._relabelled(memory, config) if keep_labels else (None, [])
        if self.labels is not None and not keep_labels:
            notes = ["the threshold from labels was of other references and is forgotten; calibrate again"]
        if config.threshold is None and labels is None and (note := guess_note(len(memory.references), config.fpr_limit)):
            notes.append(note)
        self.fit_report = replace(report, notes=(*report.notes, *notes))
        had = {} if self.memory is None or not keep_labels else self.memory.references
        self.config, self.memory, self.labels = config, memory, labels
        if not keep_labels:
            self._log("fit")
        elif added := [one for number, one in memory.references.items() if number not in had]:
            self._log("add", good=added)
        elif removed := [one for number, one in had.items() if number not in memory.references]:
            self._log("remove", good=removed)
        for message in self.fit_report.messages():
            warn(message)

    def _relabelled(self, memory: ReferenceMemory, config: DetectorConfig) -> tuple[Labels | None, list[str]]:
        """The labels with scores beside another memory, and remarks. What was bad and is a reference now is no longer bad."""
        from vlad.references.labelling import relabelled

        if self.labels is None:
            return None, []
        good = {one.sha256 for one in memory.references.values()}
        after_all = [one for one in self.labels.pictures if one.is_anomalous and one.picture.sha256 in good]
        notes = [f"{one.picture.place} was labelled as bad and is a reference now; the label is forgotten" for one in after_all]
        left = replace(self.labels, pictures=tuple(one for one in self.labels.pictures if one not in after_all))
        if not left.pictures:
            return None, notes
        scorer, calibration = self._scorer(memory=memory, class_name=config.class_name), memory.calibration
        start = None if calibration is None else calibration.image_threshold(config.calibration, config.fpr_limit)
        labels, remarks = relabelled(left, scorer, memory, calibration=calibration, start=start, strict=False)
        try:
            _ = labels.threshold
        except ConfigError as error:
            return None, [*notes, f"the threshold from labels is forgotten: {error}"]
        return labels, [*notes, *remarks]
