"""Tables that a run leaves behind: whole after every row, exact for programs, harmless in a spreadsheet and on a terminal."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlad.cli.answers import AnswerWriter, AskFormat
from vlad.cli.results import ResultWriter
from vlad.errors import ConfigError, ImageReadError, OutputError
from vlad.output import TableWriter
from vlad.pictures.reading import DEFAULT_READER
from vlad.prediction import Prediction
from vlad.untrusted import inert, printable

FORMULAS = ["=HYPERLINK(1)", "+1", "-1", "@sum", "\t=1", "\r=1", "\n=1", "  =1", "＝1"]


def test_each_row_is_on_disk_before_the_next(tmp_path):
    lines, table = tmp_path / "rows.jsonl", tmp_path / "rows.csv"
    with TableWriter(("name", "score")) as writer:
        writer.to_csv(table)
        writer.to_json_lines(lines)
        for number in range(3):
            writer.add({"name": f"{number}.png", "score": number / 2}, {"name": f"{number}.png", "boxes": [number]})
            assert len(table.read_text().splitlines()) == number + 2 and json.loads(lines.read_text().splitlines()[-1])["boxes"] == [number]
        assert writer.rows == 3
    assert table.read_bytes() == b"name,score\r\n0.png,0.0\r\n1.png,0.5\r\n2.png,1.0\r\n"


@pytest.mark.parametrize(("rows", "text"), [(0, "[\n]\n"), (1, '[\n{"a": 0}\n]\n'), (2, '[\n{"a": 0},\n{"a": 1}\n]\n')])
def test_an_array_is_whole_in_the_end(rows, text):
    file = io.StringIO()
    with TableWriter() as writer:
        writer.to_json_array(file)
        for number in range(rows):
            writer.add({"a": number})
    assert file.getvalue() == text


def test_an_interrupted_array_and_table_are_whole_too(capsys):
    file = io.StringIO()
    with pytest.raises(KeyboardInterrupt), TableWriter() as writer:
        writer.to_json_array(file)
        writer.to_terminal({"name": "left"}, lambda row: (row["name"],), width=40)
        writer.add({"name": "two\nlines \x1b[31m"})
        raise KeyboardInterrupt
    assert json.loads(file.getvalue()) == [{"name": "two\nlines \x1b[31m"}]
    assert capsys.readouterr().out.split("\n")[1].rstrip() == r"two\nlines \x1b[31m"


def test_rows_are_appended(tmp_path):
    path = tmp_path / "rows.jsonl"
    for append in (False, True):
        with TableWriter() as writer:
            writer.to_json_lines(path, append=append)
            writer.add({"append": append})
    assert path.read_text() == '{"append": false}\n{"append": true}\n'


def test_every_text_comes_back_from_json_lines(tmp_path):
    texts = ["Öse", "caf\udce9.png", "half \ud83d", "two\nlines"]  # the second is a name of a file that is no UTF-8
    with TableWriter() as writer:
        writer.to_json_lines(tmp_path / "rows.jsonl")
        for text in texts:
            writer.add({"text": text})
    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == texts


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(text):
    file = io.StringIO()
    with TableWriter(("text", "number")) as writer:
        writer.to_csv(file)
        writer.add({"text": text, "number": -1.5})
    assert list(csv.reader(io.StringIO(file.getvalue(), newline="")))[1] == [f"'{text}", "-1.5"]
    assert inert(f"A scratch {text}") == f"A scratch {text}"


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(encoding="utf-8", newline="")))


def test_detect_writes_no_formula(tmp_path, capsys):
    with ResultWriter([], tmp_path, "csv", model="=model", quiet=True) as writer:
        writer.add_error("=HYPERLINK(1).png", ImageReadError("@SUM(1): is no picture"))
    (row,) = rows_of(tmp_path / "results.csv")
    assert (row["image_path"], row["error"], row["model"]) == ("'=HYPERLINK(1).png", "'@SUM(1): is no picture", "'=model")
    assert "\n'=HYPERLINK(1).png," in capsys.readouterr().out.replace("\r", "")
    assert json.loads((tmp_path / "results.jsonl").read_text())["image_path"] == "=HYPERLINK(1).png"


def test_ask_writes_no_formula(tmp_path):
    path = Path("=HYPERLINK(1).png")
    with AnswerWriter([path], "What?", tmp_path, AskFormat.text, many=True, read=DEFAULT_READER) as writer:
        writer.add_error(path, ImageReadError("=1: is no picture"))
    (row,) = rows_of(tmp_path / "answers.csv")
    assert (row["image_path"], row["problems"]) == ("'=HYPERLINK(1).png", "'=1: is no picture")


def test_what_others_wrote_cannot_steer_the_terminal():
    assert printable("a\x1b[31mb\nc\x07") == "a\\x1b[31mb\nc\\x07"
    assert printable("a\nb\udce9", one_line=True) == "a\\nb\\udce9"


def prediction(side: int = 32) -> Prediction:
    heat = np.zeros((side, side), np.float32)
    heat[4:9, 4:9] = 0.9
    about = {"class_name": "part", "threshold_source": "user", "scores": {}, "model": "m", "prompts": "p", "seconds": 0.1}
    found = {"pred_score": 0.9, "threshold": 0.5, "mask_threshold": 0.5, "anomaly_map": heat}
    return Prediction(image_path=None, image_size=heat.shape, _read=lambda: np.zeros((side, side, 3), np.uint8), **found, **about)


class TestFilesOfAPicture:
    def test_only_those_asked_for(self, tmp_path):
        assert set(prediction().save(tmp_path / "all")) == {"overlay", "mask", "map", "json"}
        assert set(prediction().save(tmp_path / "some", kinds=("mask", "json"))) == {"mask", "json"}
        assert sorted(path.name for path in (tmp_path / "some").iterdir()) == ["picture.json", "picture_mask.png"]
        with Image.open(tmp_path / "all" / "picture_mask.png") as mask:
            assert (np.asarray(mask) > 0).sum() == 25
        with pytest.raises(
            ConfigError, match="files of a prediction are overlay, overlay-jpeg, mask, map, map-deflate, map-float16, json, got 'heat'"
        ):
            prediction().save(tmp_path, kinds=("heat",))

    def test_smaller_files_of_the_same(self, tmp_path):
        heat = prediction().anomaly_map
        for kind, name in (("map", "picture_map.tiff"), ("map-deflate", "picture_map.tiff"), ("map-float16", "picture_map.npy")):
            written = prediction().save(tmp_path / kind, kinds=(kind,))
            assert written == {kind: tmp_path / kind / name}
            found = np.load(written[kind]) if name.endswith("npy") else np.asarray(Image.open(written[kind]))
            np.testing.assert_allclose(found, heat, atol=2.5e-4 if kind == "map-float16" else 0)
        assert (tmp_path / "map-deflate/picture_map.tiff").stat().st_size < (tmp_path / "map/picture_map.tiff").stat().st_size
        small = prediction().save(tmp_path / "jpeg", kinds=("overlay-jpeg",))["overlay-jpeg"]
        with Image.open(small) as shown:
            assert shown.format == "JPEG" and shown.size == prediction().overlay().size

    def test_a_thread_writes_in_order_and_flush_waits(self, tmp_path):
        paths = [Path(f"{number}.png") for number in range(12)]
        with ResultWriter(paths, tmp_path, "", model="m", quiet=True, kinds=("json",)) as writer:
            for path in paths:
                writer.add(path, prediction())
            writer.flush()
            rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
            assert [row["image_path"] for row in rows] == [str(path) for path in paths] and writer.done == 12
            writer.add(Path("last.png"), ImageReadError("last.png: is gone"))
        assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 13 and writer.errors == ["last.png: is gone"]

    def test_what_the_thread_could_not_write_is_raised(self, tmp_path):
        writer = ResultWriter([], tmp_path / "out", "", model="m", quiet=True)
        with pytest.raises(OutputError, match=r"results\.csv was removed or replaced"), writer:
            (tmp_path / "out" / "results.csv").unlink()
            for number in range(20):
                writer.add(Path(f"{number}.png"), prediction())
        assert writer.done == 0
