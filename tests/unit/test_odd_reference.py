"""A bad picture among the references is named, good ones are not."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image

from vlad import AnomalyDetector
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.errors import VladWarning
from vlad.references.odd import BREAK, RATIO, Named, odd_note, odd_ones

GOOD = (0.043, 0.045, 0.047, 0.049, 0.050, 0.052, 0.057)


@pytest.mark.parametrize(
    ("scores", "odd"),
    [
        ((*GOOD, 0.269), [7]),
        ((0.269, *GOOD), [0]),  # wherever it stands
        ((*GOOD[:6], 0.181, 0.211), [6, 7]),
        ((*GOOD, 0.1), []),  # not twice the others' middle
        (GOOD, []),
        ((0.05, 0.05, 0.05, 0.05), []),  # equal
        ((0.05, 0.06, 0.3), []),  # three say nothing
        ((0.05, 0.06, 0.07, 0.3), [3]),
        ((0.05, 0.06, 0.3, 0.3), []),  # of four, two are no exception
        ((0.01, 0.02, 0.04, 0.06, 0.08, 0.12, 0.2, 0.3), []),  # a long tail without a break
        ((0.0, 0.0, 0.0, 0.0), []),
    ],
)
def test_by_hand(scores, odd):
    assert np.flatnonzero(odd_ones(scores)).tolist() == odd
    assert np.flatnonzero(odd_ones(np.array(scores) / 3)).tolist() == odd  # the scale of scores is the model's


def test_limits():
    """The break is measured against the middle four fifths below it: of 1 and ten steps up to 2 on a log scale, 0.8 log 2."""
    even = [1.0] * 7
    assert odd_ones([*even, RATIO * 1.01])[-1] and not odd_ones([*even, RATIO * 0.99]).any()
    wide = np.exp(np.linspace(0, np.log(2), 11))
    edge = 2 * np.exp(BREAK * 0.8 * np.log(2))
    assert edge > RATIO * np.median([*wide, edge])  # so that the break alone decides
    assert odd_ones([*wide, edge * 1.01])[-1] and not odd_ones([*wide, edge * 0.99]).any()


def test_a_note_names_pictures_scores_and_what_to_do():
    names = {number: Named(f"{number}.png", f"'{number}.png'") for number in range(8)}
    note = odd_note(dict(enumerate((*GOOD, 0.269))), names)
    assert note is not None and note.startswith("7.png (0.269) differs from the other references")
    assert "0.043 to 0.057" in note and "look at it" in note and "remove_references(['7.png'])" in note
    both = odd_note(dict(enumerate((*GOOD[:6], 0.181, 0.211))), names)
    assert both is not None and both.startswith("7.png (0.211), 6.png (0.181) differ from") and "['7.png', '6.png']" in both
    assert odd_note(dict(enumerate(GOOD)), names) is None


@pytest.fixture(scope="module")
def lite() -> LiteBackbone:
    return LiteBackbone(device="cpu")


def part(seed: int, *, bad: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    picture = np.repeat((120 + 30 * np.sin(np.arange(96) / 9)[None] + rng.normal(0, 4, (96, 96)))[..., None], 3, 2)
    if bad:
        picture[32:48, 32:48] = (220, 30, 30)
    return picture.clip(0, 255).astype(np.uint8)


def notes_of(detector: AnomalyDetector) -> list[str]:
    return [note for note in detector.fit_report.notes if "differ" in note and "from the other references" in note]


def test_fit_names_a_bad_reference_and_is_content_without_it(lite):
    pictures = [part(9, bad=True) if number == 2 else part(number) for number in range(5)]
    detector = AnomalyDetector(lite, rotations=1)
    with pytest.warns(VladWarning, match=r"reference 3 \(0\.\d+\) differs from the other references"):
        detector.fit(pictures)
    (note,) = notes_of(detector)
    index = int(note.partition("remove_references([detector.references[")[2].partition("]")[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VladWarning)
        detector.remove_references([detector.references[index]])
        assert not notes_of(detector) and len(detector.references) == 4
        assert detector.predict(part(10, bad=True)).pred_label is True
        detector.add_references([part(11, bad=True)])
    assert notes_of(detector)[0].startswith("reference 1 (")  # the first of those that were given now


def test_a_file_is_named_by_its_path(lite, tmp_path):
    for number in range(4):
        Image.fromarray(part(number, bad=number == 1)).save(tmp_path / f"{number}.png")
    with pytest.warns(VladWarning, match="differs"):
        detector = AnomalyDetector(lite, rotations=1).fit(tmp_path)
    assert f"{tmp_path / '1.png'} (" in notes_of(detector)[0] and repr(str(tmp_path / "1.png")) in notes_of(detector)[0]
