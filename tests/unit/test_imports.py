"""Arrows point one way: no circle in the import graph, no arrow to a room above, few files at the top."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def imports():
    spec = importlib.util.spec_from_file_location("bench_imports", ROOT / "eval" / "bench" / "imports.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_imports"] = module
    spec.loader.exec_module(module)
    return module


def test_no_circle_and_no_arrow_up(imports):
    graph = imports.read_graph()
    rooms = imports.by_room(graph)
    assert imports.circles(graph) == [] and imports.circles(rooms) == []
    assert imports.upward(rooms) == []
    assert set(rooms) == set(imports.ROOMS)  # a new room says where it belongs


def test_circles_and_arrows_up_are_found(imports, tmp_path):
    package = tmp_path / "vlad"
    (package / "scoring").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "scoring" / "__init__.py").write_text("")
    (package / "scoring" / "one.py").write_text("def later():\n    from vlad.scoring.two import x\n")
    (package / "scoring" / "two.py").write_text("TYPE_CHECKING = False\nif TYPE_CHECKING:\n    from vlad.scoring import one\n")
    (package / "errors.py").write_text("import vlad.scoring.one\n")
    graph = imports.read_graph(tmp_path)
    assert imports.circles(graph) == [["vlad.scoring.one", "vlad.scoring.two"]]
    assert imports.upward(imports.by_room(graph)) == [("errors", "scoring")]


def test_few_files_at_the_top():
    assert len(list((ROOT / "vlad").glob("*.py"))) <= 12
    assert len((ROOT / "vlad" / "detector.py").read_text().splitlines()) < 400
