"""Parts: what a product's good pictures, corrections and threshold are called by, kept as a folder that holds a saved detector too.

    DIR/metal-nut/part.json      its name, and what it shows
    DIR/metal-nut/pictures/      the good pictures, and those that were corrected, as they were uploaded
    DIR/metal-nut/detector/      for `vlad detect --model`, with its history and its earlier states

Every change is written before it is shown, so that what one visitor sees is what the next one opens.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vlad.app.names import shown_name
from vlad.disk import held, replace_text, sha256_of, writing
from vlad.errors import ConfigError
from vlad.history import locked, undo
from vlad.persistence import checksum, read_state
from vlad.untrusted.values import Values, parse_json

if TYPE_CHECKING:
    from vlad.detector import AnomalyDetector

_FORMAT, _FORMAT_VERSION, _CARD = "vlad-part", 1, "part.json"
_MOST_NAME, _MOST_PARTS = 60, 1000
_PATIENCE = 10.0  # seconds for another visitor's change to be written


class Good(NamedTuple):
    """A good picture: its name, its file unless that is gone, and the hash of its pixels."""

    name: str
    path: Path | None
    sha256: str


@dataclass(eq=False)
class Part:
    """One part as a visitor has it open.

    Attributes:
        name: as people call it.
        class_name: what it shows, a noun for the prompts; may be empty.
        folder: where it is kept.
        detector: its good pictures, labels and threshold; replaced by another one with every change, never changed in place.
    """

    name: str
    class_name: str
    folder: Path
    detector: AnomalyDetector
    _written: str = ""  # hash of the detector's configuration as it was read or written last

    @property
    def pictures(self) -> Path:
        """Folder of its pictures."""
        return self.folder / "pictures"

    @property
    def good(self) -> list[Good]:
        """The good pictures, by name."""
        found = []
        for reference in self.detector.references:
            path = None if reference.path is None else Path(reference.path)
            found.append(Good(shown_name(reference.place), path if path is not None and path.is_file() else None, reference.sha256))
        return sorted(found, key=lambda one: (one.name, one.sha256))

    def change(self, how: Callable[[AnomalyDetector], AnomalyDetector]) -> None:
        """Replace the detector by what `how` makes of a copy, and write it. If anything fails, all is as before.

        Raises:
            ConfigError: somebody else has changed the part meanwhile, or holds it.
            OutputError: it cannot be written.
        """
        with held(self.folder, wait=_PATIENCE, make=False):
            self._check_unchanged()
            fresh = how(self.detector.copy())
            fresh.save(self.folder / "detector")
            self._written = _state_of(self.folder)
        self.detector = fresh

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier state."""
        return (self.folder / "detector" / "steps").is_dir() and any((self.folder / "detector" / "steps").iterdir())

    def forget(self, paths: Iterable[Path]) -> None:
        """Delete pictures of a change that came to nothing, and those that it did not need, as duplicates."""
        labels = self.detector.labels
        labelled = () if labels is None else labels.pictures
        known = {one.path for one in self.detector.references} | {one.picture.path for one in labelled}
        for path in paths:
            if str(path) not in known:
                path.unlink(missing_ok=True)

    def _check_unchanged(self) -> None:
        if not (self.folder / _CARD).is_file():
            raise ConfigError(f"{self.name!r} was removed meanwhile; make a new part.")
        if _state_of(self.folder) != self._written:
            raise ConfigError(f"{self.name!r} was changed by somebody else meanwhile; choose it again to go on from there.")

    def undo(self, base: AnomalyDetector) -> str:
        """Go back to what it was before the last change.

        Returns:
            What was undone, as its history calls it.

        Raises:
            ConfigError: there is no earlier state.
        """
        if not self.can_undo:
            raise ConfigError(f"{self.name!r} has no earlier state to go back to.")
        with held(self.folder, wait=_PATIENCE, make=False):
            self._check_unchanged()
            with locked(self.folder / "detector"):
                done = int(read_state(self.folder / "detector").steps[-1][:4])  # acts up to the state that it goes back to
                undo(self.folder / "detector")
        act = self.detector.history[done]["act"] if done < len(self.detector.history) else "change"
        self.detector, self._written = _loaded(self.folder, base, self.class_name), _state_of(self.folder)
        return str(act)


@dataclass(frozen=True)
class Card:
    """A part in the list.

    Attributes:
        good, corrected: how many pictures it knows.
        changed: when it was written last (UTC), in words; "damaged" of one that cannot be read.
    """

    name: str
    class_name: str
    good: int
    corrected: int
    changed: str


class Shelf:
    """The parts in a folder: a visitor's own, or those that all visitors share."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def cards(self) -> list[Card]:
        """Every part that can be read, by name."""
        found = [card for folder in self._folders() if (card := _card_of(folder, *_times_of(folder))) is not None]
        return sorted(found, key=lambda card: card.name.casefold())

    def make(self, base: AnomalyDetector, name: str, class_name: str = "") -> Part:
        """A new part without good pictures, but for those that came with `base`.

        Raises:
            ConfigError: the name is empty, too long or taken, or there are too many parts.
            OutputError: it cannot be written.
        """
        name = " ".join(name.split())
        if not name or len(name) > _MOST_NAME or not name.isprintable():
            raise ConfigError(f"A part needs a name of one to {_MOST_NAME} letters, such as 'metal nut M8'.")
        detector = base.copy(class_name=class_name) if class_name else base.copy()
        card = {"format": _FORMAT, "format_version": _FORMAT_VERSION, "name": name, "class_name": class_name}
        with held(self.root, wait=_PATIENCE), writing(self.root, "the part in"):
            taken = self.cards()
            if name.casefold() in (card.name.casefold() for card in taken):
                raise ConfigError(f"There is a part {name!r} already; choose it from the list, or take another name.")
            if len(taken) >= _MOST_PARTS:
                raise ConfigError(f"There are {len(taken)} parts here, and no more are kept; start the server with another workspace.")
            folder = self._new_folder(name)
            replace_text(folder / _CARD, json.dumps(card, indent=2, ensure_ascii=False) + "\n")
        return Part(name, class_name, folder, detector)

    def open(self, base: AnomalyDetector, name: str) -> Part:
        """
        Raises:
            ConfigError: there is no such part, it is damaged, or another model made it.
        """
        for folder in self._folders():
            card = _read_card(folder)
            if card is not None and card[0] == name:
                return Part(*card, folder, _loaded(folder, base, card[1]), _state_of(folder))
        raise ConfigError(f"There is no part {name!r} any more; choose another one.")

    def _folders(self) -> list[Path]:
        if not self.root.is_dir():
            return []
        return sorted(path for path in self.root.iterdir() if (path / _CARD).is_file())

    def _new_folder(self, name: str) -> Path:
        self.root.mkdir(parents=True, exist_ok=True)
        stem = slug(name)
        for number in range(1, _MOST_PARTS + 2):
            folder = self.root / (stem if number == 1 else f"{stem}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
        raise ConfigError(f"There are too many parts called like {name!r}; take another name.")


def slug(name: str) -> str:
    """A name as that of a file: letters, digits, hyphens."""
    return re.sub(r"[^\w]+", "-", name).strip("-_")[:40] or "part"


def pack(part: Part, folder: Path) -> Path:
    """The part's detector as a zip file in `folder`, with the pictures that it knows; unpacked, it is a folder for `vlad detect --model`.

    Raises:
        OutputError: it cannot be written.
    """
    name = part.folder.name
    with writing(folder, "the package in"):
        content = folder / "packing"
        shutil.rmtree(content, ignore_errors=True)
        try:
            part.detector.save(content / name)
            _bring_pictures(content / name)
            return Path(shutil.make_archive(str(folder / f"{name}"), "zip", content, name))
        finally:
            shutil.rmtree(content, ignore_errors=True)


def _bring_pictures(folder: Path) -> None:
    """Copy the pictures that a saved detector knows into its folder, and write their paths as those within it."""
    config = parse_json((folder / "config.json").read_text(encoding="utf-8", errors="surrogateescape"))
    memory, labels = config.get("memory") or {}, config.get("labels") or {}
    pictures = [*(memory.get("references") or {}).values(), *(labels.get("pictures") or ())]
    (folder / "pictures").mkdir()
    for one in pictures:
        path = Path(one["path"]) if one.get("path") else None
        if path is None:
            continue
        one["path"] = f"pictures/{path.name}"
        if path.is_file() and not (folder / one["path"]).exists():
            shutil.copyfile(path, folder / one["path"])
    for act in config.get("history", ()):
        for kind in ("good", "bad"):
            act[kind] = [f"pictures/{Path(name).name}" for name in act.get(kind, ())]
    config["sha256"] = checksum(config)
    replace_text(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def _read_card(folder: Path) -> tuple[str, str] | None:
    """Name and noun; None of what is no part, or a damaged one."""
    try:
        entry = Values(parse_json((folder / _CARD).read_text(encoding="utf-8")), "a part")
        return (entry.text("name"), entry.text("class_name")) if entry.text("format") == _FORMAT else None
    except (OSError, ValueError, ConfigError):
        return None


def _times_of(folder: Path) -> tuple[int, int]:
    """When name and detector were written last, in nanoseconds; 0 of what is not there."""
    found = []
    for path in (folder / _CARD, folder / "detector" / "config.json"):
        try:
            found.append(path.stat().st_mtime_ns)
        except OSError:
            found.append(0)
    return found[0], found[1]


@lru_cache(2 * _MOST_PARTS)
def _card_of(folder: Path, named: int, changed: int) -> Card | None:
    """Read once for each time that it was written."""
    card = _read_card(folder)
    if card is None:
        return None
    good = corrected = 0
    try:
        if changed:
            config = parse_json((folder / "detector" / "config.json").read_text(encoding="utf-8", errors="surrogateescape"))
            good = len(((config.get("memory") or {}).get("references")) or {})
            corrected = len((config.get("labels") or {}).get("pictures") or ())
    except (OSError, ValueError, AttributeError, TypeError):
        return Card(*card, 0, 0, "damaged")
    when = datetime.fromtimestamp(max(named, changed) / 1e9, UTC)
    return Card(*card, good, corrected, when.strftime("%Y-%m-%d %H:%M"))


def _loaded(folder: Path, base: AnomalyDetector, class_name: str) -> AnomalyDetector:
    from vlad.detector import AnomalyDetector

    if not (folder / "detector").exists():
        return base.copy(class_name=class_name) if class_name else base.copy()
    like = base.copy()
    like.ready_for_references()
    try:
        return AnomalyDetector.load(folder / "detector", backbone=like.backbone, patch_backbone=like.patch_backbone)
    except ConfigError as error:
        raise ConfigError(
            f"This part cannot be opened here, where {like.model_name} is the model: it was made with another one, or is damaged."
        ) from error


def _state_of(folder: Path) -> str:
    config = folder / "detector" / "config.json"
    return sha256_of(config) if config.is_file() else ""
