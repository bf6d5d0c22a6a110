"""Data files of the evaluation that ship with vlad: anchors and benchmark configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vlad.errors import ConfigError


def shipped(place: str) -> Path:
    """A file of the folder `eval`: inside the package in a wheel, beside it in a source tree or an editable install.

    Raises:
        ConfigError: it is in neither.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_eval", package.parent / "eval"):
        if (folder / place).exists():
            return folder / place
    raise ConfigError(f"expected {place} in {package / '_eval'} or {package.parent / 'eval'}, found neither; install vlad-anomaly again")


def read_yaml(path: Path) -> Any:
    """Plain data of a YAML file.

    Raises:
        ConfigError: no such file, or it is no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no YAML ({error}); correct it") from error


def load_config(name_or_path: str) -> dict[str, Any]:
    """A benchmark configuration: options of `vlad eval` by name, from a shipped name (`mvtec`) or a YAML file.

    Raises:
        ConfigError: unknown name, or no mapping.
    """
    text = str(name_or_path)
    if "/" in text or "\\" in text or text.endswith((".yaml", ".yml")):
        path = Path(text)
    else:
        folder = shipped("configs")
        path = folder / f"{text}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
            raise ConfigError(f"unknown configuration {text!r}; known are {known}, or give the path of a YAML file")
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected options of `vlad eval` as a mapping, got {type(values).__name__}; correct it")
    return {str(key).replace("-", "_"): value for key, value in values.items()}
