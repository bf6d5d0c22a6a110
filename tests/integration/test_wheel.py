"""The wheel, installed into a fresh environment, runs `vlad detect` with its own prompts and its own model."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from waiting import LIMIT

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 8 * 2**20  # bytes; the wheel carries the embedded model's head


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> dict[str, Path]:
    """Wheel and sdist, built without isolation because tests reach no registry."""
    pytest.importorskip("build", reason="building needs the extra vlad-anomaly[dev]")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    return {path.suffix: path for path in folder.iterdir()}


def test_wheel_holds_prompts_and_model(packages):
    with zipfile.ZipFile(packages[".whl"]) as wheel:
        names = set(wheel.namelist())
    shipped = {f"vlad/_prompts/{path.relative_to(ROOT / 'prompts').as_posix()}" for path in (ROOT / "prompts").rglob("*.yaml")}
    assert len(shipped) >= 10 and shipped <= names and "vlad/_prompts/defects/generic.yaml" in names
    assert {"vlad/backbones/lite/weights.safetensors", "vlad/backbones/lite/README.md", "vlad/py.typed"} <= names
    assert {"vlad/_eval/anchors.yaml", "vlad/_eval/configs/mvtec.yaml", "vlad/evaluation/templates/report.html"} <= names
    assert {
        "vlad/_examples/washer_scratch.png",
        "vlad/_examples/references/washer/1.png",
        "vlad/_examples/gears/01_good.png",
    } <= names  # what `vlad demo` shows first
    assert not any(name.startswith(("tests/", "demos/", "prompts/")) for name in names)
    assert packages[".whl"].stat().st_size <= LARGEST


def test_sdist_holds_everything_needed_to_build_and_test(packages):
    with tarfile.open(packages[".gz"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {
        "pyproject.toml",
        "constraints.txt",
        "README.md",
        "LICENSE",
        "prompts/winclip.yaml",
        "vlad/backbones/lite/weights.safetensors",
        "tests/conftest.py",
    } <= names
    assert not any(part in name for name in names for part in (".venv", "__pycache__", "runs/"))


def test_fresh_environment_detects(packages, tmp_path):
    """The environment sees this one's libraries, but vlad only from the wheel."""
    home = tmp_path / "environment"
    venv.create(home, with_pip=False)
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    paths = {"purelib": sysconfig.get_path("purelib", vars={"base": str(home)})}
    with zipfile.ZipFile(packages[".whl"]) as wheel:
        wheel.extractall(paths["purelib"])
    Path(paths["purelib"], "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = subprocess.run([python, "-c", "import vlad; print(vlad.__file__)"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert where.stdout.startswith(str(home))
    command = [python, "-m", "vlad", "detect", ROOT / "demos" / "examples" / "gears", "--model", "lite", "--out", tmp_path / "out"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=LIMIT, check=False)
    assert run.returncode == 0, run.stderr
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").open(encoding="utf-8")))
    assert len(rows) == 12 and all(row["model"].startswith("lite") for row in rows)
    assert all((row["pred_label"] == "True") == ("_good" not in row["image_path"]) for row in rows)  # the README's first result
    assert len(list((tmp_path / "out").glob("*_overlay.png"))) == 12
    pictures = tmp_path / "pictures"  # an evaluation needs the shipped anchors and the template of the report
    for kind in ("good", "scratch"):
        (pictures / kind).mkdir(parents=True)
        (pictures / kind / "1.png").write_bytes((ROOT / "demos" / "examples" / f"washer_{kind}.png").read_bytes())
    command = [python, "-m", "vlad", "eval", pictures, "--model", "lite", "--bootstrap", "0", "--out", tmp_path / "eval"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=LIMIT, check=False)
    assert run.returncode == 0 and (tmp_path / "eval" / "report.html").is_file(), run.stderr
    show = subprocess.run(
        [python, "-m", "vlad", "prompts", "show", "winclip", "--class-name", "pcb1"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert "a photo of a flawless printed circuit board." in show.stdout
