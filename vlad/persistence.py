"""A detector as a folder: config.json, and safetensors for what was computed. Never pickle."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlad.errors import ConfigError

if TYPE_CHECKING:
    from vlad.backbones.base import Backbone
    from vlad.detector import AnomalyDetector
    from vlad.prompts import PromptEnsemble

FORMAT = "vlad-detector"
FORMAT_VERSION = 1
_CONFIG, _TEXT = "config.json", "text_vectors.safetensors"


def is_saved_detector(path: str | Path) -> bool:
    """True if `path` is a folder that `save_detector` wrote; a model folder of open_clip has another configuration file."""
    config = Path(path) / _CONFIG
    try:
        return config.is_file() and json.loads(config.read_text(encoding="utf-8")).get("format") == FORMAT
    except (ValueError, AttributeError, OSError):
        return False


def save_detector(detector: AnomalyDetector, folder: Path) -> Path:
    """Write `detector` into `folder`, made if missing."""
    from safetensors.torch import save_file

    from vlad import __version__

    backbone = detector.backbone
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "vlad_version": __version__,
        "model": {
            "name": backbone.name,
            "source": backbone.source,
            "dtype": str(backbone.dtype).removeprefix("torch."),
            "fingerprint": backbone.fingerprint,
        },
        "prompts": detector.prompts.to_dict(),
        "settings": detector.config.to_dict(),
    }
    detector.text_vectors()
    vectors = {
        noun: value.cpu() for (fingerprint, noun), value in detector._text_cache.items() if fingerprint == detector.prompts.fingerprint
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(vectors, folder / _TEXT)
    (folder / _CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


def load_detector(
    cls: type[AnomalyDetector],
    folder: Path,
    *,
    backbone: Backbone | None = None,
    prompts: PromptEnsemble | str | Path | None = None,
    device: str = "auto",
    dtype: str | None = None,
    cache_dir: str | Path | None = None,
    **settings: Any,
) -> AnomalyDetector:
    """The detector that `save_detector` wrote into `folder`; see `AnomalyDetector.load`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from vlad.backbones import load_backbone
    from vlad.backbones.device import resolve_device
    from vlad.prompts import PromptEnsemble

    if not is_saved_detector(folder):
        raise ConfigError(f"{folder} holds no detector; expected a folder with {_CONFIG} as AnomalyDetector.save() writes it")
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    if config.get("format_version") != FORMAT_VERSION:
        raise ConfigError(
            f"{folder} was written in format {config.get('format_version')} by vlad {config.get('vlad_version')}, this vlad reads format "
            f"{FORMAT_VERSION}; update vlad, or save the detector again"
        )
    try:
        model, saved_prompts, saved_settings = config["model"], config["prompts"], config["settings"]
        source, saved_dtype, fingerprint = model["source"], model["dtype"], model["fingerprint"]
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{folder / _CONFIG} is incomplete: {error} is missing; save the detector again") from error
    if not isinstance(saved_settings, dict) or not isinstance(source, (str, type(None))):
        raise ConfigError(f"{folder / _CONFIG} is damaged: settings must be an object and source a text; save the detector again")
    if backbone is None:
        if source is None:
            raise ConfigError(f"{folder} was saved from a model object ({model['name']}); give the same one as load(folder, backbone=...)")
        if dtype in (None, "auto"):  # float16 was for a GPU that is not here
            dtype = "auto" if saved_dtype == "float16" and resolve_device(device).type == "cpu" else saved_dtype
        backbone = load_backbone(source, device=device, dtype=dtype, cache_dir=cache_dir)
    is_same = backbone.fingerprint == fingerprint
    same_precision = str(backbone.dtype).removeprefix("torch.") == saved_dtype
    if not is_same and (same_precision or backbone.name != model["name"]):
        raise ConfigError(
            f"{folder} was saved with other weights of {model['name']} than those of {backbone.name}; "
            "restore the weights, or save the detector again"
        )
    ensemble = PromptEnsemble.from_dict(saved_prompts) if prompts is None else prompts
    detector = cls(backbone, prompts=ensemble, **(saved_settings | settings))
    if is_same:  # in another precision, or without the file, the text is embedded anew
        with suppress(FileNotFoundError, SafetensorError):
            for noun, vectors in load_file(folder / _TEXT, device=str(backbone.device)).items():
                detector._text_cache[PromptEnsemble.from_dict(saved_prompts).fingerprint, noun] = vectors
    return detector
