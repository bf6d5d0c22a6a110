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


def test_the_words_decide_when_told(folders):
    gears = ["detect", str(folders / "gear"), "--model", "lite", "--format", "csv"]
    for option, source in ((["--no-mutual"], "text"), (["--threshold", "0.4"], "user")):
        run = CliRunner().invoke(app, [*gears, *option])
        assert run.exit_code == 0 and run.stdout.count(f",{source},") == 8 and "judged by each other" not in run.stderr


@pytest.mark.parametrize("other", [["--references", "x"], ["--tile", "64"]], ids=str)
def test_what_does_not_go_together(folders, other):
    with pytest.raises(ConfigError, match=f"leave {other[0]} out"):
        CliRunner().invoke(app, ["detect", str(folders / "gear"), "--mutual", *other], catch_exceptions=False)


def test_an_expected_share_is_found_and_not_among_words(folders):
    options = ["detect", str(folders / "gear"), "--model", "lite", "--expect-anomalous", "0.25"]
    run = CliRunner().invoke(app, [*options, "--format", "csv"])
    assert run.exit_code == 0 and run.stdout.count(",True,") == 2
    with pytest.raises(ConfigError, match="judged by each other; leave it out"):
        CliRunner().invoke(app, [*options, "--no-mutual"], catch_exceptions=False)
