"""What `detector.json` beside an exported model says: how a picture becomes its input, and its output a verdict. Needs no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from vlad.errors import ConfigError
from vlad.untrusted.values import Values, parse_json

FILE = "detector.json"
FORMAT = "vlad-exported"
FORMAT_VERSION = 1
MODEL_FILES = {"onnx": "model.onnx", "openvino": "model.xml"}


@dataclass(frozen=True, kw_only=True)
class Spec:
    """An exported detector beside its graph.

    Attributes:
        kind: "onnx" or "openvino".
        precision: "float32" or "float16" of the weights.
        model, prompts, class_name: as a `Prediction` names them.
        resize: (height, width) that a picture is resized to, by Pillow's bicubic filter.
        input: (height, width) of the input; what lies beyond the resized picture, right and below, repeats its border.
        made_for: (height, width) of the pictures whose aspect is kept, others would be squeezed; None where every picture is.
        mean, std: of the RGB channels in [0, 1].
        threshold, threshold_source, mask_threshold: as of `Prediction`.
        undecided: why there is no threshold.
        min_area, roi, ignore, white_level, light: settings; see `DetectorConfig`, `light` is what pictures are matched to.
        text_weight: of "text_map" beside "reference_map".
        rarity, rarity_centre: of "rarity_map" beside "text_map".
        scores: of the references, for p-values.
        outputs: names of the graph's outputs.
        sha256: of each file by name.
        versions: of what made it.
    """

    kind: str
    precision: str
    model: str
    prompts: str
    class_name: str
    resize: tuple[int, int]
    input: tuple[int, int]
    made_for: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    threshold: float | None
    threshold_source: str | None
    mask_threshold: float | None
    undecided: str
    min_area: int | None
    roi: str | None
    ignore: str | None
    white_level: int | None
    light: tuple[float, ...] | None
    text_weight: float
    rarity: float
    rarity_centre: float
    scores: tuple[float, ...]
    outputs: tuple[str, ...]
    sha256: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Into `folder`."""
        text = json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}, indent=2, ensure_ascii=False)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Spec:
        """From `folder`.

        Raises:
            ConfigError: there is none, it is damaged, or of a newer version.
        """
        path = folder / FILE
        try:
            values = parse_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ConfigError(f"{folder} holds no exported detector; expected a folder that `vlad export` wrote") from error
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} is damaged ({error}); export again") from error
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ConfigError(f"{folder} holds no exported detector; expected a folder that `vlad export` wrote")
        if values.get("format_version") != FORMAT_VERSION:
            raise ConfigError(f"{folder} is of format {values.get('format_version')}, this vlad reads {FORMAT_VERSION}; export again")
        try:
            return _checked(cls, Values(values, "detector"))
        except ConfigError as error:
            raise ConfigError(f"{path} is damaged: {error}; export again") from error


def is_exported(path: str | Path) -> bool:
    """Whether `path` is a folder that an export wrote."""
    try:
        return parse_json((Path(path) / FILE).read_text(encoding="utf-8")).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        return False


def _checked(cls: type[Spec], found: Values) -> Spec:
    size = {name: _pair(found.wholes(name, 1, count=2)) for name in ("resize", "input")}
    made_for = None if found.get("made_for") is None else _pair(found.wholes("made_for", 1, count=2))
    texts = {name: found.text(name) for name in ("kind", "precision", "model", "prompts", "class_name", "undecided")}
    optional = {name: found.text(name, optional=True) for name in ("threshold_source", "roi", "ignore")}
    numbers: dict[str, Any] = {name: found.number(name, 0, 1, optional=True) for name in ("threshold", "mask_threshold")}
    numbers |= {name: found.number(name) for name in ("text_weight", "rarity", "rarity_centre")}
    numbers["min_area"] = None if found.get("min_area") is None else found.whole("min_area", 1)
    numbers["white_level"] = None if found.get("white_level") is None else found.whole("white_level", 255, 65535)
    numbers["light"] = None if found.get("light") is None else found.numbers("light", 0, 255)
    lists: dict[str, Any] = {name: found.numbers(name) for name in ("mean", "std")} | {"scores": found.numbers("scores", 0, 1)}
    outputs = found.get("outputs")
    hashes = found.object("sha256")
    if texts["kind"] not in MODEL_FILES or not isinstance(outputs, list) or not {"score", "map"} <= set(map(str, outputs)):
        raise ConfigError(
            f"expected a kind of {', '.join(MODEL_FILES)} and outputs with score and map, got {texts['kind']!r}, {outputs!r:.80}"
        )
    if len(lists["mean"]) != 3 or len(lists["std"]) != 3 or min(lists["std"]) <= 0:
        raise ConfigError(f"detector.mean and detector.std must be three numbers each, got {lists['mean']}, {lists['std']}")
    known = {name.name for name in fields(cls)}
    given = texts | optional | numbers | lists | size | {"made_for": made_for, "outputs": tuple(map(str, outputs))}
    given |= {"sha256": {name: str(value) for name, value in hashes.items()}}
    given["versions"] = {name: str(value) for name, value in found.object("versions").items()}
    return cls(**{name: value for name, value in given.items() if name in known})


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return values[0], values[1]
