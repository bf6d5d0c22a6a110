"""`vlad detect --watch`: pictures as they come, from a folder, a video, a camera or a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vlad.errors import ConfigError, ImageReadError, StreamLostError
from vlad.monitor import DriftMonitor
from vlad.streams.density import Density
from vlad.streams.files import FileState, SeenFiles, new_pictures
from vlad.streams.frames import Camera, Video, stem_of, without_password
from vlad.streams.outliers import OutlierFlag
from vlad.streams.recording import Recorder
from vlad.streams.switch import Switch, on_signals
from vlad.untrusted import printable

if TYPE_CHECKING:
    from vlad.cli.results import ResultWriter
    from vlad.deploy.runtime import ExportedDetector
    from vlad.detector import AnomalyDetector
    from vlad.pictures.reading import ImageSource
    from vlad.together import Adapting

_KEEP_SECONDS = 30  # between two writings of what is said of the whole run
_FOLDER_RATE = 2.0  # pictures of a folder that a second of video shows


@dataclass(frozen=True, kw_only=True)
class Watching:
    """How a stream is watched.

    Attributes:
        source: a folder, a video file, a camera's number or a URL.
        out: folder of the results, for the map of the whole run; None writes none.
        video: the file that is recorded; None records none.
        warm_up: first pictures that stand for the stream as it should be.
        outlier_window, outlier_percentile: as of `OutlierFlag`.
        stop_after: seconds without a picture after which it ends; None never.
        reconnect_for: seconds for which a lost camera is tried again; None for ever.
        maps: whether maps are computed.
        as_lines: whether each picture is a line on stdout.
        quiet: whether stderr is spared what is no fault.
        switch: holds the stream.

    Raises:
        ConfigError: settings do not go together.
    """

    source: str
    out: Path | None
    video: Path | None
    warm_up: int
    outlier_window: int
    outlier_percentile: float
    stop_after: float | None
    reconnect_for: float | None
    maps: bool
    as_lines: bool
    quiet: bool
    switch: Switch = field(default_factory=Switch)

    def __post_init__(self) -> None:
        folder, out = Path(self.source), self.out
        if folder.is_dir():
            if out is not None and (folder.resolve() == out.resolve() or folder.resolve() in out.resolve().parents):
                raise ConfigError(
                    f"--out {out} lies in the watched folder, where results would be taken for pictures; choose another folder"
                )
            if self.video is not None and folder.resolve() == self.video.parent.resolve():
                raise ConfigError(f"--save-video {self.video} lies in the watched folder; choose another folder")
        if self.video is not None and not self.maps:
            raise ConfigError("--save-video shows the maps; leave --no-maps or --save-video out")


def watch(
    detector: AnomalyDetector | ExportedDetector,
    writer: ResultWriter,
    follow: Adapting | None,
    how: Watching,
    *,
    threshold: float | None = None,
) -> None:
    """Score what comes; say when drift begins and ends, flag outliers, and keep what the whole run says. An exported detector has no
    references to compare the stream with, so it tells of drift from the warm-up alone; `threshold` is for it, a detector has its own."""
    flag = OutlierFlag(warm_up=how.warm_up, window=max(how.warm_up, how.outlier_window), percentile=how.outlier_percentile)
    monitor = DriftMonitor(detector, warm_up=how.warm_up, outliers=flag)
    density = Density(how.out) if how.out is not None and how.maps else None
    outliers, kept = 0, time.monotonic()
    before: tuple[str, ...] = ()
    with ExitStack() as stack:
        arriving = _Arriving(how, writer)
        recorder = None if how.video is None else stack.enter_context(Recorder(how.video, rate=arriving.rate))
        if density is not None and how.out is not None:
            stack.callback(lambda: density.save(how.out))  # type: ignore[arg-type]
        if not how.quiet:
            stack.callback(lambda: _summary(arriving, outliers, recorder))
        for path, picture, file in arriving:
            try:
                seen = monitor.update(picture, maps=how.maps, threshold=threshold)
            except ImageReadError as error:
                problem = str(error).removeprefix("bytes: ")
                writer.add(path, error if isinstance(picture, Path) else ImageReadError(f"{path}: {problem}"), file=file)
                continue
            prediction = seen.prediction if follow is None else follow(seen.prediction)
            writer.add(path, prediction, file=file)
            writer.flush()  # the next may come in an hour, and a full disk is told now
            is_outlier = seen.outlier.is_outlier is True
            outliers += is_outlier
            if how.as_lines:
                typer.echo(printable(f"{path}  {prediction.verdict}{'  outlier' if is_outlier else ''}", one_line=True))
            if bool(seen.reasons) != bool(before):
                _tell(f"drift at {path}: {'; '.join(seen.reasons)}" if seen.reasons else f"no drift any more at {path}")
            if seen.outlier.has_changed:
                _tell(f"the stream is another since {how.warm_up} pictures before {path}; from now on outliers are told from these")
            before = seen.reasons
            if recorder is not None:
                recorder.add(prediction, is_outlier=is_outlier)
            if density is not None and how.out is not None:
                density.add(prediction)
                if time.monotonic() - kept > _KEEP_SECONDS:
                    density.save(how.out)
                    kept = time.monotonic()


def listening(switch: Switch) -> AbstractContextManager[None]:
    """Inside, signals turn the switch; from the beginning on, because one that nobody waits for ends a process."""
    return on_signals(switch, _tell)


class _Arriving:
    """Name, picture and what is known of its file, of what has come since the rows that there are; the end of a stream becomes an error of
    the run."""

    def __init__(self, how: Watching, writer: ResultWriter) -> None:
        self._how, self._writer = how, writer
        self._seen = SeenFiles(row["file"] for row in writer.earlier)
        self.frames: Video | Camera | None = None
        self._state: FileState | None = None
        place = Path(how.source)
        if place.is_file():
            self._state = FileState.of(place)
            self.frames = Video(how.source, skip=self._seen.count(place, self._state), switch=how.switch)
        elif not place.is_dir():
            options: dict[str, Any] = {"stop_after": how.stop_after, "reconnect_for": how.reconnect_for}
            self.frames = Camera(how.source, first=self._next_number(), switch=how.switch, on_news=_tell, **options)

    @property
    def rate(self) -> float | None:
        """Pictures a second of a video of the run; None where they come as a camera gives them."""
        return _FOLDER_RATE if self.frames is None else self.frames.rate if isinstance(self.frames, Video) else None

    def __iter__(self) -> Iterator[tuple[Path, ImageSource, Mapping[str, Any]]]:
        source, seen = Path(self._how.source), self._seen
        try:
            if self.frames is None:
                for arrival in new_pictures(source, seen=seen, stop_after=self._how.stop_after, switch=self._how.switch):
                    yield arrival.path, arrival.picture, arrival.file
                return
            for name, frame in self.frames:
                yield name, frame, {} if self._state is None else seen.add(source, self._state, None)
        except StreamLostError as error:
            self._writer.add_error(without_password(self._how.source), error)

    def _next_number(self) -> int:
        """Behind the last frame that has a row."""
        stem = f"{stem_of(self._how.source)}_"
        names = [str(row["image_path"]) for row in self._writer.earlier]
        numbers = [name[len(stem) :] for name in names if name.startswith(stem)]
        return max((int(number) + 1 for number in numbers if number.isdecimal()), default=0)


def _summary(arriving: _Arriving, outliers: int, recorder: Recorder | None) -> None:
    parts = [f"{outliers} outlier{'s' if outliers > 1 else ''}"] if outliers else []
    if isinstance(arriving.frames, Camera):
        camera = arriving.frames
        parts += [f"{camera.dropped} frames passed over to keep up"] if camera.dropped else []
        parts += [f"{camera.passed} passed while paused"] if camera.passed else []
        times = "once" if camera.reconnections == 1 else f"{camera.reconnections} times"
        parts += [f"connected again {times}"] if camera.reconnections else []
    if recorder is not None and recorder.pictures:
        parts.append(f"video in {recorder.path}")
    if parts:
        _tell("; ".join(parts))


def _tell(line: str) -> None:
    typer.echo(printable(line, one_line=True), err=True)
