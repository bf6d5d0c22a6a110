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
from vlad.together import Adapting


def run(scores, start: float, **settings: float) -> list[float]:
    threshold = AdaptingThreshold(**settings)
    return [threshold.update(score, start) for score in scores]


def test_it_starts_at_the_references_and_ends_near_the_runs():
    scores = np.random.default_rng(0).lognormal(np.log(0.05), 0.15, 400)
    found = run(scores, 0.1)
    assert found[:7] == [0.1] * 7 and found[8] != 0.1
    assert found[-1] == pytest.approx(batch_threshold(scores).value, rel=0.05)
    assert found[19] == pytest.approx(np.sqrt(0.1 * batch_threshold(scores[:20]).value))  # 20 of the run weigh as much as the references


@pytest.mark.parametrize(("start", "end"), [(0.5, 0.25), (0.001, 0.002)])
def test_it_moves_no_further_than_allowed(start, end):
    assert run([0.05] * 500, start, limit=2)[-1] == pytest.approx(end)


def test_bad_pictures_move_it_little():
    good = np.random.default_rng(0).lognormal(np.log(0.05), 0.15, 100)
    mixed = np.where(np.arange(100) % 5 == 0, 0.4, good)  # a fifth is bad
    assert run(mixed, 0.07)[-1] == pytest.approx(run(good, 0.07)[-1], rel=0.15)


@pytest.mark.parametrize("limit", [0.5, float("inf"), "2"])
def test_a_limit_out_of_range(limit):
    with pytest.raises(ConfigError, match="factor >= 1"):
        AdaptingThreshold(limit=limit)


@pytest.fixture(scope="module")
def gears() -> list[np.ndarray]:
    return [ProductLine("gear", 3, 160).sample(number, "crack" if number == 9 else None).image for number in range(14)]


def test_predictions_carry_it(gears):
    detector = AnomalyDetector(LiteBackbone(device="cpu"), rotations=1).fit(gears[10:])
    plain = detector.predict(gears[:10])
    follow = Adapting()
    found = [follow(result) for result in plain]
    assert found[:7] == plain[:7] and follow(error := ImageReadError("gone")) is error
    assert found[9].threshold_source == "references and 10 pictures of this run" and found[9].threshold != plain[9].threshold
    assert found[9].mask_threshold / plain[9].mask_threshold == pytest.approx(found[9].threshold / plain[9].threshold)
    words = AnomalyDetector(LiteBackbone(device="cpu")).predict(gears[0])
    assert follow(words) is words


def test_on_the_command_line(gears, tmp_path):
    for number, picture in enumerate(gears):
        write_picture(tmp_path / ("good" if number > 9 else "new") / f"{number}.png", picture)
    options = ["detect", str(tmp_path / "new"), "--model", "lite", "--rotations", "1", "--adapt", "--format", "csv"]
    done = CliRunner().invoke(app, [*options, "--references", str(tmp_path / "good")])
    assert done.exit_code == 0 and "references and 10 pictures of this run" in done.stdout
    with pytest.raises(ConfigError, match="--adapt moves the threshold of references"):
        CliRunner().invoke(app, options, catch_exceptions=False)
