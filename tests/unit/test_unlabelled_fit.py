"""`fit_unlabelled`: what stands out is left out, the rest is remembered, and the saved folder shows what was left out."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlad import AnomalyDetector
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.errors import ConfigError, ImageReadError, VladWarning
from vlad.evaluation.cache import CachedBackbone
from vlad.output.left_out import left_out_page
from vlad.references import fingerprint, unlabelled_fit
from vlad.references.unlabelled import MutualSettings
from vlad.synthetic import ProductLine

STILL = MutualSettings(turned=False)
BAD = (2, 7)


@pytest.fixture(scope="module")
def lite(tmp_path_factory) -> CachedBackbone:
    """The same few pictures are looked at in most tests, so each once."""
    return CachedBackbone(LiteBackbone(device="cpu"), tmp_path_factory.mktemp("cache"))


def part(seed: int, *, bad: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    picture = np.repeat((120 + 30 * np.sin(np.arange(96) / 9)[None] + rng.normal(0, 4, (96, 96)))[..., None], 3, 2)
    if bad:
        picture[32:48, 32:48] = (220, 30, 30) if seed % 2 else (30, 220, 30)
    return picture.clip(0, 255).astype(np.uint8)


PARTS = [part(number, bad=number in BAD) for number in range(10)]


def fit(lite, images, settings=STILL, *, on_error="warn", **options) -> AnomalyDetector:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VladWarning)
        return AnomalyDetector(lite, rotations=1, **options).fit_unlabelled(images, settings=settings, on_error=on_error)


@pytest.fixture(scope="module")
def fitted(lite) -> AnomalyDetector:
    return fit(lite, PARTS, MutualSettings(turned=False, expect_anomalous=0.2), class_name="tile")


def test_what_stands_out_is_left_out(lite, fitted):
    left_out = [fingerprint(one.source) for one in fitted.fit_report.stood_out]
    assert sorted(left_out) == sorted(fingerprint(PARTS[number]) for number in BAD)
    assert {reference.sha256 for reference in fitted.references} == {
        fingerprint(picture) for number, picture in enumerate(PARTS) if number not in BAD
    }
    scores = [score for _, score in fitted.fit_report.scored()]
    assert scores == sorted(scores, reverse=True) and scores[-1] > fitted.fit_report.stood_out[0].threshold
    assert fitted.predict(part(21, bad=True)).pred_label and fitted.predict(part(21, bad=True)).threshold_source == "references"
    assert fitted.memory.calibration.is_held_out and len(fitted.memory.calibration.image_scores) == 8


def test_the_batch_decides_where_no_share_is_expected(lite):
    with pytest.warns(VladWarning, match=r"stood out from the other pictures \(above 0\.\d+\) and left out: .*fit_report\.stood_out"):
        detector = AnomalyDetector(lite, rotations=1).fit_unlabelled(iter(PARTS), class_name="tile", settings=STILL)
    assert {fingerprint(PARTS[number]) for number in BAD} <= {fingerprint(one.source) for one in detector.fit_report.stood_out}
    assert detector.config.class_name == "tile" and detector.config.coreset is None


@pytest.mark.parametrize("given", [None, 0.5])
def test_many_are_thinned_out_unless_a_share_is_set(lite, monkeypatch, tmp_path, given):
    monkeypatch.setattr(unlabelled_fit, "MANY", 4)
    detector = fit(lite, PARTS, coreset=given)
    share = 0.1 if given is None else given
    assert detector.config.coreset == detector.memory.settings.coreset == share
    assert detector.memory.loss.kept == pytest.approx(share * detector.memory.loss.tokens, rel=0.01)
    loaded = AnomalyDetector.load(detector.save(tmp_path / "saved"), backbone=lite)
    assert loaded.predict(PARTS[2]).pred_score == detector.predict(PARTS[2]).pred_score


def test_what_cannot_be_thinned_out_is_not(lite, monkeypatch):
    monkeypatch.setattr(unlabelled_fit, "MANY", 4)
    assert fit(lite, PARTS, scorer="subspace").config.coreset is None


def test_unreadable_pictures_cost_only_themselves(lite, tmp_path):
    for number, picture in enumerate(PARTS):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    detector = fit(lite, tmp_path)
    assert [str(tmp_path / "broken.png") in str(error) for error in detector.fit_report.left_out] == [True]
    assert len(detector.references) + len(detector.fit_report.stood_out) == 10
    with pytest.raises(ImageReadError, match=r"broken\.png"):
        fit(lite, tmp_path, on_error="raise")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (PARTS[:7], "at least 8 pictures.*got 7;.*give more, or fit"),
        ([*PARTS[:7], b"no picture"], "got 7 .1 could not be read"),
        (PARTS[0], "got 1"),
        ([], "got 0"),
    ],
    ids=["seven", "seven and a broken one", "one", "none"],
)
def test_too_few(lite, images, message):
    with pytest.raises(ConfigError, match=message):
        fit(lite, images)


def test_several_kinds_of_product(lite):
    lines = [ProductLine("gear", 3, 96), ProductLine("leather", 1, 96)]
    mixed = [line.sample(number).image for number in range(5) for line in lines]
    with pytest.raises(ConfigError, match=r"10 pictures show 2 kinds of product .5, 5 pictures.*a folder for each"):
        fit(lite, mixed)


def test_after_an_error_the_detector_is_what_it_was(lite, fitted):
    detector = fitted.copy()
    with pytest.raises(ConfigError):
        detector.fit_unlabelled(PARTS[:3], class_name="gear", settings=STILL)
    assert detector.memory is fitted.memory and detector.config.class_name == "tile"


def test_the_page_shows_and_escapes(lite, tmp_path):
    name = tmp_path / "<b>&\u202etile.png"
    for number, picture in enumerate(PARTS):
        Image.fromarray(picture).save(name if number == 2 else tmp_path / f"{number}.png")
    report = fit(lite, tmp_path, MutualSettings(turned=False, expect_anomalous=0.2)).fit_report
    page = left_out_page(report, 8, "lite <1>")
    assert "2 of 10 pictures were left out" in page and "lite &lt;1&gt;" in page
    assert "&lt;b&gt;&amp;tile.png" in page and "<b>&" not in page and "\u202e" not in page
    assert page.count('src="data:image/jpeg;base64,') == 4 and page.count("src=") == 4 and "http" not in page
    for one, score in report.scored():
        assert f"score {score:.3f}" in page and f"threshold {one.threshold:.3f}" in page
    name.unlink()
    assert left_out_page(report, 8, "lite").count("src=") == 2  # of one that is gone there is a word
    assert "None stands out" in left_out_page(type(report)(), 8, "lite")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_page_stays_while_the_references_do(lite, fitted, tmp_path):
    folder = fitted.save(tmp_path / "saved", page="<p>left out</p>")
    assert names(folder) == ["config.json", "left_out.html", "memory.safetensors", "text_vectors.safetensors"]
    AnomalyDetector.load(folder, backbone=lite, threshold=0.4).save(folder)
    assert (folder / "left_out.html").read_text() == "<p>left out</p>" and AnomalyDetector.load(
        folder, backbone=lite
    ).config.threshold == 0.4
    fewer = AnomalyDetector.load(folder, backbone=lite)
    fewer.memory.remove(next(iter(fewer.memory.references)))
    fewer.save(folder)
    assert names(folder) == ["config.json", "memory.safetensors", "text_vectors.safetensors"]
    assert json.loads((folder / "config.json").read_text())["left_out"] is None


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("steps", range(8))
def test_a_save_cut_short_leaves_an_old_pair_or_a_new_one(lite, fitted, tmp_path, monkeypatch, steps):
    """Killed before its n-th write, rename or removal: the page is never that of other references than those that load."""
    from safetensors import torch as safetensors_torch

    folder = fitted.save(tmp_path / "saved", page="old")
    new = fitted.copy(threshold=0.7)
    new.memory = fitted.memory.copy()
    new.memory.remove(next(iter(new.memory.references)))
    left = steps

    def cut(call):
        def counted(*args, **options):
            nonlocal left
            if left == 0:
                raise _Killed
            left -= 1
            return call(*args, **options)

        return counted

    with monkeypatch.context() as patch:
        patch.setattr(safetensors_torch, "save_file", cut(safetensors_torch.save_file))
        for name in ("write_text", "replace", "unlink"):
            patch.setattr(Path, name, cut(getattr(Path, name)))
        with suppress(_Killed):
            new.save(folder, page="new")
    is_new = AnomalyDetector.load(folder, backbone=lite).config.threshold == 0.7
    assert is_new == (steps > 4)  # the rename of config.json, after two files of tensors and two of text, decides
    AnomalyDetector.load(folder, backbone=lite).save(folder)  # the same references: what was begun is ended, what is theirs stays
    assert (folder / "left_out.html").read_text() == ("new" if is_new else "old")
    assert names(folder) == ["config.json", "left_out.html", "memory.safetensors", "text_vectors.safetensors"]
