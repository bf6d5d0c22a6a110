"""What is done at the bench, as plain functions that know no page.

What is on the bench changes in one act at a time: an act that comes while another one is at work is refused and changes nothing.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlad.app.batches import Batch, look_through, with_places
from vlad.app.bench.learning import RULES, corrected, following, freed, seen_where, under, with_good
from vlad.app.bench.parts import Part, pack
from vlad.app.bench.state import ALL, FILTERS, Bench
from vlad.app.handlers import keep_uploads
from vlad.app.names import checked_class_name, own_name
from vlad.app.notes import noted, quietly
from vlad.app.uploads import Upload, read_bytes, uploads_of
from vlad.errors import ConfigError, ImageReadError

if TYPE_CHECKING:
    from vlad.app.service import Service
    from vlad.detector import AnomalyDetector
    from vlad.prediction import Prediction

_SAME = 5.1e-5  # half of the last digit that a slider shows


def make_part(service: Service, bench: Bench, name: str, class_name: str = "") -> None:
    """A new part, and open it.

    Raises:
        ConfigError: the name or the noun is no good, or taken.
    """
    noun = checked_class_name(class_name)
    with bench.act():
        part = bench.shelf.make(service.detector, name, noun)
        bench.clear_looks()
        bench.part, bench.top = part, 0.0


def open_part(service: Service, bench: Bench, name: str) -> None:
    """Go on with a part of the shelf.

    Raises:
        ConfigError: it is gone, damaged, or of another model.
    """
    with bench.act(), service.turn(), quietly():
        part = bench.shelf.open(service.detector, name)
        bench.clear_looks()
        bench.part, bench.top = part, 0.0


def add_good(service: Service, bench: Bench, paths: Sequence[str | Path]) -> list[str]:
    """Good pictures for the part beside those it has; without a part one is made.

    Returns:
        What there is to say: which could not be read and why, and what vlad notes.

    Raises:
        ConfigError: none are given, or too many.
        ImageReadError: none can be read.
    """
    if not paths:
        raise ConfigError("There are no good pictures yet; choose some of parts that are as they should be.")
    with bench.act():
        part = _part(service, bench)
        _check_room(service, part, len(paths))
        before = part.detector
        kept, _, refused = keep_uploads(service, part.pictures, paths)
        try:
            with service.turn(), noted() as notes:
                part.change(lambda fresh: with_good(freed(fresh), list(kept), part.class_name))
        finally:
            part.forget(kept)
        return [*(f"Left out: {reason}" for reason in refused), *notes, *_let_go(before, part)]


def leave_out(service: Service, bench: Bench) -> list[str]:
    """Forget the good picture that was chosen.

    Raises:
        ConfigError: none is chosen, or it is the last.
    """
    with bench.act():
        part, gone = _open(bench), bench.leaving_out
        if gone is None:
            raise ConfigError("Click the good picture first that is to be left out.")
        if len(part.detector.references) == 1:
            raise ConfigError("The last good picture cannot be left out; give others first.")
        before = part.detector
        with service.turn(), noted() as notes:
            part.change(lambda fresh: freed(fresh).remove_references([gone]))
        bench.leaving = None
        return [*notes, *_let_go(before, part)]


def look_where(service: Service, bench: Bench, painted: np.ndarray | None, *, ignore: bool) -> list[str]:
    """Look only where is painted, or anywhere but there; None looks everywhere. What was labelled is scored anew.

    Raises:
        ConfigError: nothing is painted, or nothing would be left; a good picture is gone.
    """
    with bench.act():
        part = _open(bench)
        before = part.detector
        with service.turn(), noted() as notes:
            part.change(lambda fresh: seen_where(service.detector, fresh, painted, ignore=ignore))
        return [*notes, *_let_go(before, part)]


def look(
    service: Service, bench: Bench, paths: Sequence[str | Path] | None, *, on_progress: Callable[[str, int, int], None] | None = None
) -> Iterator[Batch]:
    """Look at pictures, or at the same ones again; yields the batch after each. Corrections of the same pictures stay.

    Raises:
        ConfigError: there are none, or too many.
    """
    with bench.act():
        part = _part(service, bench)
        yield from _looked(service, bench, part, paths, on_progress)


def _looked(
    service: Service,
    bench: Bench,
    part: Part,
    paths: Sequence[str | Path] | None,
    on_progress: Callable[[str, int, int], None] | None,
) -> Iterator[Batch]:
    if paths is None:
        if not bench.uploads:
            raise ConfigError("Nothing was looked at yet; choose pictures first.")
    else:
        fresh = bench.folder.with_name(f"looked_{uuid.uuid4().hex[:8]}")
        try:
            uploads = uploads_of(_linked(paths, fresh), service.limits)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        bench.clear_looks()
        bench.folder, bench.uploads = fresh, uploads
    detector, found, keep = part.detector, Batch(0), bench.folder / f"found_{uuid.uuid4().hex[:8]}"
    batches = look_through(
        service,
        detector,
        bench.uploads,
        bench.folder / "reading",
        class_name=part.class_name,
        keep=keep,
        on_progress=on_progress,
        should_stop=lambda: bench.is_stopping,
    )
    before, bench.batch, bench.moved = bench.batch, None, None
    try:
        for found in batches:
            yield found
    except BaseException:
        bench.batch = before
        raise
    if found.cut_off and not found.rows and before is not None:  # stopped before the first result: what was there stays
        bench.batch = before
        return
    for folder in bench.folder.glob("found_*"):
        if folder != keep:
            shutil.rmtree(folder, ignore_errors=True)
    bench.batch, bench.judged_by = found, detector
    order = bench.order()
    if bench.picked not in order:
        bench.picked = order[0] if order else None


def pick(bench: Bench, thumbnail: str, name: str) -> None:
    """Show one of the rows large, by its thumbnail's file, without suffix, and its name.

    Raises:
        ConfigError: it is no longer there.
    """
    with bench.act():
        rows = [] if bench.batch is None else bench.batch.rows
        for number, row in enumerate(rows):
            if row.name == name and row.thumbnails is not None and thumbnail in {path.stem for path in row.thumbnails}:
                bench.picked = number
                return
        raise ConfigError("This picture is no longer there; choose another one.")


def choose_to_leave(bench: Bench, thumbnail: str, name: str) -> None:
    """Choose one of the part's good pictures, which may then be left out, by the beginning of its hash.

    Raises:
        ConfigError: it is no longer there.
    """
    with bench.act():
        if not any(thumbnail and one.sha256.startswith(thumbnail) for one in _open(bench).detector.references):
            raise ConfigError(f"{name} is no longer among the good pictures; choose another one.")
        bench.leaving = thumbnail


def picked_result(bench: Bench) -> Prediction | None:
    """The result of the row that is shown large, without its map; None if none is."""
    batch, number = bench.shown, bench.picked
    if batch is None or number is None:
        return None
    result = batch.rows[number].prediction
    return None if result is None else with_places(replace(result, image_path=bench.uploads[number].name), result)


def picked(service: Service, bench: Bench) -> tuple[Prediction, np.ndarray] | None:
    """Result, with its map, and picture uint8 (H, W, 3) of the row that is shown large; None if none is.

    Raises:
        ImageReadError: it was deleted after a while.
    """
    batch, number = bench.shown, bench.picked
    if batch is None or number is None:
        return None
    prediction = batch.rows[number].with_map()
    upload = bench.uploads[number]
    try:
        picture = read_bytes(upload.read(), service.limits, upload.name)
    except OSError as error:
        raise ImageReadError(f"{upload.name}: was deleted after a while; look at the pictures again") from error
    return with_places(replace(prediction, image_path=upload.name), prediction), picture


def picked_file(bench: Bench) -> tuple[Part, Path]:
    """The part, and the file of the row that is shown large; a copy of what lies in an archive.

    Raises:
        ConfigError: none is shown.
        ImageReadError: it was deleted after a while.
    """
    part = _open(bench)
    if bench.batch is None or bench.picked is None:
        raise ConfigError("There is no picture to open; look at some, and choose one.")
    upload = bench.uploads[bench.picked]
    if upload.entry is None:
        return part, upload.path
    path = bench.folder / "opened" / own_name(Path(upload.name).name, uuid.uuid4().hex)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(upload.read())
    return part, path


def filter_rows(bench: Bench, only: str) -> None:
    """Show these rows."""
    with bench.act():
        bench.only = only if only in FILTERS else ALL


def correct(bench: Bench, is_good: bool | None, large: str | None = None) -> None:
    """Say of the picture that is shown large that it is good or bad, whatever the verdict was; None takes that back.

    Args:
        large: the one that the visitor sees, as `Bench.large` names it.

    Raises:
        ConfigError: no picture is shown, or another one than the visitor sees; or the part has learned from it already.
    """
    with bench.act():
        if bench.batch is None or bench.picked is None:
            raise ConfigError("There is no picture to correct; look at some, and choose one.")
        if large is not None and large != bench.large:
            raise ConfigError("Another picture has come up meanwhile, so nothing was marked; look at it, then say what it is.")
        if is_good is None and bench.picked in bench.learned:
            raise ConfigError("The part has learned from this one already; say the opposite, or take the last change back in step 5.")
        if is_good is None:
            bench.marks.pop(bench.picked, None)
        else:
            bench.marks[bench.picked] = is_good


def correct_all(bench: Bench, is_good: bool) -> None:
    """Say that of every picture that is shown."""
    with bench.act():
        order = bench.order()
        if not order:
            raise ConfigError("There are no pictures to mark; look at some first.")
        bench.marks.update(dict.fromkeys(order, is_good))


def learn(service: Service, bench: Bench, *, on_progress: Callable[[str, int, int], None] | None = None) -> Iterator[Batch | list[str]]:
    """Learn from the corrections, then look at all pictures again; yields what there is to say, and the batch after each picture.

    A false alarm is remembered as a good picture while there is room for it; every other corrected picture counts for the threshold, under
    the rule of the part.

    Raises:
        ConfigError: there is nothing to learn from; or a bad picture, and no good ones to tell it from.
    """
    with bench.act():
        part, batch = _open(bench), bench.batch
        marks = bench.open_marks
        if batch is None or not marks:
            raise ConfigError("There is nothing to learn from yet; choose a picture and say whether it is good or bad.")
        before, room = part.detector, service.limits.references - len(part.detector.references)
        kept: list[Path] = []
        good: list[tuple[Path, bool]] = []
        bad: list[Path] = []
        try:
            for number, is_good in marks.items():
                result = batch.rows[number].prediction
                path = _kept(part, bench.uploads[number])
                kept.append(path)
                if is_good:
                    good.append((path, result is None or result.pred_label is not False))
                else:
                    bad.append(path)
            with service.turn(), noted() as notes:
                part.change(lambda fresh: corrected(freed(fresh), good, bad, class_name=part.class_name, room=room))
        finally:
            part.forget(kept)
        bench.learned.update(marks)
        yield [*notes, *_let_go(before, part)]
        yield from _looked(service, bench, part, None, on_progress)


def move(bench: Bench, threshold: float) -> None:
    """Try a threshold on what was found and on what is labelled: the model does not run."""
    with bench.act():
        bench.moved = None
        own = bench.threshold
        bench.moved = None if own is not None and abs(threshold - own) < _SAME else threshold


def keep(bench: Bench) -> float:
    """The threshold that is being tried becomes the part's.

    Returns:
        It.

    Raises:
        ConfigError: there is none, or no part.
    """
    with bench.act():
        part, threshold = _open(bench), bench.threshold
        if threshold is None:
            raise ConfigError("There is no threshold to keep yet; move the slider to one.")
        was_stale = bench.is_stale
        part.change(lambda fresh: under(fresh, threshold))
        if bench.batch is not None:
            bench.batch = bench.batch.at(threshold)
            if not was_stale:
                bench.judged_by = part.detector
        bench.moved = None
    return threshold


def follow_rule(bench: Bench, rule: str) -> None:
    """Let the threshold follow from the labelled pictures by this rule, or, where none are labelled, from the good ones.

    Raises:
        ConfigError: the rule needs labelled pictures of a kind that are not there.
    """
    with bench.act():
        part, was_stale = _open(bench), bench.is_stale
        part.change(lambda fresh: following(fresh, RULES[rule]))
        bench.moved = None
        labels = part.detector.labels
        if bench.batch is not None and labels is not None:  # else it may follow the pictures that are looked at
            bench.batch = bench.batch.at(labels.threshold, "labels")
            if not was_stale:
                bench.judged_by = part.detector


def undo(service: Service, bench: Bench) -> str:
    """Take the last change of the part back; see `Part.undo`. The pictures on the bench have to be looked at again."""
    with bench.act(), service.turn(), quietly():
        done = _open(bench).undo(service.detector)
        bench.moved = None
        if done not in ("threshold", "rule", "look"):  # what was learned may be gone, and is no longer said to be there
            bench.marks, bench.learned = bench.open_marks, {}
        return done


def export(bench: Bench, folder: Path) -> Path:
    """The part's detector as a zip file; see `pack`.

    Raises:
        ConfigError: there is nothing in it yet.
    """
    with bench.act():
        part = _open(bench)
        if part.detector.memory is None and part.detector.labels is None:
            raise ConfigError("There is nothing to keep yet; give good pictures, or correct some verdicts.")
        folder.mkdir(parents=True, exist_ok=True)
        bench.packed = part.detector, pack(part, folder)
        return bench.packed[1]


def _let_go(before: AnomalyDetector, part: Part) -> list[str]:
    """A remark if the visitor's own threshold went with what it was set on."""
    own = before.config.threshold
    if own is None or part.detector.config.threshold is not None:
        return []
    return [f"Your threshold of {own:.4f} was let go, because what it was set on has changed; set it again if need be."]


def _open(bench: Bench) -> Part:
    if bench.part is None:
        raise ConfigError("No part is open; choose one in step 1, or make a new one.")
    return bench.part


def _part(service: Service, bench: Bench) -> Part:
    """The part that is open; on a shelf of the visitor's own a new one if there is none."""
    if bench.part is None and service.workspace is None:
        taken = {card.name for card in bench.shelf.cards()}
        name = next(name for number in range(1, len(taken) + 2) if (name := f"Part {number}") not in taken)
        bench.part = bench.shelf.make(service.detector, name)
    return _open(bench)


def _check_room(service: Service, part: Part, count: int) -> None:
    total = len(part.detector.references) + count
    if total > service.limits.references:
        raise ConfigError(
            f"At most {service.limits.references} good pictures can be compared with here, and these would be {total}; choose fewer, or "
            "fit a detector on the command line."
        )


def _kept(part: Part, upload: Upload) -> Path:
    """A copy of a picture among those of the part."""
    path = part.pictures / own_name(Path(upload.name).name, uuid.uuid4().hex)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.write_bytes(upload.read())
    except OSError as error:
        raise ImageReadError(f"{upload.name}: was deleted after a while; look at the pictures again") from error
    return path


def _linked(paths: Sequence[str | Path], folder: Path) -> list[Path]:
    """Further names of uploaded files, which stay when the server clears its uploads away."""
    found = []
    for number, path in enumerate(map(Path, paths)):
        link = folder / f"{number:04d}" / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, link)
        except OSError:
            shutil.copyfile(path, link)
        found.append(link)
    return found
