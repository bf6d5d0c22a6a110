"""The models of a service: folders by name, loaded when asked for, taken anew when they change, let go when there are too many."""

from __future__ import annotations

import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vlad.errors import ConfigError, VladError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Detects(Protocol):
    """What an `AnomalyDetector` and an `ExportedDetector` have in common."""

    @property
    def model_name(self) -> str:
        """Names the model."""
        ...

    def predict(self, images: Any, *, maps: bool = ..., threshold: float | None = ..., on_error: Any = ...) -> Any:
        """Predictions of a list of pictures."""
        ...


class UnknownModelError(VladError):
    """No model of that name is served."""


@dataclass(frozen=True)
class Loaded:
    """A detector and the state of the folder that it was loaded from."""

    detector: Detects
    state: tuple[tuple[str, int, int, int], ...]


def load(folder: Path) -> Detects:
    """The detector of a folder that `vlad fit` or `vlad export` wrote."""
    from vlad.deploy.spec import is_exported

    if is_exported(folder):
        from vlad.deploy.runtime import ExportedDetector

        return ExportedDetector(folder)
    from vlad.detector import AnomalyDetector

    return AnomalyDetector.load(folder)


class Models:
    """Detectors by name.

    Args:
        folders: by name.
        most: detectors held at once; the one unused for longest goes first.
        make: loads one.

    Attributes:
        problems: by name, why a folder that has changed could not be taken, so that the detector before still serves.
    """

    def __init__(self, folders: dict[str, Path], *, most: int = 4, make: Callable[[Path], Detects] = load) -> None:
        if most < 1:
            raise ConfigError(f"at least one model must be held, got {most}")
        self.folders, self.most, self._make = dict(folders), most, make
        self.problems: dict[str, str] = {}
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._guard = threading.Lock()
        self._loading = {name: threading.Lock() for name in folders}

    @property
    def names(self) -> list[str]:
        """All names, loaded or not."""
        return sorted(self.folders)

    @property
    def held(self) -> list[str]:
        """Names of those in memory."""
        with self._guard:
            return list(self._loaded)

    def get(self, name: str) -> Detects:
        """The detector, loaded at the first need, and again where its folder has changed. While a new one is loaded, and where that fails,
        the old one serves.

        Raises:
            UnknownModelError: there is none of that name.
            VladError: it cannot be loaded, and there was none before.
        """
        if name not in self.folders:
            raise UnknownModelError(f"there is no model {name!r}; served are {', '.join(self.names)}")
        folder = self.folders[name]
        with self._guard:
            before = self._loaded.get(name)
            if before is not None:
                self._loaded.move_to_end(name)
        if before is not None and before.state == state_of(folder):
            return before.detector
        lock = self._loading[name]
        if not lock.acquire(blocking=before is None):  # somebody loads the new one already; the old one is as good until then
            assert before is not None
            return before.detector
        try:
            with self._guard:
                now = self._loaded.get(name)
            state = state_of(folder)
            if now is not None and now.state == state:  # loaded while this thread waited
                return now.detector
            try:
                detector = self._make(folder)
            except VladError as error:
                if before is None:
                    raise
                self.problems[name] = str(error)
                print(f"vlad: model {name!r} is still the one before: {error}", file=sys.stderr)
                self._keep(name, Loaded(before.detector, state))  # not tried again until the folder changes once more
                return before.detector
            self.problems.pop(name, None)
            self._keep(name, Loaded(detector, state))
            return detector
        finally:
            lock.release()

    def _keep(self, name: str, loaded: Loaded) -> None:
        with self._guard:
            self._loaded[name] = loaded
            self._loaded.move_to_end(name)
            while len(self._loaded) > self.most:
                self._loaded.popitem(last=False)  # whoever still uses it holds it


def state_of(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Names, times, sizes and inodes of the files of a folder: changes whenever one of them is written anew, by whatever program."""
    found = []
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):
                seen = path.stat()
                found.append((path.name, seen.st_mtime_ns, seen.st_size, seen.st_ino))
    return tuple(sorted(found))


def named(folders: Iterable[str]) -> dict[str, Path]:
    """NAME=FOLDER or FOLDER, whose own name is taken, to folders by name; a folder without a detector stands for all that are in it.

    Raises:
        ConfigError: a name is taken twice or has other signs than letters, digits, . _ and -; or a folder holds no detector.
    """
    from vlad.deploy.spec import is_exported
    from vlad.persistence import is_saved_detector

    def is_detector(folder: Path) -> bool:
        return is_exported(folder) or is_saved_detector(folder)

    found: dict[str, Path] = {}
    each: list[str] = []
    for text in folders:
        inside = (
            [] if "=" in text or is_detector(Path(text)) or not Path(text).is_dir() else sorted(filter(is_detector, Path(text).iterdir()))
        )
        each += map(str, inside) if inside else [text]
    for text in each:
        name, separator, place = text.partition("=")
        folder = Path(place if separator else text)
        name = name if separator else folder.resolve().name
        if not _NAME.fullmatch(name):
            raise ConfigError(f"a model is called by letters, digits, '.', '_' and '-', got {name!r}; write NAME=FOLDER")
        if name in found:
            raise ConfigError(f"two models are called {name!r}; write NAME=FOLDER")
        if not is_detector(folder):
            raise ConfigError(f"{folder} holds no detector; expected a folder of `vlad fit` or `vlad export`")
        found[name] = folder
    if not found:
        raise ConfigError("expected at least one folder of `vlad fit` or `vlad export`, got none")
    return found
