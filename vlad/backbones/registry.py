"""Names to backbones: presets, open_clip names with a tag or file, hub ids, folders.

A preset is one line in `PRESETS`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from vlad.backbones.base import Backbone, PatchBackbone
from vlad.errors import BackboneError, ConfigError, WeightsNotFoundError, warn

WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
CONFIG_FILE = "open_clip_config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt")
TOKENIZER_EXTRAS = ("tokenizer_config.json", "special_tokens_map.json")
_CHECKPOINT_SUFFIXES = {".safetensors", ".pt", ".pth", ".bin"}


@dataclass(frozen=True)
class Preset:
    """A name that stands for a model and its weights; `source` is ARCHITECTURE:TAG, hf-hub:REPO, or timm:MODEL; `licence` is that of the
    weights, as their authors or the hub name it."""

    source: str
    description: str
    licence: str


_ALONE = "with reference pictures only"
PRESETS: dict[str, Preset] = {
    "winclip": Preset("ViT-B-16-plus-240:laion400m_e31", "the WinCLIP backbone: CLIP ViT-B/16+ at 240 px, LAION-400M", "MIT"),
    "clip-b16": Preset("ViT-B-16:openai", "OpenAI CLIP ViT-B/16 at 224 px", "MIT"),
    "clip-l14-336": Preset("ViT-L-14-336:openai", "OpenAI CLIP ViT-L/14 at 336 px", "MIT"),
    "siglip-b16": Preset("hf-hub:timm/ViT-B-16-SigLIP", "SigLIP ViT-B/16 at 224 px; needs the extra vlad-anomaly[vlm]", "Apache-2.0"),
    "siglip2-b16": Preset("hf-hub:timm/ViT-B-16-SigLIP2", "SigLIP 2 ViT-B/16 at 224 px; needs the extra vlad-anomaly[vlm]", "Apache-2.0"),
    "lite": Preset("lite", "embedded: frozen EfficientNet-Lite0 with a text-aligned head trained on procedural pictures", "Apache-2.0"),
    "lite-fine": Preset("lite", "lite looking twice, at 448 and 320 pixels, which takes half as long again", "Apache-2.0"),
    "dinov2-small": Preset("timm:vit_small_patch14_dinov2.lvd142m", f"DINOv2 ViT-S/14; {_ALONE}", "Apache-2.0"),
    "dinov2-base": Preset("timm:vit_base_patch14_dinov2.lvd142m", f"DINOv2 ViT-B/14; {_ALONE}", "Apache-2.0"),
    "dinov2-reg-small": Preset("timm:vit_small_patch14_reg4_dinov2.lvd142m", f"DINOv2 ViT-S/14 with registers; {_ALONE}", "Apache-2.0"),
    "dinov2-reg-base": Preset("timm:vit_base_patch14_reg4_dinov2.lvd142m", f"DINOv2 ViT-B/14 with registers; {_ALONE}", "Apache-2.0"),
    "dinov2-reg-large": Preset("timm:vit_large_patch14_reg4_dinov2.lvd142m", f"DINOv2 ViT-L/14 with registers; {_ALONE}", "Apache-2.0"),
    "dinov3-small": Preset("timm:vit_small_patch16_dinov3.lvd1689m", f"DINOv3 ViT-S/16; {_ALONE}", "DINOv3 licence"),
    "dinov3-base": Preset("timm:vit_base_patch16_dinov3.lvd1689m", f"DINOv3 ViT-B/16; {_ALONE}", "DINOv3 licence"),
    "tipsv2-base": Preset("timm:vit_base_patch14_reg1_tipsv2.webli", f"TIPSv2 ViT-B/14; {_ALONE}", "Apache-2.0"),
    "tipsv2-large": Preset("timm:vit_large_patch14_reg1_tipsv2.webli", f"TIPSv2 ViT-L/14; {_ALONE}", "Apache-2.0"),
    "pe-spatial-small": Preset("timm:vit_pe_spatial_small_patch16_512.fb", f"PE-Spatial ViT-S/16; {_ALONE}", "Apache-2.0"),
    "pe-spatial-base": Preset("timm:vit_pe_spatial_base_patch16_512.fb", f"PE-Spatial ViT-B/16; {_ALONE}", "Apache-2.0"),
    "radio-base": Preset("timm:vit_base_patch16_radio_v3.c_radio", f"C-RADIOv3 ViT-B/16; {_ALONE}", "NVIDIA Open Model License"),
    "wide-resnet50": Preset("timm:wide_resnet50_2.tv_in1k", f"Wide ResNet-50-2, maps at strides 8 and 16; {_ALONE}", "BSD-3-Clause"),
}


AUTO = "winclip"  # what `auto` is for words
AUTO_BESIDE = (
    "dinov2-small"  # and for references: 96.6 / 97.7 image AUROC on MVTec AD at 1 / 4 shots, WinCLIP+ 93.1 / 95.2 (arXiv 2405.14529)
)


class LaterPatches:
    """The patch backbone that `auto` takes as soon as there are references: loaded at the first need, once for all who share this object.

    Args:
        is_offline: the model for words could not be fetched, so that nothing is waited for a second time: what is not in the cache is
            not there.
        **settings: of `load_backbone`.
    """

    def __init__(self, *, is_offline: bool = False, **settings: Any) -> None:
        self._is_offline, self._settings = is_offline, settings
        self._lock = threading.Lock()
        self._asked = False
        self._found: PatchBackbone | None = None

    def get(self) -> PatchBackbone | None:
        """The backbone; None, with a warning the first time, if its weights are not at hand.

        Raises:
            WeightsNotFoundError: they are not, and settings of it were given.
        """
        with self._lock:
            if not self._asked:
                self._found = self._load()
                self._asked = True
            return self._found

    def _load(self) -> PatchBackbone | None:
        if self._is_offline and not preset_cached(AUTO_BESIDE, self._settings.get("cache_dir")) and not self._of_patches:
            return None  # that the small model stands in was said
        try:
            return cast("PatchBackbone", load_backbone(AUTO_BESIDE, **self._settings))
        except WeightsNotFoundError as error:
            if self._of_patches:
                raise
            reason = str(error).splitlines()[0].removesuffix(".")
            warn(
                f"model 'auto' compares with references by its model for words, which finds less than {AUTO_BESIDE} would: {reason}. "
                f"Name a model to silence this warning (--model {AUTO})."
            )
            return None

    @property
    def _of_patches(self) -> set[str]:
        return self._settings.keys() - {"device", "dtype", "cache_dir"}


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
        raise ConfigError(f"{', '.join(settings)} belong to a patch backbone ({', '.join(_patch_presets())}, timm:MODEL), not to {name!r}")
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
        return _load_folder(folder, folder, options | {"source": f"local-dir:{folder.resolve()}"}, label or f"open_clip folder {folder}")
    if source.startswith("hf-hub:") or _is_hub_id(source):
        if pretrained is None:
            return _load_hub_repo(source.removeprefix("hf-hub:"), cache_dir, options, label, is_certain=source.startswith("hf-hub:"))
        if label is None:
            _refuse_pretrained(pretrained, name)
        raise ConfigError(f"preset {name!r} takes no pretrained file; give the folder of the model as the name instead")
    architecture, _, tag = source.partition(":")
    return _load_named(architecture, str(pretrained) if pretrained is not None else tag, cache_dir, options, label)


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
    source = PRESETS[str(name)].source if str(name) in PRESETS else str(name)
    return source.startswith("timm:") and "dinov2" in source


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
    architecture, file = (source, None) if Path(source).expanduser().is_dir() else (source.partition(":")[0], source.partition(":")[2])
    file = str(pretrained) if pretrained is not None else file or None
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


def _load_named(architecture: str, tag_or_file: str, cache_dir: str | Path | None, options: dict[str, Any], label: str | None) -> Backbone:
    """An architecture that open_clip knows, with a pretrained tag of it or a checkpoint file."""
    import open_clip

    if architecture not in open_clip.list_models():
        hint = get_close_matches(architecture, [*PRESETS, *open_clip.list_models()], n=3, cutoff=0.5)
        maybe = f"did you mean {' or '.join(repr(h) for h in hint)}? " if hint else ""
        raise BackboneError(
            f"model {architecture!r} is no preset ({', '.join(['auto', *PRESETS])}), no open_clip architecture, no hub id ORG/REPO and no "
            f"folder; {maybe}`vlad doctor` lists the presets"
        )
    _refuse_without_windows(architecture)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    head, _, rest = tag_or_file.partition(":")
    tag, tag_or_file = (head, rest) if rest and head in tags else ("", tag_or_file)
    path = Path(tag_or_file).expanduser()
    if path.suffix in _CHECKPOINT_SUFFIXES:
        if not path.is_file():
            raise WeightsNotFoundError(f"the checkpoint file {path} for {architecture} does not exist; check the path")
        # A preset's own tag still says how its weights want their pictures.
        tag = tag or (PRESETS[label].source.partition(":")[2] if label else "")
        like = open_clip.get_pretrained_cfg(architecture, tag) if tag else _common_config(architecture, path)
        base = label or (f"{architecture}:{tag}" if tag else architecture)
        return _build(architecture, path, like, options | {"source": f"{base}:{path.resolve()}"}, f"{base} ({path.name})", cache_dir)
    config = open_clip.get_pretrained_cfg(architecture, tag_or_file) if tag_or_file else None
    if not config:
        problem = f"no weights named {tag_or_file!r}" if tag_or_file else "no weights named"
        raise BackboneError(
            f"{problem} for {architecture}; write {architecture}:TAG with one of {', '.join(tags) or '(it has none)'}, "
            f"or {architecture}:TAG:FILE with a checkpoint file trained like that tag ({', '.join(sorted(_CHECKPOINT_SUFFIXES))})"
        )
    repo, _, filename = config["hf_hub"].rpartition("/")
    if _needs_own_tokenizer(architecture):  # its tokenizer lies beside the weights, so take the whole repository
        return _load_hub_repo(repo, cache_dir, options, label or f"{architecture} ({tag_or_file})")
    from vlad.backbones.hub import fetch_file

    what = f"{f'{label!r}: ' if label else ''}open_clip {architecture}, tag {tag_or_file}"
    options = options | {"source": label or f"{architecture}:{tag_or_file}"}
    checkpoint = fetch_file(repo, _weight_names(filename), what=what, cache_dir=cache_dir)
    return _build(architecture, checkpoint, config, options, f"{label or architecture} ({architecture}, {tag_or_file})", cache_dir)


def _common_config(architecture: str, file: Path) -> dict[str, Any] | None:
    """What all tags of an architecture agree upon, as far as a checkpoint file does not say it; None if it has no tags.

    Raises:
        BackboneError: they do not agree, so that the file could be taken for what it is not, without a word.
    """
    import open_clip

    ways: dict[tuple[Any, ...], list[str]] = {}
    for tag in open_clip.list_pretrained_tags_by_model(architecture):
        config = open_clip.get_pretrained_cfg(architecture, tag)
        ways.setdefault((bool(config.get("quick_gelu")), config.get("mean"), config.get("std")), []).append(tag)
    if len(ways) > 1:
        each = "; ".join(
            f"{'QuickGELU' if quick else 'GELU'}, mean {tuple(round(value, 3) for value in mean or ())}: {', '.join(tags)}"
            for (quick, mean, _), tags in ways.items()
        )
        tag = next(iter(ways.values()))[0]
        raise BackboneError(
            f"weights of {architecture} were trained in {len(ways)} ways ({each}), and {file.name} does not say which; with the wrong one "
            f"it gives wrong results without an error. Name a tag that it was trained like: {architecture}:TAG:FILE, as in "
            f"{architecture}:{tag}:{file}"
        )
    return open_clip.get_pretrained_cfg(architecture, next(iter(ways.values()))[0]) if ways else None


def _weight_names(filename: str) -> tuple[str, ...]:
    if not filename:
        return WEIGHT_FILES
    return (f"{Path(filename).stem}.safetensors", filename)


def _build(
    architecture: str,
    checkpoint: Path,
    config: dict[str, Any] | None,
    options: dict[str, Any],
    label: str,
    cache_dir: str | Path | None,
) -> Backbone:
    """A built-in architecture with the checkpoint's weights and the preprocessing that its tag was trained with."""
    tokenizer = _tokenizer(architecture, checkpoint, cache_dir)  # before hundreds of megabytes are read
    preprocess = {key: config[key] for key in ("mean", "std") if key in config} if config else None
    quick_gelu = bool(config and config.get("quick_gelu", False))
    model = _create_model(
        architecture, checkpoint, pretrained=str(checkpoint), force_preprocess_cfg=preprocess, force_quick_gelu=quick_gelu
    )
    return _wrap(model, tokenizer, label, options)


def _tokenizer(architecture: str, checkpoint: Path, cache_dir: str | Path | None) -> Callable[..., Any]:
    """The tokenizer of a built-in architecture: open_clip's own, or where it has another, that beside the checkpoint, in the cache or from
    the hub.

    Raises:
        WeightsNotFoundError: it is not at hand.
        BackboneError: it cannot be loaded.
    """
    import open_clip

    text = (open_clip.get_model_config(architecture) or {}).get("text_cfg", {})
    repo = text.get("hf_tokenizer_name")
    if not repo:
        return open_clip.get_tokenizer(architecture)
    folder = checkpoint.parent
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        from vlad.backbones.hub import fetch_file

        try:
            folder = fetch_file(repo, TOKENIZER_FILES, what=f"the tokenizer of {architecture}", cache_dir=cache_dir, whole=True).parent
        except WeightsNotFoundError as error:
            raise WeightsNotFoundError(f"{error}\nOr put its {TOKENIZER_FILES[0]} beside {checkpoint}.") from error
        for name in TOKENIZER_EXTRAS:
            with suppress(WeightsNotFoundError):  # not every tokenizer has each of them
                fetch_file(repo, (name,), what=architecture, cache_dir=cache_dir)
    try:
        from open_clip.tokenizer import HFTokenizer

        length = text.get("context_length", 77)
        mode, settings = text.get("tokenizer_mode"), text.get("tokenizer_kwargs", {})
        return cast("Callable[..., Any]", HFTokenizer(str(folder), context_length=length, tokenizer_mode=mode, **settings))
    except (ImportError, OSError, AssertionError, ValueError) as error:
        raise BackboneError(
            f"the tokenizer of {architecture} in {folder} could not be loaded ({error}); put its tokenizer files beside the checkpoint, "
            "and install the extra: pip install 'vlad-anomaly[vlm]'"
        ) from error


def _load_hub_repo(
    repo: str, cache_dir: str | Path | None, options: dict[str, Any], label: str | None, *, is_certain: bool = True
) -> Backbone:
    """A hub repository in open_clip's layout: configuration, weights and, where it has one of its own, the tokenizer."""
    from vlad.backbones.hub import cached_file, fetch_file

    doubt = "" if is_certain else f" (there is no folder {repo} here)"
    what = f"{f'{label!r}: ' if label else ''}hub repository {repo}{doubt}"
    config = fetch_file(repo, (CONFIG_FILE,), what=what, cache_dir=cache_dir, whole=True)
    if "hf_tokenizer_name" in config.read_text(encoding="utf-8") and cached_file(repo, TOKENIZER_FILES, cache_dir) is None:
        fetch_file(repo, TOKENIZER_FILES, what=what, cache_dir=cache_dir, whole=True)
        for name in TOKENIZER_EXTRAS:
            with suppress(WeightsNotFoundError):  # not every tokenizer has each of them
                fetch_file(repo, (name,), what=what, cache_dir=cache_dir)
    fetch_file(repo, WEIGHT_FILES, what=what, cache_dir=cache_dir, whole=True)
    return _load_folder(config.parent, repo, options | {"source": label or f"hf-hub:{repo}"}, label or repo)


def _load_folder(folder: Path, shown: Path | str, options: dict[str, Any], label: str) -> Backbone:
    import open_clip

    if not folder.is_dir():
        raise BackboneError(f"the model folder {shown} does not exist; check the path")
    if not (folder / CONFIG_FILE).is_file():
        raise BackboneError(
            f"the model folder {shown} holds no {CONFIG_FILE}; expected a folder in open_clip's layout, or one written by save()"
        )
    if not any(path.suffix in _CHECKPOINT_SUFFIXES for path in folder.iterdir()):
        raise WeightsNotFoundError(f"the model folder {shown} holds no weights; put {WEIGHT_FILES[0]} into it")
    model = _create_model(f"local-dir:{folder}", shown)
    try:
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    except (ImportError, OSError, AssertionError, ValueError) as error:
        raise BackboneError(
            f"the tokenizer of {shown} could not be loaded ({error}); put its tokenizer files into the folder, "
            "and install the extra: pip install 'vlad-anomaly[vlm]'"
        ) from error
    return _wrap(model, tokenizer, label, options)


def _create_model(name: str, shown: Path | str, **options: Any) -> Any:
    """`open_clip.create_model`, with pretrained weights or an error that names the checkpoint."""
    import open_clip

    try:
        return open_clip.create_model(name, require_pretrained=True, weights_only=True, **options)
    except Exception as error:
        detail = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BackboneError(
            f"the checkpoint {shown} could not be loaded: {detail}; "
            "expected an open_clip state dict in safetensors, or a .pt that torch reads with weights_only"
        ) from error


def _wrap(model: Any, tokenizer: Callable[..., Any], label: str, options: dict[str, Any]) -> Backbone:
    from vlad.backbones.clip import ClipBackbone
    from vlad.backbones.device import resolve_device, resolve_dtype

    device = resolve_device(options["device"])
    model = model.to(device=device, dtype=resolve_dtype(options["dtype"], device)).eval()  # it is ours: no copy is needed
    return ClipBackbone(model, tokenizer, name=label, **options)


def _needs_own_tokenizer(architecture: str) -> bool:
    import open_clip

    return bool((open_clip.get_model_config(architecture) or {}).get("text_cfg", {}).get("hf_tokenizer_name"))


def _refuse_without_windows(architecture: str) -> None:
    """Say so before hundreds of megabytes are fetched; `build_tower` looks again at the model itself.

    Raises:
        BackboneError: the image tower is a convolutional network, or a timm model other than a ViT.
    """
    import open_clip

    vision = open_clip.get_model_config(architecture)["vision_cfg"]
    timm_name = vision.get("timm_model_name", "vit_")
    if isinstance(vision.get("layers"), list) or not timm_name.startswith("vit_"):
        tower = timm_name if "timm_model_name" in vision else "a ResNet"
        raise BackboneError(
            f"the image tower of {architecture} ({tower}) is no plain ViT over patch tokens, so windows cannot be cut out of it; "
            "use a ViT model, e.g. 'ViT-B-16-plus-240' or 'ViT-B-16-SigLIP'"
        )


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
    return cached_file(repo, _weight_names(filename), cache_dir) is not None
