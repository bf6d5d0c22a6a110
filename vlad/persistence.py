"""A detector as a folder: config.json, and safetensors for what was computed. Never pickle."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from vlad.disk import cannot_write, make_folder, sha256_of
from vlad.errors import ConfigError, OutputError, PromptError, warn
from vlad.pictures.roi import in_short
from vlad.untrusted.values import parse_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vlad.backbones.base import Backbone, PatchBackbone
    from vlad.backbones.registry import LaterPatches
    from vlad.prompts.ensemble import PromptEnsemble
    from vlad.references.labels import Labels
    from vlad.references.memory import MemorySettings, ReferenceMemory

FORMAT = "vlad-detector"
# 5 searches by clusters by default, 4 gives words no weight beside a patch backbone by default, 3 tiles pictures far from square by
# default, 2 knows references; 1, which knew none, is still read.
FORMAT_VERSION = 5
_READABLE = (1, 2, 3, 4, FORMAT_VERSION)
_AGAIN = "copy the folder again, or fit again"
_CONFIG, _TEXT, _MEMORY = "config.json", "text_vectors.safetensors", "memory.safetensors"
_JSON_NAMES = {dict: "an object", list: "a list", str: "a text", NoneType: "null"}
PAGE = "left_out.html"
_ATTEMPTS, _PAUSE = 40, 0.05  # of reading a folder that is being written, seconds between them
_NEW = ".new"  # ends the names of files that a save has written and not yet put into place


def files_of(folder: Path) -> list[Path]:
    """The files of a saved detector that are there."""
    return [path for path in (folder / name for name in (_CONFIG, _TEXT, _MEMORY, PAGE)) if path.is_file()]


def is_saved_detector(path: str | Path) -> bool:
    """True if `path` is a folder that `write_state` wrote, a damaged one included; a model folder of open_clip has another configuration
    file, one of timm another content."""
    config = Path(path) / _CONFIG
    try:
        return config.is_file() and parse_json(config.read_text(encoding="utf-8", errors="surrogateescape")).get("format") == FORMAT
    except ValueError:  # no JSON any more: ours if our other file lies beside it
        return any((Path(path) / name).is_file() for name in (_TEXT, _TEXT + _NEW))
    except (AttributeError, OSError):
        return False


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """All that a folder holds of a detector, as plain values.

    Attributes:
        model, patch_model: how each backbone is found again; see `describe_backbone`.
        prompts, settings: as of `PromptEnsemble.to_dict` and `DetectorConfig.to_dict`.
        text: text vectors (2, D) by noun.
        memory: values and tensors as of `ReferenceMemory.state`, None without references.
        labels: as of `Labels.to_dict`, None without.
        later: of `auto` without references, the settings of the patch backbone that is to see them; None if there is to be none.
        page: HTML for people, of the unlabelled pictures that were left out of the references; never read again.
        history, steps: what was done, and the earlier states that are kept; see `vlad.history`.
        is_as_written: False if config.json has been changed since; see `check_unchanged`.
    """

    model: dict[str, Any]
    patch_model: dict[str, Any] | None
    prompts: dict[str, Any]
    settings: dict[str, Any]
    text: dict[str, Tensor]
    memory: tuple[dict[str, Any], dict[str, Tensor]] | None
    labels: dict[str, Any] | None = None
    later: dict[str, Any] | None = None
    page: str | None = None
    history: tuple[dict[str, Any], ...] = ()
    steps: tuple[str, ...] = ()
    is_as_written: bool = True


def write_state(folder: Path, state: SavedState) -> Path:
    """Write `state` into `folder`, made if missing.

    A kill at any point leaves the old detector or the new one: what is new is written beside what is old, and the moment at which
    config.json is replaced decides, because it holds the hashes of the other files. `read_state` takes a file of either name that has
    the hash, so it does not matter whether the last renames were still made. A page of an earlier save stays while the references are
    the same, and goes with them.

    Raises:
        ConfigError: `folder` is, or lies below, something that is no folder.
        OutputError: it could not be written; the old detector is as it was, and nothing of the new one is left.
    """
    from safetensors import SafetensorError

    from vlad import __version__

    config: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "vlad_version": __version__,
        "model": state.model,
        "patch_model": state.patch_model,
        "prompts": state.prompts,
        "settings": state.settings,
        "memory": None,
        "labels": state.labels,
        "later": state.later,
        "left_out": None,
        "history": list(state.history),
        "steps": list(state.steps),
    }
    is_new = not folder.exists()
    make_folder(folder, "a detector is saved as")
    try:
        _write(folder, state, config)
    except (OSError, SafetensorError, OutputError) as error:
        with suppress(OSError):
            _finish(folder)
            if is_new:
                folder.rmdir()  # unless somebody else has put something there
        if isinstance(error, OutputError):
            raise
        reason = error if isinstance(error, OSError) else OSError(*_os_error(str(error)))
        raise cannot_write(f"the detector in {folder}", reason) from error
    return folder


def _os_error(text: str) -> tuple[int, str]:
    """Number and text of the system's error that the library, which is written in another language, tells of in words."""
    number = re.search(r"code: (\d+)", text)
    return (int(number[1]), os.strerror(int(number[1]))) if number else (0, text)


def _write(folder: Path, state: SavedState, config: dict[str, Any]) -> None:
    """The files of `write_state`."""
    from safetensors.torch import save_file

    _finish(folder)  # else the files of a save that was cut short would be overwritten while config.json still needs them

    def write_tensors(name: str, tensors: dict[str, Tensor]) -> str:
        path = folder / (name + _NEW)
        path.touch()
        mode = path.stat().st_mode
        save_file(tensors, path)
        path.chmod(mode)  # the library makes it readable to its owner alone, and a service that runs as another user needs it
        return sha256_of(path)

    config["text"] = {"sha256": write_tensors(_TEXT, state.text)}
    if state.memory is not None:
        values, tensors = state.memory
        config["memory"] = values | {"sha256": write_tensors(_MEMORY, tensors)}
    if state.page is not None:
        page = folder / (PAGE + _NEW)
        page.write_text(state.page, encoding="utf-8", errors="backslashreplace")
        config["left_out"] = {"sha256": sha256_of(page)}
    else:
        config["left_out"] = _page_of(folder, config["memory"])
    config["sha256"] = checksum(config)
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / (_CONFIG + _NEW)).write_text(text, encoding="utf-8", errors="surrogateescape")
    (folder / (_CONFIG + _NEW)).replace(folder / _CONFIG)
    _finish(folder)


def read_state(folder: Path) -> SavedState:
    """What `write_state` wrote; where another process writes meanwhile, what it has written.

    Raises:
        ConfigError: there is no detector in the folder, it is damaged, or of a newer version.
    """
    from safetensors import SafetensorError

    for _ in range(_ATTEMPTS):
        before = _signs(folder)
        try:
            return _read_once(folder, is_sure=False)
        except (ConfigError, FileNotFoundError, SafetensorError):
            # Nothing is wrong with a folder in which files change hands; if nothing moves, something is.
            if before == _signs(folder) and not any(name.endswith(_NEW) for name, *_ in before):
                break
            time.sleep(_PAUSE)
    return _read_once(folder, is_sure=True)


def _never_tile(config: dict[str, Any]) -> None:
    """In earlier formats no tile meant none."""
    memory = config.get("memory")
    for settings in (config["settings"], memory.get("settings") if isinstance(memory, dict) else None):
        if isinstance(settings, dict) and settings.get("tile") is None:
            settings["tile"] = 0


def _keep_text_weight(config: dict[str, Any]) -> None:
    """In earlier formats a CLIP's words counted beside a patch backbone unless told otherwise."""
    with suppress(KeyError, TypeError):
        weight = config["memory"]["calibration"]["conditions"]["text_weight"]
        if config.get("patch_model") and config["settings"].get("text_weight") is None:
            config["settings"]["text_weight"] = weight


def _signs(folder: Path) -> list[tuple[str, int, int]]:
    """Names, inodes and times of the files in a folder: where they are the same, nobody has written."""
    found = []
    for path in folder.glob("*"):
        with suppress(OSError):
            seen = path.stat()
            found.append((path.name, seen.st_ino, seen.st_mtime_ns))
    return sorted(found)


def _read_once(folder: Path, *, is_sure: bool) -> SavedState:
    """Once it is sure that nobody writes, text vectors that do not fit are no error, but made anew."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    config = _read_config(folder)
    content = _content(folder, _TEXT, config["text"]["sha256"]) if "text" in config else None
    if "text" in config and content is None and not is_sure:
        raise ConfigError(f"{folder / _TEXT} is of another save")
    if "text" in config and content is None and (folder / _TEXT).is_file():
        warn(f"{folder / _TEXT} is damaged or of another detector: its SHA-256 is not the one in {_CONFIG}; the text is embedded anew")
    text: dict[str, Tensor] = {}
    if "text" in config:
        text = {} if content is None else _tensors(content, folder / _TEXT)
    else:  # folders of earlier versions have no hash of it
        with suppress(FileNotFoundError, SafetensorError):
            text = load((folder / _TEXT).read_bytes())
    memory = None
    is_as_written = config["format_version"] == 1 or config.get("sha256", "") in ("", checksum(config))  # earlier ones state none
    if config["format_version"] < 3:
        _never_tile(config)
    if config["format_version"] < 4:
        _keep_text_weight(config)
    if config["format_version"] < 5:
        config["settings"].setdefault("search", "exact")
    if config.get("memory") is not None:
        memory = config["memory"], _read_memory(folder, config["memory"])
    return SavedState(
        model=config["model"],
        patch_model=config.get("patch_model") or None,
        prompts=config["prompts"],
        settings=config["settings"],
        text=text,
        memory=memory,
        labels=config.get("labels"),
        later=config.get("later"),
        history=tuple(config.get("history") or ()),
        steps=tuple(map(str, config.get("steps") or ())),
        is_as_written=is_as_written,
    )


def checksum(config: dict[str, Any]) -> str:
    """SHA-256 of all other entries, however they are laid out."""
    plain = json.dumps({key: value for key, value in config.items() if key != "sha256"}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(plain.encode()).hexdigest()


def check_unchanged(folder: Path, state: SavedState) -> None:
    """To be asked last: an error that names the entry says more.

    Raises:
        ConfigError: config.json is not as it was written.
    """
    if not state.is_as_written:
        raise ConfigError(
            f"{folder / _CONFIG} was changed after it was written: its content has not the SHA-256 that it states; {_AGAIN}, or, if the "
            'change is yours, delete the last entry, "sha256"'
        )


def _finish(folder: Path) -> None:
    """Put the files into place that config.json names by their hashes, and remove those of a save that never got so far."""
    config = _config_there(folder)
    for leftover in folder.glob(".tmp??????"):  # of the library that writes tensors, where it was killed
        leftover.unlink(missing_ok=True)
    if (folder / (_CONFIG + _NEW)).is_file():
        (folder / (_CONFIG + _NEW)).unlink()
    for key, name in (("text", _TEXT), ("memory", _MEMORY), ("left_out", PAGE)):
        entry = config.get(key) if isinstance(config, dict) else None
        new = folder / (name + _NEW)
        if new.is_file():
            if isinstance(entry, dict) and entry.get("sha256") == sha256_of(new):
                new.replace(folder / name)
            else:
                new.unlink()
        if key != "text" and isinstance(config, dict) and config.get("format") == FORMAT and entry is None:
            (folder / name).unlink(missing_ok=True)


def _config_there(folder: Path) -> Any:
    """What config.json holds, of whatever kind; None if there is none or it is damaged."""
    try:
        return parse_json((folder / _CONFIG).read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, ValueError):
        return None


def _page_of(folder: Path, memory: dict[str, Any] | None) -> Any:
    """The entry of the page that an earlier save of the same references has left in the folder; None if there is none."""
    before = _config_there(folder)
    had = before.get("memory") if isinstance(before, dict) else None
    is_same = isinstance(had, dict) and memory is not None and had.get("sha256") == memory["sha256"]
    return before.get("left_out") if is_same else None


def _content(folder: Path, name: str, sha256: Any) -> bytes | None:
    """What the file of that name and hash holds, put into place or not; None if there is none. What was hashed is what is returned:
    the file may be replaced meanwhile."""
    for path in (folder / name, folder / (name + _NEW)):
        with suppress(FileNotFoundError):
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() == sha256:
                return content
    return None


def describe_backbone(backbone: Backbone | PatchBackbone) -> dict[str, Any]:
    """How to find a backbone again, and how to know that it is the same; plain JSON values."""
    return {
        "name": backbone.name,
        "source": backbone.source,
        "options": getattr(backbone, "options", {}),
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "fingerprint": backbone.fingerprint,
    }


def _read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a saved detector, whose entries have the types that the others rely on.

    Raises:
        ConfigError: there is none, it is damaged, or of a newer version.
    """
    path = folder / _CONFIG
    try:
        config = parse_json(path.read_text(encoding="utf-8", errors="surrogateescape"))
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
    for name, kind in (("history", dict), ("steps", str)):
        if config.get(name) is not None and not all(isinstance(one, kind) for one in _entry(path, config, name, list)):
            raise ConfigError(
                f"{path} is damaged: {name} must be a list of {'objects' if kind is dict else 'texts'}; save the detector again"
            )
    for name in ("labels", "later"):
        if config.get(name) is not None:
            _entry(path, config, name, dict)
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


def restore_prompts(folder: Path, state: SavedState) -> PromptEnsemble:
    """The prompt set of a saved detector; its settings are looked at too, so that what is wrong with them is not laid on the caller.

    Raises:
        ConfigError: one of them is damaged.
    """
    from vlad.config import DetectorConfig
    from vlad.prompts.ensemble import PromptEnsemble

    try:
        config = DetectorConfig.from_dict(state.settings)
        prompts = PromptEnsemble.from_dict(state.prompts)
        prompts.noun(config.class_name)
        return prompts
    except (ConfigError, PromptError) as error:
        what = "prompts" if isinstance(error, PromptError) else "settings"
        raise ConfigError(f"{folder / _CONFIG} is damaged: {what}: {error}; {_AGAIN}") from error


def restore_backbone(
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


def restore_later(
    folder: Path, settings: dict[str, Any], backbone: Backbone | PatchBackbone, *, device: str, dtype: str | None, cache_dir: Any
) -> LaterPatches:
    """What a detector of `auto` takes for references as soon as there are some.

    Raises:
        ConfigError: the settings are damaged.
    """
    from vlad.backbones.registry import patches_of_auto

    try:
        options: dict[str, Any] = {"device": device, "dtype": dtype or "auto", "cache_dir": cache_dir}
        return patches_of_auto(is_offline=backbone.source == "lite", of_patches=settings, **options)
    except ConfigError as error:
        raise ConfigError(f"{folder / _CONFIG} is damaged: later: {error}; {_AGAIN}") from error


def _read_memory(folder: Path, values: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of the references of a saved detector.

    Raises:
        ConfigError: their file is missing, damaged or of another detector.
    """
    content = _content(folder, _MEMORY, values.get("sha256"))
    if content is None and not (folder / _MEMORY).is_file():
        raise ConfigError(f"{folder} was saved with references, but {_MEMORY} is missing; copy the whole folder, or fit again")
    if content is None:
        raise ConfigError(
            f"{folder / _MEMORY} is damaged or of another detector: its SHA-256 is not the one in {_CONFIG}; "
            "copy the folder again, or fit again"
        )
    return _tensors(content, folder / _MEMORY)


def _tensors(content: bytes, path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors: dict[str, Tensor] = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ConfigError(f"{path} is damaged, it is no safetensors file ({error}); {_AGAIN}") from error
    return tensors


def restore_memory(folder: Path, state: SavedState, device: torch.device, wanted: MemorySettings) -> ReferenceMemory | None:
    """The references that a folder holds, on `device`; None if it holds none.

    Raises:
        ConfigError: they are damaged, or other settings are wanted that would need the references to be seen again.
    """
    from vlad.references.memory import MemorySettings, ReferenceMemory

    if state.memory is None:
        return None
    try:
        memory = ReferenceMemory.from_state(*state.memory, device)
    except ConfigError as error:
        raise ConfigError(f"{folder / _CONFIG} does not fit {_MEMORY}, or one of them is damaged: {error}; {_AGAIN}") from error
    memory.references = {number: one.within(folder) for number, one in memory.references.items()}
    for field in fields(MemorySettings):
        before, now = getattr(memory.settings, field.name), getattr(wanted, field.name)
        left_open = field.name in ("tile", "search")  # another tile is possible, and predict warns
        left_open = left_open or (field.name == "rotations" and now is None)
        left_open = left_open or (field.name == "white_level" and now == "auto")
        if before != now and not left_open:
            before, now = (in_short(value) if field.name in ("roi", "ignore") else repr(value) for value in (before, now))
            raise ConfigError(f"{folder} was fitted with {field.name}={before}, not {now}; leave the setting out, or fit again")
    return memory


def restore_labels(folder: Path, state: SavedState) -> Labels | None:
    """The labelled pictures of a folder, None without.

    Raises:
        ConfigError: they are damaged.
    """
    from vlad.references.labels import Labels

    if state.labels is None:
        return None
    try:
        labels = Labels.from_dict(state.labels)
        return replace(labels, pictures=tuple(replace(one, picture=one.picture.within(folder)) for one in labels.pictures))
    except ConfigError as error:
        raise ConfigError(f"the labels in {folder / _CONFIG} are damaged: {error}; copy the folder again, or calibrate again") from error
