"""Folders that runs write into: one at a time, whole lines, and a word where the disk is full or the folder has gone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vlad.disk import LineFile, held, replace_text
from vlad.errors import ConfigError, OutputError
from vlad.output import TableWriter, unique_stems

HOLD = "import sys, time; from vlad.disk import held\nwith held(sys.argv[1]): print('held', flush=True); time.sleep(1000)"
needs_limits = pytest.mark.skipif(sys.platform == "win32", reason="the system has no limit on the size of files")


class TestHeld:
    def test_the_second_is_refused_and_told_of_the_first(self, tmp_path):
        with held(tmp_path / "out") as folder:
            with (
                pytest.raises(
                    ConfigError, match=rf"out is in use by another process, vlad.*process {os.getpid()} on .*, since 2.*choose another"
                ),
                held(folder),
            ):
                pass
            (folder / "rows").touch()
        with held(folder):
            pass
        assert {path.name for path in folder.iterdir()} <= {"rows", ".lock"}

    def test_a_dead_process_holds_nothing(self, tmp_path):
        other = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"process {other.pid}"), held(tmp_path):
            pass
        other.kill()
        other.wait()
        other.stdout.close()
        with held(tmp_path):
            pass

    def test_a_wait_ends_with_the_other(self, tmp_path):
        code = HOLD.replace("time.sleep(1000)", "sys.stdin.read()")
        other = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=r"is in use by another process.*, still after 0 s"), held(tmp_path, wait=0.01):
            pass
        other.stdin.close()
        with held(tmp_path, wait=100):
            pass
        other.wait()
        other.stdout.close()

    def test_a_folder_that_nothing_came_of_goes_again(self, tmp_path):
        with pytest.raises(RuntimeError), held(tmp_path / "a" / "b"):
            raise RuntimeError
        assert not (tmp_path / "a" / "b").exists()
        (tmp_path / "was there").mkdir()
        with held(tmp_path / "was there"):
            pass
        assert (tmp_path / "was there").is_dir()

    def test_what_is_no_folder(self, tmp_path):
        (tmp_path / "file").touch()
        for place in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(ConfigError, match="a file is in its place"), held(place):
                pass

    @pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no file system at hand that takes no folder")
    def test_where_nothing_can_be_written(self):
        with pytest.raises(OutputError, match="could not be written"), held("/proc/self/out"):
            pass


class TestLineFile:
    def test_what_was_cut_off_goes_before_the_next(self, tmp_path):
        path = tmp_path / "rows"
        cases = (
            (b"", b""),
            (b"one\ntw", b"one\n"),
            (b"o" * 200_000, b""),
            (b"one\n" + b"\0" * 200_000, b"one\n"),
            (b'{"a": 1}\n{"a": 2}', b'{"a": 1}\n{"a": 2}\n'),
            (b'{"a": 1}', b'{"a": 1}\n'),
            (b'{"a": 1}\n[2]', b'{"a": 1}\n'),
        )
        for before, after in cases:
            path.write_bytes(before)
            LineFile(path, append=True).close()
            assert path.read_bytes() == after

    @pytest.mark.parametrize("change", ["removed", "replaced", "its folder moved"])
    def test_a_file_that_is_not_there_any_more(self, tmp_path, change):
        folder = tmp_path / "out"
        folder.mkdir()
        with TableWriter(("a",)) as table:
            table.to_csv(folder / "rows.csv")
            table.add({"a": 1})
            if change == "its folder moved":
                folder.rename(tmp_path / "elsewhere")
            else:
                (folder / "rows.csv").unlink()
            if change == "replaced":
                (folder / "rows.csv").write_text("somebody else's")
            for act in (table.check, lambda: table.add({"a": 2})):
                with pytest.raises(OutputError, match=r"rows\.csv was removed or replaced during the run"):
                    act()

    @needs_limits
    def test_a_full_disk_leaves_whole_lines(self, tmp_path):
        code = (
            "import resource, sys; from pathlib import Path; from vlad.disk import LineFile\n"
            "file = LineFile(Path(sys.argv[1]))\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "for number in range(300): file.write(b'%03d ' % number + b'x' * 95 + b'\\n')\n"
        )
        run = subprocess.run([sys.executable, "-c", code, tmp_path / "rows"], capture_output=True, text=True)
        lines = (tmp_path / "rows").read_bytes().split(b"\n")
        assert "OutputError" in run.stderr and "File too large" in run.stderr and "make room" in run.stderr
        assert lines[-1] == b"" and [int(line[:3]) for line in lines[:-1]] == list(range(10 if len(lines) == 11 else 9))

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
    def test_a_text_that_does_not_fit_leaves_the_old_one(self, tmp_path, monkeypatch):
        path = tmp_path / "results.json"
        path.write_text("old")
        write = Path.write_bytes
        monkeypatch.setattr(Path, "write_bytes", lambda self, data: write(Path("/dev/full"), data))
        with pytest.raises(OutputError, match=r"results\.json: could not be written \(No space left on device\); make room"):
            replace_text(path, "new")
        assert path.read_text() == "old" and [one.name for one in tmp_path.iterdir()] == ["results.json"]


@needs_limits
def test_a_detector_that_does_not_fit_leaves_the_old_one(tmp_path):
    code = (
        "import resource, sys, numpy as np, warnings; from vlad import AnomalyDetector; warnings.simplefilter('ignore')\n"
        "rng = np.random.default_rng(0); pictures = rng.integers(0, 255, (7, 64, 64, 3), np.uint8)\n"
        "detector = AnomalyDetector.from_pretrained('lite').fit(list(pictures[:3]))\n"
        "if sys.argv[2] == 'twice': detector.save(sys.argv[1]); detector.fit(list(pictures[3:]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "detector.save(sys.argv[1])\n"
    )
    for times, left in (("once", None), ("twice", {"config.json", "memory.safetensors", "text_vectors.safetensors"})):
        run = subprocess.run([sys.executable, "-c", code, tmp_path / times, times], capture_output=True, text=True)
        assert "OutputError: the detector in" in run.stderr and "File too large" in run.stderr, run.stderr
        there = {path.name for path in (tmp_path / times).iterdir() if path.is_file()} if (tmp_path / times).exists() else None
        assert there == left
    from vlad import AnomalyDetector

    assert len(AnomalyDetector.load(tmp_path / "twice").references) == 3


def test_long_names_leave_room_for_endings(tmp_path):
    names = ["图像采集时间" * 13 + end for end in ("a", "b")] + ["short", "x" * 250, "e" + "\u0301" * 120]
    paths = [tmp_path / f"{name}.png" for name in names]
    stems = unique_stems(paths)
    assert len(set(stems.values())) == len(paths) and stems[paths[2]] == "short"
    for path in paths:
        path.touch()
        (tmp_path / f"{stems[path]}_overlay.png").touch()


def test_a_stopped_run_is_named_by_its_command(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/vlad", "detect", "a\nb", "secret"])
    with held(tmp_path), pytest.raises(ConfigError, match=r"in use by another process, vlad detect a\\nb \(process"), held(tmp_path):
        pass


def test_a_folder_that_is_removed_while_it_is_held(tmp_path):
    with held(tmp_path / "out") as folder:
        shutil.rmtree(folder)
    assert not folder.exists()
