"""A threshold from references that follows the run."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from vlad import AnomalyDetector
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.cli import app
from vlad.errors import ConfigError, ImageReadError
from vlad.references.adapting import AdaptingThreshold
from vlad.scoring.batch_threshold import batch_threshold
from vlad.synthetic import ProductLine
from vlad.synthetic.benchmark import write_picture
from vlad.together import Adapting, predict_together


def run(scores, start: float, **settings: float) -> list[float]:
    """The threshold after each score."""
    threshold, found = AdaptingThreshold(**settings), []
    for score in scores:
        threshold.see([score])
        found.append(threshold.at(start))
    return found


def test_it_starts_at_the_references_and_ends_near_the_runs():
    scores = np.random.default_rng(0).lognormal(np.log(0.05), 0.15, 400)
    found = run(scores, 0.1)
    assert found[:7] == [0.1] * 7 and found[8] != 0.1
    assert found[-1] == pytest.approx(batch_threshold(scores).at(1.85), rel=0.05)
    assert found[9] == pytest.approx(np.sqrt(0.1 * batch_threshold(scores[:10]).at(1.85)))  # 10 of the run weigh as much as the references
    assert run(scores, 0.1, fewest=20)[:19] == [0.1] * 19


@pytest.mark.parametrize(("start", "end"), [(0.5, 0.25), (0.051, 0.0561)])
def test_it_moves_no_further_than_allowed(start, end):
    scores = np.random.default_rng(0).lognormal(np.log(0.05), 0.2, 500)
    limit = {0.5: 2, 0.051: 1.1}[start]
    assert run(scores, start, limit=limit)[-1] == pytest.approx(end, rel=0.01)


def test_bad_pictures_move_it_little():
    good = np.random.default_rng(0).lognormal(np.log(0.05), 0.15, 100)
    for share, tolerance in ((5, 0.15), (2, 0.5)):  # a fifth is bad, half is bad
        mixed = np.where(np.arange(100) % share == 0, 0.4, good)
        assert run(mixed, 0.07)[-1] == pytest.approx(run(good, 0.07)[-1], rel=tolerance)


def test_where_most_are_bad_it_is_not_raised():
    bad = np.random.default_rng(0).lognormal(np.log(0.2), 0.15, 100)
    assert run(bad, 0.1)[-1] == 0.1
    assert run(bad, 0.1, memory=8, limit=2)[-1] == 0.1
    half = np.where(np.arange(100) % 2 == 0, bad, 0.05)
    assert run(half, 0.1)[-1] != 0.1


def test_it_forgets_what_is_long_ago():
    early, late = np.full(100, 0.02), np.full(50, 0.05)
    assert run([*early, *late], 0.07, memory=50)[-1] == pytest.approx(run(late, 0.07)[-1])


@pytest.mark.parametrize("limit", [0.5, float("inf"), "2"])
def test_a_limit_out_of_range(limit):
    with pytest.raises(ConfigError, match="factor >= 1"):
        AdaptingThreshold(limit=limit)
    with pytest.raises(ConfigError, match=r"memory .* >= 8"):
        AdaptingThreshold(memory=2)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [ProductLine("gear", 3, 160).sample(number, "crack" if number == 9 else None).image for number in range(14)]


@pytest.fixture(scope="module")
def detector(pictures) -> AnomalyDetector:
    return AnomalyDetector(LiteBackbone(device="cpu"), rotations=1).fit(pictures[10:])


def test_predictions_carry_it(detector, pictures):
    plain = detector.predict(pictures[:10])
    follow = Adapting()
    found = [follow(result) for result in plain]
    assert found[:7] == plain[:7] and follow(error := ImageReadError("gone")) is error
    assert found[9].threshold_source == "references and 10 pictures of this run" and found[9].threshold != plain[9].threshold
    assert found[9].mask_threshold / plain[9].mask_threshold == pytest.approx(found[9].threshold / plain[9].threshold)
    before, now = plain[9].threshold, found[9].threshold
    assert follow.note() == f"the threshold of the references, {before:.3f}, follows 10 pictures of this run to {now:.3f}"
    words = AnomalyDetector(LiteBackbone(device="cpu")).predict(pictures[0])
    assert follow(words) is words


def test_a_folder_is_looked_at_first_so_that_order_does_not_matter(detector, pictures):
    plain = detector.predict(pictures[:10])
    found = list(predict_together(detector, pictures[:10], adapt=True))
    turned = list(predict_together(detector, pictures[:10][::-1], adapt=True))[::-1]
    assert {result.threshold_source for result in found} == {"references and 10 pictures of this run"}
    assert len({result.threshold for result in found} | {result.threshold for result in turned}) == 1
    assert [result.pred_score for result in found] == [result.pred_score for result in plain]
    for options in (
        {},
        {"adapt": False},
        {"adapt": True, "threshold": 0.3},
        {"adapt": Adapting(fewest=11)},
    ):  # by default twenty are needed
        assert not any("run" in result.threshold_source for result in predict_together(detector, pictures[:10], **options))
    (large, *_) = predict_together(detector.copy(min_area=5), pictures[:10], adapt=True)
    assert large.min_area == 5 and large.threshold == found[0].threshold
    many = list(predict_together(detector, [*pictures[:10], *pictures[:9], ImageReadError("gone").args[0], pictures[9]], on_error="return"))
    assert isinstance(many[19], ImageReadError) and many[0].threshold_source == "references and 20 pictures of this run"


def test_on_the_command_line(pictures, tmp_path):
    for number, picture in enumerate(pictures):
        write_picture(tmp_path / ("good" if number > 9 else "new") / f"{number}.png", picture)
    options = ["detect", str(tmp_path / "new"), "--model", "lite", "--rotations", "1", "--format", "csv"]
    beside = ["--references", str(tmp_path / "good")]
    done = CliRunner().invoke(app, [*options, *beside, "--adapt"])
    assert done.exit_code == 0 and "references and 10 pictures of this run" in done.stdout and "--no-adapt keeps it" in done.stderr
    assert "of this run" not in CliRunner().invoke(app, [*options, *beside]).stdout
    with pytest.raises(ConfigError, match="--adapt moves the threshold of references"):
        CliRunner().invoke(app, [*options, "--adapt"], catch_exceptions=False)
