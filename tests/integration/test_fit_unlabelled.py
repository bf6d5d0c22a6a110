"""`vlad fit --unlabelled`: from an unsorted folder to a detector, from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import vlad
from PIL import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("unsorted")
    for number in range(9):
        rng = np.random.default_rng(number)
        picture = np.repeat((120 + 30 * np.sin(np.arange(96) / 9)[None] + rng.normal(0, 4, (96, 96)))[..., None], 3, 2)
        if number == 4:
            picture[32:48, 32:48] = (220, 30, 30)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(root / f"{number}.png")
    return root


def fit(folder: Path, out: Path, *options: str):
    return vlad("fit", folder, "--unlabelled", "--model", "lite", "--rotations", "1", "--out", out, *options)


def test_from_a_folder_to_a_detector(folder, tmp_path):
    run = fit(folder, tmp_path / "model", "--expect-anomalous", "0.12")
    assert run.returncode == 0, run.stderr
    (line,) = run.stdout.splitlines()
    assert line.endswith(f"  {folder / '4.png'}") and 0 < float(line.split()[0]) < 1
    assert "stood out and left out: 1 of 9" in run.stderr and "references: 8 pictures" in run.stderr
    page = (tmp_path / "model" / "left_out.html").read_text()
    assert ">4.png<" in page and f"score {line.split()[0]}" in page
    found = vlad("detect", folder / "4.png", folder / "5.png", "--model", tmp_path / "model", "--format", "csv")
    assert [row.split(",")[0].endswith("4.png") for row in found.stdout.splitlines()[1:]] == [True, False]
    assert "1 anomalous, 1 normal" in found.stderr
    good = [folder / f"{number}.png" for number in range(4)]
    again = vlad("fit", *good, "--model", "lite", "--rotations", "1", "--out", tmp_path / "model")
    assert again.returncode == 0 and not (tmp_path / "model" / "left_out.html").exists()


def test_unreadable_pictures_cost_only_themselves(folder, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    run = vlad(
        "fit", folder, tmp_path / "broken.png", tmp_path / "none", "--unlabelled", "--model", "lite", "--out", tmp_path / "model", "-q",
        "--rotations", "1",
    )  # fmt: skip
    assert run.returncode == 3 and (tmp_path / "model" / "left_out.html").is_file()
    assert run.stderr.count("left out: ") == 2 and "broken.png" in run.stderr and "none" in run.stderr


def test_too_few_pictures(folder, tmp_path):
    run = vlad("fit", folder / "0.png", folder / "1.png", "--unlabelled", "--model", "lite", "--out", tmp_path / "model")
    assert run.returncode == 2 and "expected at least 8 pictures" in run.stderr and not (tmp_path / "model").exists()


def test_an_expected_share_belongs_to_unlabelled(folder, tmp_path):
    run = vlad("fit", folder, "--model", "lite", "--expect-anomalous", "0.1", "--out", tmp_path / "model")
    assert run.returncode == 2 and "belongs to --unlabelled" in run.stderr
