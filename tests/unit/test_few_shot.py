"""fit, add and remove references, thresholds: what holds whatever the backbone."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from lookup import looks_once
from PIL import Image

from vlad import AnomalyDetector
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.errors import ConfigError, ImageReadError, VladWarning
from vlad.references import MemorySettings, ReferenceMemory
from vlad.references.calibration import threshold
from vlad.references.shrinkage import IMAGE_PRIOR, shrinkage_bound
from vlad.synthetic import ProductLine


@pytest.fixture(scope="module")
def lite() -> LiteBackbone:
    return looks_once(LiteBackbone(device="cpu"))


@pytest.fixture(scope="module")
def good() -> list[np.ndarray]:
    line = ProductLine("gear", 3, 160)
    return [line.sample(number).image for number in range(6)]


@pytest.fixture(scope="module")
def bad() -> np.ndarray:
    return ProductLine("gear", 3, 160).sample(100, "crack").image


@pytest.fixture(scope="module", params=["winclip", "nearest", "subspace", "gaussian", "rotated", "coreset"])
def make(request, lite, tiny_clip):
    """Detectors of every kind; a function, because they are changed."""
    from vlad.backbones import ClipBackbone

    settings = {
        "nearest": {"rotations": 1},
        "subspace": {"scorer": "subspace", "rotations": 1},
        "gaussian": {"scorer": "gaussian"},
        "rotated": {"rotations": 4},
        "coreset": {"coreset": 0.2, "rotations": 2},
        "winclip": {},
    }[request.param]
    backbone = ClipBackbone(tiny_clip, device="cpu", dtype="float32", name="tiny") if request.param == "winclip" else lite

    def new(**more) -> AnomalyDetector:
        detector = AnomalyDetector(backbone, **(settings | more))
        detector.kind = request.param
        return detector

    return new


def quiet(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VladWarning)
        return function(*arguments, **options)


class TestAnyKind:
    def test_what_a_result_says(self, make, good, bad):
        detector = make()
        assert quiet(detector.fit, good[:4]) is detector and len(detector.references) == 4
        result = detector.predict(bad)
        assert result.threshold_source == "references" and 0 <= result.threshold <= 1
        assert 0 <= result.pred_score <= 1 and result.scores["p_value"] in (0.2, 0.4, 0.6, 0.8, 1.0)
        assert result.anomaly_map.dtype == np.float32 and result.anomaly_map.shape == bad.shape[:2]
        assert result.anomaly_map.min() >= 0 and result.anomaly_map.max() <= 1
        assert detector.predict(bad, maps=False).pred_score == result.pred_score
        assert detector.predict([good[5], bad])[1].pred_score == result.pred_score

    def test_order_never_matters(self, make, good, bad):
        results = [quiet(make().fit, references).predict(bad) for references in (good[:3], good[2::-1])]
        assert results[0].pred_score == results[1].pred_score and results[0].threshold == results[1].threshold
        assert np.array_equal(results[0].anomaly_map, results[1].anomaly_map)

    def test_fit_replaces(self, make, good, bad):
        detector = quiet(make().fit, good[:2])
        expected = quiet(make().fit, good[2:4]).predict(bad)
        again = quiet(detector.fit, good[2:4]).predict(bad)
        assert again.pred_score == expected.pred_score and again.threshold == expected.threshold

    def test_add_and_remove_are_as_never_done(self, make, good, bad):
        detector = quiet(make().fit, good[:2])
        before = detector.predict(bad)
        quiet(detector.add_references, good[2:4])
        assert len(detector.references) == 4 and detector.predict(bad).threshold != before.threshold
        quiet(detector.remove_references, good[2:4])
        after = detector.predict(bad)
        assert after.pred_score == pytest.approx(before.pred_score, abs=1e-6) and after.threshold == pytest.approx(
            before.threshold, abs=1e-6
        )

    def test_predict_changes_nothing(self, make, good, bad):
        detector = quiet(make().fit, good[:2])
        memory, references = detector.memory, detector.references
        first = detector.predict(bad)
        detector.predict(good)
        assert detector.predict(bad).pred_score == first.pred_score
        assert detector.memory is memory and detector.references == references

    def test_the_folder_alone_reproduces_the_scores(self, make, good, bad, tmp_path):
        detector = quiet(make().fit, good[:3], class_name="gear")
        folder = detector.save(tmp_path / "gear")
        loaded = AnomalyDetector.load(folder, backbone=detector.backbone)
        assert loaded.config == detector.config and loaded.references == detector.references
        for a, b in zip(detector.predict([*good, bad]), loaded.predict([*good, bad]), strict=True):
            assert a.pred_score == b.pred_score and np.array_equal(a.anomaly_map, b.anomaly_map)
            assert (a.threshold, a.mask_threshold, a.threshold_source, a.scores) == (b.threshold, b.mask_threshold, "references", b.scores)
            assert np.array_equal(a.embedding, b.embedding)


def test_a_fit_tells_how_far_it_is(lite, good):
    steps: list[tuple[str, int, int]] = []
    AnomalyDetector(lite, rotations=1).fit(good[:4], on_progress=lambda *step: steps.append(step))
    assert steps == [
        *(("read", number, 0) for number in range(1, 5)),
        *(("look", number, 4) for number in range(1, 5)),
        *(("compare", number, 4) for number in range(1, 5)),
    ]


class TestDistances:
    def test_a_reference_has_distance_zero(self, lite, good):
        detector = AnomalyDetector(lite, rotations=1).fit(good[:3])
        for result in detector.predict(good[:3]):
            assert result.pred_score == 0 and result.anomaly_map.max() == 0

    def test_adding_a_reference_never_raises_a_distance(self, lite, good, bad):
        detector = quiet(AnomalyDetector(lite, rotations=1, search="exact").fit, good[:1])
        before = detector.predict([bad, good[5]])
        quiet(detector.add_references, good[1:4])
        for a, b in zip(before, detector.predict([bad, good[5]]), strict=True):
            assert (b.anomaly_map <= a.anomaly_map + 1e-7).all() and b.pred_score < a.pred_score

    def test_a_turned_part_is_known_with_rotations(self, lite, good):
        turned = np.ascontiguousarray(np.rot90(good[0]))
        plain, rotated = (quiet(AnomalyDetector(lite, rotations=count).fit, good[:1]).predict(turned) for count in (1, 4))
        assert rotated.pred_score < 0.1 * plain.pred_score

    def test_a_defect_is_found(self, lite, good, bad):
        detector = AnomalyDetector(lite, rotations=1).fit(good[:4])
        found, normal = detector.predict([bad, good[5]])
        assert found.pred_label and not normal.pred_label and found.pred_score > 1.5 * normal.pred_score

    @pytest.mark.parametrize(
        ("scorer", "given", "count", "rotations"),
        [("nearest", None, 16, 8), ("subspace", None, 1, 8), ("nearest", None, 17, 1), ("nearest", 3, 17, 3), ("winclip", None, 2, 1)],
    )
    def test_few_references_are_turned(self, scorer, given, count, rotations):
        memory = ReferenceMemory(MemorySettings(scorer=scorer, scales=(), rotations=given))
        memory.settle(count)
        assert memory.settings.rotations == rotations
        memory.settle(1000)  # of those that are added later, too
        assert memory.settings.rotations == rotations

    def test_text_weight(self, lite, good, bad):
        zero_shot = AnomalyDetector(lite, rotations=1, rarity=0).predict(bad)
        alone = AnomalyDetector(lite, rotations=1).fit(good[:2]).predict(bad)
        assert alone.pred_score == alone.scores["reference"] and alone.scores["text_image"] == zero_shot.pred_score
        both = AnomalyDetector(lite, rotations=1, text_weight=0.3).fit(good[:2]).predict(bad)
        assert both.pred_score == pytest.approx(0.3 * zero_shot.pred_score + 0.7 * alone.pred_score, abs=1e-6)

    def test_foreground(self, lite):
        """A plain background gets no distance; on a texture nothing is cut, and that is said."""
        rng = np.random.default_rng(0)

        def disc(seed):
            y, x = np.mgrid[:256, :256]
            inside = (y - 128) ** 2 + (x - 128) ** 2 < 70**2
            texture = np.random.default_rng(seed).integers(60, 200, (256, 256, 3))
            return np.where(inside[..., None], texture, 128).astype(np.uint8)

        detector = AnomalyDetector(lite, rotations=1, foreground=True).fit([disc(1), disc(2)])
        dirty = disc(3)
        dirty[:16, :16] = 0
        assert detector.memory.foreground is not None and detector.predict(dirty).anomaly_map[:24, :24].max() == 0
        assert AnomalyDetector(lite, rotations=1).fit([disc(1), disc(2)]).predict(dirty).anomaly_map[:24, :24].max() > 0
        with pytest.warns(VladWarning, match="does not stand out"):
            AnomalyDetector(lite, rotations=1, foreground=True).fit([rng.integers(0, 256, (256, 256, 3), dtype=np.uint8) for _ in range(2)])

    def test_tiles_are_compared_with_tiles(self, lite):
        rng = np.random.default_rng(0)
        picture = rng.integers(0, 256, (400, 700, 3), dtype=np.uint8)
        detector = AnomalyDetector(lite, rotations=1, tile=400).fit([picture, picture[:, ::-1].copy()])
        result = detector.predict(picture)
        assert result.pred_score == 0 and result.anomaly_map.max() == 0 and result.scores["tiles"] == 2
        with pytest.warns(VladWarning, match="seen with tile=400"):
            detector.predict(picture, tile=350)


class TestThresholds:
    def test_leave_one_out_by_hand(self, lite, good):
        """Each reference's score is what a detector fitted to the others gives it."""
        detector = AnomalyDetector(lite, rotations=1, calibration="conformal", fpr_limit=0.5).fit(good[:4])
        others = [AnomalyDetector(lite, rotations=1).fit([g for j, g in enumerate(good[:4]) if j != i]).predict(good[i]) for i in range(4)]
        assert detector.memory.calibration.image_scores == pytest.approx(sorted(r.pred_score for r in others), abs=1e-6)
        result = detector.predict(good[5])
        assert result.threshold == pytest.approx(sorted(r.pred_score for r in others)[2], abs=1e-6)  # rank ceil(5 * 0.5)
        assert result.mask_threshold == pytest.approx(sorted(float(r.anomaly_map.max()) for r in others)[2], abs=1e-6)

    def test_who_gives_it(self, lite, good):
        detector = AnomalyDetector(lite, rotations=1).fit(good[:3])
        of_references = detector.predict(good[5])
        given = detector.predict(good[5], threshold=0.3)
        assert (given.threshold, given.threshold_source) == (0.3, "user") and given.mask_threshold == of_references.mask_threshold
        assert detector.predict(good[5], mask_threshold=0.2).mask_threshold == 0.2
        assert AnomalyDetector(lite, rotations=1).predict(good[5]).threshold_source is None
        assert AnomalyDetector(lite, rotations=1, text_threshold=0.4).predict(good[5]).threshold_source == "text"

    def test_one_reference_is_enough(self, lite, good, bad):
        detector = AnomalyDetector(lite, rotations=1).fit(good[0])
        assert not detector.memory.calibration.is_held_out and len(detector.memory.calibration.image_scores) == 8
        assert (
            detector.predict(np.random.default_rng(0).integers(0, 256, bad.shape, dtype=np.uint8)).pred_label
            and not detector.predict(good[0]).pred_label
        )

    def test_one_reference_by_hand(self, lite, good):
        """Its mirrored views are scored by a detector that was fitted to it alone."""
        detector = AnomalyDetector(lite, rotations=1).fit(good[0])
        mirrored = detector.predict([np.ascontiguousarray(good[0][:, ::-1]), np.ascontiguousarray(good[0][::-1])])
        middle = np.sqrt(mirrored[0].pred_score * mirrored[1].pred_score)
        expected = shrinkage_bound([middle], 0.05, IMAGE_PRIOR, are_held_out=False)
        assert detector.predict(good[1]).threshold == pytest.approx(expected, abs=1e-6)

    def test_fewer_false_alarms_are_a_higher_threshold(self, lite, good):
        for method in ("shrinkage", "student", "quantile"):
            limits = [
                AnomalyDetector(lite, rotations=1, calibration=method, fpr_limit=limit).fit(good[:5]).predict(good[5]).threshold
                for limit in (0.2, 0.01)
            ]
            assert limits[0] < limits[1]


class TestOddReferences:
    def test_unreadable_are_left_out_and_named(self, lite, good, tmp_path):
        broken = tmp_path / "broken.png"
        broken.write_bytes(b"\x89PNG\r\n\x1a\n")
        tiny = np.zeros((8, 8, 3), np.uint8)
        with pytest.warns(VladWarning) as notes:
            detector = AnomalyDetector(lite, rotations=1).fit([good[0], broken, tiny, good[1], tmp_path / "missing.png"])
        text = "\n".join(str(note.message) for note in notes)
        assert all(word in text for word in ("broken.png", "8 x 8", "missing.png")) and len(detector.references) == 2

    def test_or_raised(self, lite, good, tmp_path):
        detector = AnomalyDetector(lite, rotations=1).fit(good[:2])
        with pytest.raises(ImageReadError, match=r"missing\.png"):
            detector.fit([good[3], tmp_path / "missing.png"], on_error="raise")
        assert len(detector.references) == 2  # a fit that fails leaves everything as it was

    @pytest.mark.parametrize(
        ("references", "error"), [([], ConfigError), ([b"no picture"], ImageReadError), ([b"a", b"b"], ImageReadError)]
    )
    def test_none_is_left(self, lite, good, references, error):
        detector = quiet(AnomalyDetector(lite, rotations=1, class_name="gear").fit, good[:2])
        with pytest.raises(error):
            quiet(detector.fit, references, class_name="screw")
        assert len(detector.references) == 2 and detector.config.class_name == "gear"

    def test_duplicates_count_once(self, lite, good, tmp_path):
        copy = tmp_path / "copy.png"
        Image.fromarray(good[0]).save(copy)
        with pytest.warns(VladWarning, match=r"copy\.png: the same picture is a reference already"):
            detector = AnomalyDetector(lite, rotations=1).fit([good[0], copy, good[1]])
        assert len(detector.references) == 2
        with pytest.warns(VladWarning, match="already, left out"):
            detector.add_references(good[0])
        assert len(detector.references) == 2

    def test_mixed_sizes_and_small_ones_are_noted(self, lite, good):
        with pytest.warns(VladWarning) as notes:
            AnomalyDetector(lite, rotations=1).fit([good[0], good[1][:100], good[2][:60, :60]])
        text = "\n".join(str(note.message) for note in notes)
        assert "different shapes, width to height from 1.00 to 1.60" in text and "60 x 60 pixels are enlarged to 448" in text

    def test_a_folder_and_single_pictures(self, lite, good, tmp_path):
        for number, picture in enumerate(good[:3]):
            Image.fromarray(picture).save(tmp_path / f"{number}.png")
        for references in (tmp_path, [tmp_path], str(tmp_path), sorted(tmp_path.iterdir()), np.stack(good[:3])):
            assert len(AnomalyDetector(lite, rotations=1).fit(references).references) == 3

    def test_what_cannot_be_removed(self, lite, good):
        detector = AnomalyDetector(lite, rotations=1)
        with pytest.raises(ConfigError, match="no references to remove"):
            detector.remove_references(good[:1])
        detector.fit(good[:2])
        with pytest.raises(ConfigError, match="not among the 2"):
            detector.remove_references([good[0], good[4]])
        with pytest.raises(ConfigError, match="no reference would be left"):
            detector.remove_references(list(detector.references))
        assert len(detector.references) == 2

    def test_a_reference_that_cannot_be_seen_again(self, lite, good, tmp_path):
        folder = AnomalyDetector(lite, rotations=1).fit(good[:3]).save(tmp_path / "saved")
        loaded = AnomalyDetector.load(folder)
        with pytest.warns(VladWarning, match="cannot be seen again, so old scores stay"):
            loaded.add_references(good[3:5])
        assert len(loaded.references) == 5 and len(loaded.memory.calibration.image_scores) == 5


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_threshold_from_few_is_called_a_guess(lite, count, tmp_path):
    line = ProductLine("washer", 3, 96)
    detector = AnomalyDetector(lite, rotations=1)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        detector.fit([line.sample(number).image for number in range(count)])
    words = f"the threshold from {count} reference{'s' if count > 1 else ''} is a guess"
    assert [words in str(note.message) for note in notes].count(True) == (count < 4)
    calibration = detector.memory.calibration
    assert calibration.is_held_out == (count > 1) and len(calibration.image_scores) == (8 if count == 1 else count)
    assert len(calibration.image_mirror_scores) == len(calibration.pixel_mirror_scores) == (2 if count == 1 else 0)
    assert len(calibration.image_view_scores) == len(calibration.pixel_view_scores) == (8 * count if count in (2, 3) else 0)
    assert AnomalyDetector.load(detector.save(tmp_path), backbone=lite).memory.calibration == calibration


def test_no_note_about_a_threshold_of_your_own(lite):
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        AnomalyDetector(lite, rotations=1, threshold=0.3).fit(ProductLine("washer", 3, 96).sample(0).image)
    assert not [note for note in notes if "is a guess" in str(note.message)]


def test_two_unlike_references_leave_room_for_defects(lite):
    """The bound of one degree of freedom alone is out of reach of any defect."""
    panel, circuit = (ProductLine(family, 3, 96).sample(0).image for family in ("panel", "circuit"))
    calibration = quiet(AnomalyDetector(lite, rotations=1).fit, [panel, circuit]).memory.calibration
    assert calibration.image_threshold("student", 0.05) < threshold(calibration.image_scores, "student", 0.05)


def test_a_failing_fit_says_so_once(lite, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageReadError, match=r"gone\.png"):
            AnomalyDetector(lite).fit([tmp_path / "gone.png"])
        with pytest.raises(ImageReadError, match=r"none of 2 references could be read; the first: .*gone\.png"):
            AnomalyDetector(lite).fit([tmp_path / "gone.png", tmp_path / "lost.png"])


def test_numbers_are_no_references(lite, good):
    detector = quiet(AnomalyDetector(lite, rotations=1).fit, good[:2])
    with pytest.raises(ConfigError, match=r"write detector.references\[0\]"):
        detector.remove_references([0])
    assert len(detector.references) == 2
