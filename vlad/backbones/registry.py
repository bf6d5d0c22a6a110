"""Names to backbones: `auto`, presets, open_clip names with a tag or file, hub ids, folders."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from vlad.backbones.base import Backbone, PatchBackbone
from vlad.backbones.open_clip_models import CONFIG_FILE, WEIGHT_FILES, load_folder, load_hub_repo, load_named, weight_names
from vlad.backbones.presets import PRESETS
from vlad.errors import BackboneError, ConfigError, WeightsNotFoundError, warn

AUTO = "winclip"  # what `auto` is for words
# And for references: image AUROC 96.5 / 97.6 on MVTec AD at 1 / 4 shots and 448 px, where WinCLIP+ has 93.1 / 95.2 (arXiv 2405.14529).
AUTO_BESIDE = "dinov2-small"
OF_PATCH_BACKBONE = ("resolution", "square", "layers", "merge", "norm")  # settings of `TimmBackbone` that go with a name


class LaterPatches:
    """A patch backbone that is taken as soon as there are references: loaded at the first need, once for all who share this object.

    Args:
        load: gives it; None if it cannot be had.
        settings: what was asked of it, as a saved detector keeps it.
    """

    def __init__(self, load: Callable[[], PatchBackbone | None], settings: dict[str, Any] | None = None) -> None:
        self._load = load
        self.settings = settings or {}
        self._lock = threading.Lock()
        self._asked = False
        self._found: PatchBackbone | None = None

    def get(self) -> PatchBackbone | None:
        """The backbone, or None. What `load` raises comes through, and it is asked again the next time."""
        with self._lock:
            if not self._asked:
                self._found = self._load()
                self._asked = True
            return self._found

    def through(self, wrap: Callable[[PatchBackbone], PatchBackbone]) -> LaterPatches:
        """The same one, wrapped."""
        return LaterPatches(lambda: None if (found := self.get()) is None else wrap(found), self.settings)


def patches_of_auto(*, is_offline: bool, of_patches: dict[str, Any], **options: Any) -> LaterPatches:
    """What `auto` takes for references. If its weights are not at hand there is none, with a warning, or, where settings of it were given,
    an error.

    Args:
        is_offline: the model for words could not be fetched, so that nothing is waited for a second time: what is not in the cache is
            not there.
        of_patches: settings of `TimmBackbone`.
        **options: `device`, `dtype` and `cache_dir` of `load_backbone`.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """
    if of_patches:
        from vlad.backbones.timm import Stage, choose

        if unknown := sorted(set(of_patches) - set(OF_PATCH_BACKBONE)):
            raise ConfigError(f"{', '.join(unknown)}: no setting of a patch backbone; expected {', '.join(OF_PATCH_BACKBONE)}")
        choose([Stage(14, 384)] * 12, **of_patches)  # a ViT-S/14

    def load() -> PatchBackbone | None:
        if is_offline and not of_patches and not preset_cached(AUTO_BESIDE, options.get("cache_dir")):
            return None  # that the small model stands in was said
        try:
            return cast("PatchBackbone", load_backbone(AUTO_BESIDE, **options, **of_patches))
        except WeightsNotFoundError as error:
            if of_patches:
                raise
            reason = str(error).splitlines()[0].removesuffix(".")
            warn(
                f"model 'auto' compares with references by its model for words, which finds less than {AUTO_BESIDE} would: {reason}. "
                f"Name a model to silence this warning (--model {AUTO})."
            )
            return None

    layers = of_patches.get("layers")
    return LaterPatches(load, of_patches | ({} if layers is None or isinstance(layers, str) else {"layers": list(layers)}))


def load_backbone(
    name: str = "auto",
    *,
    pretrained: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    cache_dir: str | Path | None = None,
    **settings: Any,
) -> Backbone | PatchBackbone:
    """The backbone of that name, with real weights or not at all.

    Args:
        name: "auto", a preset (see `PRESETS`), "ARCHITECTURE:TAG", "ARCHITECTURE:FILE" (where weights of it were trained in several ways
            "ARCHITECTURE:TAG:FILE", see `_common_config`), "hf-hub:ORG/REPO" or "ORG/REPO", or a folder
            with open_clip_config.json and a checkpoint (also "local-dir:FOLDER"). Patch backbones, which know no words: a preset,
            "timm:MODEL", "timm:MODEL:FILE", or a folder with config.json and a checkpoint as timm writes them for the hub.
        pretrained: tag or checkpoint file for the architecture in `name`; safetensors, or .pt / .pth / .bin read with weights_only.
        device: see `resolve_device`.
        dtype: see `resolve_dtype`.
        cache_dir: hub cache; None takes the hub client's.
        **settings: `resolution`, `square`, `layers`, `norm` and `merge` of a patch backbone, see `TimmBackbone`.

    Raises:
        BackboneError: the name or the tag is unknown, the checkpoint does not fit, or the architecture allows no windows.
        WeightsNotFoundError: the weights are not at hand and cannot be fetched.
        ConfigError: an option does not belong to the model.
    """
    options: dict[str, Any] = {"device": device, "dtype": dtype}
    head, _, file = name.partition(":")
    if head.lower() in {"auto", *PRESETS}:  # also PRESET:FILE, as on the command line
        if file:
            _refuse_pretrained(pretrained, name)
        name, pretrained = head.lower(), file or pretrained
    if (patch_source := _patch_source(name)) is not None:
        return _load_patch_backbone(name, patch_source, pretrained, cache_dir, options | settings)
    if settings:
        what = f"{', '.join(settings)}: {'a setting' if len(settings) == 1 else 'settings'} of a patch backbone"
        known = f"{', '.join(_patch_presets())}, timm:MODEL, a folder in timm's layout"
        raise ConfigError(f"{what} ({known}), which {name!r} is not; leave {'it' if len(settings) == 1 else 'them'} out")
    if name == "auto":
        if pretrained is not None:
            raise ConfigError("pretrained belongs to an architecture, got it together with model 'auto'; name the architecture")
        return _load_auto(cache_dir, options)
    if name in {"lite", "lite-fine"}:
        if pretrained is not None:
            raise ConfigError(f"the embedded model {name!r} carries its weights; leave pretrained out")
        from vlad.backbones.lite.backbone import LiteBackbone

        return LiteBackbone(fine=name == "lite-fine", **options)
    source, label = (PRESETS[name].source, name) if name in PRESETS else (name, None)
    folder = Path(source.removeprefix("local-dir:")).expanduser()
    if source.startswith("local-dir:") or folder.is_dir():
        _refuse_pretrained(pretrained, name)
        return load_folder(folder, folder, options | {"source": f"local-dir:{folder.resolve()}"}, label or f"open_clip folder {folder}")
    if source.startswith("hf-hub:") or _is_hub_id(source):
        if pretrained is None:
            return load_hub_repo(source.removeprefix("hf-hub:"), cache_dir, options, label, is_certain=source.startswith("hf-hub:"))
        if label is None:
            _refuse_pretrained(pretrained, name)
        raise ConfigError(f"preset {name!r} takes no pretrained file; give the folder of the model as the name instead")
    architecture, _, tag = source.partition(":")
    return load_named(architecture, str(pretrained) if pretrained is not None else tag, cache_dir, options, label)


def load_backbones(
    name: str,
    patch_backbone: str | Path | PatchBackbone | None = None,
    *,
    pretrained: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    cache_dir: str | Path | None = None,
    **of_patches: Any,
) -> tuple[Backbone | PatchBackbone, PatchBackbone | None]:
    """A backbone and, if one is wanted, the patch backbone beside it, which `of_patches` (`resolution`, `square`, ...) then belong to; see
    `load_backbone`.

    Raises:
        ConfigError: settings of a patch backbone beside an object that was made already.
    """
    options: dict[str, Any] = {"device": device, "dtype": dtype, "cache_dir": cache_dir}
    if patch_backbone is None:
        return load_backbone(name, pretrained=pretrained, **options, **of_patches), None
    if isinstance(patch_backbone, (str, Path)):
        patch_backbone = cast("PatchBackbone", load_backbone(str(patch_backbone), **options, **of_patches))
    elif of_patches:
        raise ConfigError(f"{', '.join(of_patches)} belong to a patch backbone given by name; make the object with them instead")
    return load_backbone(name, pretrained=pretrained, **options), patch_backbone


def is_dinov2(name: Any) -> bool:
    """Whether it names one of the DINOv2 models."""
    head = str(name).partition(":")[0].lower()
    source = PRESETS[head].source if head in PRESETS else str(name)
    if source.startswith("timm:"):
        return "dinov2" in source.split(":")[1]
    from vlad.backbones.timm import architecture_of

    return "dinov2" in architecture_of(Path(source.removeprefix("local-dir:")).expanduser())


def _patch_presets() -> list[str]:
    return [name for name, preset in PRESETS.items() if preset.source.startswith("timm:")]


def _patch_source(name: str) -> str | None:
    """What comes after "timm:" if `name` is a patch backbone, else None."""
    source = PRESETS[name].source if name in PRESETS else name
    if source.startswith("timm:"):
        return source.removeprefix("timm:")
    folder = Path(source.removeprefix("local-dir:")).expanduser()
    if folder.is_dir() and not (folder / CONFIG_FILE).is_file():
        from vlad.backbones.timm import is_timm_folder

        return str(folder.resolve()) if is_timm_folder(folder) else None
    return None


def _load_patch_backbone(
    name: str, source: str, pretrained: str | Path | None, cache_dir: str | Path | None, options: dict[str, Any]
) -> PatchBackbone:
    from vlad.backbones.timm import load_timm

    label = name if name in PRESETS else None
    is_folder = bool(source) and Path(source).expanduser().is_dir()
    architecture, file = (source, None) if is_folder else (source.partition(":")[0], source.partition(":")[2])
    file = str(pretrained) if pretrained is not None else file or None
    if not architecture:
        raise BackboneError("timm: names no model; write timm:MODEL, e.g. timm:vit_small_patch14_dinov2.lvd142m")
    base = label or f"timm:{architecture}"
    where = base if file is None else f"{base}:{Path(file).expanduser().resolve()}"
    return load_timm(architecture, file, label=label, source=where, cache_dir=cache_dir, **options)


def _load_auto(cache_dir: str | Path | None, options: dict[str, Any]) -> Backbone | PatchBackbone:
    try:
        return load_backbone(AUTO, cache_dir=cache_dir, **options)
    except WeightsNotFoundError as error:
        reason = str(error).splitlines()[0].removesuffix(".")
        warn(
            f"model 'auto' falls back to the small embedded model 'lite', which finds less than a CLIP would: {reason}. "
            "Name a model (--model winclip) to see how to fetch it, or --model lite to silence this warning."
        )
        return load_backbone("lite", **options)


def _is_hub_id(name: str) -> bool:
    owner, _, repo = name.partition("/")
    return bool(owner and repo) and not any(mark in name for mark in (":", "\\", " ")) and "/" not in repo and owner not in {".", "..", "~"}


def _refuse_pretrained(pretrained: str | Path | None, name: str) -> None:
    if pretrained is not None:
        raise ConfigError(f"{name!r} brings its own weights; leave pretrained={str(pretrained)!r} out, or name an architecture instead")


def preset_cached(name: str, cache_dir: str | Path | None = None) -> bool:
    """Whether the hub cache holds the weights of a preset."""
    import open_clip

    from vlad.backbones.hub import cached_file

    source = PRESETS[name].source
    if source.startswith("hf-hub:"):
        return cached_file(source.removeprefix("hf-hub:"), WEIGHT_FILES, cache_dir) is not None
    if source.startswith("timm:"):
        from vlad.backbones.timm import WEIGHT_FILES as TIMM_FILES
        from vlad.backbones.timm import hub_repo

        return cached_file(hub_repo(source.removeprefix("timm:")) or "", TIMM_FILES, cache_dir) is not None
    architecture, _, tag = source.partition(":")
    repo, _, filename = open_clip.get_pretrained_cfg(architecture, tag)["hf_hub"].rpartition("/")
    return cached_file(repo, weight_names(filename), cache_dir) is not None
