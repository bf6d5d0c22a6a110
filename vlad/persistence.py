"""A detector as a folder: config.json, and safetensors for what was computed. Never pickle."""

from __future__ import annotations

import hashlib
import json
import warnings
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlad.errors import ConfigError, VladWarning

if TYPE_CHECKING:
    from vlad.backbones.base import Backbone, PatchBackbone
    from vlad.detector import AnomalyDetector
    from vlad.prompts import PromptEnsemble
    from vlad.references import ReferenceMemory

FORMAT = "vlad-detector"
FORMAT_VERSION = 2  # 2 knows references; 1, which knew none, is still read
_READABLE = (1, 2)
_CONFIG, _TEXT, _MEMORY = "config.json", "text_vectors.safetensors", "memory.safetensors"


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

    config: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "vlad_version": __version__,
        "model": _describe(detector.backbone),
        "patch_model": None if detector.patch_backbone is None else _describe(detector.patch_backbone),
        "prompts": detector.prompts.to_dict(),
        "settings": detector.config.to_dict(),
        "memory": None,
    }
    if detector.encoder.joint is not None:
        detector.text_vectors()
    vectors = {
        noun: value.cpu() for (fingerprint, noun), value in detector._text_cache.items() if fingerprint == detector.prompts.fingerprint
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _CONFIG).unlink(missing_ok=True)  # written last: a folder that has it is whole
    save_file(vectors, folder / _TEXT)
    if detector.memory is None:
        (folder / _MEMORY).unlink(missing_ok=True)
    else:
        values, tensors = detector.memory.state()
        save_file(tensors, folder / _MEMORY)
        config["memory"] = values | {"sha256": _sha256(folder / _MEMORY)}
    (folder / _CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", errors="surrogateescape")
    return folder


def _describe(backbone: Backbone | PatchBackbone) -> dict[str, Any]:
    return {
        "name": backbone.name,
        "source": backbone.source,
        "options": getattr(backbone, "options", {}),
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "fingerprint": backbone.fingerprint,
    }


def load_detector(
    cls: type[AnomalyDetector],
    folder: Path,
    *,
    backbone: Backbone | PatchBackbone | None = None,
    patch_backbone: PatchBackbone | None = None,
    prompts: PromptEnsemble | str | Path | None = None,
    device: str = "auto",
    dtype: str | None = None,
    cache_dir: str | Path | None = None,
    **settings: Any,
) -> AnomalyDetector:
    """The detector that `save_detector` wrote into `folder`; see `AnomalyDetector.load`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from vlad.prompts import PromptEnsemble

    if not is_saved_detector(folder):
        raise ConfigError(f"{folder} holds no detector; expected a folder with {_CONFIG} as AnomalyDetector.save() writes it")
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8", errors="surrogateescape"))
    if config.get("format_version") not in _READABLE:
        raise ConfigError(
            f"{folder} was written in format {config.get('format_version')} by vlad {config.get('vlad_version')}, this vlad reads formats "
            f"up to {FORMAT_VERSION}; update vlad, or save the detector again"
        )
    try:
        model, saved_prompts, saved_settings = config["model"], config["prompts"], config["settings"]
        for entry in (model, *([config["patch_model"]] if config.get("patch_model") else [])):
            _ = entry["source"], entry["dtype"], entry["fingerprint"], entry["name"]
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{folder / _CONFIG} is incomplete: {error} is missing; save the detector again") from error
    if not isinstance(saved_settings, dict) or not isinstance(model["source"], (str, type(None))):
        raise ConfigError(f"{folder / _CONFIG} is damaged: settings must be an object and source a text; save the detector again")
    options: dict[str, Any] = {"device": device, "dtype": dtype, "cache_dir": cache_dir}
    backbone, is_same = _restore(folder, model, backbone, "backbone", **options)
    is_same_beside = True
    if config.get("patch_model"):
        beside, is_same_beside = _restore(folder, config["patch_model"], patch_backbone, "patch_backbone", **options)
        patch_backbone = beside  # type: ignore[assignment]
    ensemble = PromptEnsemble.from_dict(saved_prompts) if prompts is None else prompts
    detector = cls(backbone, patch_backbone=patch_backbone, prompts=ensemble, **(saved_settings | settings))
    if is_same:  # in another precision, or without the file, the text is embedded anew
        with suppress(FileNotFoundError, SafetensorError):
            for noun, vectors in load_file(folder / _TEXT, device=str(backbone.device)).items():
                detector._text_cache[PromptEnsemble.from_dict(saved_prompts).fingerprint, noun] = vectors
    if config.get("memory") is not None:
        detector.memory = _load_memory(detector, folder, config["memory"])
        if not (is_same and is_same_beside):
            warnings.warn(
                f"{folder} was fitted in another precision; distances and thresholds fit this one less well", VladWarning, stacklevel=4
            )
    return detector


def _restore(
    folder: Path,
    entry: dict[str, Any],
    given: Backbone | PatchBackbone | None,
    argument: str,
    *,
    device: str,
    dtype: str | None,
    cache_dir: str | Path | None,
) -> tuple[Backbone | PatchBackbone, bool]:
    """The backbone of an entry of the configuration, and whether it is the very same one, precision included."""
    from vlad.backbones import load_backbone
    from vlad.backbones.device import resolve_device

    backbone = given
    if backbone is None:
        if entry["source"] is None:
            raise ConfigError(
                f"{folder} was saved from a model object ({entry['name']}); give the same one as load(folder, {argument}=...)"
            )
        if dtype in (None, "auto"):  # float16 was for a GPU that is not here
            dtype = "auto" if entry["dtype"] == "float16" and resolve_device(device).type == "cpu" else entry["dtype"]
        options = entry.get("options", {})
        backbone = load_backbone(entry["source"], device=device, dtype=dtype or "auto", cache_dir=cache_dir, **options)
    is_same = backbone.fingerprint == entry["fingerprint"]
    same_precision = str(backbone.dtype).removeprefix("torch.") == entry["dtype"]
    if not is_same and (same_precision or backbone.name != entry["name"]):
        raise ConfigError(
            f"{folder} was saved with other weights of {entry['name']} than those of {backbone.name}; "
            "restore the weights, or save the detector again"
        )
    return backbone, is_same


def _load_memory(detector: AnomalyDetector, folder: Path, values: dict[str, Any]) -> ReferenceMemory:
    """The references of a saved detector.

    Raises:
        ConfigError: their file is missing, damaged or of another detector, or a setting would need the references to be seen again.
    """
    from safetensors.torch import load_file

    from vlad.references import MemorySettings, ReferenceMemory

    path = folder / _MEMORY
    if not path.is_file():
        raise ConfigError(f"{folder} was saved with references, but {_MEMORY} is missing; copy the whole folder, or fit again")
    if _sha256(path) != values.get("sha256"):
        raise ConfigError(
            f"{path} is damaged or of another detector: its SHA-256 is not the one in {_CONFIG}; copy the folder again, or fit again"
        )
    try:
        memory = ReferenceMemory.from_state(values, load_file(path), detector.encoder.device)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{folder / _CONFIG} does not fit {_MEMORY}: {error!r}; copy the folder again, or fit again") from error
    wanted = detector._memory_settings()
    for field in fields(MemorySettings):
        before, now = getattr(memory.settings, field.name), getattr(wanted, field.name)
        left_open = field.name == "tile" or (field.name == "rotations" and now is None)  # another tile is possible, and predict warns
        if before != now and not left_open:
            raise ConfigError(f"{folder} was fitted with {field.name}={before!r}, not {now!r}; leave the setting out, or fit again")
    return memory


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
