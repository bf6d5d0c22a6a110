"""A detector as a folder: config.json, and safetensors for what was computed. Never pickle."""

from __future__ import annotations

import hashlib
import json
import warnings
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from types import NoneType
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
_JSON_NAMES = {dict: "an object", str: "a text", NoneType: "null"}
_NEW = ".new"  # ends the names of files that a save has written and not yet put into place


def is_saved_detector(path: str | Path) -> bool:
    """True if `path` is a folder that `save_detector` wrote, a damaged one included; a model folder of open_clip has another configuration
    file, one of timm another content."""
    config = Path(path) / _CONFIG
    try:
        return config.is_file() and json.loads(config.read_text(encoding="utf-8", errors="surrogateescape")).get("format") == FORMAT
    except ValueError:  # no JSON any more: ours if our other file lies beside it
        return any((Path(path) / name).is_file() for name in (_TEXT, _TEXT + _NEW))
    except (AttributeError, OSError):
        return False


def save_detector(detector: AnomalyDetector, folder: Path) -> Path:
    """Write `detector` into `folder`, made if missing.

    A kill at any point leaves the old detector or the new one: what is new is written beside what is old, and the moment at which
    config.json is replaced decides, because it holds the hashes of the other files. `load_detector` takes a file of either name that has
    the hash, so it does not matter whether the last renames were still made.

    Raises:
        ConfigError: `folder` is, or lies below, something that is no folder.
    """
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
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(
            f"a detector is saved as a folder, {folder} cannot be one: a file is in its place; choose another name"
        ) from error
    _finish(folder)  # else the files of a save that was cut short would be overwritten while config.json still needs them
    save_file(vectors, folder / (_TEXT + _NEW))
    config["text"] = {"sha256": _sha256(folder / (_TEXT + _NEW))}
    if detector.memory is not None:
        values, tensors = detector.memory.state()
        save_file(tensors, folder / (_MEMORY + _NEW))
        config["memory"] = values | {"sha256": _sha256(folder / (_MEMORY + _NEW))}
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / (_CONFIG + _NEW)).write_text(text, encoding="utf-8", errors="surrogateescape")
    (folder / (_CONFIG + _NEW)).replace(folder / _CONFIG)
    _finish(folder)
    return folder


def _finish(folder: Path) -> None:
    """Put the files into place that config.json names by their hashes, and remove those of a save that never got so far."""
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, ValueError):
        config = None
    for key, name in (("text", _TEXT), ("memory", _MEMORY)):
        entry = config.get(key) if isinstance(config, dict) else None
        new = folder / (name + _NEW)
        if new.is_file():
            if isinstance(entry, dict) and entry.get("sha256") == _sha256(new):
                new.replace(folder / name)
            else:
                new.unlink()
        if key == "memory" and isinstance(config, dict) and config.get("format") == FORMAT and entry is None:
            (folder / name).unlink(missing_ok=True)


def _with_hash(folder: Path, name: str, sha256: Any) -> Path | None:
    """The file of that name and hash, put into place or not; None if there is none."""
    paths = (folder / name, folder / (name + _NEW))
    return next((path for path in paths if path.is_file() and _sha256(path) == sha256), None)


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

    config = _read_config(folder)
    model, saved_prompts, saved_settings = config["model"], config["prompts"], config["settings"]
    options: dict[str, Any] = {"device": device, "dtype": dtype, "cache_dir": cache_dir}
    backbone, is_same = _restore(folder, model, backbone, "backbone", **options)
    is_same_beside = True
    if config.get("patch_model"):
        beside, is_same_beside = _restore(folder, config["patch_model"], patch_backbone, "patch_backbone", **options)
        patch_backbone = beside  # type: ignore[assignment]
    ensemble = PromptEnsemble.from_dict(saved_prompts) if prompts is None else prompts
    detector = cls(backbone, patch_backbone=patch_backbone, prompts=ensemble, **(saved_settings | settings))
    if is_same:  # in another precision, or without the file, the text is embedded anew
        path = folder / _TEXT if "text" not in config else _with_hash(folder, _TEXT, config["text"]["sha256"])
        if path is None and (folder / _TEXT).is_file():
            warnings.warn(
                f"{folder / _TEXT} is damaged or of another detector: its SHA-256 is not the one in {_CONFIG}; the text is embedded anew",
                VladWarning,
                stacklevel=4,
            )
        with suppress(FileNotFoundError, SafetensorError):  # folders of earlier versions have no hash of it
            for noun, vectors in ({} if path is None else load_file(path, device=str(backbone.device))).items():
                detector._text_cache[PromptEnsemble.from_dict(saved_prompts).fingerprint, noun] = vectors
    if config.get("memory") is not None:
        detector.memory = _load_memory(detector, folder, config["memory"])
        if not (is_same and is_same_beside):
            warnings.warn(
                f"{folder} was fitted in another precision; distances and thresholds fit this one less well", VladWarning, stacklevel=4
            )
    return detector


def _read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a saved detector, whose entries have the types that `load_detector` relies on.

    Raises:
        ConfigError: there is none, it is damaged, or of a newer version.
    """
    path = folder / _CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        config = None
    except ValueError as error:
        raise ConfigError(f"{path} is damaged, it is no JSON ({error}); copy the folder again, or save the detector again") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ConfigError(f"{folder} holds no detector; expected a folder with {_CONFIG} as AnomalyDetector.save() writes it")
    if config.get("format_version") not in _READABLE:
        raise ConfigError(
            f"{folder} was written in format {config.get('format_version')} by vlad {config.get('vlad_version')}, this vlad reads formats "
            f"up to {FORMAT_VERSION}; update vlad, or save the detector again"
        )
    for name in ("model", "patch_model"):
        if name == "model" or config.get(name) is not None:
            entry = _entry(path, config, name, dict)
            for key, kinds in (("name", str), ("source", (str, NoneType)), ("dtype", str), ("fingerprint", str)):
                _entry(path, entry, key, kinds, f"{name}.{key}")
            if "options" in entry:
                _entry(path, entry, "options", dict, f"{name}.options")
    for name in ("prompts", "settings"):
        _entry(path, config, name, dict)
    if config.get("memory") is not None:
        _entry(path, config, "memory", dict)
    if "text" in config:
        _entry(path, _entry(path, config, "text", dict), "sha256", str, "text.sha256")
    return config


def _entry(path: Path, values: dict[str, Any], key: str, kinds: type | tuple[type, ...], shown: str | None = None) -> Any:
    """values[key], of one of these JSON types."""
    if key not in values:
        raise ConfigError(f"{path} is incomplete: {shown or key!r} is missing; save the detector again")
    if not isinstance(values[key], kinds):
        wanted = " or ".join(_JSON_NAMES[kind] for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
        raise ConfigError(f"{path} is damaged: {shown or key} must be {wanted}, got {values[key]!r}; save the detector again")
    return values[key]


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

    path = _with_hash(folder, _MEMORY, values.get("sha256"))
    if path is None and not (folder / _MEMORY).is_file():
        raise ConfigError(f"{folder} was saved with references, but {_MEMORY} is missing; copy the whole folder, or fit again")
    if path is None:
        raise ConfigError(
            f"{folder / _MEMORY} is damaged or of another detector: its SHA-256 is not the one in {_CONFIG}; "
            "copy the folder again, or fit again"
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
