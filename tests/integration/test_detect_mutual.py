"""`vlad detect --mutual`: folders judged by themselves, from the command line."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from vlad.cli import app
from vlad.errors import ConfigError
from vlad.synthetic import ProductLine


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("products")
    for family in ("gear", "leather"):
        (root / family).mkdir()
        line = ProductLine(family, 3, 160)
        for number in range(8):
            bad = "cut" if number == 5 else None
            Image.fromarray(line.sample(number, bad).image).save(root / family / f"{number}.png")
    return root


def test_each_folder_is_judged_for_itself(folders, tmp_path):
    run = CliRunner().invoke(app, ["detect", str(folders), "-q", "--recursive", "--mutual", "--model", "lite", "--out", str(tmp_path)])
    assert run.exit_code == 0, run.output
    rows = {Path(row["image_path"]): row for row in csv.DictReader((tmp_path / "results.csv").open())}
    assert len(rows) == 16 and {row["threshold_source"] for row in rows.values()} == {"mutual"}
    for family in ("gear", "leather"):
        scores = {path.name: float(row["pred_score"]) for path, row in rows.items() if path.parent.name == family}
        assert "5.png" in sorted(scores, key=scores.__getitem__)[-2:]
        assert len({row["threshold"] for path, row in rows.items() if path.parent.name == family}) == 1
    assert (tmp_path / "gear" / "5_overlay.png").is_file()


def test_few_pictures_are_undecided(folders, tmp_path):
    paths = [str(folders / "gear" / f"{number}.png") for number in range(3)]
    run = CliRunner().invoke(app, ["detect", *paths, "--mutual", "--model", "lite", "--fail-on-anomaly"])
    assert run.exit_code == 0 and run.output.count("undecided") == 4 and "3 pictures are too few" in run.output


def test_without_a_flag_folders_are_judged_and_the_rest_is_undecided(folders, tmp_path):
    run = CliRunner().invoke(app, ["detect", str(folders), "--recursive", "--model", "lite", "--format", "csv"])
    assert run.exit_code == 0 and run.stderr.count("are judged by each other, as if most were good; --no-mutual: by the words") == 2
    assert run.stdout.count(",mutual,") == 16
    mixed = [str(folders / family / f"{number}.png") for number in range(2) for family in ("gear", "leather")]
    run = CliRunner().invoke(app, ["detect", *mixed, "--group-by", "none", "--model", "lite", "--format", "csv", "--fail-on-anomaly"])
    assert run.exit_code == 0 and run.stdout.count("4 pictures are too few") == 4 and "4 undecided: 4 pictures" in run.stderr


def test_what_the_model_saw_is_kept(folders, tmp_path, monkeypatch):
    gears = ["detect", str(folders / "gear"), "--model", "lite", "--format", "csv", "--cache", str(tmp_path / "cache")]
    first = CliRunner().invoke(app, gears)
    monkeypatch.setattr("vlad.backbones.lite.backbone.LiteBackbone.encode_image", lambda *_, **__: pytest.fail("the model ran"))
    second = CliRunner().invoke(app, gears)
    scores = [[row["pred_score"] for row in csv.DictReader(run.stdout.splitlines())] for run in (first, second)]
    assert first.exit_code == second.exit_code == 0 and scores[0] == scores[1] and len(scores[0]) == 8


def test_the_words_decide_when_told(folders):
    gears = ["detect", str(folders / "gear"), "--model", "lite", "--format", "csv"]
    for option, source in ((["--no-mutual"], "text"), (["--threshold", "0.4"], "user")):
        run = CliRunner().invoke(app, [*gears, *option])
        assert run.exit_code == 0 and run.stdout.count(f",{source},") == 8 and "judged by each other" not in run.stderr


def test_tiles_do_not_go_together_with_it_and_references_do(folders):
    gears = ["detect", str(folders / "gear"), "--model", "lite", "--mutual", "--format", "csv"]
    with pytest.raises(ConfigError, match="leave --tile out"):
        CliRunner().invoke(app, [*gears, "--tile", "64"], catch_exceptions=False)
    good = [part for number in range(4) for part in ("--references", str(folders / "gear" / f"{number}.png"))]
    run = CliRunner().invoke(app, [*gears, *good])
    assert run.exit_code == 0 and run.stdout.count(",mutual,") == 8


def test_an_expected_share_is_found_and_not_among_words(folders):
    options = ["detect", str(folders / "gear"), "--model", "lite", "--expect-anomalous", "0.25"]
    run = CliRunner().invoke(app, [*options, "--format", "csv"])
    assert run.exit_code == 0 and run.stdout.count(",True,") == 2
    with pytest.raises(ConfigError, match="judged by each other; leave it out"):
        CliRunner().invoke(app, [*options, "--no-mutual"], catch_exceptions=False)
