"""Cameras that go away and come back, frames that are passed over, outliers, where marks concentrate, videos of a run."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from waiting import LIMIT, wait_until

from vlad.errors import ConfigError, ImageReadError, StreamLostError, VladError
from vlad.prediction import Prediction
from vlad.streams import frames as frames_module
from vlad.streams.density import Density
from vlad.streams.files import new_pictures
from vlad.streams.frames import Camera, Video, stem_of, without_password
from vlad.streams.outliers import OutlierFlag
from vlad.streams.recording import Recorder
from vlad.streams.switch import Switch, on_signals


class Line:
    """Stands for a camera: gives a frame for each `show`, and none while it is away."""

    def __init__(self, monkeypatch) -> None:
        self.ready = threading.Semaphore(0)
        self.taken = 0
        self.is_there = True
        self.opened: list[object] = []
        monkeypatch.setattr(frames_module, "_open", self.open)
        monkeypatch.setattr(frames_module, "_SILENCE", 0.05)
        monkeypatch.setattr(frames_module, "_FIRST_WAIT", 0.01)
        monkeypatch.setattr(frames_module, "_LONGEST_WAIT", 0.05)

    def open(self, source: str):
        self.opened.append(source)
        return self

    def show(self, count: int = 1) -> None:
        for _ in range(count):
            self.ready.release()

    def isOpened(self) -> bool:
        return self.is_there

    def read(self):
        if not self.is_there or not self.ready.acquire(timeout=0.01):
            return False, None
        self.taken += 1
        return True, np.full((4, 6, 3), (self.taken, 0, 200), np.uint8)  # blue counts, in OpenCV's order

    def release(self) -> None:
        pass


@pytest.fixture
def line(monkeypatch) -> Line:
    return Line(monkeypatch)


class TestCamera:
    def test_frames_in_rgb_with_their_numbers(self, line):
        line.show()
        stream = iter(Camera("0", first=7))
        name, frame = next(stream)
        assert name == Path("camera_0_000007") and frame[0, 0].tolist() == [200, 0, 1]
        line.show()
        assert next(stream)[0].name == "camera_0_000008"
        stream.close()

    def test_the_newest_frame_comes_and_the_others_are_counted(self, line):
        camera = Camera("0", stop_after=5)
        stream = iter(camera)
        line.show()
        next(stream)
        line.show(5)  # while the first is looked at
        wait_until(lambda: camera.dropped == 4, "the newest of five")
        name, frame = next(stream)
        assert name.name == "camera_0_000005" and frame[0, 0, 2] == 6
        stream.close()

    def test_it_goes_away_and_comes_back(self, line):
        news: list[str] = []
        camera = Camera("rtsp://line/1", on_news=news.append)
        stream = iter(camera)
        line.show()
        next(stream)
        line.is_there = False
        wait_until(lambda: len(line.opened) >= 4, "some tries")  # the first, and those of which none gave a frame
        line.show()
        line.is_there = True
        assert next(stream)[0].name == "1_000001" and camera.reconnections == 1
        assert news[0] == "rtsp://line/1: broke off after 1 frames; trying to open it again" and "back after" in news[1]
        stream.close()

    @pytest.mark.parametrize("limit", [0, 0.1])
    def test_it_stays_away(self, line, limit):
        stream = iter(Camera("3", reconnect_for=limit))
        line.show(1)
        next(stream)
        line.is_there = False
        with pytest.raises(StreamLostError, match="3: broke off after 1 frames; check the camera and start again to go on"):
            next(stream)

    def test_an_end_that_was_asked_for_is_none(self, line):
        line.show(1)
        assert len(list(Camera("0", stop_after=0.2))) == 1

    def test_what_cannot_be_opened(self, line):
        line.is_there = False
        with pytest.raises(ImageReadError, match="9: is no folder, and OpenCV cannot open it as video, camera or stream"):
            Camera("9")

    def test_a_paused_camera_lets_frames_pass(self, line):
        switch = Switch()
        camera = Camera("0", switch=switch, stop_after=LIMIT)
        stream = iter(camera)
        line.show()
        next(stream)
        switch.pause()
        line.show(3)
        wait_until(lambda: camera.passed == 3, "three that pass")
        switch.resume()
        line.show()
        assert next(stream)[0].name == "camera_0_000004" and camera.dropped == 0
        stream.close()

    def test_a_name_at_which_opencv_would_crash(self, tmp_path):
        for act in (lambda name: Camera(name), lambda name: Video(name), lambda name: Recorder(Path(f"{name}.avi"), rate=5)):
            with pytest.raises(ImageReadError, match="whose name is no UTF-8; rename it"):
                act(f"{tmp_path}/\udcff")

    def test_an_error_of_the_driver_reaches_the_reader(self, line, monkeypatch):
        monkeypatch.setattr(line, "read", lambda: (_ for _ in ()).throw(cv2.error("no memory")))
        with pytest.raises(cv2.error, match="no memory"):
            next(iter(Camera("0")))

    @pytest.mark.parametrize(
        ("source", "stem"),
        [
            ("2", "camera_2"),
            ("rtsp://user@host/line?key=1", "line"),
            ("rtsp://anna:secret@line", "line"),
            ("a/b.mp4", "b"),
            ("http://", "http:"),
        ],
    )
    def test_names(self, source, stem):
        assert stem_of(source) == stem

    def test_no_password_is_told(self, line):
        news: list[str] = []
        stream = iter(Camera("rtsp://anna:secret@line/1", on_news=news.append, reconnect_for=0.05))
        line.show(1)
        next(stream)
        line.is_there = False
        with pytest.raises(StreamLostError, match="rtsp://line/1: broke off") as error:
            next(stream)
        assert "secret" not in f"{error.value}{news}" and news
        with pytest.raises(ImageReadError, match="rtsp://line/1: is no folder"):
            Camera("rtsp://anna:secret@line/1")
        assert without_password("http://x/?user=a@b") == "http://x/?user=a@b"


class TestSwitch:
    def test_a_video_waits(self, tmp_path):
        path = tmp_path / "line.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 7, (64, 48))
        for level in (0, 100, 200):
            writer.write(np.full((48, 64, 3), level, np.uint8))
        writer.release()
        switch, seen = Switch(), []
        video = Video(str(path), switch=switch)
        assert video.rate == 7

        def look():
            for name, _ in video:
                seen.append(name.name)
                if len(seen) == 1:
                    switch.pause()

        thread = threading.Thread(target=look)
        thread.start()
        wait_until(lambda: switch.is_paused, "the pause")
        assert seen == ["line_000000"]
        switch.resume()
        thread.join(LIMIT)
        assert len(seen) == 3

    def test_a_folder_waits(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"one")
        (tmp_path / "b.png").write_bytes(b"two")
        switch = Switch()
        stream = new_pictures(tmp_path, switch=switch, poll=0.01)
        next(stream)
        switch.pause()
        threading.Timer(0.05, switch.resume).start()
        assert next(stream).path.name == "b.png" and not switch.is_paused

    @pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no SIGUSR1")
    def test_signals(self):
        switch, told = Switch(), []
        before = signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGUSR2)
        with on_signals(switch, told.append):
            os.kill(os.getpid(), signal.SIGUSR1)
            wait_until(lambda: switch.is_paused, "the pause")
            os.kill(os.getpid(), signal.SIGUSR2)
            wait_until(lambda: not switch.is_paused, "its end")
        assert told == ["paused; SIGUSR2 goes on", "going on"]
        assert before == (signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGUSR2))


def embeddings(count: int, seed: int, *, towards: int = 0, spread: float = 0.03) -> list[np.ndarray]:
    """Around an axis, like embeddings of pictures of one scene."""
    rng = np.random.default_rng(seed)
    return list(np.eye(64)[towards] + rng.normal(0, spread, (count, 64)) * rng.lognormal(0, 0.3, (count, 1)))


class TestOutliers:
    @pytest.mark.parametrize("seed", range(5))
    def test_a_clean_stream_is_hardly_flagged(self, seed):
        flag = OutlierFlag()
        found = [flag.update(one) for one in embeddings(1500, seed)]
        assert [one.is_outlier for one in found[:20]] == [None] * 20 and found[20].limit is not None
        assert np.mean([one.is_outlier for one in found[20:]]) <= 0.01
        late = [one.limit for one in found[-300:]]
        assert np.median(late) > 0.8 * np.median([one.limit for one in found[200:500]]), "what is flagged must not lower the limit"

    def test_only_what_is_far_is_flagged_not_what_is_most_typical(self):
        flag = OutlierFlag()
        for one in embeddings(60, 0):
            flag.update(one)
        centre, far = np.eye(64)[0], np.eye(64)[1]
        assert not flag.update(centre).is_outlier and flag.update(far).is_outlier

    def test_outliers_stay_out_of_the_window(self):
        flag, twin = OutlierFlag(), OutlierFlag()
        ordinary = embeddings(200, 1)
        for number, one in enumerate(ordinary):
            flag.update(one)
            twin.update(one)
            if number > 50 and number % 10 == 0:
                assert flag.update(embeddings(1, number, towards=5)[0]).is_outlier
        last, other = (one.update(embeddings(1, 9)[0]) for one in (flag, twin))
        assert last.distance == pytest.approx(other.distance, rel=1e-9), "the mean is that of the ordinary ones"
        assert 0.5 < last.limit / other.limit < 2

    def test_a_stream_that_changes_is_said_to_once(self):
        flag = OutlierFlag(warm_up=12)
        for one in embeddings(100, 2):
            flag.update(one)
        found = [flag.update(one) for one in embeddings(100, 3, towards=7)]
        assert [one.has_changed for one in found].index(True) == 11 and sum(one.has_changed for one in found) == 1
        assert all(one.is_outlier for one in found[:12]) and np.mean([one.is_outlier for one in found[12:]]) < 0.05

    def test_limit_by_hand(self):
        flag = OutlierFlag(warm_up=4, window=5, percentile=0.5)
        for angle in (0.0, 0.1, 0.2, 0.3):
            flag.update(np.array([np.cos(angle), np.sin(angle)]))
        angles = np.array([0.0, 0.1, 0.2, 0.3])
        apart = [(1 - np.cos(angles[i] - np.delete(angles, i).mean())) / 2 for i in range(4)]  # equal arcs: the mean lies in the middle
        logs = np.log(apart)
        spread = 1.4826 * np.median(np.abs(logs - np.median(logs)))
        expected = max(np.median(apart), np.exp(np.median(logs) + 3.1 * spread))
        assert flag.update(np.array([1.0, 0.0])).limit == pytest.approx(expected, rel=0.02)

    @pytest.mark.parametrize("wrong", [{"warm_up": 3}, {"warm_up": True}, {"window": 10}, {"percentile": 1.0}, {"percentile": 0.2}])
    def test_arguments(self, wrong):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            OutlierFlag(**wrong)


def prediction(mask_at: tuple[int, int] | None, *, size: tuple[int, int] = (40, 80)) -> Prediction:
    """With one marked square of 8 pixels, or none."""
    found = np.zeros(size, np.float32)
    if mask_at is not None:
        found[mask_at[0] : mask_at[0] + 8, mask_at[1] : mask_at[1] + 8] = 0.9
    return Prediction(
        image_path=None, image_size=size, class_name="part", pred_score=0.2 if mask_at is None else 0.9, threshold=0.5,
        threshold_source="text", mask_threshold=0.5, anomaly_map=found, scores={}, model="none", prompts="none", seconds=0.0,
        _read=lambda: np.full((*size, 3), 120, np.uint8),
    )  # fmt: skip


class TestDensity:
    def test_share_of_the_pictures(self, tmp_path):
        density = Density()
        assert density.share is None
        with pytest.raises(VladError, match="no picture with a map"):
            density.draw()
        density.save(tmp_path)
        assert not list(tmp_path.iterdir())
        for at in ((8, 16), (8, 16), None, (16, 60)):
            density.add(prediction(at))
        share = density.share
        assert density.pictures == 4 and share.shape == (128, 256)
        assert share[40, 64] == 0.5 and share[60, 205] == 0.25 and share[100, 10] == 0 and share.max() == 0.5

    def test_it_goes_on(self, tmp_path):
        density = Density()
        density.add(prediction((8, 16)))
        density.save(tmp_path)
        later = Density(tmp_path)
        later.add(prediction(None))
        assert later.pictures == 2 and later.share.max() == 0.5
        drawn = np.asarray(later.draw())
        assert drawn.shape[1] == 768 and drawn[: 768 // 2].std() > 0
        later.save(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"marked.npz", "marked.png"}

    @pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off", b"\x93NUMPY\x01\x00", None])
    def test_a_state_that_is_none_is_replaced(self, tmp_path, content):
        if content is None:
            np.savez(tmp_path / "marked.npz", marked=np.zeros((3, 3)), ground=np.zeros((3, 3, 3), np.uint8), pictures=np.int64(4))
        else:
            (tmp_path / "marked.npz").write_bytes(content)
        assert Density(tmp_path).pictures == 0

    def test_other_shapes_lie_over_the_first(self):
        density = Density()
        density.add(prediction(None))
        density.add(prediction((0, 0), size=(80, 40)))
        assert density.share.shape == (128, 256) and density.share[2, 2] == 0.5


class TestRecorder:
    @pytest.mark.parametrize("ending", [".mp4", ".mkv", ".avi", ".webm"])
    def test_every_picture_is_a_frame(self, tmp_path, ending):
        with Recorder(tmp_path / f"run{ending}", rate=5) as recorder:
            for at in ((8, 16), None, (16, 60)):
                recorder.add(prediction(at), is_outlier=at is None)
        video = Video(str(recorder.path))
        frames = [frame for _, frame in video]
        assert len(frames) == 3 and recorder.pictures == 3 and video.rate == 5
        assert frames[1][2:6, 100:200, 0].mean() > 180 > 120 > frames[1][2:6, 100:200, 2].mean(), "the outlier's frame is orange"
        assert frames[0].shape == frames[1].shape

    def test_a_name_that_is_taken(self, tmp_path):
        (tmp_path / "run.avi").write_bytes(b"of before")
        with Recorder(tmp_path / "run.avi", rate=5) as recorder:
            recorder.add(prediction(None))
        assert recorder.path.name == "run~2.avi" and (tmp_path / "run.avi").read_bytes() == b"of before"

    def test_pictures_of_a_camera_are_shown_until_the_next(self, tmp_path, monkeypatch):
        now = iter((0.0, 1.0, 60.0))
        monkeypatch.setattr("vlad.streams.recording.time", SimpleNamespace(monotonic=lambda: next(now)))
        with Recorder(tmp_path / "run.avi", rate=None) as recorder:
            for at in ((8, 16), None, (16, 60)):
                recorder.add(prediction(at))
        assert len(list(Video(str(recorder.path)))) == 10 + 50 + 1

    def test_the_folder_is_made_and_a_video_without_a_picture_is_none(self, tmp_path):
        with Recorder(tmp_path / "new" / "run.avi", rate=500_000) as recorder:
            with pytest.raises(VladError):
                recorder.add(replace(prediction(None), anomaly_map=None))
            assert recorder.pictures == 0
            recorder.add(prediction(None))
        assert recorder.path.is_file() and recorder.pictures == 1

    def test_a_larger_picture_than_the_first_is_made_to_fit(self, tmp_path):
        with Recorder(tmp_path / "run.avi", rate=5) as recorder:
            recorder.add(prediction(None))
            recorder.add(prediction(None, size=(1200, 900)))
        first, second = [frame for _, frame in Video(str(recorder.path))]
        assert first.shape == second.shape

    def test_an_unknown_ending(self, tmp_path):
        with pytest.raises(ConfigError, match=r"run\.gif: the name of a video must end in \.mp4, \.mkv, \.avi, \.webm"):
            Recorder(tmp_path / "run.gif", rate=5)

    def test_no_pictures_no_file(self, tmp_path):
        with Recorder(tmp_path / "run.avi", rate=5):
            pass
        assert not list(tmp_path.iterdir())
