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
    assert run.exit_code == 0 and run.output.count("undecided") == 4 and "because there is no threshold" in run.output


@pytest.mark.parametrize("other", [["--references", "x"], ["--tile", "64"]], ids=str)
def test_what_does_not_go_together(folders, other):
    with pytest.raises(ConfigError, match=f"leave {other[0]} out"):
        CliRunner().invoke(app, ["detect", str(folders / "gear"), "--mutual", *other], catch_exceptions=False)


def test_an_expected_share_belongs_to_mutual(folders):
    with pytest.raises(ConfigError, match="belongs to --mutual"):
        CliRunner().invoke(app, ["detect", str(folders / "gear"), "--expect-anomalous", "0.1"], catch_exceptions=False)
