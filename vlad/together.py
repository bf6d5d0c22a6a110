"""The pictures of a folder together, as `vlad detect` and the page's Batch judge them so that it needs no flag: with references under a
threshold that follows the folder; without, where the model's words alone cannot tell, by each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from vlad.pictures.batches import check_reading
from vlad.prediction import Prediction
from vlad.references.adapting import ENOUGH, LIMIT, MEMORY, AdaptingThreshold
from vlad.references.thresholds import TEXT_THRESHOLD
from vlad.references.unlabelled import MutualSettings, why_undecided
from vlad.scoring.batch_threshold import FEWEST

if TYPE_CHECKING:
    from vlad.detector import AnomalyDetector
    from vlad.pictures.reading import ImageSource

_SAMPLE = 100  # pictures of a folder whose scores its threshold follows
_TILED = "tiles are not judged by each other; give references"


def by_each_other(detector: AnomalyDetector, count: int, *, mutual: bool | None = None, threshold: float | None = None) -> bool:
    """Whether `count` pictures of a folder are judged by each other: as `mutual` says, or, where it leaves that open, if none of them alone
    would get a verdict and there are enough."""
    if mutual is not None:
        return mutual
    return threshold is None and not detector.decides_alone and not detector.config.tile and not why_undecided(count)


def predict_together(
    detector: AnomalyDetector,
    images: Iterable[ImageSource],
    *,
    mutual: bool | None = None,
    settings: MutualSettings | None = None,
    class_name: str | None = None,
    batch_size: int = 8,
    maps: bool = True,
    threshold: float | None = None,
    adapt: Adapting | bool | None = None,
    on_error: Literal["raise", "return"] = "raise",
    on_progress: Callable[[str, int, int], None] | None = None,
    keep_images: bool = False,
) -> Iterator[Any]:
    """The pictures of one folder, judged in the best way that there is for them.

    Where the detector decides alone (references, a threshold, words that can tell) this is `predict_iter`, with a threshold of references
    that follows the folder. Else eight or more pictures of a kind are judged by each other, and those that cannot be, because they are too
    few or show no one kind of product, get what the detector says of each alone; of words that cannot tell that is score, map and no
    verdict, and `Prediction.undecided` says why.

    Args:
        images: pictures, see `read_image`; all of them are looked at before the first result comes.
        mutual: True judges by each other in any case, False by the words, with a threshold of 0.5; None as said.
        settings: of judging by each other.
        class_name, batch_size, maps, threshold, on_error: as of `AnomalyDetector.predict`.
        keep_images: as of `AnomalyDetector.predict_iter`; pictures that are judged by each other are read again.
        adapt: whether a threshold of references follows the folder's scores, and how; None if there are twenty pictures. Up to a hundred,
            evenly spread, are then scored first, so that all get the same threshold, whatever their order.
        on_progress: as of `AnomalyDetector.predict_mutual_iter`, with the phase "look" also for the first look at a folder; not called for
            words.

    Yields:
        A `Prediction` or, with `on_error` "return", an ImageReadError for each picture, in order.

    Raises:
        ImageReadError, PromptError, ConfigError: as of `AnomalyDetector.predict`.
    """
    check_reading(batch_size, on_error)
    sources = list(images)
    options: dict[str, Any] = {"class_name": class_name, "batch_size": batch_size, "maps": maps, "on_error": on_error}
    if not by_each_other(detector, len(sources), mutual=mutual, threshold=threshold):
        if mutual is False and not detector.decides_alone:
            detector = detector.copy(text_threshold=TEXT_THRESHOLD)
        reason = _TILED if detector.config.tile else why_undecided(len(sources))
        follow = _after_a_look(detector, sources, adapt, threshold, options, on_progress or (lambda *_: None))
        for result in detector.predict_iter(sources, threshold=threshold, keep_images=keep_images, **options):
            yield _because(follow(result), reason)
        return
    results = detector.predict_mutual_iter(sources, settings=settings, threshold=threshold, on_progress=on_progress, **options)
    if (mutual and not detector.decides_alone) or detector.encoder.joint is None:  # alone nothing would be said of them
        yield from results
        return
    pairs = zip(sources, results, strict=True)
    while batch := list(islice(pairs, batch_size)):
        unsure = [source for source, result in batch if isinstance(result, Prediction) and result.undecided]
        alone = detector.predict_iter(unsure, keep_images=keep_images, **options)
        for _, result in batch:
            is_unsure = isinstance(result, Prediction) and result.undecided
            yield _because(next(alone), result.undecided) if is_unsure else result


class Adapting:
    """Lets the thresholds of predictions follow the run; see `AdaptingThreshold`. Those whose threshold does not come from references, and
    errors, stay as they are. The threshold of the map moves by the same factor.

    ```python
    follow = Adapting()
    for result in detector.predict_iter(paths):
        result = follow(result)
    ```

    Args:
        limit: the factor by which a threshold moves at most, up or down.
        memory: so many last pictures count.
        fewest: pictures before which nothing moves, eight at least.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(self, *, limit: float = LIMIT, memory: int = MEMORY, fewest: int = FEWEST) -> None:
        self._threshold = AdaptingThreshold(limit=limit, memory=memory, fewest=fewest)
        self._last: tuple[float, float] | None = None

    @property
    def fewest(self) -> int:
        """Pictures before which nothing moves."""
        return self._threshold.fewest

    @property
    def limit(self) -> float:
        """The factor by which a threshold moves at most."""
        return self._threshold.limit

    def __call__(self, result: Any) -> Any:
        """The next prediction of the run with the threshold of the run so far, itself included."""
        self.see(result)
        return self.moved(result)

    def see(self, result: Any) -> None:
        """Take the score of a prediction of the run."""
        if _of_references(result):
            self._threshold.see([result.pred_score])

    def moved(self, result: Any) -> Any:
        """A prediction with the threshold of the run so far."""
        if not _of_references(result) or not self._threshold.moves:
            return result
        value, of_map = self._threshold.at(result.threshold), result.mask_threshold
        self._last = result.threshold, value
        return replace(
            result,
            threshold=value,
            threshold_source=f"references and {len(self._threshold)} pictures of this run",
            mask_threshold=None if of_map is None else min(1.0, of_map * value / result.threshold),
        )

    def note(self) -> str:
        """In words what has moved; empty if nothing has."""
        if self._last is None:
            return ""
        before, now = self._last
        return f"the threshold of the references, {before:.3f}, follows {len(self._threshold)} pictures of this run to {now:.3f}"


def _of_references(result: Any) -> bool:
    return isinstance(result, Prediction) and result.threshold_source == "references" and bool(result.threshold)


def _after_a_look(
    detector: AnomalyDetector,
    sources: list[ImageSource],
    adapt: Adapting | bool | None,
    threshold: float | None,
    options: dict[str, Any],
    tell: Callable[[str, int, int], None],
) -> Callable[[Any], Any]:
    """What gives each prediction of a folder its threshold, after a first look at some of the pictures."""
    follows = detector.memory is not None and detector.labels is None and threshold is None and detector.config.threshold is None
    if not isinstance(adapt, Adapting):
        follows, adapt = follows and adapt is not False, Adapting(fewest=FEWEST if adapt else ENOUGH)
    if not follows or len(sources) < adapt.fewest:
        return lambda result: result
    looked_at = sources[:: -(-len(sources) // _SAMPLE)]
    scores_alone = detector if detector.config.min_area is None else detector.copy(min_area=None)  # where does not matter yet
    for done, result in enumerate(scores_alone.predict_iter(looked_at, **(options | {"maps": False, "on_error": "return"})), start=1):
        adapt.see(result)
        tell("look", done, len(looked_at))
    return adapt.moved


def _because(result: Any, reason: str) -> Any:
    """The prediction with the reason why it is undecided, if it is."""
    return replace(result, undecided=reason) if isinstance(result, Prediction) and result.undecided and reason else result
