"""A saved detector in which anything has been changed gives the same scores as before, or one error that names folder and field."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import seeds
from safetensors.torch import load_file, save_file

from vlad import AnomalyDetector
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.errors import ConfigError, VladError

METHODS = ("nearest", "subspace", "gaussian")
DEEP = "[" * 5000 + "]" * 5000
WRONG = ["null", "true", '""', '"x"', "-1", "0", "0.5", "1e999", "NaN", "-Infinity", "99999999999999999999999", "[]", "{}", '[""]', DEEP]
WRONG += ["[0.1, 0.2]", '{"a": 1}', '"\\ud800"', "1e308", "3.5"]


def pictures(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = 128 + 60 * np.sin(np.arange(224) / 9)[None, :, None]
    return [np.clip(shape + rng.normal(0, 6, (224, 224, 3)), 0, 255).astype(np.uint8) for _ in range(count)]


@pytest.fixture(scope="module")
def lite() -> LiteBackbone:
    return LiteBackbone(device="cpu")


@pytest.fixture(scope="module", params=METHODS)
def saved(request, lite, tmp_path_factory) -> tuple[Path, float]:
    """A folder with references, labels and text, and the score that it gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = AnomalyDetector(lite, scorer=request.param, rotations=1, class_name="part").fit(pictures(4, 1))
        detector.calibrate(pictures(3, 2), [255 - one for one in pictures(2, 3)])
    detector.text_vectors()
    folder = detector.save(tmp_path_factory.mktemp(request.param) / "part")
    return folder, detector.predict(pictures(1, 9)[0], maps=False).pred_score


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved[0], tmp_path / "part"))


def outcome(folder: Path, lite: LiteBackbone) -> float | str:
    """The score of a picture, or the error; anything but an error of ours is passed on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            detector = AnomalyDetector.load(folder, backbone=lite)
            return detector.predict(pictures(1, 9)[0], maps=False).pred_score
        except ConfigError as error:
            return str(error)
        except VladError as error:
            pytest.fail(f"expected a ConfigError, got {error!r}")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def changed(config: dict[str, Any], path: tuple[Any, ...], text: str | None) -> str:
    """The JSON text with another value at a place, as it stands there; None takes the entry out."""
    copy = json.loads(json.dumps(config))
    holder = copy
    for key in path[:-1]:
        holder = holder[key]
    if text is None:
        del holder[path[-1]]
    else:
        holder[path[-1]] = "@HERE@"
    return json.dumps(copy).replace('"@HERE@"', text or "")


@pytest.mark.parametrize("seed", seeds(40))
def test_no_edit_of_the_configuration_changes_a_score(saved, folder, lite, seed):
    rng = random.Random(seed)
    config = json.loads((folder / "config.json").read_text())
    path = rng.choice([place for place in places(config) if place])
    (folder / "config.json").write_text(changed(config, path, rng.choice([None, *WRONG])), encoding="utf-8", errors="surrogateescape")
    found = outcome(folder, lite)
    assert found == saved[1] or "config.json" in str(found) or str(folder) in str(found), f"seed {seed}, {path}: {found}"


@pytest.mark.parametrize("seed", seeds(40))
def test_an_edit_of_a_folder_that_states_no_checksum_ends_in_a_score_or_an_error_of_ours(saved, folder, lite, seed):
    rng = random.Random(seed)
    config = json.loads((folder / "config.json").read_text())
    del config["sha256"]
    path = rng.choice([place for place in places(config) if place])
    (folder / "config.json").write_text(changed(config, path, rng.choice([None, *WRONG])), encoding="utf-8", errors="surrogateescape")
    found = outcome(folder, lite)
    assert isinstance(found, str) or 0 <= found <= 1, f"seed {seed}, {path}: {found}"


@pytest.mark.parametrize("seed", seeds(30))
def test_no_flipped_or_lost_byte_changes_a_score(saved, folder, lite, seed):
    rng = random.Random(seed)
    path = rng.choice([one for one in sorted(folder.iterdir()) if one.is_file() and one.stat().st_size])
    data = bytearray(path.read_bytes())
    place = rng.randrange(len(data)) if rng.random() < 0.7 else rng.randrange(min(len(data), 64))
    match rng.randrange(4):
        case 0:
            data[place] ^= 1 << rng.randrange(8)
        case 1:
            data[place] = rng.randrange(256)
        case 2:
            del data[place:]
        case _:
            data[place:place] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))
    path.write_bytes(bytes(data))
    found = outcome(folder, lite)
    assert found == saved[1] or str(folder) in str(found), f"seed {seed}, {path.name}, byte {place}: {found}"


def with_tensors(folder: Path, change: Any) -> None:
    """Change the tensors of the references, and state the new hash: as whoever writes such a folder would."""
    tensors = load_file(folder / "memory.safetensors")
    change(tensors)
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "memory.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config["memory"]["sha256"] = hashlib.sha256((folder / "memory.safetensors").read_bytes()).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))


CHANGES = {
    "NaN": lambda value: torch.full_like(value, torch.nan) if value.is_floating_point() else None,
    "infinite": lambda value: torch.full_like(value, torch.inf) if value.is_floating_point() else None,
    "half": lambda value: value.half() if value.is_floating_point() else None,
    "double": lambda value: value.double() if value.is_floating_point() else None,
    "whole": lambda value: value.to(torch.int32),
    "narrow": lambda value: value[..., : value.shape[-1] // 2],
    "short": lambda value: value[: len(value) // 2],
    "flat": lambda value: value.flatten() if value.dim() > 1 else value[None],
    "huge": lambda value: value * 1e6 if value.is_floating_point() else value + 10**6,
}


@pytest.mark.parametrize("kind", CHANGES)
def test_tensors_are_looked_at_before_they_are_used(saved, folder, lite, kind):
    for name in load_file(folder / "memory.safetensors"):
        other = Path(shutil.copytree(folder, folder.with_name(f"{name}-{kind}")))
        value = CHANGES[kind](load_file(folder / "memory.safetensors")[name])
        if value is None:
            continue
        with_tensors(other, lambda tensors, name=name, value=value: tensors.__setitem__(name, value))
        found = outcome(other, lite)
        assert isinstance(found, str), f"{name} {kind}: score {found}"
        assert str(other) in found, found
        if kind in ("NaN", "infinite", "half", "double", "whole", "flat"):
            assert name.rpartition(".")[2] in found and "memory.safetensors" in found, found


@pytest.mark.parametrize("name", ["memory", "text"])
def test_what_is_no_tensor_file(saved, folder, lite, name):
    path = folder / {"memory": "memory.safetensors", "text": "text_vectors.safetensors"}[name]
    for content in (b"", b"\xff" * 100, (8).to_bytes(8, "little") + b'{"a": 1}'):
        path.write_bytes(content)
        config = json.loads((folder / "config.json").read_text())
        config[name]["sha256"] = hashlib.sha256(content).hexdigest()
        (folder / "config.json").write_text(json.dumps(config))
        found = outcome(folder, lite)
        assert isinstance(found, str) and str(folder) in found, found


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("memory", "calibration", "pixel_scores"), '""', r"memory.calibration.pixel_scores must be a list of numbers"),
        (("memory", "calibration", "image_scores", 0), "1.5", r"image_scores[0] must be a number from 0 to 1, got 1.5"),
        (("memory", "calibration", "image_scores", 0), "1e999", "1e999, which is not finite"),
        (("memory", "next"), "Infinity", "Infinity, which is not finite"),
        (("memory", "references", "0", "size"), "[1e3, 2]", "memory.references.0.size must be a whole number"),
        (("memory", "scores", "1"), '"ab"', "memory.scores.1 must be two numbers"),
        (("labels", "pictures", 0, "score"), "true", "labels.pictures[0].score must be a number from 0 to 1, got True"),
        (("labels", "asked"), "[]", "labels.asked must be an object, got []"),
        (("settings", "threshold"), '"high"', "threshold"),
        (("settings", "top_share"), "9" * 400, "top_share must be a share"),
        (("history",), DEEP, "nested too deeply"),
        (("prompts", "states"), "3", "states"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_the_error_names_folder_and_field(saved, folder, lite, path, value, words):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(changed(config, path, value))
    found = outcome(folder, lite)
    assert isinstance(found, str) and words in found and str(folder / "config.json") in found, found


def test_a_change_by_hand_is_told_and_can_be_kept(saved, folder, lite):
    config = json.loads((folder / "config.json").read_text())
    config["labels"] = None
    config["settings"]["threshold"] = 0.25
    (folder / "config.json").write_text(json.dumps(config))
    assert "was changed after it was written" in str(outcome(folder, lite))
    del config["sha256"]
    (folder / "config.json").write_text(json.dumps(config, indent=7))
    assert outcome(folder, lite) == saved[1] and AnomalyDetector.load(folder, backbone=lite).config.threshold == 0.25


def test_layout_is_no_change(saved, folder, lite):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(dict(reversed(config.items())), ensure_ascii=True))
    assert outcome(folder, lite) == saved[1]
