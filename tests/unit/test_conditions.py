"""A threshold holds for scores made under the conditions that it was made under; under others it is made anew, or there is an error."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlad import AnomalyDetector
from vlad.backbones import ClipBackbone
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.errors import ConfigError, VladWarning
from vlad.prompts import PromptEnsemble
from vlad.synthetic import ProductLine

WORN = PromptEnsemble.from_states(normal=["new {class_name}"], anomalous=["worn {class_name}"])


@pytest.fixture(scope="module")
def lite() -> LiteBackbone:
    return LiteBackbone(device="cpu")


@pytest.fixture(scope="module")
def clip(tiny_clip) -> ClipBackbone:
    return ClipBackbone(tiny_clip, device="cpu", dtype="float32", name="tiny")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    line = ProductLine("gear", 3, 160)
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        Image.fromarray(line.sample(number).image).save(path)
    return paths


def quiet(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VladWarning)
        return function(*arguments, **options)


def seen(detector: AnomalyDetector, path: Path) -> tuple[float, float, float, float]:
    result = quiet(detector.predict, path)
    return result.pred_score, result.threshold, result.mask_threshold, result.scores["p_value"]


CHANGES = [
    ("lite", {"top_share": 1.0}),
    ("lite", {"text_weight": 0.5}),
    ("lite", {"tile": 96}),
    ("lite", {"text_weight": 0.5, "temperature": 0.5}),
    ("clip", {"text_weight": 0.1}),
    ("clip", {"temperature": 0.5}),
    pytest.param("clip", {"prompts": WORN}, id="clip-prompts"),
    ("clip", {"class_name": "bolt"}),
    ("clip", {"tile": 96}),
    ("clip", {"tile": 96, "tile_overlap": 0.6}),
]


@pytest.mark.parametrize(("model", "change"), CHANGES, ids=str)
@pytest.mark.parametrize("way", ["copy", "load", "from_pretrained"])
def test_every_setting_that_moves_scores_moves_the_threshold(way, model, change, lite, clip, files, tmp_path, monkeypatch):
    backbone = {"lite": lite, "clip": clip}[model]
    settings = {"rotations": 1} if model == "lite" else {}
    fitted = quiet(AnomalyDetector(backbone, **settings).fit, files[:4])
    before = seen(fitted, files[4])
    if way == "copy":
        changed = fitted.copy(**change)
    else:
        folder = fitted.save(tmp_path / "model")
        if way == "from_pretrained":
            monkeypatch.setattr("vlad.persistence.restore_backbone", lambda *_, **__: (backbone, True))
            changed = AnomalyDetector.from_pretrained(folder, **change)
        else:
            changed = AnomalyDetector.load(folder, backbone=backbone, **change)
    if "tile" in change:  # the banks hold other tokens after a fresh fit, so only the calibration is compared
        assert changed.memory.calibration.conditions.tile == 96
    else:
        fresh = quiet(AnomalyDetector(backbone, **(settings | change)).fit, files[:4])
        assert seen(changed, files[4]) == pytest.approx(seen(fresh, files[4]), abs=1e-6)
    assert seen(changed, files[4])[1] != before[1]
    assert seen(fitted, files[4]) == before


@pytest.mark.parametrize(("model", "change"), CHANGES, ids=str)
def test_without_the_pictures_it_is_an_error(model, change, lite, clip, files, tmp_path):
    backbone = {"lite": lite, "clip": clip}[model]
    folder = quiet(AnomalyDetector(backbone, **({"rotations": 1} if model == "lite" else {})).fit, files[:4]).save(tmp_path / "model")
    for path in files[:4]:
        path.unlink()
    with pytest.raises(ConfigError, match=r"has to be calibrated anew, and .*\d\.png and 3 more cannot be seen again") as error:
        AnomalyDetector.load(folder, backbone=backbone, **change)
    assert ("prompts" if "prompts" in change else next(iter(change)).replace("class_name", "noun")) in str(error.value)
    assert AnomalyDetector.load(folder, backbone=backbone, threshold=0.3, **change).predict(files[4]).threshold == 0.3


def test_what_moves_no_score_moves_nothing(lite, files, tmp_path):
    fitted = quiet(AnomalyDetector(lite, rotations=1).fit, files[:4])
    folder = fitted.save(tmp_path / "model")
    before = seen(fitted, files[4])
    for path in files[:4]:
        path.unlink()
    for change in ({"prompts": WORN}, {"class_name": "bolt"}, {"temperature": 0.5}, {"rarity": 3.0}):  # at text weight 0
        assert seen(AnomalyDetector.load(folder, backbone=lite, **change), files[4]) == before
    stricter = AnomalyDetector.load(folder, backbone=lite, fpr_limit=0.01)  # follows from the same scores
    assert stricter.predict(files[4]).threshold > before[1]


def test_a_class_name_of_one_call(clip, files, tmp_path):
    fitted = quiet(AnomalyDetector(clip).fit, files[:4], class_name="bolt")
    washer = quiet(AnomalyDetector(clip).fit, files[:4], class_name="washer")
    assert fitted.predict(files[4], class_name="washer").threshold == pytest.approx(washer.predict(files[4]).threshold, abs=1e-6)
    assert fitted.predict(files[4]).threshold != fitted.predict(files[4], class_name="washer").threshold
    loaded = AnomalyDetector.load(fitted.save(tmp_path / "model"), backbone=clip)
    for path in files[:4]:
        path.unlink()
    with pytest.raises(ConfigError, match="noun='washer' instead of 'bolt'"):
        loaded.predict(files[4], class_name="washer")
    assert loaded.predict(files[4], class_name="washer", threshold=0.4).threshold == 0.4


def test_folders_of_earlier_versions_are_taken_to_be_what_their_settings_say(clip, files, tmp_path):
    import json

    folder = quiet(AnomalyDetector(clip, class_name="bolt").fit, files[:4]).save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    del config["memory"]["calibration"]["conditions"], config["sha256"]
    (folder / "config.json").write_text(json.dumps(config))
    for path in files[:4]:
        path.unlink()
    assert AnomalyDetector.load(folder, backbone=clip).predict(files[4]).threshold_source == "references"
    with pytest.raises(ConfigError, match=r"temperature=0\.5 instead of 0\.07"):
        AnomalyDetector.load(folder, backbone=clip, temperature=0.5)


def test_each_reference_is_decoded_once(lite, files, monkeypatch):
    from vlad.pictures import reading
    from vlad.references import fitting

    decoded = []
    original = reading.read_image
    monkeypatch.setattr(reading, "read_image", lambda source, **options: decoded.append(source) or original(source, **options))
    quiet(AnomalyDetector(lite, rotations=1).fit, files)
    assert sorted(decoded) == files
    monkeypatch.setattr(fitting, "_KEPT_BYTES", 0)  # no room: read again, and the same comes out
    again = quiet(AnomalyDetector(lite, rotations=1).fit, files)
    assert again.memory.calibration == quiet(AnomalyDetector(lite, rotations=1).fit, files).memory.calibration


def test_the_report_says_what_was_left_out(lite, files, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    detector = quiet(AnomalyDetector(lite, rotations=1).fit, [*files[:2], files[0], tmp_path / "broken.png"])
    report = detector.fit_report
    assert [str(tmp_path / "broken.png") in str(error) for error in report.left_out] == [True]
    assert report.duplicates == (str(files[0]),)
    assert any("enlarged to 448" in note for note in report.notes) and any("is a guess" in note for note in report.notes)


def test_warnings_point_at_the_callers_line(lite, files):
    with pytest.warns(VladWarning) as notes:
        AnomalyDetector(lite, rotations=1).fit(files[:1])
    with pytest.warns(VladWarning, match="same value") as flat:
        list(AnomalyDetector(lite).predict_iter([np.full((64, 64, 3), 9, np.uint8)]))
    assert {note.filename for note in [*notes, *flat]} == {__file__}


def test_another_picture_under_the_name_of_a_reference_calibrates_nothing(lite, files, tmp_path):
    folder = quiet(AnomalyDetector(lite, rotations=1).fit, files[:4]).save(tmp_path / "model")
    Image.fromarray(np.full((160, 160, 3), (200, 0, 0), np.uint8)).save(files[1])
    with pytest.raises(ConfigError, match=r"1\.png cannot be seen again"):
        AnomalyDetector.load(folder, backbone=lite, top_share=0.5)


def test_references_are_found_from_another_folder(lite, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = quiet(AnomalyDetector(lite, rotations=1).fit, [path.name for path in files[:4]]).save("model")
    monkeypatch.chdir("/")
    loaded = AnomalyDetector.load(tmp_path / folder, backbone=lite, top_share=0.5)
    assert loaded.memory.calibration.conditions.top_share == 0.5


def test_warnings_point_at_the_callers_line_through_decorators_of_torch(lite, files):
    with pytest.warns(VladWarning, match="does not know") as notes:
        AnomalyDetector(lite).predict(files[0], class_name="zzyzx")
    assert {note.filename for note in notes} == {__file__}
