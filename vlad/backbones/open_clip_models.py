"""CLIPs by name as open_clip knows them: an architecture with a tag or a file, a repository of the hub, a folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from vlad.backbones.base import Backbone
from vlad.backbones.presets import PRESETS
from vlad.errors import BackboneError, WeightsNotFoundError

WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
CONFIG_FILE = "open_clip_config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt")
TOKENIZER_EXTRAS = ("tokenizer_config.json", "special_tokens_map.json")
CHECKPOINT_SUFFIXES = {".safetensors", ".pt", ".pth", ".bin"}


def load_named(architecture: str, tag_or_file: str, cache_dir: str | Path | None, options: dict[str, Any], label: str | None) -> Backbone:
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
    if path.suffix in CHECKPOINT_SUFFIXES:
        if not path.is_file():
            raise WeightsNotFoundError(f"the checkpoint file {path} for {architecture} does not exist; check the path")
        base = f"{architecture}:{tag}" if tag else label or architecture
        # A preset's own tag still says how its weights want their pictures.
        tag = tag or (PRESETS[label].source.partition(":")[2] if label else "")
        like = open_clip.get_pretrained_cfg(architecture, tag) if tag else _common_config(architecture, path)
        return _build(architecture, path, like, options | {"source": f"{base}:{path.resolve()}"}, f"{base} ({path.name})", cache_dir)
    config = open_clip.get_pretrained_cfg(architecture, tag_or_file) if tag_or_file else None
    if not config:
        problem = f"no weights named {tag_or_file!r}" if tag_or_file else "no weights named"
        raise BackboneError(
            f"{problem} for {architecture}; write {architecture}:TAG with one of {', '.join(tags) or '(it has none)'}, "
            f"or {architecture}:TAG:FILE with a checkpoint file trained like that tag ({', '.join(sorted(CHECKPOINT_SUFFIXES))})"
        )
    repo, _, filename = config["hf_hub"].rpartition("/")
    if _needs_own_tokenizer(architecture):  # its tokenizer lies beside the weights, so take the whole repository
        return load_hub_repo(repo, cache_dir, options, label or f"{architecture} ({tag_or_file})")
    from vlad.backbones.hub import fetch_file

    what = f"{f'{label!r}: ' if label else ''}open_clip {architecture}, tag {tag_or_file}"
    options = options | {"source": label or f"{architecture}:{tag_or_file}"}
    checkpoint = fetch_file(repo, weight_names(filename), what=what, cache_dir=cache_dir)
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


def weight_names(filename: str) -> tuple[str, ...]:
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
        try:
            folder = _fetch_tokenizer(repo, f"the tokenizer of {architecture}", cache_dir)
        except WeightsNotFoundError as error:
            raise WeightsNotFoundError(f"{error}\nOr put its {TOKENIZER_FILES[0]} beside {checkpoint}.") from error
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


def _fetch_tokenizer(repo: str, what: str, cache_dir: str | Path | None) -> Path:
    """The folder of a repository's tokenizer; what goes with it is fetched first, so that a tokenizer that is there is whole.

    Raises:
        WeightsNotFoundError: it is not at hand.
    """
    from vlad.backbones.hub import NotInRepositoryError, cached_file, fetch_file

    if (there := cached_file(repo, TOKENIZER_FILES, cache_dir)) is not None:
        return there.parent
    for name in TOKENIZER_EXTRAS:
        with suppress(NotInRepositoryError):  # not every tokenizer has each of them
            fetch_file(repo, (name,), what=what, cache_dir=cache_dir, whole=True)
    return fetch_file(repo, TOKENIZER_FILES, what=what, cache_dir=cache_dir, whole=True).parent


def load_hub_repo(
    repo: str, cache_dir: str | Path | None, options: dict[str, Any], label: str | None, *, is_certain: bool = True
) -> Backbone:
    """A hub repository in open_clip's layout: configuration, weights and, where it has one of its own, the tokenizer."""
    from vlad.backbones.hub import fetch_file

    doubt = "" if is_certain else f" (there is no folder {repo} here)"
    what = f"{f'{label!r}: ' if label else ''}hub repository {repo}{doubt}"
    config = fetch_file(repo, (CONFIG_FILE,), what=what, cache_dir=cache_dir, whole=True)
    if "hf_tokenizer_name" in config.read_text(encoding="utf-8"):
        _fetch_tokenizer(repo, what, cache_dir)
    fetch_file(repo, WEIGHT_FILES, what=what, cache_dir=cache_dir, whole=True)
    return load_folder(config.parent, repo, options | {"source": label or f"hf-hub:{repo}"}, label or repo)


def load_folder(folder: Path, shown: Path | str, options: dict[str, Any], label: str) -> Backbone:
    import open_clip

    if not folder.is_dir():
        raise BackboneError(f"the model folder {shown} does not exist; check the path")
    if not (folder / CONFIG_FILE).is_file():
        raise BackboneError(
            f"the model folder {shown} holds no {CONFIG_FILE}; expected a folder in open_clip's layout, or one written by save()"
        )
    if not any(path.suffix in CHECKPOINT_SUFFIXES for path in folder.iterdir()):
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
