"""How a detector is made by name, copied, saved and loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from vlad.config import DetectorConfig, Settings
from vlad.core.scoring import Scoring
from vlad.core.shared import fetch, is_repository, push
from vlad.errors import ConfigError, warn
from vlad.prompts.ensemble import PromptEnsemble
from vlad.references.fitting import recalibrated
from vlad.references.memory import ReferenceMemory
from vlad.scoring.methods import find_method

if TYPE_CHECKING:
    from vlad.backbones.base import Backbone, PatchBackbone


class Stored(Scoring):
    """Adds `from_pretrained`, `save`, `load` and `copy`."""

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "auto",
        *,
        pretrained: str | Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
        cache_dir: str | Path | None = None,
        prompts: PromptEnsemble | str | Path | None = None,
        patch_backbone: str | Path | PatchBackbone | None = None,
        resolution: int | None = None,
        square: bool | None = None,
        layers: Sequence[int] | str | None = None,
        merge: str | None = None,
        norm: bool | None = None,
        **settings: Unpack[Settings],
    ) -> Self:
        """A detector on a named model, or one that `save` wrote.

        Args:
            name: "auto" (winclip if its weights are cached or can be fetched, else the embedded model lite, with a warning; and as soon as
                there are references, dinov2-small beside it if its weights are, where no other scorer is asked for), a preset,
                "ARCHITECTURE:TAG" or "ARCHITECTURE:FILE" of open_clip, a hub id (also of a detector that `push_to_hub` wrote), a model
                folder, or a folder written by `save`.
            pretrained: tag or checkpoint file, if `name` is an architecture alone.
            device: "auto" (cuda, else mps, else cpu) or a torch device.
            dtype: "auto" (bfloat16 where the hardware has it, else float32), "float32", "bfloat16" or "float16".
            cache_dir: folder of the hub cache; None takes the hub client's.
            prompts: see the class; None takes the saved ones, else "winclip".
            patch_backbone: name of a patch backbone beside the model, e.g. "dinov2-small"; or the object.
            resolution, square, layers, merge, norm: of the patch backbone, be it the model or beside it; see `TimmBackbone`. With the
                scorer "subspace" and a DINOv2 the layers are "middle" unless given.
            **settings: fields of `DetectorConfig`; they override saved ones.

        Raises:
            WeightsNotFoundError: the weights are not at hand and cannot be fetched; the message gives the command that does.
            BackboneError: the name is unknown, or the model does not fit.
            ConfigError: a setting is unknown or out of range.
        """
        from vlad.backbones.registry import AUTO_BESIDE, is_dinov2, load_backbones, patches_of_auto
        from vlad.persistence import is_saved_detector

        if not isinstance(name, (str, Path)) or not str(name).strip():
            raise ConfigError(f"name must be the name or the folder of a model, got {name!r}")
        given = {"resolution": resolution, "square": square, "layers": layers, "merge": merge, "norm": norm}
        of_patches: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if is_saved_detector(name):
            for key in [*(["pretrained"] if pretrained else []), *(["patch_backbone"] if patch_backbone else []), *of_patches]:
                raise ConfigError(f"{str(name)!r} is a saved detector and names its own model; leave {key} out")
            return cls.load(name, prompts=prompts, device=device, dtype=dtype, cache_dir=cache_dir, **settings)
        if is_repository(name) and (folder := fetch(str(name), cache_dir)) is not None:
            if given_too := [*(["pretrained"] if pretrained else []), *(["patch_backbone"] if patch_backbone else []), *of_patches]:
                raise ConfigError(f"{str(name)!r} holds a saved detector, which names its own model; leave {given_too[0]} out")
            return cls.load(folder, prompts=prompts, device=device, dtype=dtype, cache_dir=cache_dir, **settings)
        config = DetectorConfig.from_dict(settings)  # a typo should not cost the time of loading a model
        prompts = "winclip" if prompts is None else prompts
        ensemble = prompts if isinstance(prompts, PromptEnsemble) else PromptEnsemble.load(prompts)
        ensemble.noun(config.class_name)
        options: dict[str, Any] = {"device": device, "dtype": dtype, "cache_dir": cache_dir}
        is_auto = str(name).lower() == "auto" and patch_backbone is None
        if is_auto and of_patches and config.scorer is not None and find_method(config.scorer).needs_windows:
            raise ConfigError(f"{', '.join(of_patches)} belong to a patch backbone, and scorer {config.scorer!r} takes none; leave one out")
        seen_by = AUTO_BESIDE if is_auto else name if patch_backbone is None else patch_backbone
        if config.scorer == "subspace" and is_dinov2(seen_by):
            of_patches.setdefault("layers", "middle")
        backbone, beside = load_backbones(str(name), patch_backbone, pretrained=pretrained, **options, **({} if is_auto else of_patches))
        detector = cls(backbone, patch_backbone=beside, prompts=ensemble, **settings)
        if is_auto:
            detector.later = patches_of_auto(is_offline=backbone.source == "lite", of_patches=of_patches, **options)
        return detector

    def push_to_hub(self, repo: str, *, private: bool = True, token: str | None = None, message: str = "A vlad detector") -> str:
        """Write what `save` writes into a repository of the model hub, with a README.md; `from_pretrained(repo)` gives the detector back.

        Args:
            repo: ORG/REPO, made if missing; what an earlier push wrote there is replaced.
            private: whether a repository that is made is private.
            token: None takes that of `hf auth login`.
            message: of the commit.

        Returns:
            The repository's address.

        Raises:
            ConfigError: `repo` is no such name.
            VladError: the hub does not take it; the message says why.
        """
        return push(self, repo, private=private, token=token, message=message)

    def save(self, folder: str | Path, *, page: str | None = None) -> Path:
        """Write config.json, text_vectors.safetensors and, with references, memory.safetensors into `folder` (made if missing) and return
        it. The model's weights are not copied: the folder names the model and holds the hash of its weights, which `load` checks where
        the precision is the same. The reference pictures are not copied either, only what the model saw in them.

        Args:
            folder: a detector that is there already is replaced; where it is an earlier state of this one, `vlad references FOLDER undo`
                goes back to it.
            page: HTML that goes with the references as left_out.html, for people (`vlad.output.left_out.left_out_page`). None keeps one
                that lies there if the references are the same, and removes it if they are others.
        """
        from vlad.history import forget_steps, keep_step
        from vlad.persistence import SavedState, describe_backbone, write_state

        text = {}
        if self._text is not None:
            self.text_vectors()
            text = {noun: value.cpu() for (prompts, noun), value in self._text.known.items() if prompts == self.prompts.fingerprint}
        steps = keep_step(Path(folder), self.history)
        state = SavedState(
            model=describe_backbone(self.backbone),
            patch_model=None if self.patch_backbone is None else describe_backbone(self.patch_backbone),
            prompts=self.prompts.to_dict(),
            settings=self.config.to_dict(),
            text=text,
            memory=None if self.memory is None else self.memory.state(),
            labels=None if self.labels is None else self.labels.to_dict(),
            page=page,
            later=None if self.later is None or self.patch_backbone is not None else self.later.settings,
            history=self.history,
            steps=steps,
        )
        written = write_state(Path(folder), state)
        forget_steps(written, steps)
        return written

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        backbone: Backbone | PatchBackbone | None = None,
        patch_backbone: PatchBackbone | None = None,
        prompts: PromptEnsemble | str | Path | None = None,
        device: str = "auto",
        dtype: str | None = None,
        cache_dir: str | Path | None = None,
        **settings: Unpack[Settings],
    ) -> Self:
        """A detector from a folder that `save` wrote. With it come the references: the folder alone gives the same scores, bit for bit on
        the same machine.

        Args:
            folder: the folder.
            backbone, patch_backbone: needed if the detector was made from model objects instead of names.
            prompts: other prompts than the saved ones.
            device, dtype, cache_dir: of the model; see `from_pretrained`. None as dtype takes the saved one.
            **settings: fields of `DetectorConfig` that override the saved ones. Where the threshold hangs on one, it is calibrated anew on
                the references' files.

        Raises:
            ConfigError: the folder holds no detector, a damaged one, one of a newer version, or one of other weights than those found; or a
                setting would need the references to be seen again and they cannot be.
            WeightsNotFoundError: the weights of its model are not at hand.
        """
        from vlad.deploy.spec import is_exported
        from vlad.persistence import (
            check_unchanged,
            read_state,
            restore_backbone,
            restore_labels,
            restore_later,
            restore_memory,
            restore_prompts,
        )

        folder = Path(folder)
        if is_exported(folder):
            raise ConfigError(f"{folder} is an exported detector; run it by vlad.deploy.runtime.ExportedDetector({str(folder)!r})")
        state = read_state(folder)
        saved = restore_prompts(folder, state)
        options: dict[str, Any] = {"device": device, "dtype": dtype, "cache_dir": cache_dir}
        backbone, is_same = restore_backbone(folder, state.model, backbone, "backbone", **options)
        is_same_beside = True
        if state.patch_model:
            beside, is_same_beside = restore_backbone(folder, state.patch_model, patch_backbone, "patch_backbone", **options)
            patch_backbone = cast("PatchBackbone", beside)
        detector = cls(
            backbone,
            patch_backbone=patch_backbone,
            prompts=saved if prompts is None else prompts,
            **cast(Settings, state.settings | cast(dict[str, Any], settings)),
        )
        if is_same and detector._text is not None:  # in another precision the text is embedded anew
            for noun, vectors in state.text.items():
                detector._text.known[saved.fingerprint, noun] = vectors.to(backbone.device)
        if state.later is not None and state.patch_model is None and patch_backbone is None:
            detector.later = restore_later(folder, state.later, backbone, **options)
        memory = restore_memory(folder, state, detector.encoder.device, detector._memory_settings())
        detector.labels = restore_labels(folder, state)
        detector.history = state.history
        check_unchanged(folder, state)
        if memory is None:
            return detector
        if not (is_same and is_same_beside):
            warn(f"{folder} was fitted in another precision; distances and thresholds fit this one less well")
        if memory.calibration is not None and memory.calibration.conditions is None:  # a folder of an earlier version
            before = cls(backbone, patch_backbone=patch_backbone, prompts=saved, **cast(Settings, state.settings))
            before._text = detector._text
            scorer = before._scorer(class_name=state.memory[0]["noun"] if state.memory else None, memory=memory)
            memory.calibration = replace(memory.calibration, conditions=scorer.conditions)
        detector._take(memory)
        return detector

    def copy(self, *, prompts: PromptEnsemble | str | Path | None = None, **settings: Unpack[Settings]) -> Self:
        """Another detector on the same model: the weights are shared and only ever read, while references, prompts and settings belong to
        the copy. It takes no memory, so every visitor of a server can have one. It starts with this one's references; where a setting
        changes their scores, the threshold is calibrated anew on them.

        Args:
            prompts: other prompts than this one's.
            **settings: fields of `DetectorConfig` that override this one's.

        Raises:
            ConfigError: a setting is unknown or out of range, or would need the references to be seen again and they cannot be.
            PromptError: the prompt set is missing or malformed.
        """
        other = type(self)(
            self.backbone,
            patch_backbone=self.patch_backbone,
            prompts=self.prompts if prompts is None else prompts,
            **cast(Settings, self.config.to_dict() | cast(dict[str, Any], settings)),
        )
        other._text, other.later = None if self._text is None else self._text.copy(), self.later
        if self.memory is not None:
            wanted, had = other._memory_settings(), self._memory_settings()
            if wanted != had and replace(wanted, tile=had.tile, search=had.search) != had:
                raise ConfigError(f"{', '.join(settings)} would need the references to be seen again; copy before fit()")
            other._take(self.memory)
        other.labels, other.history = self.labels, self.history
        return other

    def _take(self, memory: ReferenceMemory) -> None:
        """Take a memory that was calibrated elsewhere; under other conditions than this detector's it is calibrated anew.

        Raises:
            ConfigError: that needs references that cannot be seen again.
        """
        memory = memory.searched(self.config.search)
        scorer = self._scorer(memory=memory)
        stale = memory.calibration is not None and memory.calibration.conditions != scorer.conditions
        self.memory = recalibrated(memory, scorer) if stale and self.config.threshold is None and self.labels is None else memory
