"""What was done to a saved detector, and the way back.

Every act that changes what a detector remembers is an entry of its history, with time, files and the threshold that came of it; the history
lies in config.json, so it is written in the same instant as what it tells of. A save over another state, of the same detector or not, keeps
that state's files in `steps/`, as further names of the same data where the file system can do that, and `undo` puts them back.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vlad.disk import held, writing
from vlad.errors import ConfigError
from vlad.persistence import PAGE, files_of, is_saved_detector, read_state, write_state
from vlad.untrusted.values import parse_json

MOST_STEPS = 10  # earlier states that are kept
_NAMED = 3  # files in a line
_STEPS = "steps"
LOCK_SECONDS = 60  # that a run waits for another to be done with the folder
Entry = dict[str, Any]


def entry(act: str, *, good: Sequence[str] = (), bad: Sequence[str] = (), references: int = 0, threshold: float | None = None) -> Entry:
    """One act, now: "fit", "add", "remove", "label", "unlabel" or "undo"; the files that it was about, the references after it, and the
    threshold."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    return {"time": time, "act": act, "good": list(good), "bad": list(bad), "references": references, "threshold": threshold}


def in_words(one: Entry) -> str:
    """An entry as a line."""
    files = [*map(str, one.get("good", ())), *(f"{name} (bad)" for name in one.get("bad", ()))]
    if len(files) > _NAMED:
        files = [*files[:_NAMED], f"and {len(files) - _NAMED} more"]
    threshold = one.get("threshold")
    after = f"{one.get('references', 0)} references" + ("" if threshold is None else f", threshold {float(threshold):.4f}")
    return "  ".join([str(one.get("time", "?")), f"{one.get('act', '?'):7}", after, *([", ".join(files)] if files else [])])


@contextmanager
def locked(folder: str | Path) -> Iterator[Path]:
    """The folder of a saved detector while nobody else changes it.

    Raises:
        ConfigError: there is no detector, or another process has held it for a minute.
    """
    folder = Path(folder)
    if not is_saved_detector(folder):
        raise ConfigError(f"{folder} holds no detector; write one with vlad fit PICTURES --out {folder}")
    with held(folder, wait=LOCK_SECONDS, make=False):
        yield folder


def keep_step(folder: Path, history: Sequence[Entry]) -> tuple[str, ...]:
    """Before a save of a detector with this history: keep the state that lies in the folder, unless it is the same, be it an earlier one of
    this detector, one that somebody else has saved meanwhile, or another detector.

    Returns:
        The names of the steps that lead back, the last step last; for the new state.
    """
    try:
        config = parse_json((folder / "config.json").read_text(encoding="utf-8", errors="surrogateescape"))
        before, steps = list(config.get("history") or ()), tuple(map(str, config.get("steps") or ()))
    except (OSError, ValueError, AttributeError):
        return ()
    if not before or list(history) == before:
        return steps
    with writing(folder, "the earlier state of the detector in"):
        return (*steps, _kept(folder, config, len(before)))[-MOST_STEPS:]


def _kept(folder: Path, config: dict[str, Any], done: int) -> str:
    """Keep the files of a state after so many acts; their name among the steps."""
    name = f"{done:04d}-{config.get('memory', {}).get('sha256', '')[:8] if config.get('memory') else 'words'}"
    place = folder / _STEPS / name
    partial = place.with_name(f"{name}.new")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for path in files_of(folder):
            _link(path, partial / path.name)
        shutil.rmtree(place, ignore_errors=True)
        partial.replace(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return name


def forget_steps(folder: Path, kept: Sequence[str]) -> None:
    """Remove earlier states that no way leads back to."""
    for path in (folder / _STEPS).iterdir() if (folder / _STEPS).is_dir() else ():
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)
    if (folder / _STEPS).is_dir() and not kept:
        shutil.rmtree(folder / _STEPS, ignore_errors=True)


def undo(folder: Path) -> Entry:
    """Go back a step: what the detector remembers, its labels and settings become those before the last act; the history stays and gets an
    entry. Call it within `locked`.

    Returns:
        The entry.

    Raises:
        ConfigError: there is no step back.
    """
    now = read_state(folder)
    if not now.steps:
        raise ConfigError(f"{folder} has no earlier state to go back to; vlad references {folder} log shows what was done")
    name = now.steps[-1]
    step = folder / _STEPS / name
    before = read_state(step)
    page = (step / PAGE).read_text(encoding="utf-8") if (step / PAGE).is_file() else None
    last = before.history[-1] if before.history else {}
    done = entry("undo", references=int(last.get("references", 0)), threshold=last.get("threshold"))
    steps = now.steps[:-1]
    write_state(folder, replace(before, page=page, history=(*now.history, done), steps=steps))
    forget_steps(folder, steps)
    return done


def _link(source: Path, target: Path) -> None:
    """A further name of a file, which a save replaces and never writes into; a copy where that cannot be had."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
