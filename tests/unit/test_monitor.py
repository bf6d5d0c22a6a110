"""Drift watch and streams: a stream that stays is not flagged, one that moves away is; files are taken when they are whole."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from waiting import Clock

from vlad import AnomalyDetector
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.errors import ConfigError, ImageReadError, StreamLostError
from vlad.monitor import _rank, _shift
from vlad.streams.files import SeenFiles, new_pictures
from vlad.streams.frames import Video


@pytest.fixture(scope="module")
def detector() -> AnomalyDetector:
    return AnomalyDetector(LiteBackbone(device="cpu"), rotations=1)


def pictures(count: int, seed: int, *, contrast: float = 12.0) -> list[np.ndarray]:
    """A coarse surface with some noise; with less contrast it looks like another."""
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(0).normal(0, contrast, (12, 12, 1)).repeat(8, 0).repeat(8, 1)
    return [np.clip(110 + base + rng.normal(0, 4, (96, 96, 3)), 0, 255).astype(np.uint8) for _ in range(count)]


class TestShift:
    def test_by_hand(self):
        assert _rank([3.0], [1.0, 2.0, 3.0, 4.0]) == 2.5 / 4
        assert _shift([5.0, 6.0], [1.0, 2.0, 3.0]) == pytest.approx(0.5 / math.sqrt(6 / 72))

    def test_chance_passes_the_limit_rarely(self):
        rng = np.random.default_rng(0)
        shifts = [_shift(list(rng.standard_cauchy(20)), list(rng.standard_cauchy(20))) for _ in range(2000)]
        assert np.std(shifts) == pytest.approx(1, abs=0.05) and np.mean(np.abs(shifts) > 3) < 0.006


class TestMonitor:
    @pytest.mark.parametrize("with_references", [True, False], ids=["references", "zero-shot"])
    def test_stays_and_moves_away(self, detector, with_references):
        detector.memory = None
        if with_references:
            detector.fit(pictures(5, seed=1))
        monitor = detector.monitor(warm_up=8, window=8)
        seen = [monitor.update(picture, maps=False) for picture in pictures(20, seed=2)]
        assert not any(one.drifted for one in seen) and not monitor.is_warming_up
        assert seen[7].distance_percentile is None and 0 <= seen[8].distance_percentile <= 1
        moved = [monitor.update(picture, maps=False) for picture in pictures(10, seed=3, contrast=0.5)]
        assert moved[-1].drifted and "moved away" in "; ".join(moved[-1].reasons)
        assert moved[-1].distance_percentile == 1 and moved[-1].shifts["distance"] > 3
        assert moved[-1].prediction.scores["drift"] == 1 and seen[-1].prediction.scores["drift"] == 0

    def test_other_than_the_references_from_the_beginning(self, detector):
        detector.fit(pictures(8, seed=1))
        monitor = detector.monitor(warm_up=10, window=4)
        seen = [monitor.update(picture, maps=False) for picture in pictures(10, seed=2, contrast=0.5)]
        assert [one.drifted for one in seen] == [False] * 9 + [True]
        assert "unlike the references from its beginning" in seen[-1].reasons[0]

    def test_predictions_are_those_of_the_detector(self, detector):
        detector.fit(pictures(2, seed=1))
        picture = pictures(1, seed=5)[0]
        seen, plain = detector.monitor().update(picture), detector.predict(picture)
        assert seen.prediction.pred_score == plain.pred_score and np.array_equal(seen.prediction.anomaly_map, plain.anomaly_map)

    def test_an_unreadable_picture_does_not_end_a_stream(self, detector, tmp_path):
        monitor = detector.monitor(warm_up=4, window=4)
        found = list(monitor.watch([*pictures(2, 1), tmp_path / "missing.png", *pictures(2, 2)], maps=False))
        assert [isinstance(one, ImageReadError) for one in found] == [False, False, True, False, False]
        assert not monitor.is_warming_up

    @pytest.mark.parametrize("wrong", [{"warm_up": 3}, {"window": 2.5}, {"limit": 0}, {"limit": math.inf}])
    def test_out_of_range(self, detector, wrong):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            detector.monitor(**wrong)


class TestFolder:
    def test_what_is_there_and_what_comes(self, tmp_path, monkeypatch):
        for name in ("b.png", ".hidden.png", "notes.txt"):
            (tmp_path / name).write_bytes(b"content")
        monkeypatch.setattr("vlad.streams.files.time", Clock())
        stream = new_pictures(tmp_path, stop_after=1.0, poll=0.02)
        assert next(stream).path == tmp_path / "b.png"
        (tmp_path / "a.png").write_bytes(b"content")
        assert [one.path for one in stream] == [tmp_path / "a.png"]

    def test_not_while_it_is_written(self, tmp_path, monkeypatch):
        path = tmp_path / "slow.png"
        chunks = iter([b"x" * 100] * 12)
        with path.open("wb", buffering=0) as file:
            monkeypatch.setattr("vlad.streams.files.time", Clock(lambda: file.write(next(chunks, b""))))
            found = next(new_pictures(tmp_path, stop_after=100))
        assert found.path == path and len(found.picture) == path.stat().st_size == 1200

    def test_a_name_that_is_used_again_is_another_picture(self, tmp_path, monkeypatch):
        monkeypatch.setattr("vlad.streams.files.time", Clock())
        path = tmp_path / "latest.bmp"
        stream = new_pictures(tmp_path, stop_after=1)
        path.write_bytes(b"first")
        first = next(stream)
        status = path.stat()
        path.write_bytes(b"other")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a copy that keeps the time; the size is the same too
        second = next(stream)
        path.write_bytes(b"longer than before")
        third = next(stream)
        assert [one.picture for one in (first, second, third)] == [b"first", b"other", b"longer than before"]
        assert len({one.file["sha256"] for one in (first, second, third)}) == 3 and list(stream) == []

    def test_a_file_that_is_written_without_end_is_looked_at_all_the_same(self, tmp_path, monkeypatch):
        path, written = tmp_path / "live.bmp", iter(range(10_000))
        monkeypatch.setattr("vlad.streams.files.time", Clock(lambda: path.write_bytes(f"{next(written):08d}".encode())))
        assert next(new_pictures(tmp_path, stop_after=100)).path == path

    def test_what_an_earlier_run_has_seen_does_not_come_again(self, tmp_path, monkeypatch):
        monkeypatch.setattr("vlad.streams.files.time", Clock())
        for name in ("same.png", "moved.png", "other.png"):
            (tmp_path / name).write_bytes(name.encode())
        earlier = [one.file for one in new_pictures(tmp_path, stop_after=1)]
        assert json.loads(json.dumps(earlier)) == earlier and len(earlier) == 3
        kept = (tmp_path / "other.png").stat()
        (tmp_path / "other.png").write_bytes(b"OTHER.PNG")
        os.utime(tmp_path / "other.png", ns=(kept.st_atime_ns, kept.st_mtime_ns))
        (tmp_path / "same.png").chmod(0o600)  # changed by the system's own clock, but not its content
        (tmp_path / "moved.png").unlink()
        damaged = [None, 1, {}, {"path": 3}, {"path": "x", "modified_ns": "y"}]
        found = list(new_pictures(tmp_path, seen=SeenFiles([*earlier, *damaged]), stop_after=1))
        assert [(one.path.name, one.picture) for one in found] == [("other.png", b"OTHER.PNG")]

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
    def test_what_may_not_be_read_comes_as_its_path(self, tmp_path, monkeypatch):
        monkeypatch.setattr("vlad.streams.files.time", Clock())
        (tmp_path / "locked.png").write_bytes(b"content")
        (tmp_path / "locked.png").chmod(0)
        assert next(new_pictures(tmp_path, stop_after=1)).picture == tmp_path / "locked.png"

    def test_the_folder_goes_away(self, tmp_path):
        folder = tmp_path / "watched"
        folder.mkdir()
        stream = new_pictures(folder, poll=0.01)
        (folder / "a.png").write_bytes(b"content")
        next(stream)
        (folder / "a.png").unlink()
        folder.rmdir()
        with pytest.raises(StreamLostError, match="cannot be watched any more"):
            next(stream)


class TestVideo:
    def test_every_frame_in_rgb(self, tmp_path):
        import cv2

        path = tmp_path / "line.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
        for _ in range(5):
            writer.write(np.full((48, 64, 3), (250, 10, 10), np.uint8))  # blue in OpenCV's order
        writer.release()
        found = list(Video(str(path)))
        assert [name for name, _ in found] == [Path(f"line_{number:06d}") for number in range(5)]
        assert found[0][1].shape == (48, 64, 3) and found[0][1][..., 2].mean() > 200 > 100 > found[0][1][..., 0].mean()

    def test_going_on_keeps_the_numbers(self, tmp_path):
        import cv2

        path = tmp_path / "line.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
        for level in range(0, 250, 50):
            writer.write(np.full((48, 64, 3), level, np.uint8))
        writer.release()
        every = list(Video(str(path)))
        later = list(Video(str(path), skip=3))
        assert [name for name, _ in later] == [name for name, _ in every][3:]
        assert all((one == other).all() for (_, one), (_, other) in zip(later, every[3:], strict=True))

    def test_one_that_was_cut_off_is_told_of(self, tmp_path):
        import cv2

        path = tmp_path / "line.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
        for _ in range(60):
            writer.write(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))
        writer.release()
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(StreamLostError, match=r"line\.avi: broke off after \d+ of 60 frames"):
            list(Video(str(path)))

    def test_what_is_no_video(self, tmp_path):
        path = tmp_path / "text.avi"
        path.write_text("no video")
        with pytest.raises(ImageReadError, match=r"text\.avi: is no folder, and OpenCV cannot open it"):
            Video(str(path))


def test_pictures_of_a_watched_folder_are_scored(detector, tmp_path, monkeypatch):
    monkeypatch.setattr("vlad.streams.files.time", Clock())
    detector.memory = None
    for number, picture in enumerate(pictures(2, 1)):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    arriving = new_pictures(tmp_path, stop_after=0.1, poll=0.02)
    seen = list(detector.monitor().watch((one.picture for one in arriving), maps=False))
    assert len(seen) == 2
