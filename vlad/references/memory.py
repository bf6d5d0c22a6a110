"""What a detector remembers of its normal pictures, and how it compares another picture with them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlad.config import DetectorConfig
from vlad.errors import ConfigError, ImageReadError
from vlad.pictures.reading import Reader
from vlad.pictures.roi import Part
from vlad.references.augment import camera_changes, turned_parts, valid_patches
from vlad.references.calibration import Calibration
from vlad.scoring.base import PATCHES, window_bank
from vlad.scoring.methods import find_method
from vlad.scoring.pictures import Conditions, of_inside
from vlad.untrusted.values import Values, numbers, tensor

if TYPE_CHECKING:
    from torch import Tensor

    from vlad.backbones.encoder import Encoder, View
    from vlad.pictures.appearance import Appearance
    from vlad.scoring.base import Bank, Comparison
    from vlad.scoring.coreset import CoresetLoss
    from vlad.scoring.foreground import Foreground

_FEW = 16  # up to so many references turned copies stand for the angles that are missing


@dataclass(frozen=True)
class Reference:
    """One normal picture.

    Attributes:
        path: file it came from, None if it came as data.
        sha256: of its pixels, by which it is recognised.
        size: (H, W) as displayed.
    """

    path: str | None
    sha256: str
    size: tuple[int, int]
    read: Callable[[], np.ndarray] | None = field(default=None, repr=False, compare=False)  # how to see it again, while the program runs

    @property
    def place(self) -> str:
        """Its absolute path, or a word on where else it came from."""
        return "a picture given as data" if self.path is None else os.path.abspath(self.path)  # noqa: PTH100  resolve() would follow links

    def within(self, folder: Path) -> Reference:
        """The same with a path that is written as one within a folder, as that of a package that brings its pictures along."""
        if self.path is None or Path(self.path).is_absolute():
            return self
        return replace(self, path=str(folder.resolve() / self.path))

    def again(self, white_level: int | None = None) -> np.ndarray:
        """The picture uint8 (H, W, 3), read again.

        Args:
            white_level: that it was read with; see `read_image`.

        Raises:
            ImageReadError: it is gone, has changed, or came as data that is not kept.
        """
        if self.read is not None:
            picture = self.read()
        elif self.path is not None:
            picture = Reader(self.size[0] * self.size[1], white_level)(self.path)
        else:
            raise ImageReadError("a reference that came as data is not kept")
        if fingerprint(picture) != self.sha256:
            raise ImageReadError(f"{self.path}: has changed since it was remembered")
        return picture

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the path is absolute, so that it is found from everywhere."""
        return {
            "path": None if self.path is None else self.place,
            "sha256": self.sha256,
            "size": list(self.size),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | Values) -> Reference:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: something is missing, or has another type or range.
        """
        entry = values if isinstance(values, Values) else Values(values, "a picture")
        height, width = entry.wholes("size", 1, count=2)
        return cls(entry.text("path", optional=True), entry.text("sha256"), (height, width))


def fingerprint(picture: np.ndarray) -> str:
    """SHA-256 of shape and pixels uint8 (H, W, 3): equal pictures are equal whatever file they came from."""
    return hashlib.sha256(repr(picture.shape).encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """What shapes a memory; all but `search` and `tile` cannot be changed without seeing the references again. See `DetectorConfig`."""

    scorer: str
    scales: tuple[int, ...]
    rotations: int | None = None
    coreset: float | None = None
    foreground: bool = False
    tile: int | None = None
    roi: str | None = None
    ignore: str | None = None
    white_level: int | str | None = None
    adapt: str | None = None
    mild_changes: bool = False
    random_angles: bool = False
    search: str = "exact"


class ReferenceMemory:
    """Banks of normal tokens, the references they came from, and thresholds calibrated on them.

    Attributes:
        settings: what shaped it.
        references: by number, in the order they were added.
        embeddings: by number, the unit embedding (E,) of the whole reference.
        calibration: scores of normal pictures, None before they were computed.
        scores: by number of the reference, its own (image, pixel) scores behind the calibration.
        loss: what the coreset cost.
        grid: (rows, cols) of the references' patches, where the method compares place with place; else None.
        appearances: by number, how each reference looks as a whole; of earlier versions there are none.
        light: what every picture's light is matched to, where the settings say so.
    """

    def __init__(self, settings: MemorySettings) -> None:
        from vlad.scoring.coreset import CoresetLoss

        self.settings = settings
        self._method = find_method(settings.scorer)
        self.references: dict[int, Reference] = {}
        self.embeddings: dict[int, Tensor] = {}
        self.calibration: Calibration | None = None
        self.scores: dict[int, tuple[float, float]] = {}
        self.loss: CoresetLoss = CoresetLoss()
        self.foreground: Foreground | None = None
        self.grid: tuple[int, int] | None = None
        self.appearances: dict[int, Appearance] = {}
        self.light: tuple[float, ...] | None = None
        self.banks: dict[str, Bank] = {name: self._new_bank() for name in self._bank_names()}
        self._next = 0

    def copy(self) -> ReferenceMemory:
        """A memory that can be changed without changing this one."""
        other = ReferenceMemory(self.settings)
        other.references, other.embeddings, other.scores = dict(self.references), dict(self.embeddings), dict(self.scores)
        other.calibration, other.loss, other.foreground = self.calibration, self.loss, self.foreground
        other.banks = {name: bank.copy() for name, bank in self.banks.items()}
        other._next, other.grid, other.light = self._next, self.grid, self.light
        other.appearances = dict(self.appearances)
        return other

    def searched(self, search: str) -> ReferenceMemory:
        """This memory, or one that is searched in another way."""
        if search == self.settings.search:
            return self
        other = self.copy()
        other.settings = replace(self.settings, search=search)
        for bank in other.banks.values():
            other._set_search(bank)
        return other

    def _new_bank(self) -> Bank:
        bank = self._method.new_bank()
        self._set_search(bank)
        return bank

    def _set_search(self, bank: Bank) -> None:
        from vlad.scoring.nearest import MemoryBank

        if isinstance(bank, MemoryBank):
            bank.is_exact = self.search is None

    def settle(self, count: int) -> None:
        """Choose the number of rotations for `count` references, unless it is given or was chosen before.

        A few references show a part at a few angles only, and turned copies stand for those that are missing; many need no copies, which
        would cost as many passes. How many angles are worth it, the method says.
        """
        if self.settings.rotations is None:
            self.settings = replace(self.settings, rotations=self._method.turns if count <= _FEW else 1)

    @property
    def method(self) -> str:
        """Name of the scoring method."""
        return self.settings.scorer

    @property
    def search(self) -> str | None:
        """How its banks are searched where that is not exact, else None."""
        return self.settings.search if self._method.searches and self.settings.search != "exact" else None

    @property
    def same_framing(self) -> bool:
        """True if the method compares place with place."""
        return self._method.same_framing

    @property
    def takes_coreset(self) -> bool:
        """False if the method keeps no tokens that could be left out."""
        return self._method.takes_coreset

    @property
    def scales(self) -> tuple[int, ...]:
        """Scales of the windows that `compare` needs in a view, beside patch tokens."""
        return self.settings.scales if self._method.needs_windows else ()

    def add(
        self, pictures: Iterable[tuple[Reference, np.ndarray]], encoder: Encoder, parts: Callable[[np.ndarray], Iterator[Part]]
    ) -> None:
        """Look at normal pictures uint8 (H, W, 3) and remember them.

        Args:
            pictures: read as they are needed.
            encoder: the backbones.
            parts: all that is looked at of a picture, the first the whole; see `PictureScorer.parts`.
        """
        from vlad.scoring.foreground import find_foreground

        pending = _Pending(self)
        first: list[View] = []
        for reference, picture in pictures:
            number, self._next = self._next, self._next + 1
            self.references[number] = reference
            for place, (shown, inside) in enumerate(parts(picture)):
                turns = turned_parts((shown, inside), self.settings.rotations or 1, random=self.settings.random_angles)
                for turn, (turned, mask, turned_inside) in enumerate(turns):
                    is_first = place == turn == 0
                    (seen,) = encoder.see([turned], patches=True, scales=self.scales, text=is_first)
                    view = of_inside(seen, turned_inside)
                    pending.take(number, view, mask)
                    self._check_grid(view, "a reference")
                    for changed in camera_changes(turned) if self.settings.mild_changes else ():
                        (other,) = encoder.see([changed], patches=True, scales=self.scales, text=False)
                        pending.take(number, of_inside(other, turned_inside), mask)
                    if is_first:
                        self.embeddings[number] = view.embedding
                        first.append(view)
        pending.finish()
        if self.settings.foreground and self.foreground is None:
            whole = [view.patches for view in first if view.patches is not None]
            self.foreground = find_foreground([patches.tokens for patches in whole], [patches.grid for patches in whole])

    def remove(self, number: int) -> None:
        """Forget a reference."""
        for bank in self.banks.values():
            bank.remove(number)
        for kept in (self.references, self.embeddings, self.scores, self.appearances):
            kept.pop(number, None)

    def differs(self, picture: np.ndarray) -> tuple[str, ...]:
        """In which respects what counts of a picture lies beyond every reference, in words."""
        from vlad.pictures.appearance import differences, measure

        return differences(measure(picture), list(self.appearances.values())) if self.appearances else ()

    def compare(self, view: View, *, top_share: float, without: int | None = None) -> Comparison:
        """How far a view lies from the references, as if the one numbered `without` had never been added; see `Method.compare`.

        Raises:
            ConfigError: the tokens are of another width than those remembered.
        """
        self._check_grid(view, "this picture")
        return self._method.compare(self.banks, view, top_share=top_share, foreground=self.foreground, without=without)

    def _check_grid(self, view: View, what: str) -> None:
        """Of a method that compares place with place, every picture must have the same places."""
        if not self._method.same_framing or view.patches is None:
            return
        self.grid = self.grid or view.patches.grid
        if view.patches.grid != self.grid:
            raise ConfigError(
                f"scorer {self.method!r} compares place with place and needs pictures of the same framing; {what} has "
                f"{view.patches.grid[0]} x {view.patches.grid[1]} patches, the references have {self.grid[0]} x {self.grid[1]}; "
                "use scorer 'nearest'"
            )

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Plain JSON values, and tensors on the CPU by name."""
        import torch

        tensors = {f"{name}.{key}": value for name, bank in self.banks.items() for key, value in bank.state().items()}
        numbers = list(self.references)
        tensors["embeddings"] = torch.stack([self.embeddings[number] for number in numbers])
        if self.foreground is not None:
            tensors["foreground"] = self.foreground.direction
        conditions = None if self.calibration is None else self.calibration.conditions
        values = {
            "settings": asdict(self.settings) | {"scales": list(self.settings.scales)},
            "references": {str(number): self.references[number].to_dict() for number in numbers},
            "next": self._next,
            "noun": None if conditions is None else conditions.noun,
            "calibration": None if self.calibration is None else asdict(self.calibration),
            "scores": {str(number): list(scores) for number, scores in self.scores.items()},
            "coreset_loss": asdict(self.loss),
            "appearances": {str(number): asdict(one) for number, one in self.appearances.items()},
            "light": None if self.light is None else list(self.light),
            "grid": None if self.grid is None else list(self.grid),
            "foreground_limit": None if self.foreground is None else self.foreground.limit,
        }
        return values, {name: value.cpu().contiguous() for name, value in tensors.items()}

    @classmethod
    def from_state(cls, values: Mapping[str, Any], tensors: Mapping[str, Tensor], device: Any) -> ReferenceMemory:
        """The inverse of `state`.

        Raises:
            ConfigError: something is missing, or has another shape, type or range; the message names it.
        """
        import torch

        from vlad.scoring.coreset import CoresetLoss
        from vlad.scoring.foreground import Foreground

        entry = Values(values, "memory")
        settings = dict(entry.object("settings").items())
        DetectorConfig.from_dict(settings)  # the same fields and ranges
        try:
            memory = cls(MemorySettings(**(settings | {"scales": entry.object("settings").wholes("scales", 1)})))
        except TypeError as error:
            raise ConfigError(f"memory.settings: {error}") from error
        memory.references = {
            number: Reference.from_dict(Values(one, f"memory.references.{number}")) for number, one in entry.by_number("references").items()
        }
        if not memory.references:
            raise ConfigError("memory.references must hold one at least, got none")
        for name, bank in memory.banks.items():
            own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
            try:
                bank.load_state({key: value.to(device) for key, value in own.items()})
                if foreign := set(tensor(own, "owners", None, dtype=torch.int64).tolist()) - set(memory.references):
                    raise ConfigError(f"the tensor 'owners' must name the references, got {sorted(foreign)[:3]}")
            except ConfigError as error:
                raise ConfigError(f"{name}: {error}") from error
        embeddings = tensor(tensors, "embeddings", len(memory.references), None)
        memory.embeddings = dict(zip(memory.references, embeddings.to(device), strict=True))
        memory._next = entry.whole("next", 1 + max(memory.references))
        entry.text("noun", optional=True)
        for number, pair in entry.by_number("scores").items():
            image, pixel = numbers(pair, f"memory.scores.{number}", 0, 1) if isinstance(pair, list) and len(pair) == 2 else (None, None)
            if image is None or pixel is None or number not in memory.references:
                raise ConfigError(f"memory.scores.{number} must be two numbers of a reference, got {pair!r:.80}")
            memory.scores[number] = image, pixel
        if entry.get("calibration") is not None:
            memory.calibration = _calibration_from(entry.object("calibration"))
        if entry.get("grid", None) is not None:
            rows, cols = entry.wholes("grid", 1, count=2)
            memory.grid = rows, cols
        if entry.get("appearances", None) is not None:
            for number, one in entry.by_number("appearances").items():
                memory.appearances[number] = _appearance_from(Values(one, f"memory.appearances.{number}"))
        if entry.get("light", None) is not None:
            memory.light = entry.numbers("light", 0, 255)
        loss = entry.object("coreset_loss")
        memory.loss = CoresetLoss(loss.whole("tokens"), loss.whole("kept"), loss.number("radius", 0), loss.number("mean", 0))
        if entry.get("foreground_limit") is not None:
            width = next((value.shape[1] for key, value in tensors.items() if key == f"{PATCHES}.rows"), None)
            direction = tensor(tensors, "foreground", width)
            memory.foreground = Foreground(direction.to(device), entry.number("foreground_limit"))
        return memory

    def _bank_names(self) -> list[str]:
        return [PATCHES, *map(window_bank, self.scales)]


def _appearance_from(values: Values) -> Appearance:
    """The inverse of `asdict`."""
    from vlad.pictures.appearance import Appearance

    height, width = values.wholes("size", 1, count=2)
    light = values.numbers("light", 0, 255)
    if not light:
        raise ConfigError(f"{values.name}.light must hold numbers, got none")
    return Appearance(light, values.number("sharpness", 0), values.number("blockiness", 0), (height, width))


def _calibration_from(values: Values) -> Calibration:
    """The inverse of `asdict`."""
    scores = {
        name: values.numbers(name, 0, 1, default=())  # folders of earlier versions have no views
        for name in ("image_view_scores", "pixel_view_scores", "image_mirror_scores", "pixel_mirror_scores")
    }
    image, pixel = values.numbers("image_scores", 0, 1), values.numbers("pixel_scores", 0, 1)
    if not image or len(image) != len(pixel):
        raise ConfigError(f"{values.name} must hold as many pixel_scores as image_scores, and some, got {len(pixel)} and {len(image)}")
    conditions = None if values.get("conditions", None) is None else conditions_from(values.object("conditions"))
    return Calibration(image, pixel, values.flag("is_held_out"), conditions=conditions, **scores)


def conditions_from(values: Values) -> Conditions:
    """The inverse of `asdict`.

    Raises:
        ConfigError: something is missing, or has another type or range.
    """
    texts = {name: values.text(name, default=None, optional=True) for name in ("prompts", "noun", "roi", "ignore", "adapt")}
    return Conditions(
        scorer=values.text("scorer"),
        top_share=values.number("top_share", 0, 1),
        tile_long=values.flag("tile_long", default=False),
        white_level=None if values.get("white_level", None) is None else values.whole("white_level", 255, 65535),
        tile=None if values.get("tile") is None else values.whole("tile", 1),
        tile_overlap=values.number("tile_overlap", 0, 1, optional=True),
        text_weight=values.number("text_weight", 0, 1),
        scales=None if values.get("scales") is None else values.wholes("scales", 0),
        temperature=values.number("temperature", 0, optional=True),
        rarity=values.number("rarity", 0, default=None, optional=True),
        search=values.text("search", default=None, optional=True),
        text_maps=values.text("text_maps", default=None, optional=True),
        **texts,
    )


class _Pending:
    """Tokens on their way into a memory, thinned out block by block where a coreset is wanted, so that they are never all held."""

    def __init__(self, memory: ReferenceMemory) -> None:
        self._memory = memory
        self._tokens: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in memory.banks}

    def take(self, number: int, view: View, mask: np.ndarray) -> None:
        """The tokens of a view whose pixels are all valid."""
        import torch

        from vlad.backbones.grid import window_indices

        assert view.patches is not None
        patches = view.patches
        valid = torch.from_numpy(valid_patches(mask, patches.grid, patches.shown)).to(patches.tokens.device)
        # Where a method compares place with place, all places are kept.
        inside = torch.ones_like(valid) if view.inside is None or self._memory.same_framing else view.inside
        self._put(PATCHES, patches.tokens[valid & inside], number)
        for scale, values in view.windows.items():
            indices = window_indices(patches.grid, scale).to(valid.device)
            self._put(window_bank(scale), values[0][valid[indices].all(1) & inside[indices].any(1)], number)

    def finish(self) -> None:
        """Hand over what is left."""
        for name in self._tokens:
            self._flush(name)

    def _put(self, name: str, tokens: Tensor, number: int) -> None:
        import torch

        from vlad.scoring.coreset import BLOCK

        # A copy: a view into all tokens of a pass would keep them alive.
        self._tokens[name].append((tokens.clone(), torch.full((len(tokens),), number, device=tokens.device)))
        if sum(len(part) for part, _ in self._tokens[name]) >= BLOCK:
            self._flush(name)

    def _flush(self, name: str) -> None:
        import torch

        from vlad.scoring.coreset import greedy_coreset

        if not self._tokens[name]:
            return
        tokens, owners = (torch.cat(parts) for parts in zip(*self._tokens[name], strict=True))
        self._tokens[name] = []
        share = self._memory.settings.coreset
        if share is not None and share < 1 and self._memory.takes_coreset:
            kept, loss = greedy_coreset(tokens, share)
            tokens, owners = tokens[kept], owners[kept]
            if name == PATCHES:
                self._memory.loss = self._memory.loss + loss
        self._memory.banks[name].add(tokens, owners)
